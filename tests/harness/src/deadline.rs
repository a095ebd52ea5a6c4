//! Waits for a condition, with a deadline instead of a fixed sleep.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Runs `attempt` until it succeeds and returns its value. An error means "not yet"; when `within` is over, the last
/// error is returned, so that a failed wait shows what was still missing.
pub async fn eventually<T, F, A>(within: Duration, mut attempt: F) -> Result<T>
where
    F: FnMut() -> A,
    A: Future<Output = Result<T>>,
{
    let deadline = Instant::now() + within;
    let mut pause = FIRST_PAUSE;
    let mut last = None;
    loop {
        match tokio::time::timeout_at(deadline, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = Some(error),
            Err(_) => {}
        }
        if Instant::now() + pause >= deadline {
            let reason = last.unwrap_or_else(|| anyhow!("the attempt did not end"));
            return Err(reason).with_context(|| format!("not so within {within:?}"));
        }
        // Pause between two attempts, so that polling does not compete for the processor.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::ensure;

    #[tokio::test]
    async fn returns_the_first_success() {
        let mut calls = 0;
        let value = eventually(Duration::from_secs(5), || {
            calls += 1;
            let seen = calls;
            async move {
                ensure!(seen >= 3, "only {seen}");
                Ok(seen)
            }
        })
        .await;
        assert_eq!(value.unwrap(), 3);
    }

    #[tokio::test]
    async fn tells_what_was_missing_at_the_deadline() {
        let error =
            eventually::<(), _, _>(Duration::from_millis(20), || async { Err(anyhow!("no gateway")) })
                .await
                .unwrap_err();
        assert_eq!(format!("{error:#}"), "not so within 20ms: no gateway");
    }

    #[tokio::test]
    async fn an_attempt_that_hangs_is_cut_off() {
        let error =
            eventually::<(), _, _>(Duration::from_millis(20), std::future::pending).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "not so within 20ms: the attempt did not end");
    }
}
