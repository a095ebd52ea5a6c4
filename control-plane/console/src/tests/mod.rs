//! Properties of all pages: admission, sessions and headers.

mod admission;
mod pages;
mod sessions;
