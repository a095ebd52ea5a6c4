//! The state of the host.

use std::collections::{BTreeMap, HashMap, VecDeque};

use anyhow::{Context as _, Result};

/// Headers in order.
pub type Headers = Vec<(Vec<u8>, Vec<u8>)>;

/// The maps and buffers of the ABI, by its numbers.
pub(crate) const REQUEST_HEADERS: u32 = 0;
pub(crate) const RESPONSE_HEADERS: u32 = 2;
pub(crate) const ANSWER_HEADERS: u32 = 6;
pub(crate) const REQUEST_BODY: u32 = 0;
pub(crate) const ANSWER_BODY: u32 = 4;
pub(crate) const PLUGIN_CONFIGURATION: u32 = 7;

const CONFIGURATION: &[u8] =
    br#"{"cluster": "control_plane", "gateway_token": "t", "gateway": "g", "access_log_state": false}"#;

/// A call to the control plane.
pub(crate) struct Sent {
    pub(crate) id: u32,
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
}

/// The whole state.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) callbacks: BTreeMap<&'static str, u64>,
    pub(crate) host_calls: BTreeMap<&'static str, u64>,
    /// Every host call, with the remaining fuel at that moment.
    pub(crate) fuel_left: Vec<(&'static str, u64)>,
    pub(crate) in_callback: BTreeMap<&'static str, u64>,
    /// Time since the start of the host.
    pub(crate) nanoseconds: u64,
    pub(crate) request_headers: Headers,
    pub(crate) response_headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) shared: HashMap<Vec<u8>, (Vec<u8>, u32)>,
    pub(crate) last_cas: u32,
    pub(crate) queue_names: Vec<Vec<u8>>,
    pub(crate) queues: HashMap<u32, VecDeque<Vec<u8>>>,
    /// Queues for which the VM has not been notified yet.
    pub(crate) ready: Vec<u32>,
    pub(crate) filter_state: HashMap<Vec<u8>, Vec<u8>>,
    /// A local reply: its headers and its body's size.
    pub(crate) reply: Option<(Headers, usize)>,
    pub(crate) metrics: u32,
    pub(crate) gauges: HashMap<u32, u64>,
    pub(crate) sent: Vec<Sent>,
    pub(crate) calls: u32,
    pub(crate) has_polled: bool,
    pub(crate) answer_headers: Headers,
    pub(crate) answer_body: Vec<u8>,
    pub(crate) batches: Vec<Vec<u8>>,
    pub(crate) log: Vec<String>,
    pub(crate) random: u8,
}

impl State {
    /// A new request.
    pub(crate) fn begin(&mut self, request: &[(String, String)]) {
        self.callbacks.clear();
        self.host_calls.clear();
        self.in_callback.clear();
        self.fuel_left.clear();
        self.filter_state.clear();
        self.reply = None;
        self.request_headers = request
            .iter()
            .map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes()))
            .collect();
    }

    /// Provides the response headers: those of the local reply, or those of the upstream that the request reached.
    /// Returns the size of the body.
    pub(crate) fn answer(&mut self, goes_on: bool) -> Result<usize> {
        let (headers, size) = if goes_on {
            let guard = self.filter_state.get(&b"omf_ok"[..]).map(Vec::as_slice);
            anyhow::ensure!(guard == Some(b"1"), "the guard would refuse what the filter lets pass");
            let header = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
            (
                vec![
                    header(":status", "200"),
                    header("content-length", "2"),
                    header("content-type", "text/plain"),
                ],
                2,
            )
        } else {
            self.reply.take().context("a request neither goes on nor is answered")?
        };
        self.response_headers = headers;
        Ok(size)
    }

    pub(crate) fn status(&self) -> u16 {
        let status = self.response_headers.iter().find(|(name, _)| name == b":status");
        status.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn map(&mut self, map: u32) -> Option<&mut Headers> {
        match map {
            REQUEST_HEADERS => Some(&mut self.request_headers),
            RESPONSE_HEADERS => Some(&mut self.response_headers),
            ANSWER_HEADERS => Some(&mut self.answer_headers),
            _ => None,
        }
    }

    pub(crate) fn buffer(&self, buffer: u32) -> Option<&[u8]> {
        match buffer {
            REQUEST_BODY => Some(&self.body),
            ANSWER_BODY => Some(&self.answer_body),
            PLUGIN_CONFIGURATION => Some(CONFIGURATION),
            _ => None,
        }
    }

    /// As in Envoy: 0 writes unconditionally; a number that no entry has inserts a new entry.
    pub(crate) fn swap(&mut self, name: Vec<u8>, value: Vec<u8>, cas: u32) -> bool {
        let known = self.shared.get(&name).map(|(_, cas)| *cas);
        if cas != 0 && known.is_some_and(|known| known != cas) {
            return false;
        }
        self.last_cas += 1;
        self.shared.insert(name, (value, self.last_cas));
        true
    }

    pub(crate) fn queue(&mut self, name: &[u8]) -> u32 {
        if let Some(at) = self.queue_names.iter().position(|known| known == name) {
            return at as u32 + 1;
        }
        self.queue_names.push(name.to_vec());
        self.queue_names.len() as u32
    }
}
