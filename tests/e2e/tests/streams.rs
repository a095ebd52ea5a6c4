//! Calls that last: they are visible while they are in progress, and end with their key.

use std::time::Duration;

use anyhow::{Result, ensure};
use omniflow_harness::control_plane::NewKey;
use omniflow_harness::{Call, Connection, RawConnection, Stack, StackOptions, eventually};
use serde_json::{Value, json};

use crate::support::CONTACTS;

const WAIT: Duration = Duration::from_secs(30);
/// How long after a revocation a stream may still be open.
const ENDED_WITHIN: Duration = Duration::from_secs(2);

async fn stack() -> Stack {
    let options = StackOptions::workers(2).edit(|config| {
        let manager = omniflow_harness::bootstrap::connection_manager(config)?;
        manager.insert("upgrade_configs".to_owned(), json!([{"upgrade_type": "websocket"}]));
        Ok(())
    });
    Stack::start(options).await.unwrap()
}

/// Opens an HTTP/1.1 connection and sends the head of a request with this key.
async fn open(stack: &Stack, key: &NewKey, line: &str, rest: &str) -> RawConnection {
    let mut connection = RawConnection::open(stack.envoy.port()).await.unwrap();
    let head = format!("{line} HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {}\r\n{rest}", key.secret);
    connection.send(head.as_bytes()).await.unwrap();
    connection
}

/// The bytes of a stream until one is there.
async fn read_until(connection: &mut RawConnection, text: &str) -> String {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(text) {
        read.extend(connection.read_some().await.unwrap());
    }
    String::from_utf8_lossy(&read).into_owned()
}

async fn events(stack: &Stack, key: &NewKey, name: &str) -> RawConnection {
    let line = format!("GET {CONTACTS}/{name}");
    let mut connection = open(stack, key, &line, "X-Echo-Stall: 1\r\n\r\n").await;
    assert!(read_until(&mut connection, "the beginning").await.starts_with("HTTP/1.1 200"));
    connection
}

