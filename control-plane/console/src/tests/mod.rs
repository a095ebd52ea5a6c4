//! What holds for all pages: who is admitted, how sessions end, what browsers are sent.

mod admission;
mod pages;
mod sessions;
