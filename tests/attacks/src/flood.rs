//! Many calls at a constant rate.

use std::time::Duration;

use anyhow::Result;
use omniflow_harness::{Call, Connection};
use tokio::time::{Instant, MissedTickBehavior, interval};

const CLIENTS: u32 = 32;

/// Repeats a call at this rate in calls per second, or as fast as possible. Returns the rate that was reached.
pub(crate) async fn flood(port: u16, call: &Call, rate: Option<u32>, until: Instant) -> Result<String> {
    let began = Instant::now();
    let period = rate.map(|rate| Duration::from_secs(1) * CLIENTS / rate);
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| tokio::spawn(repeat(port, call.clone(), period, until))).collect();
    let mut calls = 0;
    for client in clients {
        calls += client.await?;
    }
    Ok(format!("{} calls/s", calls * 1_000 / (began.elapsed().as_millis() as u64).max(1)))
}

/// Returns the number of responses. A connection that the server closes is opened again.
async fn repeat(port: u16, call: Call, period: Option<Duration>, until: Instant) -> u64 {
    let mut pace = period.map(|period| {
        let mut pace = interval(period);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        pace
    });
    let (mut calls, mut connection) = (0, None);
    while Instant::now() < until {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let mut open = match connection.take() {
            Some(open) => open,
            None => match Connection::http1(port).await {
                Ok(open) => open,
                Err(_) => continue,
            },
        };
        if open.call(call.clone()).await.is_ok() {
            calls += 1;
            connection = Some(open);
        }
    }
    calls
}
