//! Reading query parameters. An empty one counts as absent, as forms send it.

use std::time::Duration;

use serde::Deserialize;
use utoipa::IntoParams;

use omniflow_api_types::schema;
use omniflow_domain::error::Error;

use omniflow_service::query;
pub(super) use omniflow_service::query::{PageRequest, parsed};

/// Which page of a list is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// The most items of the page; 100 if not stated.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Option<String>,
    /// Which page: `next_cursor` of the one before, with the same filters.
    #[param(value_type = Option<schema::Cursor>)]
    cursor: Option<String>,
}

/// A filter, and the parameters beside it, such as the page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filtered<F, O> {
    #[serde(flatten)]
    pub(super) filter: F,
    #[serde(flatten)]
    pub(super) options: O,
}

/// Whether a change is waited for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WaitQuery {
    /// Answers when every live gateway enforces it, or after this time, at most `30s`. Then the answer has `enforcement`.
    #[param(value_type = Option<schema::Duration>)]
    wait: Option<String>,
}

// === impl WaitQuery ===

impl WaitQuery {
    /// How long to wait; `None` to answer at once, without asking the gateways.
    pub(super) fn read(self) -> Result<Option<Duration>, Error> {
        query::wait(self.wait)
    }
}

impl From<PageQuery> for PageRequest {
    fn from(query: PageQuery) -> Self {
        Self { limit: query.limit, cursor: query.cursor }
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
            assert_eq!(detail("colour=red").await, "The query string: unknown field `colour`.", "{path}");
            for name in [filter, option] {
                let expected = format!("The query string: duplicate field `{name}`.");
                assert_eq!(detail(&format!("{name}=&{name}=")).await, expected, "{path}");
            }
            assert_eq!(server.get(&format!("{path}?{filter}=&{option}=")).await.status, 200, "{path}");
        }
    }
}
