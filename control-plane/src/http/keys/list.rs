//! `GET /v1/keys`: keys, newest first.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use uuid::Uuid;

use crate::app::App;
use crate::http::extract::StrictQuery;
use crate::http::problem::Problem;
use crate::http::query::{self, PageQuery};
use crate::json::key::KeyJson;
use crate::json::page::Page;
use crate::model::key::KeyStatus;
use crate::storage::KeyFilter;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    status: Option<String>,
    environment: Option<String>,
    scope: Option<String>,
    q: Option<String>,
    #[serde(flatten)]
    page: PageQuery,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    StrictQuery(query): StrictQuery<ListQuery>,
) -> Result<Json<Page<KeyJson>>, Problem> {
    let now = app.now();
    let filter = KeyFilter {
        status: query::parsed::<KeyStatus>("status", query.status)?.map(|status| (status, now)),
        environment: query::parsed("environment", query.environment)?,
        scope: query::parsed("scope", query.scope)?,
        text: query::present(query.q),
    };
    let (limit, before) = query.page.read(|text| Uuid::parse_str(text).ok())?;
    let keys = app.storage.main.keys(&filter, before, limit + 1).await?;
    let page = Page::of(keys, limit, |key| key.id.to_string());
    let ids: Vec<Uuid> = page.items.iter().map(|key| key.id).collect();
    let last_used = app.storage.audit.last_used(&ids).await?;
    Ok(Json(page.map(|key| KeyJson::new(key, &last_used, now))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use axum::http::StatusCode;
    use serde_json::{Value, json};

    use crate::http::testing::Plane;

    fn names(list: &Value) -> Vec<&str> {
        list["items"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn pages_neither_repeat_nor_miss_while_keys_are_issued() {
        let plane = Plane::new().await;
        for number in 0..25 {
            plane.key(&format!("key{number}")).await;
            if number % 3 == 0 {
                plane.pass(Duration::from_millis(1));
            }
        }
        plane.pass(Duration::from_millis(1));
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = plane.get(&format!("/v1/keys?limit=4&cursor={cursor}")).await.expect(StatusCode::OK);
            seen.extend(names(&page).into_iter().map(str::to_owned));
            plane.key(&format!("late{}", seen.len())).await;
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
    async fn filters_select() {
        let plane = Plane::new().await;
        plane.key("alpha").await;
        let test = json!({
            "name": "beta", "environment": "test", "scopes": ["tickets:read"], "description": "For Nightly runs",
            "expires_at": "2027-01-15T09:00:00Z",
        });
        let beta = plane.post("/v1/keys", test).await.expect(StatusCode::CREATED);
        plane.key("gamma").await;
        plane.post("/v1/keys/gamma/revoke", json!({})).await.expect(StatusCode::OK);
        plane.pass(Duration::from_secs(3_600));
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
            ("q=nightly", vec!["beta"]),
            ("q=%25", vec![]),
            (&format!("environment=test&q={hint}"), vec!["beta"]),
            ("status=&environment=&scope=&q=", vec!["gamma", "beta", "alpha"]),
        ] {
            let list = plane.get(&format!("/v1/keys?{query}")).await.expect(StatusCode::OK);
            assert_eq!(
                names(&list).into_iter().collect::<BTreeSet<_>>(),
                expected.into_iter().collect(),
                "{query}"
            );
            assert_eq!(list["next_cursor"], Value::Null);
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        let plane = Plane::new().await;
        for (query, field) in [
            ("status=on", "status"),
            ("environment=prod", "environment"),
            ("scope=all", "scope"),
            ("limit=0", "limit"),
            ("limit=501", "limit"),
            ("limit=x", "limit"),
            ("cursor=x", "cursor"),
            ("colour=red", ""),
            ("q=a&q=b", ""),
            ("cursor=&cursor=", ""),
        ] {
            let (status, code, named) = plane.get(&format!("/v1/keys?{query}")).await.problem();
            assert_eq!((status, code.as_str(), named.as_str()), (400, "invalid_query", field), "{query}");
        }
        assert_eq!(plane.get("/v1/keys/nobody").await.problem().1, "not_found");
        assert_eq!(plane.get("/v1/keys/%FF").await.problem().1, "not_found");
    }
}
