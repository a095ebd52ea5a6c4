//! Exports the audit log as OpenTelemetry logs over OTLP/HTTP: records and gaps.
//!
//! The exporter reads the audit database from a stored position, which advances when the receiver has accepted the records.
//! So nothing waits for the receiver, nothing accumulates in memory while it is unavailable, and no record is lost when either
//! side restarts. Delivery is at least once. Each record has a unique ID, by which receivers recognize duplicates.
//!
//! Uses the binary encoding, which every receiver supports: <https://opentelemetry.io/docs/specs/otlp/#otlphttp>.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message;
use reqwest::Url;
use reqwest::header::{self, HeaderMap, HeaderValue};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::headers::{HeadersError, read_headers};
use super::log_record::Words;
use crate::backoff::Backoff;
use crate::http_sink::{DeliveryError, HttpSink, SinkResponse, parse_url};
use crate::source::DeliverySource;
use omniflow_domain::clock::Entropy;
use omniflow_http_client::{CaFileError, ClientError};
use omniflow_store::{ExportPlace, Store, StoreError};

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/x-protobuf");
/// Maximum number of records per request.
const MOST_RECORDS: usize = 1_000;
/// Maximum bytes per request, unless a single record is longer.
const MOST_BYTES: usize = 1024 * 1024;
/// How long to collect records before a request, so that a busy gateway does not cause a request per batch.
const LINGER: Duration = Duration::from_secs(1);
/// Interval of the search for new records without a notification.
const PAUSE: Duration = Duration::from_secs(30);
/// Pauses between attempts.
const RETRIES: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(60) };
/// Maximum length of a receiver's error message in logs, in characters.
const MOST_QUOTED: usize = 300;

/// The OTLP receiver, as configured by the operator.
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    /// URL of the receiver.
    pub endpoint: Url,
    /// File with additional headers.
    pub headers_file: Option<PathBuf>,
    /// File with the CA certificates to trust for the receiver; `None` for the public CAs.
    pub ca_file: Option<PathBuf>,
}

/// Why the export cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The headers are not usable.
    #[error(transparent)]
    Headers(#[from] HeadersError),
    /// The CA certificates are not usable.
    #[error("{0}; set otlp_ca_file to a file with CA certificates in PEM form")]
    CaFile(CaFileError),
    /// The HTTP client cannot be set up.
    #[error(transparent)]
    Client(ClientError),
}

/// Exports the audit log.
pub struct Exporter {
    sink: HttpSink,
    headers: HeaderMap,
    /// Failed attempts since the process started.
    failures: Arc<AtomicU64>,
}

/// Items not sent yet, in order.
struct Pending {
    items: Vec<Item>,
    /// Whether there may be more.
    is_full: bool,
}

/// A record or a gap, and its position.
struct Item {
    log: LogRecord,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    Record(i64),
    Gap(i64),
}

/// The items of the next request. If the receiver rejects a request as malformed or too large, smaller ones follow until the
/// offending record is found. It is skipped only when the receiver has accepted the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    skip: usize,
    most: usize,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is more to send.
    More,
    /// Everything is sent.
    Rest,
    /// Retry after this time.
    Wait(Duration),
}

/// The state of the export that is not stored.
pub struct Run {
    cut: Cut,
    /// Failures in a row.
    failed: u32,
}

/// Parses the URL of the receiver. Nothing is appended to it.
///
/// # Errors
///
/// Explains how to write the URL if it is invalid or has no path.
pub fn parse_endpoint(text: &str) -> Result<Url, &'static str> {
    let url = parse_url(text)?;
    if url.path() == "/" {
        return Err(
            "the URL has no path; use the complete URL, such as https://collector.internal:4318/v1/logs",
        );
    }
    Ok(url)
}

// === impl OtlpError ===

impl From<ClientError> for OtlpError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::CaFile(error) => Self::CaFile(error),
            other => Self::Client(other),
        }
    }
}

// === impl Exporter ===

