//! PostgreSQL for tests: servers of one test process, and databases on them.
//!
//! A server listens on a Unix socket in a temporary folder, and on a free port if a test needs TCP. When the process ends,
//! in whatever way, a shell that waits for that stops the server and removes the folder. So test runs leave nothing behind,
//! and any number of them can run at once.
//!
//! PostgreSQL refuses to run as root. Under root, the server runs as `nobody`.

mod administrator;
mod server;

pub use administrator::TestDatabase;
pub use server::{Server, ServerOptions, Tls};

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn server_and_its_folder_are_removed() {
        let server = Server::start(&ServerOptions::default());
        let socket = server.socket();
        assert!(socket.exists());
        let folder = socket.parent().unwrap().to_owned();
        drop(server);
        assert!(!folder.exists());
        let found = Command::new("pgrep").arg("-f").arg(&folder).output();
        assert!(found.is_ok_and(|found| found.stdout.is_empty()), "processes are left");
    }

    #[test]
    fn databases_are_separate_and_removed() {
        let server = Server::shared();
        let first = TestDatabase::create(server, "template1");
        let second = TestDatabase::create(server, "template1");
        assert_ne!(first.url(), second.url());
        let name = first.name().to_owned();
        drop(first);
        // The name is free again once it is removed.
        let started = Instant::now();
        second.administer(&format!("CREATE DATABASE {name}"));
        second.administer(&format!("DROP DATABASE {name}"));
        assert!(started.elapsed() < Duration::from_secs(30));
    }
}
