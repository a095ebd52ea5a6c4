//! Live parts of a page: server-sent events whose data is HTML. The script replaces the part with it.

use std::io;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use http_body_util::channel::{Channel, Sender};

/// Number of parts that may be queued for a browser. Further sends wait.
const QUEUE_LENGTH: usize = 4;

/// Sends parts to one browser.
pub(super) struct Parts(Sender<Bytes, io::Error>);

/// A response that streams the parts that `send` sends.
pub(super) fn parts<F: Future<Output = ()> + Send + 'static>(send: impl FnOnce(Parts) -> F) -> Response {
    let (sender, body) = Channel::new(QUEUE_LENGTH);
    tokio::spawn(send(Parts(sender)));
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::new(body)).into_response()
}

/// The event with a part as its data.
pub(super) fn event(html: &str) -> String {
    let mut event: String = html.lines().map(|line| format!("data: {line}\n")).collect();
    event.push('\n');
    event
}

// === impl Parts ===

impl Parts {
    /// Sends a part. Returns false if the browser has disconnected.
    pub(super) async fn send(&mut self, html: &str) -> bool {
        self.send_events(event(html)).await
    }

    /// Sends complete events, as [`event`] formats them. Returns false if the browser has disconnected.
    pub(super) async fn send_events(&mut self, events: String) -> bool {
        self.0.send_data(events.into()).await.is_ok()
    }

    /// Aborts the connection, so that the browser does not treat it as the end of the stream.
    pub(super) fn abort(self, error: io::Error) {
        self.0.abort(error);
    }

    /// Sends the event that ends the stream. Without it, browsers reconnect.
    pub(super) async fn end(mut self) {
        let _ = self.0.send_data("event: end\ndata:\n\n".into()).await;
    }
}