impl Exporter {
    /// Sets up an exporter.
    pub fn new(settings: &OtlpSettings) -> Result<Self, OtlpError> {
        let mut headers = settings.headers_file.as_deref().map(read_headers).transpose()?.unwrap_or_default();
        headers.insert(header::CONTENT_TYPE, MEDIA_TYPE);
        let sink = HttpSink::new(settings.endpoint.clone(), settings.ca_file.as_deref())?;
        Ok(Self { sink, headers, failures: Arc::default() })
    }

    /// Exports committed records and gaps, and retries those that the receiver did not accept.
    pub async fn run(&self, source: DeliverySource<'_>, mut committed: watch::Receiver<()>) {
        let mut run = Run::default();
        loop {
            committed.mark_unchanged();
            match run.step(self, source).await {
                Ok(Next::More) => {}
                Ok(Next::Rest) => {
                    // After a commit or a pause, the next step follows.
                    let _ = timeout(PAUSE, committed.changed()).await;
                    sleep(LINGER).await;
                }
                Ok(Next::Wait(pause)) => sleep(pause).await,
                Err(error) => {
                    tracing::warn!(%error, "reading the audit log for OTLP export failed, will retry");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// The counter of failed attempts since the process started.
    pub fn failures(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.failures)
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Exporter")
    }
}

// === impl Run ===

impl Default for Run {
    /// Starts with full batches and no failures.
    fn default() -> Self {
        Self { cut: Cut::WHOLE, failed: 0 }
    }
}

impl Run {
    /// Sends the next items, once.
    ///
    /// # Errors
    ///
    /// Fails if the store does. A request that the receiver does not accept is not an error: it is retried later.
    pub async fn step(
        &mut self,
        exporter: &Exporter,
        source: DeliverySource<'_>,
    ) -> Result<Next, StoreError> {
        let DeliverySource { installation, store, clock, entropy } = source;
        let Some(place) = store.export_place().await? else { return Ok(Next::Rest) };
        let words = Words { installation, now: clock.now() };
        let pending = Pending::read(store, &words, &place).await?;
        if pending.items.is_empty() {
            return Ok(Next::Rest);
        }
        let sent: Vec<&Item> = pending.items.iter().skip(self.cut.skip).take(self.cut.most).collect();
        if sent.is_empty() {
            // No record follows yet the one that may have to be skipped.
            self.cut = Cut::WHOLE;
            return Ok(Next::Wait(RETRIES.max));
        }
        let logs = words.resource_logs(sent.iter().map(|item| item.log.clone()).collect());
        let body = ExportLogsServiceRequest { resource_logs: vec![logs] }.encode_to_vec();
        let answer = exporter.sink.post(exporter.headers.clone(), body).await;
        match answer {
            Ok(answer) if (200..300).contains(&answer.status) => {
                let done = self.cut.skip + sent.len();
                let is_all = done == pending.items.len() && !pending.is_full;
                let done = pending.items.get(..done).unwrap_or(pending.items.as_slice());
                self.taken(store, place, done, &answer).await?;
                Ok(if is_all { Next::Rest } else { Next::More })
            }
            Ok(SinkResponse { status: status @ (400 | 413), .. }) if self.cut.narrow(sent.len()) => {
                exporter.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    status,
                    records = sent.len(),
                    "OTLP receiver rejected request, retrying with fewer records"
                );
                Ok(Next::More)
            }
            Ok(SinkResponse { status, retry_after, .. }) => {
                Ok(self.refused(exporter, &place, &exporter.sink.refusal(status), retry_after, entropy))
            }
            Err(reason) => Ok(self.refused(exporter, &place, &reason, None, entropy)),
        }
    }

    /// Advances the position past the accepted items, and logs rejected ones.
    async fn taken(
        &mut self,
        store: &dyn Store,
        mut place: ExportPlace,
        done: &[Item],
        answer: &SinkResponse,
    ) -> Result<(), StoreError> {
        let partial =
            ExportLogsServiceResponse::decode(answer.body.as_slice()).unwrap_or_default().partial_success;
        let partial = partial.unwrap_or_default();
        let passed_over = self.cut.skip;
        // A negative number is ignored.
        let refused =
            usize::try_from(partial.rejected_log_records).unwrap_or(0).min(done.len() - passed_over);
        let rejected = (refused + passed_over) as u64;
        let mut purged = 0;
        for item in done {
            match item.place {
                Place::Record(id) => {
                    purged += (id - place.record - 1).cast_unsigned();
                    place.record = id;
                }
                Place::Gap(id) => place.gap = id,
            }
        }
        if purged > 0 {
            tracing::error!(purged, "audit records purged before OTLP export");
            place.purged = place.purged.saturating_add(purged);
        }
        place.rejected = place.rejected.saturating_add(rejected);
        place.exported = place.exported.saturating_add((done.len() as u64).saturating_sub(rejected));
        let mut transaction = store.begin_log().await?;
        transaction.set_export_place(&place).await?;
        transaction.commit().await?;
        if rejected > 0 || !partial.error_message.is_empty() {
            let error: String = partial.error_message.chars().take(MOST_QUOTED).collect();
            tracing::error!(rejected, error, "OTLP receiver rejected records, will not send them again");
        }
        if std::mem::take(&mut self.failed) > 0 {
            tracing::warn!("OTLP export recovered");
        }
        self.cut = self.cut.widen();
        Ok(())
    }

    /// Schedules a retry. The position does not advance, whatever the status: an expired credential must not lose records.
    fn refused(
        &mut self,
        exporter: &Exporter,
        place: &ExportPlace,
        reason: &DeliveryError,
        retry_after: Option<Duration>,
        entropy: &Entropy,
    ) -> Next {
        exporter.failures.fetch_add(1, Ordering::Relaxed);
        self.failed = self.failed.saturating_add(1);
        self.cut = Cut::WHOLE;
        let pause = RETRIES.pause(self.failed, retry_after, entropy);
        tracing::warn!(
            %reason,
            attempts = self.failed,
            after_record = place.record,
            "OTLP export failed, records stay in the audit log"
        );
        Next::Wait(pause)
    }
}

// === impl Cut ===

impl Cut {
    const WHOLE: Self = Self { skip: 0, most: MOST_RECORDS };

    /// Halves the next request after one with `refused` items was rejected, or skips a single item. `false` if neither is
    /// possible.
    fn narrow(&mut self, refused: usize) -> bool {
        let next = match (self.skip, refused) {
            (0, 1) => Self { skip: 1, most: 1 },
            (0, _) => Self { skip: 0, most: refused / 2 },
            _ => return false,
        };
        *self = next;
        true
    }

    fn widen(self) -> Self {
        Self { skip: 0, most: self.most.saturating_mul(2).min(MOST_RECORDS) }
    }
}

// === impl Pending ===

impl Pending {
    /// Reads the items after a position.
    async fn read(store: &dyn Store, words: &Words, place: &ExportPlace) -> Result<Self, StoreError> {
        let records = store.records_after(place.record, MOST_RECORDS).await?;
        let gaps = store.gap_notices_after(place.gap, MOST_RECORDS - records.len()).await?;
        let mut is_full = records.len() + gaps.len() >= MOST_RECORDS;
        let records =
            records.iter().map(|entry| Item { log: words.call(entry), place: Place::Record(entry.id) });
        let gaps =
            gaps.iter().map(|notice| Item { log: words.gap(notice), place: Place::Gap(notice.gap.id) });
        let (mut items, mut bytes) = (Vec::new(), 0);
        for item in records.chain(gaps) {
            bytes += item.log.encoded_len();
            if bytes > MOST_BYTES && !items.is_empty() {
                is_full = true;
                break;
            }
            items.push(item);
        }
        Ok(Self { items, is_full })
    }
}
