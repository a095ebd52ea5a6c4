//! Layers: archives of files with fixed owners, times and order, compressed.

use std::io::Write as _;

use anyhow::Result;
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header, HeaderMode};

use crate::digest;

/// A file or directory of a layer.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The path, without a leading `/`. That of a directory ends with `/`.
    pub path: &'static str,
    /// The permissions.
    pub mode: u32,
    /// The user and group that own it.
    pub owner: u64,
    /// The content. Empty for a directory.
    pub content: Vec<u8>,
}

/// A compressed archive.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The archive, compressed with gzip.
    pub blob: Vec<u8>,
    /// The digest of the archive before compression.
    pub diff_id: String,
}

// === impl Entry ===

impl Entry {
    /// A file that belongs to root and that everyone can read.
    pub fn file(path: &'static str, content: Vec<u8>) -> Self {
        Self { path, mode: 0o644, owner: 0, content }
    }

    /// A program that belongs to root and that everyone can run.
    pub fn program(path: &'static str, content: Vec<u8>) -> Self {
        Self { mode: 0o755, ..Self::file(path, content) }
    }

    /// A directory that belongs to root and that everyone can read.
    pub fn directory(path: &'static str) -> Self {
        Self::program(path, Vec::new())
    }
}

// === impl Layer ===

impl Layer {
    /// The layer of these entries. `modified` is the time of all of them, in seconds since 1970. Their order has no effect.
    ///
    /// # Errors
    /// If a path is too long.
    pub fn new(mut entries: Vec<Entry>, modified: u64) -> Result<Self> {
        // A directory comes before its content, because its path is a prefix.
        entries.sort_by_key(|entry| entry.path);
        let mut archive = Builder::new(Vec::new());
        archive.mode(HeaderMode::Deterministic);
        for entry in &entries {
            let mut header = Header::new_ustar();
            header.set_entry_type(if entry.path.ends_with('/') {
                EntryType::Directory
            } else {
                EntryType::Regular
            });
            header.set_mode(entry.mode);
            header.set_uid(entry.owner);
            header.set_gid(entry.owner);
            header.set_mtime(modified);
            header.set_size(entry.content.len() as u64);
            archive.append_data(&mut header, entry.path, entry.content.as_slice())?;
        }
        let archive = archive.into_inner()?;
        // The header has neither a name nor a time. `operating_system` is that of the builder by default; 255 is "unknown".
        let mut gzip = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
        gzip.write_all(&archive)?;
        Ok(Self { blob: gzip.finish()?, diff_id: digest(&archive) })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn order_of_entries_has_no_effect() {
        let entries = vec![Entry::file("a/b", b"content".to_vec()), Entry::directory("a/")];
        let first = Layer::new(entries.clone(), 1).unwrap();
        let reversed = Layer::new(entries.into_iter().rev().collect(), 1).unwrap();
        assert_eq!(first.blob, reversed.blob);
    }

    #[test]
    fn archive_has_fixed_owners_and_times() {
        let mut data = Entry::directory("data/");
        data.owner = 65532;
        let entries = vec![data, Entry::program("bin", b"content".to_vec())];
        let layer = Layer::new(entries, 1_700_000_000).unwrap();
        let mut archive = Vec::new();
        GzDecoder::new(layer.blob.as_slice()).read_to_end(&mut archive).unwrap();
        assert_eq!(layer.diff_id, digest(&archive));
        let mut archive = tar::Archive::new(archive.as_slice());
        let found: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let path = entry.path().unwrap().display().to_string();
                (path, header.mode().unwrap(), header.uid().unwrap(), header.mtime().unwrap())
            })
            .collect();
        let expected = [("bin", 0o755, 0, 1_700_000_000), ("data/", 0o755, 65532, 1_700_000_000)];
        assert_eq!(found, expected.map(|(path, mode, owner, time)| (path.to_owned(), mode, owner, time)));
    }
}
