//! `POST /gateway/v1/poll` and `POST /gateway/v1/enforced`: changes to apply, and confirmation that they are enforced.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use omniflow_policy::gateway::{
    DELTA_MEDIA_TYPE, ENFORCED_PATH, EnforcedReport, MANIFEST_MEDIA_TYPE, POLL_PATH,
    PUBLISHED_VERSION_HEADER, PollRequest,
};

use crate::access::GatewayToken;
use crate::extract::StrictJson;
use crate::problem::Problem;
use omniflow_service::gateway_protocol::{GatewayProtocol, PollAnswer};

/// Responds immediately if there is a newer version, and otherwise as soon as there is one.
#[utoipa::path(post, path = POLL_PATH)]
pub(super) async fn poll(
    State(protocol): State<Arc<GatewayProtocol>>,
    GatewayToken(token): GatewayToken,
    StrictJson(request): StrictJson<PollRequest>,
) -> Result<Response, Problem> {
    Ok(match protocol.poll(&token, &request).await? {
        PollAnswer::Nothing => StatusCode::NO_CONTENT.into_response(),
        PollAnswer::Delta(delta) => binary(DELTA_MEDIA_TYPE, delta.encode().into()),
        PollAnswer::Image(image, published) => {
            let header = [(PUBLISHED_VERSION_HEADER, published.to_string())];
            (header, binary(MANIFEST_MEDIA_TYPE, image.manifest())).into_response()
        }
    })
}

/// Records what each VM of a gateway enforces.
#[utoipa::path(post, path = ENFORCED_PATH)]
pub(super) async fn enforced(
    State(protocol): State<Arc<GatewayProtocol>>,
    GatewayToken(token): GatewayToken,
    StrictJson(report): StrictJson<EnforcedReport>,
) -> Result<StatusCode, Problem> {
    protocol.enforced(&token, &report)?;
    Ok(StatusCode::NO_CONTENT)
}

