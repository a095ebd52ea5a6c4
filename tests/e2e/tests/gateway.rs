//! The surroundings of the filter, without the filter: Envoy as run by the harness, and its routes.

use std::time::Duration;

use anyhow::{Result, ensure};
use omniflow_harness::ports::Port;
use omniflow_harness::{Call, Connection, Envoy, EnvoyOptions, Upstream, eventually};
use tempfile::TempDir;

/// Envoy between two upstreams, and nothing that checks a key.
struct Bare {
    envoy: Envoy,
    live: Upstream,
    test: Upstream,
    _folder: TempDir,
    _ports: [Port; 4],
}

impl Bare {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let ports = [Port::reserve()?, Port::reserve()?, Port::reserve()?, Port::reserve()?];
        let [port, admin, live, test] = ports.each_ref().map(Port::number);
        let envoy = Envoy::start(EnvoyOptions {
            live_port: live,
            test_port: test,
            with_filter: false,
            ..EnvoyOptions::new(folder.path(), port, admin)
        })
        .await?;
        let (live, test) = (Upstream::start("live", live)?, Upstream::start("test", test)?);
        Ok(Self { envoy, live, test, _folder: folder, _ports: ports })
    }
}

#[tokio::test]
async fn the_environment_header_selects_the_upstream() {
    let bare = Bare::start().await.unwrap();
    for (environment, upstream) in [("test", "test"), ("live", "live"), ("", "live"), ("test, live", "live")]
    {
        let call = Call::get("/a").header("x-omniflow-environment", environment);
        let echo = bare.envoy.call(call).await.unwrap().json().unwrap();
        assert_eq!(echo["upstream"], upstream, "{environment:?}");
    }
    assert_eq!((bare.live.received().len(), bare.test.received().len()), (3, 1));
}

#[tokio::test]
async fn paths_reach_the_filter_as_the_client_wrote_them() {
    let bare = Bare::start().await.unwrap();
    for path in ["/a/../b", "/a//b", "/a%2Fb", "/a%5cb", "/a/./b?q=/../", "/%2e%2e/b", "/a/..;/b"] {
        let echo = bare.envoy.call(Call::get(path)).await.unwrap().json().unwrap();
        assert_eq!(echo["path"], path);
    }
}

#[tokio::test]
async fn headers_with_underscores_are_refused() {
    let bare = Bare::start().await.unwrap();
    let response = bare.envoy.call(Call::get("/a").header("x_omniflow_key_id", "1")).await.unwrap();
    assert_eq!(response.status, 400);
    assert!(bare.live.received().is_empty());
}

#[tokio::test]
async fn grpc_passes_with_its_trailers() {
    let bare = Bare::start().await.unwrap();
    let mut connection = Connection::http2(bare.envoy.port()).await.unwrap();
    let response = connection.call(Call::grpc("/package.Service/Method", b"message")).await.unwrap();
    assert_eq!((response.status, response.grpc_status()), (200, Some(0)));
}

#[tokio::test]
async fn every_request_is_in_the_access_log_without_what_the_client_wrote() {
    let bare = Bare::start().await.unwrap();
    bare.envoy.call(Call::get("/a?token=secret").header("x-echo-status", "418")).await.unwrap();
    let line = eventually(Duration::from_secs(10), || async {
        let lines = bare.envoy.access_log()?;
        ensure!(lines.len() == 1, "{} lines", lines.len());
        Ok(lines[0].clone())
    })
    .await
    .unwrap();
    assert_eq!(line["status"], 418);
    assert_eq!(line["client"], "127.0.0.1");
    assert!(!line.to_string().contains("secret"));
}

#[tokio::test]
async fn a_paused_envoy_answers_after_it_is_resumed() {
    let bare = Bare::start().await.unwrap();
    bare.envoy.process().pause().unwrap();
    let call = Call::get("/a").within(Duration::from_millis(200));
    assert!(bare.envoy.call(call).await.is_err());
    bare.envoy.process().resume().unwrap();
    assert_eq!(bare.envoy.call(Call::get("/a")).await.unwrap().status, 200);
    assert!(bare.envoy.stat("http.ingress.downstream_rq_total").await.unwrap() >= 1);
}

#[tokio::test]
async fn a_killed_envoy_is_gone_and_can_be_started_again() {
    let mut bare = Bare::start().await.unwrap();
    assert!(!bare.envoy.process().kill().unwrap().success());
    assert!(bare.envoy.call(Call::get("/a")).await.is_err());
    assert!(omniflow_harness::ports::is_free(bare.envoy.port()));
    bare.envoy.restart().await.unwrap();
    assert_eq!(bare.envoy.call(Call::get("/a")).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_envoy_that_is_asked_to_quit_ends_well() {
    let bare = Bare::start().await.unwrap();
    bare.envoy.drain_listeners().await.unwrap();
    bare.envoy.quit().await.unwrap();
    let status = eventually(Duration::from_secs(10), || async {
        bare.envoy.process().exit_status().ok_or_else(|| anyhow::anyhow!("it still runs"))
    })
    .await
    .unwrap();
    assert!(status.success(), "{status}");
}
