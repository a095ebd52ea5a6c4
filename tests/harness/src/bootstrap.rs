//! Converts a shipped Envoy configuration to the one for a test or the demo: placeholders are filled in, then the YAML
//! is parsed, so that further changes edit a structure and not text.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

/// Values for the `${NAME}` of a template.
pub type Values = BTreeMap<&'static str, String>;

/// Replaces each `${NAME}`. A name without a value is an error: otherwise, Envoy would receive the placeholder itself.
pub fn fill(template: &str, values: &Values) -> Result<String> {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("${") {
        filled.push_str(before);
        let (name, remainder) = after.split_once('}').context("a ${ without its }")?;
        // "${...}" in a comment is not a placeholder.
        match values.get(name) {
            Some(value) => filled.push_str(value),
            None if name == "..." => filled.push_str("${...}"),
            None => bail!("nothing is known to fill in for ${{{name}}}"),
        }
        rest = remainder;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Parses a configuration in YAML.
pub fn parse(yaml: &str) -> Result<Value> {
    serde_saphyr::from_str(yaml).map_err(|error| anyhow::anyhow!("the configuration is not YAML: {error}"))
}

/// Reads the YAML in a comment that begins with this line, up to the first line that is not part of it.
pub fn commented(text: &str, first: &str) -> Result<Value> {
    let mut lines =
        text.lines().skip_while(|line| line.trim_start().strip_prefix("# ") != Some(first)).peekable();
    let indent =
        lines.peek().and_then(|line| line.find('#')).with_context(|| format!("no comment {first:?}"))?;
    let comment = |line: &str| line.get(indent..)?.strip_prefix("# ").map(str::to_owned);
    let is_item = first.starts_with("- ");
    let mut yaml: Vec<String> = lines.next().and_then(comment).into_iter().collect();
    yaml.extend(lines.map_while(comment).take_while(|line| !is_item || line.starts_with(' ')));
    parse(&yaml.join("\n"))
}

/// Switches on the CORS configuration that `operator.yaml` has as a comment, for this origin.
pub fn allow_origin(bootstrap: &mut Value, operator: &str, origin: &str) -> Result<()> {
    let mut filter = commented(operator, "- name: envoy.filters.http.cors")?;
    http_filters(bootstrap)?.insert(0, filter.get_mut(0).context("no filter")?.take());
    let mut policy = commented(operator, "typed_per_filter_config:")?;
    let origins = policy
        .pointer_mut("/typed_per_filter_config/envoy.filters.http.cors/allow_origin_string_match/0/exact")
        .context("no origin")?;
    *origins = origin.into();
    let manager = connection_manager(bootstrap)?;
    let host = manager.get_mut("route_config").and_then(|config| config.pointer_mut("/virtual_hosts/0"));
    let host = host.and_then(Value::as_object_mut).context("no virtual host")?;
    host.extend(policy.as_object().context("no policy")?.clone());
    Ok(())
}

/// The typed configuration of the HTTP connection manager of the first listener.
pub fn connection_manager(bootstrap: &mut Value) -> Result<&mut Map<String, Value>> {
    object_at(bootstrap, "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config")
}

/// Sets the file that the Omniflow filter is loaded from.
pub fn set_filter_code(bootstrap: &mut Value, wasm: &Path) -> Result<()> {
    let code = object_at(wasm_filter(bootstrap)?, "/typed_config/config/vm_config/code/local")?;
    code.insert("filename".to_owned(), Value::from(wasm.display().to_string()));
    Ok(())
}

/// Adds these fields to the configuration of the Omniflow filter, in place of those of the same name.
pub fn merge_plugin_configuration(bootstrap: &mut Value, fields: &Map<String, Value>) -> Result<()> {
    let text = plugin_configuration(bootstrap)?;
    let mut configuration: Map<String, Value> =
        serde_json::from_str(text).context("the plugin's configuration is not JSON")?;
    configuration.extend(fields.clone());
    *text = Value::Object(configuration).to_string();
    Ok(())
}

/// Removes the Omniflow filter and its guard, for tests of their surroundings.
pub fn remove_filter(bootstrap: &mut Value) -> Result<()> {
    let filters = http_filters(bootstrap)?;
    filters.retain(|filter| !is_wasm(filter) && !is_guard(filter));
    Ok(())
}

/// Removes only the guard after the filter, to demonstrate its purpose.
pub fn remove_guard(bootstrap: &mut Value) -> Result<()> {
    http_filters(bootstrap)?.retain(|filter| !is_guard(filter));
    Ok(())
}

fn plugin_configuration(bootstrap: &mut Value) -> Result<&mut String> {
    let filter =
        http_filters(bootstrap)?.iter_mut().find(|filter| is_wasm(filter)).context("no Wasm filter")?;
    match filter.pointer_mut("/typed_config/config/configuration/value") {
        Some(Value::String(text)) => Ok(text),
        _ => bail!("the Wasm filter has no configuration as a StringValue"),
    }
}

fn wasm_filter(bootstrap: &mut Value) -> Result<&mut Value> {
    http_filters(bootstrap)?.iter_mut().find(|filter| is_wasm(filter)).context("no Wasm filter")
}

fn http_filters(bootstrap: &mut Value) -> Result<&mut Vec<Value>> {
    match connection_manager(bootstrap)?.get_mut("http_filters") {
        Some(Value::Array(filters)) => Ok(filters),
        _ => bail!("no http_filters"),
    }
}

fn object_at<'a>(value: &'a mut Value, pointer: &str) -> Result<&'a mut Map<String, Value>> {
    match value.pointer_mut(pointer) {
        Some(Value::Object(object)) => Ok(object),
        _ => bail!("no object at {pointer}"),
    }
}

fn is_wasm(filter: &Value) -> bool {
    type_of(filter).ends_with(".wasm.v3.Wasm")
}

fn is_guard(filter: &Value) -> bool {
    type_of(filter).ends_with(".rbac.v3.RBAC")
}

fn type_of(filter: &Value) -> &str {
    filter.pointer("/typed_config/@type").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn placeholders_are_filled_in_and_unknown_ones_rejected() {
        let values = Values::from([("PORT", "1".to_owned())]);
        assert_eq!(fill("# ${...}\nport: ${PORT}\n", &values).unwrap(), "# ${...}\nport: 1\n");
        assert!(fill("port: ${PROT}", &values).is_err());
        assert!(fill("port: ${PORT", &values).is_err());
    }

    #[test]
    fn plugin_fields_are_merged_and_filters_removed() {
        let yaml = "
static_resources:
  listeners:
    - filter_chains:
        - filters:
            - typed_config:
                http_filters:
                  - typed_config:
                      '@type': envoy.wasm.v3.Wasm
                      config: { configuration: { value: '{\"cluster\": \"a\"}' } }
                  - typed_config: { '@type': envoy.rbac.v3.RBAC }
                  - name: router
";
        let mut bootstrap = parse(yaml).unwrap();
        let fields = json!({"strip_credential": false});
        merge_plugin_configuration(&mut bootstrap, fields.as_object().unwrap()).unwrap();
        let merged: Value = serde_json::from_str(plugin_configuration(&mut bootstrap).unwrap()).unwrap();
        assert_eq!(merged, json!({"cluster": "a", "strip_credential": false}));

        remove_filter(&mut bootstrap).unwrap();
        assert_eq!(http_filters(&mut bootstrap).unwrap(), &vec![json!({"name": "router"})]);
    }
}
