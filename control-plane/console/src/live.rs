//! Parts of a page that arrive as they change: server-sent events, each with the part as HTML. The script puts it in
//! the place of the one before.

use std::io;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use http_body_util::channel::{Channel, Sender};

/// Parts that may be queued for a browser. Further sends wait.
const WAITING: usize = 4;

/// Sends parts to one browser.
pub(super) struct Parts(Sender<Bytes, io::Error>);

/// An answer whose parts `send` sends, for as long as it runs.
pub(super) fn parts<F: Future<Output = ()> + Send + 'static>(send: impl FnOnce(Parts) -> F) -> Response {
    let (sender, body) = Channel::new(WAITING);
    tokio::spawn(send(Parts(sender)));
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::new(body)).into_response()
}

/// The event that brings a part.
pub(super) fn event(html: &str) -> String {
    let mut event: String = html.lines().map(|line| format!("data: {line}\n")).collect();
    event.push('\n');
    event
}

// === impl Parts ===

impl Parts {
    /// Sends a part; false if the browser is gone.
    pub(super) async fn send(&mut self, html: &str) -> bool {
        self.send_events(event(html)).await
    }

    /// Sends whole events, as [`event`] makes them; false if the browser is gone.
    pub(super) async fn send_events(&mut self, events: String) -> bool {
        self.0.send_data(events.into()).await.is_ok()
    }

    /// Cuts the connection, so that the browser does not take it for the end.
    pub(super) fn cut(self, error: io::Error) {
        self.0.abort(error);
    }

    /// Says that no more will come. Without it, browsers ask again.
    pub(super) async fn end(mut self) {
        let _ = self.0.send_data("event: end\ndata:\n\n".into()).await;
    }
}
