//! One response for all concurrent scrapes.
//!
//! The endpoint is public. However many scrapers there are, one response is encoded at a time, and all requests that arrive
//! meanwhile share the next one.

use axum::body::Bytes;
use omniflow_domain::error::Error;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::exposition::Format;

/// The last text of each format.
#[derive(Debug, Default)]
pub(crate) struct ScrapeCache {
    prometheus: Mutex<Option<Scrape>>,
    openmetrics: Mutex<Option<Scrape>>,
}

/// A text, and when its encoding began.
#[derive(Debug)]
struct Scrape {
    began: Instant,
    text: Result<Bytes, Error>,
}

// === impl ScrapeCache ===

impl ScrapeCache {
    /// The text in this format, as of the call or later.
    pub(super) async fn get_or_encode(
        &self,
        format: Format,
        encode: impl AsyncFnOnce() -> Result<Bytes, Error>,
    ) -> Result<Bytes, Error> {
        let arrived = Instant::now();
        let mut last = match format {
            Format::Prometheus => self.prometheus.lock().await,
            Format::OpenMetrics => self.openmetrics.lock().await,
        };
        if let Some(scrape) = last.as_ref().filter(|scrape| scrape.began >= arrived) {
            return scrape.text.clone();
        }
        let began = Instant::now();
        // All waiting requests also share an error. Otherwise, each of them would try in turn while the store is
        // unavailable.
        let text = encode().await;
        *last = Some(Scrape { began, text: text.clone() });
        text
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn scrapes_that_wait_share_one_text() {
        let (cache, encoded) = (Arc::new(ScrapeCache::default()), Arc::new(AtomicUsize::new(0)));
        let gate = Arc::new(Semaphore::new(0));
        let scrape = || {
            let (cache, encoded, gate) = (Arc::clone(&cache), Arc::clone(&encoded), Arc::clone(&gate));
            tokio::spawn(async move {
                let encode = async || {
                    gate.acquire().await.unwrap().forget();
                    Ok(Bytes::from(encoded.fetch_add(1, Ordering::Relaxed).to_string()))
                };
                cache.get_or_encode(Format::Prometheus, encode).await.unwrap()
            })
        };
        let scrapes: Vec<_> = (0..100).map(|_| scrape()).collect();
        // The runtime has one thread: all of them have arrived when this continues.
        tokio::task::yield_now().await;
        gate.add_permits(100);
        let mut texts = Vec::new();
        for scrape in scrapes {
            texts.push(scrape.await.unwrap());
        }
        assert_eq!(encoded.load(Ordering::Relaxed), 2, "one for the first, and one for those that waited");
        assert_eq!(texts.iter().filter(|text| *text == "1").count(), 99);
        assert_eq!(scrape().await.unwrap(), "2", "a later scrape has later values");
    }
}
