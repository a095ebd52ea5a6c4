//! The attacks.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use omniflow_harness::client::requests_with_a_closed_window;
use omniflow_harness::control_plane::NewKey;
use omniflow_harness::{Call, Stack, StackOptions};
use omniflow_store::Store as _;
use omniflow_store_sqlite::{SqliteStore, fixtures};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::flood::flood;

/// Records of 90 days, so that statistics take long.
const RECORDS: i64 = 200_000;
const STATISTICS: &str = "/v1/audit/stats?by=address,key&from=2026-10-01T00:00:00Z&to=2027-02-01T00:00:00Z";
const QUERIES: usize = 48;
/// A path of 2 KB.
const PATH_LENGTH: usize = 2_000;
const FORMS: usize = 8;
const UNFINISHED: usize = 70;
const ARGUMENTS: usize = 64 * 1_024;
const CONNECTIONS: usize = 100;
/// As many as one connection may have.
const STREAMS: u32 = 100;

/// An attack by volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attack {
    /// Calls with a revoked key.
    RevokedKey,
    /// Unfinished sign-in forms.
    SignInForms,
    /// Introspection of a key.
    Introspection,
    /// Statistics of one auditor token.
    Statistics,
    /// Calls without a key that the gateway lets pass.
    Passthrough,
    /// Unfinished request bodies of one key.
    Arguments,
    /// HTTP/2 streams of clients that do not read.
    ClosedWindows,
}

/// What an attack needs.
pub(crate) struct Prepared {
    key: NewKey,
    auditor: String,
}

// === impl Attack ===

impl Attack {
    /// All attacks.
    pub(crate) const ALL: [Self; 7] = [
        Self::RevokedKey,
        Self::SignInForms,
        Self::Introspection,
        Self::Statistics,
        Self::Passthrough,
        Self::Arguments,
        Self::ClosedWindows,
    ];

    /// Its number in the table.
    pub(crate) fn number(self) -> usize {
        Self::ALL.iter().position(|attack| *attack == self).map_or(0, |place| place + 1)
    }

    /// What the attacker does.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::RevokedKey => "8,900 calls/s with a revoked key and a path of 2 KB",
            Self::SignInForms => "8 unfinished `POST /sign-in`",
            Self::Introspection => "10,000 introspections/s with a key that may make 1 call per minute",
            Self::Statistics => "48 statistics at once with one auditor token, over 200,000 records",
            Self::Passthrough => "calls without a key to a gateway that lets them pass, as fast as possible",
            Self::Arguments => "70 unfinished requests of one key with 64 KiB each",
            Self::ClosedWindows => "10,000 HTTP/2 streams without a key whose client reads nothing",
        }
    }

    /// How the stack is started.
    pub(crate) fn options(self) -> StackOptions {
        let options = StackOptions { log_level: "warning".to_owned(), ..StackOptions::workers(2) };
        match self {
            Self::Passthrough => options.plugin("non_key_credentials", "passthrough"),
            _ => options,
        }
    }

    /// Prepares the stack.
    pub(crate) async fn prepare(self, stack: &mut Stack) -> Result<Prepared> {
        if self == Self::Statistics {
            stack.control_plane.stop()?;
            let store = SqliteStore::open(stack.control_plane.folder()).await?;
            fixtures::records(&store, RECORDS).await;
            store.close().await;
            drop(store);
            stack.control_plane.restart().await?;
        }
        let per_minute = if self == Self::Introspection { 1 } else { 1_000_000 };
        let key = stack
            .key(json!({
                "name": "attacker", "environment": "live", "scopes": ["contacts:read", "contacts:write"],
                "rate_limit": {"per_minute": per_minute},
            }))
            .await?;
        if self == Self::RevokedKey {
            stack.control_plane.revoke(&key.id, Some(Duration::from_secs(10))).await?;
        }
        let auditor = stack.control_plane.create_token("attacker", "auditor").await?;
        Ok(Prepared { key, auditor })
    }

    /// Attacks until this instant. Returns how much was reached.
    pub(crate) async fn run(self, stack: &Stack, prepared: &Prepared, until: Instant) -> Result<String> {
        let (gateway, control_plane) = (stack.envoy.port(), stack.control_plane.port());
        let long = format!("/api/v1/contacts/{}", "a".repeat(PATH_LENGTH));
        let secret = &prepared.key.secret;
        match self {
            Self::RevokedKey => {
                let call = Call::get(&long).header("x-api-key", secret);
                flood(gateway, &call, Some(8_900), until).await
            }
            Self::Introspection => {
                let call = Call::get("/.well-known/omniflow/key").header("x-api-key", secret);
                flood(gateway, &call, Some(10_000), until).await
            }
            Self::Passthrough => {
                let call = Call::get(&long).bearer("eyJhbGciOiJub25lIn0.e30.x");
                flood(gateway, &call, None, until).await
            }
            Self::Statistics => query(control_plane, &prepared.auditor, until).await,
            Self::SignInForms => {
                let form = b"POST /sign-in HTTP/1.1\r\nhost: a\r\nsec-fetch-site: same-origin\r\n\
                    content-type: application/x-www-form-urlencoded\r\ntransfer-encoding: chunked\r\n\r\n6\r\ntoken=\r\n";
                hold(control_plane, FORMS, form, until).await?;
                Ok(format!("{FORMS} forms"))
            }
            Self::Arguments => {
                let head = format!(
                    "POST /api/v1/contacts HTTP/1.1\r\nhost: a\r\nx-api-key: {secret}\r\ncontent-type: text/plain\r\n\
                     content-length: {}\r\n\r\n",
                    ARGUMENTS + 1
                );
                let request = [head.into_bytes(), vec![b'a'; ARGUMENTS]].concat();
                hold(gateway, UNFINISHED, &request, until).await?;
                Ok(format!("{UNFINISHED} requests"))
            }
            Self::ClosedWindows => {
                hold(gateway, CONNECTIONS, &requests_with_a_closed_window(STREAMS), until).await?;
                Ok(format!("{} streams", CONNECTIONS as u64 * u64::from(STREAMS)))
            }
        }
    }
}

/// Keeps the maximum number of queries running. Returns how many were answered.
async fn query(port: u16, token: &str, until: Instant) -> Result<String> {
    let queries: Vec<_> = (0..QUERIES)
        .map(|_| {
            let call = Call::get(STATISTICS).bearer(token).within(Duration::from_secs(60));
            tokio::spawn(async move {
                let (mut answered, mut refused) = (0u64, 0u64);
                while Instant::now() < until {
                    match omniflow_harness::client::call(port, call.clone()).await?.status {
                        200 => answered += 1,
                        _ => refused += 1,
                    }
                }
                anyhow::Ok((answered, refused))
            })
        })
        .collect();
    let (mut answered, mut refused) = (0, 0);
    for query in queries {
        let (more_answered, more_refused) = query.await??;
        answered += more_answered;
        refused += more_refused;
    }
    Ok(format!("{answered} answered, {refused} refused"))
}

/// Opens connections, sends these bytes on each, and keeps them open.
async fn hold(port: u16, connections: usize, bytes: &[u8], until: Instant) -> Result<()> {
    let mut held = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.context("the port is closed")?;
        // The server may close a connection that it no longer admits, or read no further.
        let _ = timeout_at(until, stream.write_all(bytes)).await;
        held.push(stream);
    }
    sleep_until(until).await;
    Ok(())
}
