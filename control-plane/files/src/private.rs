//! Files and directories that only their owner can read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_DIRECTORY: u32 = 0o700;

/// Creates a directory that only its owner can enter, or restricts an existing one.
pub fn make_private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE_DIRECTORY).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(PRIVATE_DIRECTORY))
}

/// Opens a file for reading and writing. Creates it if it is missing, and makes it private in either case.
pub fn open_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE_FILE)
        .open(path)?;
    file.set_permissions(fs::Permissions::from_mode(PRIVATE_FILE))?;
    Ok(file)
}

/// Replaces the file at `path` atomically with a private file that has this content.
pub fn write_private(path: &Path, content: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut file = open_private(&beside)?;
    file.set_len(0)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // The rename is durable when the directory is on disk.
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Gives the file at `path` a second name, the first free one of `NAME.1`, `NAME.2` and so on. Returns `None` if there is no
/// file. The file also stays at `path` until it is replaced.
pub fn keep_beside(path: &Path) -> io::Result<Option<PathBuf>> {
    for number in 1_u32.. {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{number}"));
        let beside = path.with_file_name(name);
        match fs::hard_link(path, &beside) {
            Ok(()) => return Ok(Some(beside)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_beside_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        assert_eq!(keep_beside(&file).unwrap(), None);
        for (content, kept) in [("one", "token.1"), ("two", "token.2")] {
            write_private(&file, content).unwrap();
            assert_eq!(keep_beside(&file).unwrap(), Some(folder.path().join(kept)));
        }
        write_private(&file, "three").unwrap();
        for (name, content) in [("token", "three"), ("token.1", "one"), ("token.2", "two")] {
            assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), content);
        }
        let directory = folder.path().join("directory");
        fs::create_dir(&directory).unwrap();
        assert!(keep_beside(&directory).is_err(), "what cannot be kept is not replaced");
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_made_is_private_and_what_is_there_becomes_so() {
        let folder = tempfile::tempdir().unwrap();
        let made = folder.path().join("a/b");
        make_private_directory(&made).unwrap();
        assert_eq!(mode(&made), 0o700);

        let file = folder.path().join("token");
        fs::write(&file, "old and long").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        write_private(&file, "new\n").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new\n");
        assert_eq!(mode(&file), 0o600);
        open_private(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new\n");
    }
}