async fn web_socket(stack: &Stack, key: &NewKey, name: &str) -> RawConnection {
    let line = format!("GET {CONTACTS}/{name}");
    let mut connection = open(stack, key, &line, "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert!(read_until(&mut connection, "\r\n\r\n").await.starts_with("HTTP/1.1 101"));
    connection.send(b"ping").await.unwrap();
    read_until(&mut connection, "ping").await;
    connection
}

async fn upload(stack: &Stack, key: &NewKey, name: &str) -> RawConnection {
    let line = format!("POST {CONTACTS}/{name}");
    open(stack, key, &line, "Content-Length: 1000000\r\n\r\nthe beginning").await
}

async fn records(stack: &Stack) -> Result<Vec<Value>> {
    stack.control_plane.audit("limit=500").await
}

async fn in_progress(stack: &Stack, query: &str) -> Vec<Value> {
    stack.control_plane.list(&format!("/v1/audit/in-progress?limit=100{query}")).await.unwrap()
}

#[tokio::test]
async fn open_streams_end_when_their_key_is_revoked() {
    let stack = stack().await;
    let scopes = &["contacts:read", "contacts:write"];
    let revoked = stack.live_key("revoked", scopes).await.unwrap();
    let other = stack.live_key("other", scopes).await.unwrap();
    let mut kept = [
        events(&stack, &other, "kept-events").await,
        web_socket(&stack, &other, "kept-socket").await,
        upload(&stack, &other, "kept-upload").await,
    ];
    let mut streams = [
        events(&stack, &revoked, "events").await.within(ENDED_WITHIN),
        web_socket(&stack, &revoked, "socket").await.within(ENDED_WITHIN),
    ];
    let mut upload = upload(&stack, &revoked, "upload").await.within(ENDED_WITHIN);
    let slow =
        Call::get(&format!("{CONTACTS}/slow")).bearer(&revoked.secret).header("x-echo-delay-ms", "60000");
    let events2 =
        Call::get(&format!("{CONTACTS}/events2")).bearer(&revoked.secret).header("x-echo-stall", "1");
    let http2 = Connection::http2(stack.envoy.port()).await.unwrap();
    let [slow, events2] = [slow, events2].map(|call| {
        let mut stream = http2.another_stream().unwrap();
        tokio::spawn(async move { stream.call(call).await })
    });
    let beginning = |name: &str| format!("{CONTACTS}/{name}");
    eventually(WAIT, || async {
        let active = stack.envoy.stat("http.ingress.downstream_rq_active").await?;
        ensure!(active == 8, "{active} requests are in progress");
        Ok(())
    })
    .await
    .unwrap();

    let answer = stack.control_plane.revoke(&revoked.id, Some(Duration::from_secs(10))).await.unwrap();
    assert_eq!(answer["enforcement"]["complete"], true, "{answer}");
    for stream in &mut streams {
        // The end may be a reset.
        let _ = stream.read_to_end().await.inspect_err(|error| {
            assert!(!error.to_string().contains("not closed in time"), "{error:#}");
        });
    }
    let refused = upload.receive().await.unwrap();
    assert_eq!((refused.status, refused.problem_code().as_deref()), (401, Some("key_revoked")));
    let refused = slow.await.unwrap().unwrap();
    assert_eq!((refused.status, refused.problem_code().as_deref()), (401, Some("key_revoked")));
    assert!(events2.await.unwrap().is_err(), "the response is cut off");

    for (name, status) in [("events", 200), ("socket", 101), ("upload", 401), ("slow", 401), ("events2", 200)]
    {
        let record = eventually(WAIT, || async {
            let found = records(&stack).await?.into_iter().find(|record| record["path"] == beginning(name));
            found.ok_or_else(|| anyhow::anyhow!("no record of {name}"))
        })
        .await
        .unwrap();
        assert_eq!(
            (&record["status"], &record["interruption"], &record["reason"]),
            (&json!(status), &json!("key_no_longer_valid"), &json!("allowed")),
            "{record}"
        );
    }
    assert_eq!(stack.envoy.stat("wasmcustom.omniflow_calls_terminated").await.unwrap(), 5);
    let [_, socket, _] = &mut kept;
    socket.send(b"pong").await.unwrap();
    read_until(socket, "pong").await;
    assert_eq!(stack.envoy.stat("http.ingress.downstream_rq_active").await.unwrap(), 3);
}

#[tokio::test]
async fn open_streams_end_when_their_key_expires() {
    let stack = stack().await;
    let key = stack.live_key("rotated", &["contacts:read"]).await.unwrap();
    let mut stream = events(&stack, &key, "events").await.within(WAIT);
    let rotated = stack.control_plane.rotate(&key.id, "2s").await.unwrap();
    stack.in_step().await.unwrap();
    let newer = events(&stack, &rotated, "newer").await;
    let _ = stream.read_to_end().await.inspect_err(|error| {
        assert!(!error.to_string().contains("not closed in time"), "{error:#}");
    });
    assert!(newer.within(Duration::from_millis(700)).read_some().await.is_err(), "it stays open");
}

#[tokio::test]
async fn a_long_call_is_in_progress_until_it_ends() {
    let stack = stack().await;
    let key = stack.live_key("long", &["contacts:read"]).await.unwrap();
    let short = Call::get(CONTACTS).bearer(&key.secret);
    assert_eq!(stack.call(short).await.unwrap().status, 200);
    let stream = events(&stack, &key, "events").await;
    let call = eventually(WAIT, || async {
        let calls = in_progress(&stack, "&key=long").await;
        ensure!(calls.len() == 1, "{calls:?}");
        Ok(calls.into_iter().next().unwrap_or_default())
    })
    .await
    .unwrap();
    assert_eq!(
        (&call["path"], &call["status"]),
        (&json!(format!("{CONTACTS}/events")), &json!(200)),
        "{call}"
    );
    assert_eq!((&call["key_id"], &call["lost"]), (&json!(key.id), &json!(false)), "{call}");
    assert_eq!(records(&stack).await.unwrap().len(), 1, "only the short call has a record");
    let used = stack.control_plane.get(&format!("/v1/keys/{}", key.id)).await.unwrap();
    assert_eq!(used["last_used_at"], call["time"], "{used}");

    drop(stream);
    eventually(WAIT, || async {
        let calls = in_progress(&stack, "").await;
        ensure!(calls.is_empty(), "{calls:?}");
        Ok(())
    })
    .await
    .unwrap();
    let records = records(&stack).await.unwrap();
    assert_eq!(records.len(), 2, "{records:?}");
    assert_eq!((&records[0]["request_id"], &records[0]["time"]), (&call["request_id"], &call["time"]));
    assert!(records[0]["latency_us"].as_u64().unwrap() >= 5_000_000, "{}", records[0]);
    let stats = stack.control_plane.get("/v1/audit/stats?by=key").await.unwrap();
    assert_eq!(stats["total"]["calls"], 2, "{stats}");
    assert!(stack.control_plane.list("/v1/audit/gaps").await.unwrap().is_empty());
}
