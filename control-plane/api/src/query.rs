//! Query parameters of the API's URLs. `api-types/src/parameters` has those that the console also uses.

use std::time::Duration;

use serde::Deserialize;
use utoipa::IntoParams;

use omniflow_api_types::parameters::{InvalidQuery, Parser};
use omniflow_api_types::schema;
use omniflow_domain::gateway::MAX_WAIT;
use omniflow_domain::time::parse_duration;

/// A filter, and other parameters, such as the page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filtered<F, O> {
    #[serde(flatten)]
    pub(super) filter: F,
    #[serde(flatten)]
    pub(super) options: O,
}

/// How long to wait for the enforcement of a change.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WaitQuery {
    /// How long to wait for every live gateway to enforce the change, at most `30s`. The response then includes
    /// `enforcement`.
    #[param(value_type = Option<schema::Duration>)]
    wait: Option<String>,
}

// === impl WaitQuery ===

impl WaitQuery {
    /// How long to wait; `None` to respond immediately, without the enforcement status.
    pub(super) fn parse(self) -> Result<Option<Duration>, InvalidQuery> {
        let wrong =
            || format!("wait must be a duration of at most {}s, such as 5s or 500ms", MAX_WAIT.as_secs());
        let mut parser = Parser::default();
        let wait = parser.read("wait", self.wait, |text| {
            parse_duration(text).filter(|wait| *wait <= MAX_WAIT).ok_or_else(wrong)
        });
        parser.finish(wait)
    }
}

#[cfg(test)]
mod tests {
    use omniflow_test_server::TestServer;

    #[tokio::test]
    async fn unknown_and_repeated_parameters_are_rejected_beside_a_filter() {
        let server = TestServer::new().await;
        for (path, filter, option) in [
            ("/v1/keys", "scope", "limit"),
            ("/v1/admin-log", "subject", "cursor"),
            ("/v1/audit", "key", "limit"),
            ("/v1/anomalies", "key", "limit"),
            ("/v1/audit/stats", "key", "by"),
            ("/v1/audit/export", "key", "format"),
        ] {
            let detail = async |query: &str| {
                let answer = server.get(&format!("{path}?{query}")).await;
                assert_eq!(answer.problem().1, "invalid_query", "{path}?{query}");
                answer.json()["detail"].as_str().unwrap().to_owned()
            };
            assert_eq!(detail("colour=red").await, "Invalid query string: unknown field `colour`.", "{path}");
            for name in [filter, option] {
                let expected = format!("Invalid query string: duplicate field `{name}`.");
                assert_eq!(detail(&format!("{name}=&{name}=")).await, expected, "{path}");
            }
            assert_eq!(server.get(&format!("{path}?{filter}=&{option}=")).await.status, 200, "{path}");
        }
    }
}
