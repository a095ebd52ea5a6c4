//! Properties of all pages: access, sessions and headers.

mod access;
mod pages;
mod sessions;