fn binary(media_type: &'static str, body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, media_type)], body).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::Method;
    use omniflow_domain::version::{MAX_CLOCK_DIFFERENCE_MS, MAX_REPORTED_VERSION};
    use omniflow_policy::digest::Digest;
    use omniflow_policy::snapshot::{Change, Delta, Manifest, Segment, split_chunk};
    use omniflow_policy::time::UnixMillis;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use omniflow_test_server::{Answer, START, TestServer, request, send};

    fn body(installation: Option<Uuid>, version: u64, wait_ms: u64) -> Value {
        json!({
            "gateway": "edge", "incarnation": "000000000000000a", "filter_version": "0.1.0", "snapshot_format": 1,
            "installation": installation, "version": version, "wait_ms": wait_ms, "clock": 1_800_000_000_000_u64,
            "vms": [{"id": "0000000000000001", "version": version}],
        })
    }

    async fn poll(server: &TestServer, token: &str, body: Value) -> Answer {
        server.call(request(Method::POST, "/gateway/v1/poll", token, Some(body))).await
    }

    #[tokio::test]
    async fn a_new_gateway_takes_the_whole_image() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let secret = server.key("ci").await["secret"].as_str().unwrap().to_owned();
        let answer = poll(&server, &token, body(None, 0, 0)).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.headers[header::CONTENT_TYPE], MANIFEST_MEDIA_TYPE);
        let manifest = Manifest::decode(&answer.body).unwrap();
        assert_eq!(manifest.installation, server.app.publisher.installation.id);
        assert_eq!(manifest.version, server.app.publisher.publication.version().unwrap());

        let chunk = async |version: u64, n: u32| {
            let path = format!("/gateway/v1/images/{version}/chunks/{n}");
            server.call(request(Method::GET, &path, &token, None)).await
        };
        // The image does not change even if keys change.
        let later = server.key("later").await["secret"].as_str().unwrap().to_owned();
        // Another gateway that starts is offered the same image; the header states the published version.
        let other = poll(&server, &token, body(None, 0, 0)).await;
        assert_eq!(other.body, answer.body);
        let published = server.app.publisher.publication.version().unwrap();
        assert!(published > manifest.version);
        assert_eq!(other.headers[PUBLISHED_VERSION_HEADER], published.to_string());
        let mut segments = Vec::new();
        for n in 0..manifest.chunk_count() {
            let chunk = chunk(manifest.version, n).await.body;
            for segment in split_chunk(&chunk).unwrap() {
                let id = manifest.segment_id(segments.len() as u32);
                segments.push(Segment::parse(segment.to_vec(), id).unwrap());
            }
        }
        assert_eq!(segments.len() as u32, manifest.segment_count());
        let name_of = |secret: &str| {
            let digest = Digest::of(secret.as_bytes());
            segments[manifest.segment_of(&digest) as usize].find(&digest).map(|credential| credential.name)
        };
        assert_eq!((name_of(&secret), name_of(&later)), (Some("ci"), None));
        assert_eq!(chunk(manifest.version, manifest.chunk_count()).await.problem().0, 404);
        assert_eq!(chunk(manifest.version - 1, 0).await.problem().1, "image_gone");
        server.pass(Duration::from_secs(119));
        assert_eq!(chunk(manifest.version, 0).await.status, StatusCode::OK);
        server.pass(Duration::from_secs(121));
        poll(&server, &token, body(None, 0, 0)).await;
        assert_eq!(chunk(manifest.version, 0).await.problem().1, "image_gone");
    }

    #[tokio::test]
    async fn a_waiting_poll_gets_a_revocation_in_150_bytes() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let secret = server.key("ci").await["secret"].as_str().unwrap().to_owned();
        let held = server.app.publisher.publication.version().unwrap();
        let call = request(
            Method::POST,
            "/gateway/v1/poll",
            &token,
            Some(body(Some(server.app.publisher.installation.id), held, 25_000)),
        );
        let waiting = tokio::spawn(send(server.router.clone(), call));
        server.until_connected(&waiting).await;
        server.post("/v1/keys/ci/revoke", json!({})).await.expect(StatusCode::OK);
        let answer = waiting.await.unwrap();
        assert_eq!(answer.headers[header::CONTENT_TYPE], DELTA_MEDIA_TYPE);
        assert!(answer.body.len() <= 150, "{} bytes", answer.body.len());
        let delta = Delta::decode(&answer.body).unwrap();
        assert_eq!((delta.from, delta.to), (held, server.app.publisher.publication.version().unwrap()));
        assert_eq!(delta.changes, [Change::Revoke(Digest::of(secret.as_bytes()))]);
        assert!(!server.has_connected_gateway().await);
    }

    #[tokio::test]
    async fn deltas_lead_to_the_published_image() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let mut image = (*server.app.publisher.publication.image().unwrap()).clone();
        for name in ["a", "b", "c"] {
            server.key(name).await;
        }
        server.patch("/v1/keys/b", json!({"scopes": []})).await.expect(StatusCode::OK);
        server.post("/v1/keys/a/revoke", json!({})).await.expect(StatusCode::OK);
        loop {
            let held = image.manifest().version;
            let answer =
                poll(&server, &token, body(Some(server.app.publisher.installation.id), held, 0)).await;
            if answer.status == StatusCode::NO_CONTENT {
                break;
            }
            image = image.apply(&Delta::decode(&answer.body).unwrap()).unwrap();
        }
        let published = server.app.publisher.publication.image().unwrap();
        assert_eq!(image.manifest(), published.manifest());
        assert!(image.segments().eq(published.segments()));
    }

    /// A control plane whose database is an older copy: its version is an hour behind the start of the process.
    async fn replaced_by_an_older_copy() -> TestServer {
        let server = TestServer::new().await;
        let mut transaction = server.app.store.begin().await.unwrap();
        let old = UnixMillis(START - 3_600_000);
        transaction.set_snapshot_version(old.0, old).await.unwrap();
        transaction.commit().await.unwrap();
        server.restart().await
    }

    #[tokio::test]
    async fn a_gateway_that_is_ahead_of_an_older_copy_gets_a_later_image() {
        let server = replaced_by_an_older_copy().await;
        let token = server.token("gateway").await;
        let mine = Some(server.app.publisher.installation.id);
        let ahead = START - 1_000;
        let answer = poll(&server, &token, body(mine, ahead, 0)).await;
        let manifest = Manifest::decode(&answer.body).unwrap();
        assert!(manifest.version > ahead);
        let stored = server.app.store.installation().await.unwrap().unwrap();
        assert_eq!(stored.snapshot_version, manifest.version);
        // A version of another installation is meaningless here.
        let foreign = poll(&server, &token, body(Some(Uuid::nil()), ahead * 2, 0)).await;
        assert_eq!(Manifest::decode(&foreign.body).unwrap().version, manifest.version);
    }

    #[tokio::test]
    async fn a_version_that_nobody_published_is_refused() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let mine = Some(server.app.publisher.installation.id);
        // What the process itself publishes is above what it believes of earlier ones.
        server.pass(Duration::from_millis(2 * MAX_CLOCK_DIFFERENCE_MS));
        server.key("ci").await;
        let held = server.app.publisher.publication.version().unwrap();
        let stored = async || server.app.store.installation().await.unwrap().unwrap().snapshot_version;
        server.pass(Duration::from_secs(3_600));
        for forged in [held + 1, START + 3_600_000, START + 23 * 3_600_000, MAX_REPORTED_VERSION] {
            let answer = poll(&server, &token, body(mine, forged, 0)).await;
            assert_eq!(answer.problem(), (409, "version_not_published".to_owned(), String::new()));
            assert!(answer.json()["detail"].as_str().unwrap().contains("omf db restore"));
            let gateways = server.get("/v1/gateways").await.json();
            let gateway = &gateways["items"][0];
            assert_eq!((&gateway["state"], &gateway["in_step"]), (&json!("ahead"), &json!(false)));
        }
        assert_eq!((server.app.publisher.publication.version().unwrap(), stored().await), (held, held));

        // Nor does it confirm a version that is published later.
        let change = server.post("/v1/keys/ci/revoke?wait=1ms", json!({})).await;
        let enforcement = &change.expect(StatusCode::OK)["enforcement"];
        assert_eq!(
            (&enforcement["complete"], &enforcement["gateways"][0]["state"]),
            (&json!(false), &json!("ahead"))
        );
        let tokens = server.get("/v1/tokens").await.json();
        let gateway =
            tokens["items"].as_array().unwrap().iter().find(|token| token["role"] == "gateway").unwrap();
        assert_eq!(gateway["gateway_requests"], json!({"polls": 4, "refused": 4}));
        let metrics = String::from_utf8(server.get("/metrics").await.body.to_vec()).unwrap();
        for line in [
            "omf_gateway_polls_total 4",
            "omf_gateway_requests_refused_total{code=\"version_not_published\"} 4",
        ] {
            assert!(metrics.contains(line), "{metrics}");
        }

        let answer = poll(&server, &token, body(mine, held, 0)).await;
        assert_eq!(answer.headers[header::CONTENT_TYPE], DELTA_MEDIA_TYPE);
        assert_eq!(Delta::decode(&answer.body).unwrap().from, held);
    }

    /// However high the versions are that a forger reports, plausible ones lead no further than the start of the process.
    #[tokio::test]
    async fn plausible_versions_lead_to_few_new_ones() {
        let server = replaced_by_an_older_copy().await;
        let token = server.token("gateway").await;
        let mine = Some(server.app.publisher.installation.id);
        let last = START + MAX_CLOCK_DIFFERENCE_MS;
        poll(&server, &token, body(mine, last, 0)).await;
        assert_eq!(server.app.publisher.publication.version().unwrap(), last + 1);
        assert_eq!(poll(&server, &token, body(mine, last + 2, 0)).await.problem().0, 409);
    }

    #[tokio::test]
    async fn no_version_is_published_that_a_gateway_may_not_state() {
        let server = TestServer::new().await;
        server.key("ci").await;
        let before = server.app.publisher.publication.version().unwrap();
        server.pass(Duration::from_millis(MAX_REPORTED_VERSION));
        let answer = server.post("/v1/keys/ci/revoke", json!({})).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(server.app.publisher.publication.version().unwrap(), before);
        assert_eq!(server.get("/v1/keys/ci").await.expect(StatusCode::OK)["status"], "active");
    }

    #[tokio::test]
    async fn a_poll_ends_with_its_time_and_with_the_process() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let version = server.app.publisher.publication.version().unwrap();
        let mine = Some(server.app.publisher.installation.id);
        assert_eq!(poll(&server, &token, body(mine, version, 10)).await.status, StatusCode::NO_CONTENT);
        server.app.notifications.stopping.send_replace(true);
        assert_eq!(poll(&server, &token, body(mine, version, 25_000)).await.status, StatusCode::NO_CONTENT);
    }

    #[tokio::test]
    async fn an_open_poll_ends_when_its_token_is_revoked() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let path = server.path_of_token("the gateway").await;
        let body = body(
            Some(server.app.publisher.installation.id),
            server.app.publisher.publication.version().unwrap(),
            25_000,
        );
        let call = request(Method::POST, "/gateway/v1/poll", &token, Some(body.clone()));
        let waiting = tokio::spawn(send(server.router.clone(), call));
        server.until_connected(&waiting).await;
        assert_eq!(server.delete(&path).await.status, StatusCode::NO_CONTENT);
        server.key("new").await;
        assert_eq!(waiting.await.unwrap().status, StatusCode::NO_CONTENT, "nothing of what came after");
        assert_eq!(poll(&server, &token, body).await.status, StatusCode::UNAUTHORIZED);
    }

    #[tokio::test]
    async fn a_poll_whose_token_was_revoked_while_it_came_gets_nothing() {
        let server = TestServer::new().await;
        server.token("gateway").await;
        let path = server.path_of_token("the gateway").await;
        let id = path.rsplit('/').next().unwrap().parse().unwrap();
        let token = server.app.store.token(id).await.unwrap().unwrap();
        assert_eq!(server.delete(&path).await.status, StatusCode::NO_CONTENT);
        let request = serde_json::from_value(body(None, 0, 25_000)).unwrap();
        let answer = super::poll(
            State(Arc::clone(&server.app.api.gateway_protocol)),
            crate::access::GatewayToken(Arc::new(token)),
            StrictJson(request),
        )
        .await;
        assert_eq!(answer.unwrap_err().into_response().status(), StatusCode::UNAUTHORIZED);
    }

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        for (name, value, expected) in [
            ("gateway", json!(""), (422, "invalid_field", "/gateway")),
            ("gateway", json!("a b"), (422, "invalid_field", "/gateway")),
            ("incarnation", json!("a"), (400, "invalid_json", "/incarnation")),
            ("snapshot_format", json!(0), (422, "invalid_field", "/snapshot_format")),
            ("version", json!(u64::MAX), (422, "invalid_field", "/version")),
            ("clock", json!(-1), (400, "invalid_json", "/clock")),
            ("other", json!(1), (400, "invalid_json", "/other")),
        ] {
            let mut body = body(None, 0, 0);
            body[name] = value;
            let (status, code, field) = poll(&server, &token, body).await.problem();
            assert_eq!((status, code.as_str(), field.as_str()), expected, "{name}");
        }
        assert_eq!(server.get("/v1/gateways").await.expect(StatusCode::OK)["items"], json!([]));
    }

    #[tokio::test]
    async fn gateways_are_listed_with_what_they_enforce() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let version = server.app.publisher.publication.version().unwrap();
        let mut stated = body(Some(server.app.publisher.installation.id), version, 0);
        stated["clock"] = json!(START - 1_500);
        poll(&server, &token, stated).await;
        let list = server.get("/v1/gateways?limit=1").await.expect(StatusCode::OK);
        let time = "2027-01-15T08:00:00.000Z";
        assert_eq!(
            list,
            json!({"items": [{
                "id": "edge/000000000000000a", "gateway": "edge", "incarnation": "000000000000000a",
                "filter_version": "0.1.0", "connected": false, "version": version, "in_step": true, "state": "in_step",
                "workers": [{"id": "0000000000000001", "version": version}],
                "first_seen_at": time, "last_seen_at": time, "clock_skew_ms": -1_500, "token_expires_at": null,
            }], "next_cursor": null, "version": version})
        );
        server.key("ci").await;
        poll(&server, &token, body(Some(server.app.publisher.installation.id), version, 0)).await;
        let list = server.get("/v1/gateways").await.expect(StatusCode::OK);
        assert_eq!(list["items"][0]["in_step"], false);
        assert_eq!(list["items"][0]["clock_skew_ms"], 0, "the skew is that of the last poll");
    }
}
