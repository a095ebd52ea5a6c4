//! `GET /v1/keys`: keys, filtered and sorted.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::extract::StrictQuery;
use crate::problem::Problem;
use crate::query::Filtered;
use omniflow_api_types::key::KeyJson;
use omniflow_api_types::page::Page;
use omniflow_api_types::parameters::{KeyParameters, PageParameters};
use omniflow_service::keys::Keys;

/// List keys.
#[utoipa::path(
    get,
    path = "/v1/keys",
    operation_id = "list_keys",
    tag = "keys",
    params(KeyParameters, PageParameters),
    responses((status = 200, body = Page<KeyJson>, description = "A page of keys.")),
)]
pub(crate) async fn list(
    State(keys): State<Arc<Keys>>,
    StrictQuery(query): StrictQuery<Filtered<KeyParameters, PageParameters>>,
) -> Result<Json<Page<KeyJson>>, Problem> {
    let page = keys.list(query.filter.parse()?, query.options.parse()?).await?;
    Ok(Json(Page::json(page, KeyJson::from)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use axum::http::StatusCode;
    use omniflow_policy::denial::{Denial, Outcome};
    use omniflow_policy::digest::Digest;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use omniflow_domain::key::KeyReference;

    use omniflow_store::KeyFilter;
    use omniflow_test_server::{START, TestServer, record};

    fn names(list: &Value) -> Vec<&str> {
        list["items"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn pages_neither_repeat_nor_miss_while_keys_are_issued() {
        let server = TestServer::new().await;
        for number in 0..25 {
            server.key(&format!("key{number}")).await;
            if number % 3 == 0 {
                server.pass(Duration::from_millis(1));
            }
        }
        server.pass(Duration::from_millis(1));
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = server.get(&format!("/v1/keys?limit=4&cursor={cursor}")).await.expect(StatusCode::OK);
            seen.extend(names(&page).into_iter().map(str::to_owned));
            server.key(&format!("late{}", seen.len())).await;
            let Some(next) = page["next_cursor"].as_str() else {
                break;
            };
            cursor = next.to_owned();
        }
        let expected: BTreeSet<String> = (0..25).map(|number| format!("key{number}")).collect();
        assert_eq!(seen.len(), 25);
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);
    }

    #[tokio::test]
    async fn keys_come_in_the_order_that_is_asked_for() {
        let server = TestServer::new().await;
        for name in ["beta", "alpha", "delta", "Gamma", "epsilon"] {
            server.key(name).await;
            server.pass(Duration::from_millis(1));
        }
        server.post("/v1/keys/delta/revoke", json!({})).await.expect(StatusCode::OK);
        for (query, expected) in [
            ("sort=newest", ["epsilon", "Gamma", "delta", "alpha", "beta"]),
            ("sort=oldest", ["beta", "alpha", "delta", "Gamma", "epsilon"]),
            ("sort=name", ["Gamma", "alpha", "beta", "delta", "epsilon"]),
            ("sort=name_reversed", ["epsilon", "delta", "beta", "alpha", "Gamma"]),
        ] {
            assert_eq!(all_names(&server, query).await, expected, "{query}");
            let without: Vec<_> = expected.into_iter().filter(|name| *name != "delta").collect();
            assert_eq!(all_names(&server, &format!("{query}&status=active")).await, without, "{query}");
        }
        let wrong = server.get("/v1/keys?sort=size").await.problem();
        assert_eq!(wrong, (400, "invalid_query".to_owned(), "sort".to_owned()));
    }

    #[tokio::test]
    async fn filters_select() {
        let server = TestServer::new().await;
        server.key("alpha").await;
        let test = json!({
            "name": "beta", "environment": "test", "scopes": ["tickets:read"], "description": "For Nightly runs",
            "expires_at": "2027-01-15T09:00:00Z",
        });
        let beta = server.post("/v1/keys", test).await.expect(StatusCode::CREATED);
        server.key("gamma").await;
        server.post("/v1/keys/gamma/revoke", json!({})).await.expect(StatusCode::OK);
        server.pass(Duration::from_secs(3_600));
        let hint = beta["key"]["versions"][0]["hint"].as_str().unwrap();
        for (query, expected) in [
            ("status=active", vec!["alpha"]),
            ("status=expired", vec!["beta"]),
            ("status=revoked", vec!["gamma"]),
            ("status=rotating", vec![]),
            ("environment=live&status=active", vec!["alpha"]),
            ("environment=test", vec!["beta"]),
            ("scope=tickets:read", vec!["beta"]),
            ("scope=tickets:write", vec![]),
            ("q=ALPH", vec!["alpha"]),
            ("q=al", vec!["alpha"]),
            ("q=ly%20r", vec!["beta"]),
            ("q=tly%20", vec!["beta"]),
            ("q=alphabet", vec![]),
            ("q=alphabeta", vec![]),
            ("q=%22a%22", vec![]),
            ("q=a%00lp", vec![]),
            ("q=nightly", vec!["beta"]),
            ("q=%25", vec![]),
            (&format!("environment=test&q={hint}"), vec!["beta"]),
            ("status=&environment=&scope=&q=", vec!["gamma", "beta", "alpha"]),
        ] {
            let list = server.get(&format!("/v1/keys?{query}")).await.expect(StatusCode::OK);
            assert_eq!(
                names(&list).into_iter().collect::<BTreeSet<_>>(),
                expected.into_iter().collect(),
                "{query}"
            );
            assert_eq!(list["next_cursor"], Value::Null);
        }
    }

    #[tokio::test]
    async fn a_changed_description_is_found_by_what_it_says_now() {
        let server = TestServer::new().await;
        server.key("alpha").await;
        server.key("beta").await;
        for (description, before, now) in
            [(json!("first words"), "alpha", "first"), (json!("other words"), "first", "other")]
        {
            server.patch("/v1/keys/beta", json!({"description": description})).await.expect(StatusCode::OK);
            assert_eq!(all_names(&server, &format!("q={now}")).await, ["beta"]);
            assert!(!all_names(&server, &format!("q={before}")).await.contains(&"beta".to_owned()));
        }
        server.patch("/v1/keys/beta", json!({"description": null})).await.expect(StatusCode::OK);
        assert_eq!(all_names(&server, "q=words").await, [""; 0]);
        assert_eq!(all_names(&server, "q=beta").await, ["beta"]);
    }

    /// Searches that use the index, and searches that scan the keys because many contain the text.
    #[tokio::test]
    async fn a_text_is_found_whether_few_keys_have_it_or_many() {
        const MANY: u32 = 5_100;
        let server = TestServer::new().await;
        server.key("model").await;
        let store = &*server.app.store;
        let model = store.key(&KeyReference::from("model")).await.unwrap().unwrap();
        let keys: Vec<_> = (0..MANY)
            .map(|number| {
                let mut key = model.clone();
                key.id = Uuid::from_u128(u128::from(number) + 1);
                key.name = format!("mass-{number:04}").parse().unwrap();
                key.versions[0].digest = Digest::of(key.name.as_str().as_bytes());
                key
            })
            .collect();
        let mut transaction = store.begin().await.unwrap();
        transaction.insert_keys(&keys).await.unwrap();
        transaction.commit().await.unwrap();
        let found = async |text: &str, before: Option<u32>, limit: usize| -> Vec<String> {
            let filter = KeyFilter { text: Some(text.to_owned()), ..KeyFilter::default() };
            let before = before.map(|number| Uuid::from_u128(u128::from(number) + 1));
            let keys = store.keys(&filter, before, limit).await.unwrap();
            keys.iter().map(|key| key.name.to_string()).collect()
        };
        assert_eq!(found("MASS-", None, 9_999).await.len(), MANY as usize);
        assert_eq!(found("mass", Some(7), 3).await, ["mass-0006", "mass-0005", "mass-0004"]);
        assert_eq!(found("ss-004", None, 9_999).await.len(), 10);
        assert_eq!(found("ss-004", Some(45), 2).await, ["mass-0044", "mass-0043"]);
        assert_eq!(found("ss-9", None, 1).await, [""; 0]);
    }

    #[tokio::test]
    async fn what_is_about_to_end_is_found() {
        let server = TestServer::new().await;
        for (name, end) in [
            ("soon", json!("2027-01-16T00:00:00Z")),
            ("later", json!("2027-03-01T00:00:00Z")),
            ("never", json!(null)),
            ("over", json!("2027-01-15T08:00:01Z")),
        ] {
            let body = json!({"name": name, "environment": "live", "scopes": [], "expires_at": end});
            server.post("/v1/keys", body).await.expect(StatusCode::CREATED);
            server.pass(Duration::from_millis(1));
        }
        server.key("rotated").await;
        server.post("/v1/keys/rotated/rotate", json!({})).await.expect(StatusCode::CREATED);
        server.pass(Duration::from_secs(2));
        assert_eq!(all_names(&server, "expires_before=2027-01-16T00:00:00Z").await, [""; 0]);
        assert_eq!(all_names(&server, "expires_before=2027-01-16T00:00:01Z").await, ["soon"]);
        assert_eq!(all_names(&server, "expires_before=2028-01-01T00:00:00Z").await, ["later", "soon"]);
        // The newest version is revoked, so the remaining one expires with the overlap.
        server.post("/v1/keys/rotated/versions/2/revoke", json!({})).await.expect(StatusCode::OK);
        assert_eq!(all_names(&server, "expires_before=2027-01-17T00:00:00Z").await, ["rotated", "soon"]);
    }

    async fn all_names(server: &TestServer, query: &str) -> Vec<String> {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/keys?limit=2&{query}&cursor={cursor}");
            let page = server.get(&path).await.expect(StatusCode::OK);
            seen.extend(names(&page).into_iter().map(str::to_owned));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => return seen,
            }
            assert_eq!(names(&page).len(), 2, "{query}: only the last page may be short");
        }
    }

    #[tokio::test]
    async fn keys_that_are_due_for_rotation_are_found() {
        const DAY: Duration = Duration::from_secs(86_400);
        let mut server = TestServer::new().await;
        for name in ["a", "b", "rotated", "c", "revoked", "half", "d"] {
            server.key(name).await;
            server.pass(Duration::from_millis(1));
        }
        let expiring = json!({"name": "expired", "environment": "live", "scopes": [], "expires_at": "2027-02-01T00:00:00Z"});
        server.post("/v1/keys", expiring).await.expect(StatusCode::CREATED);
        server.post("/v1/keys/revoked/revoke", json!({})).await.expect(StatusCode::OK);
        server.pass(80 * DAY);
        for name in ["rotated", "half"] {
            let body = json!({"overlap": "30d"});
            server.post(&format!("/v1/keys/{name}/rotate"), body).await.expect(StatusCode::CREATED);
        }
        assert_eq!(all_names(&server, "rotation_due=true").await, [""; 0]);
        server.post("/v1/keys/half/versions/2/revoke", json!({})).await.expect(StatusCode::OK);
        server.pass(10 * DAY);
        assert_eq!(all_names(&server, "rotation_due=true").await, ["d", "half", "c", "b", "a"]);
        assert_eq!(all_names(&server, "rotation_due=false").await, ["expired", "revoked", "rotated"]);
        assert_eq!(all_names(&server, "rotation_due=").await.len(), 8);
        for (name, due) in [
            ("a", json!("2027-04-15T08:00:00.000Z")),
            ("rotated", json!("2027-07-04T08:00:00.007Z")),
            ("half", json!("2027-04-15T08:00:00.005Z")),
            ("revoked", Value::Null),
            ("expired", Value::Null),
        ] {
            let key = server.get(&format!("/v1/keys/{name}")).await.expect(StatusCode::OK);
            assert_eq!(key["rotation_due_at"], due, "{name}");
        }
        server.pass(80 * DAY);
        assert_eq!(all_names(&server, "rotation_due=true").await, ["d", "c", "rotated", "b", "a"]);

        server = server.restart_with(|settings| settings.rotation_after = None).await;
        assert_eq!(all_names(&server, "rotation_due=true").await, [""; 0]);
        assert_eq!(all_names(&server, "rotation_due=false").await.len(), 8);
        let key = server.get("/v1/keys/a").await.expect(StatusCode::OK);
        assert_eq!(key["rotation_due_at"], Value::Null, "nothing falls due");
    }

    #[tokio::test]
    async fn keys_that_are_not_used_are_found() {
        let server = TestServer::new().await;
        let mut ids = Vec::new();
        for name in ["never", "once", "long ago", "both", "newer", "idle"] {
            let created = server.key(name).await;
            ids.push((created["key"]["id"].as_str().unwrap().parse().unwrap(), name));
            server.pass(Duration::from_millis(1));
        }
        let gateway = server.token("gateway").await;
        let call = |sequence: u64, key: usize, version: u16, at: u64| {
            let mut record = record(sequence, START + at, Some(ids[key]));
            record.key.as_mut().unwrap().version = version;
            record
        };
        let mut denied = call(6, 5, 1, 5_000);
        denied.outcome = Outcome::Denied(Denial::RateLimited);
        let records = vec![
            call(0, 1, 1, 1_000),
            call(1, 2, 1, 10),
            call(2, 3, 1, 10),
            call(3, 3, 2, 2_000),
            call(4, 4, 1, 2_000),
            call(5, 4, 2, 10),
            denied,
        ];
        server.pass(Duration::from_secs(10));
        assert_eq!(server.deliver(&gateway, records).await.status, StatusCode::NO_CONTENT);
        let unused = async |since: &str| all_names(&server, &format!("unused_since={since}")).await;
        assert_eq!(unused("2027-01-15T08:00:01Z").await, ["idle", "long ago", "never"]);
        assert_eq!(unused("2027-01-15T08:00:01.001Z").await, ["idle", "long ago", "once", "never"]);
        assert_eq!(unused("2027-01-15T10:00:00%2B02:00").await, ["idle", "never"]);
        assert_eq!(unused("2030-01-01T00:00:00Z").await.len(), 6);
        assert_eq!(unused("").await.len(), 6);
        let both = all_names(&server, "unused_since=2030-01-01T00:00:00Z&status=active&q=n").await;
        assert_eq!(both, ["newer", "long ago", "once", "never"]);
    }

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        let server = TestServer::new().await;
        for (query, field) in [
            ("status=on", "status"),
            ("environment=prod", "environment"),
            ("scope=all", "scope"),
            ("rotation_due=yes", "rotation_due"),
            ("unused_since=90d", "unused_since"),
            ("limit=0", "limit"),
            ("limit=501", "limit"),
            ("limit=x", "limit"),
            ("cursor=x", "cursor"),
            ("colour=red", ""),
            ("q=a&q=b", ""),
            ("cursor=&cursor=", ""),
        ] {
            let (status, code, named) = server.get(&format!("/v1/keys?{query}")).await.problem();
            assert_eq!((status, code.as_str(), named.as_str()), (400, "invalid_query", field), "{query}");
        }
        assert_eq!(server.get("/v1/keys/nobody").await.problem().1, "not_found");
        assert_eq!(server.get("/v1/keys/%FF").await.problem().1, "not_found");
    }
}
