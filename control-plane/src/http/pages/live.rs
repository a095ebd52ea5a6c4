//! Parts of a page that arrive as they change: server-sent events, each with the part as HTML. The script puts it in the
//! place of the one before.

use std::io;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use http_body_util::channel::{Channel, Sender};

/// The parts that wait for a browser to take them. Whoever sends more waits.
const WAITING: usize = 4;

/// Sends parts to one browser.
pub(super) struct Parts(Sender<Bytes, io::Error>);

/// An answer whose parts `send` sends, for as long as it runs.
pub(super) fn parts<F: Future<Output = ()> + Send + 'static>(send: impl FnOnce(Parts) -> F) -> Response {
    let (sender, body) = Channel::new(WAITING);
    tokio::spawn(send(Parts(sender)));
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::new(body)).into_response()
}

// === impl Parts ===

impl Parts {
    /// Sends a part; false if the browser is gone.
    pub(super) async fn send(&mut self, html: &str) -> bool {
        let mut event = String::new();
        for line in html.lines() {
            event.push_str(&format!("data: {line}\n"));
        }
        event.push('\n');
        self.0.send_data(event.into()).await.is_ok()
    }

    /// Says that no more will come. Without it, browsers ask again.
    pub(super) async fn end(mut self) {
        let _ = self.0.send_data("event: end\ndata:\n\n".into()).await;
    }
}
