//! A server, its folder, and the shell that outlives the test process.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::administrator::Administrator;

/// The user `nobody` and its group, which every Linux distribution has.
const NOBODY: u32 = 65_534;
/// The role that owns all databases.
pub(crate) const OWNER: &str = "omf";
/// Connections of all stores of a test process. Each store opens few of those that it may open.
const MAX_CONNECTIONS: &str = "400";

/// Starts the server, waits until its standard input ends, and removes everything. Signals of the terminal go to the whole
/// group of processes; the shell ignores them, so that it can clean up.
const KEEPER: &str = r#"
trap '' INT TERM HUP
folder=$1
shift
"$@" </dev/null >>"$folder/log" 2>&1 &
server=$!
read -r _
kill -QUIT $server
wait $server
rm -rf "$folder"
"#;

/// How a server differs from the shared one.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// Listens on a free TCP port of 127.0.0.1 as well.
    pub listens_on_tcp: bool,
    /// Serves TLS, and refuses TCP connections without it.
    pub tls: Option<Tls>,
}

/// The certificate of a server, in PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate chain.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// A running server. It ends with the process, or when it is dropped.
#[derive(Debug)]
pub struct Server {
    folder: PathBuf,
    port: u16,
    password: String,
    /// Its standard input ends with this process.
    keeper: Child,
    administrator: Administrator,
}

// === impl Server ===

impl Server {
    /// The server that all tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&ServerOptions::default()))
    }

    /// Starts another server.
    ///
    /// # Panics
    ///
    /// Panics if it does not start, with its log.
    pub fn start(options: &ServerOptions) -> Self {
        let folder = make_folder();
        let program = reachable_program(&folder);
        let password = format!("s3cret-{}", folder.display().to_string().rsplit('-').next().unwrap());
        initialize(&program, &folder, &password);
        let port = if options.listens_on_tcp { free_port() } else { 5432 };
        configure(&folder, port, options);
        let mut keeper = run_as_user("/bin/sh");
        let keeper = keeper
            .args(["-c", KEEPER, "sh"])
            .arg(&folder)
            .arg(program.join("bin/postgres"))
            .arg("-D")
            .arg(folder.join("data"))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let administrator = Administrator::connect(&folder, port, &password);
        Self { folder, port, password, keeper, administrator }
    }

    /// The thread that creates and removes databases.
    pub(crate) fn administrator(&self) -> &Administrator {
        &self.administrator
    }

    /// The URL of a database through the socket, with the password of its owner.
    pub(crate) fn url(&self, database: &str) -> String {
        self.url_of(OWNER, &self.password, database)
    }

    /// The same for another role.
    pub(crate) fn url_of(&self, role: &str, password: &str, database: &str) -> String {
        let Self { folder, port, .. } = self;
        format!("postgres://{role}:{password}@localhost:{port}/{database}?host={}", folder.display())
    }

    /// The URL of a database through TCP at this port, which may be that of a proxy.
    pub fn tcp_url(&self, port: u16, database: &str) -> String {
        format!("postgres://{OWNER}:{}@localhost:{port}/{database}", self.password)
    }

    /// Its TCP port, if it has one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path of the Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(format!(".s.PGSQL.{}", self.port))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// A folder that only the user of the server can read. Under root it is in /tmp, because that user may not reach root's folder
/// for temporary files.
fn make_folder() -> PathBuf {
    let parent = if is_root() { PathBuf::from("/tmp") } else { std::env::temp_dir() };
    let folder = tempfile::Builder::new().prefix("omf-postgres-").tempdir_in(parent).unwrap().keep();
    give_to_user(&folder);
    folder
}

/// The folder of the programs, or a copy of it if the user of the server cannot reach it.
fn reachable_program(folder: &Path) -> PathBuf {
    let root = std::env::var_os("OMF_ROOT").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap(),
        PathBuf::from,
    );
    let installed = root.join(".tools/postgres");
    assert!(installed.is_dir(), "PostgreSQL is not installed in {}: run make setup", installed.display());
    let run = run_as_user(installed.join("bin/postgres")).arg("--version").stdout(Stdio::null()).status();
    if run.is_ok_and(|status| status.success()) {
        return installed;
    }
    let copy = folder.join("program");
    let copied = Command::new("cp").arg("-RL").arg(&installed).arg(&copy).status().unwrap();
    assert!(copied.success(), "cannot copy {}", installed.display());
    copy
}

fn initialize(program: &Path, folder: &Path, password: &str) {
    let password_file = write(folder, "password", password);
    let output = run_as_user(program.join("bin/initdb"))
        .args([
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--username",
            OWNER,
            "--set",
            "scram_iterations=1",
        ])
        .arg("--pwfile")
        .arg(&password_file)
        .arg("--pgdata")
        .arg(folder.join("data"))
        .output()
        .unwrap();
    assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
    fs::remove_file(password_file).unwrap();
}

/// Writes the settings. What a test writes need not survive a crash of the machine.
fn configure(folder: &Path, port: u16, options: &ServerOptions) {
    let mut settings = format!(
        "port = {port}\nunix_socket_directories = '{}'\nmax_connections = {MAX_CONNECTIONS}\nfsync = off\n\
         full_page_writes = off\nshared_buffers = 32MB\nlisten_addresses = '{}'\n",
        folder.display(),
        if options.listens_on_tcp { "127.0.0.1" } else { "" },
    );
    let data = folder.join("data");
    if let Some(tls) = &options.tls {
        let certificate = write(&data, "server.crt", &tls.certificate);
        let key = write(&data, "server.key", &tls.key);
        settings.push_str(&format!(
            "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\n",
            certificate.display(),
            key.display()
        ));
        write(
            &data,
            "pg_hba.conf",
            "local all all scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n",
        );
    }
    write(&data, "postgresql.auto.conf", &settings);
}

/// A program that runs as the user of the server.
fn run_as_user(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    // Not the folder of the test, which the user may not reach.
    command.current_dir("/").env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn write(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    give_to_user(&path);
    path
}

fn give_to_user(path: &Path) {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
