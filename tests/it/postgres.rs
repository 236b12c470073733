//! A throw-away PostgreSQL cluster, one for each run of a test binary, and a database of its own for each test.
//!
//! The server is watched over by a shell that reads from a pipe which only this process holds open: however this process
//! ends, the pipe closes, and the shell stops the server and removes its folder.

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use diesel::{Connection as _, PgConnection, RunQueryDsl as _};

/// The environment variable that names the folder with `initdb` and `pg_ctl`, where they are not in a usual place.
const BIN_DIR: &str = "AUDITLOG_TEST_POSTGRES_BIN";

/// A file system in memory, where there is one.
const MEMORY: &str = "/dev/shm";

/// Makes a cluster and starts it, says where, waits for the pipe to close, and cleans up. Nothing in it is worth a flush.
/// `$3` is a folder to make it in, if that has 6 GiB of room, and memory 8: hundreds of databases are hundreds of thousands of files.
const WATCH: &str = r#"
set -eu
room=$(df -Pk "$3" 2>/dev/null | awk 'NR == 2 { print $4 }')
free=$(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo 2>/dev/null || true)
[ "${room:-0}" -lt 6291456 ] || [ "${free:-0}" -lt 8388608 ] || export TMPDIR="$3"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"$1/initdb" -D "$dir/data" -U auditlog -A trust -E UTF8 --no-locale --no-sync >"$dir/initdb.log" 2>&1 ||
    { cat "$dir/initdb.log" >&2; exit 1; }
"$1/pg_ctl" -D "$dir/data" -w -t 60 -l "$dir/log" -o "-k $dir -c listen_addresses='' -c fsync=off \
    -c max_connections=500 $2" start >&2 || { cat "$dir/log" >&2; exit 1; }
echo "$dir"
cat >/dev/null || true
"$1/pg_ctl" -D "$dir/data" -w -m immediate stop >/dev/null 2>&1 || true
"#;

/// A running cluster. It is stopped when this is dropped, or when the process ends.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    databases: AtomicUsize,
    /// The name of the database that others are copies of.
    template: OnceLock<String>,
    /// Holds the pipe.
    _watch: Child,
}

impl Cluster {
    /// The one that all tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start_in(MEMORY, "-c autovacuum=off -c full_page_writes=off"))
    }

    /// One more, on a disk, with further options for the server.
    pub fn start(options: &str) -> Self {
        Self::start_in("", options)
    }

    fn start_in(folder: &str, options: &str) -> Self {
        let mut watch = as_ordinary_user("sh")
            .args(["-c", WATCH, "watch", bin_dir().to_str().unwrap(), options, folder])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut folder = String::new();
        BufReader::new(watch.stdout.take().unwrap()).read_line(&mut folder).unwrap();
        assert!(!folder.is_empty(), "the PostgreSQL cluster did not start; see above");
        Self {
            folder: folder.trim_end().into(),
            databases: AtomicUsize::new(0),
            template: OnceLock::new(),
            _watch: watch,
        }
    }

    /// The URL of a fresh, empty database.
    pub fn create_database(&self) -> String {
        self.copy("template1")
    }

    /// The URL of a fresh copy of a database that `fill` has made, given its URL, once for this cluster.
    pub fn copy_database(&self, fill: impl FnOnce(&str)) -> String {
        self.copy(self.template.get_or_init(|| {
            let url = self.create_database();
            fill(&url);
            url.rsplit('/').next().unwrap().to_owned()
        }))
    }

    fn copy(&self, template: &str) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut admin = PgConnection::establish(&self.url("postgres")).unwrap();
        // One at a time: the server refuses to copy its template while another session does.
        static COPYING: Mutex<()> = Mutex::new(());
        let _copying = COPYING.lock();
        diesel::sql_query(format!("CREATE DATABASE {name} TEMPLATE {template}")).execute(&mut admin).unwrap();
        self.url(&name)
    }

    /// A program that runs as the server's user, and so makes files which the server may read.
    pub fn command(&self, program: &str) -> Command {
        as_ordinary_user(program)
    }

    /// The URL of a database of this cluster, for its owner.
    pub fn url(&self, database: &str) -> String {
        let host = self.folder.to_str().unwrap().replace('/', "%2F");
        format!("postgres://auditlog@{host}/{database}")
    }

    /// Where the server's socket, its log and its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Stops the server the way that `mode` says (`fast`, `immediate`) and starts it again.
    pub fn restart(&self, mode: &str) {
        self.control(&["-m", mode, "restart"]);
    }

    /// Stops the server.
    pub fn stop(&self, mode: &str) {
        self.control(&["-m", mode, "stop"]);
    }

    /// Starts it again as it was.
    pub fn resume(&self) {
        let options = std::fs::read_to_string(self.folder.join("data/postmaster.opts")).unwrap();
        // The program, then each option in quotes; `pg_ctl` adds the folder itself.
        let (_, options) = options.trim_end().split_once(' ').unwrap();
        self.control(&["-o", options, "start"]);
    }

    /// Stops all processes of the server where they are, as a machine does that hangs: its sockets stay open, and nobody answers.
    pub fn freeze(&self) -> Frozen {
        let file = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        let first = file.lines().next().unwrap().to_owned();
        // It makes the others, and so must be the first.
        let mut frozen = Frozen::process(&first);
        let children = Command::new("ps").args(["-A", "-o", "ppid=,pid="]).output().unwrap();
        for line in String::from_utf8(children.stdout).unwrap().lines() {
            let (parent, child) = line.trim().split_once(char::is_whitespace).unwrap();
            if parent == first {
                frozen.add(child.trim());
            }
        }
        frozen
    }

    fn control(&self, arguments: &[&str]) {
        let (data, log) = (self.folder.join("data"), self.folder.join("log"));
        let status = as_ordinary_user(bin_dir().join("pg_ctl"))
            .args(["-D", data.to_str().unwrap(), "-w", "-l", log.to_str().unwrap()])
            .args(arguments)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    }
}

/// Processes that are stopped, until this is dropped.
#[derive(Debug)]
pub struct Frozen(Vec<String>);

impl Frozen {
    /// Stops one process of a server.
    pub fn process(process: &str) -> Self {
        let mut frozen = Self(Vec::new());
        frozen.add(process);
        frozen
    }

    fn add(&mut self, process: &str) {
        // One that ends meanwhile cannot be stopped.
        if signal("STOP", process) {
            self.0.push(process.to_owned());
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in self.0.iter().rev() {
            signal("CONT", process);
        }
    }
}

fn signal(name: &str, process: &str) -> bool {
    let kill = format!("kill -{name} {process}");
    Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// PostgreSQL refuses to run as root.
fn as_ordinary_user(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let is_root = fs_owner_is_root();
    let mut command = Command::new(if is_root { "runuser".as_ref() } else { program.as_ref() });
    if is_root {
        let user = if has_user("postgres") { "postgres" } else { "nobody" };
        command.args(["-u", user, "--"]).arg(program.as_ref());
    }
    command.current_dir(env::temp_dir());
    command
}

/// Whether this process is root's, told by who owns what it makes.
fn fs_owner_is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

fn has_user(name: &str) -> bool {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    passwd.lines().any(|line| line.split(':').next() == Some(name))
}

/// Where `initdb` is. The tests of half the service are none, so its absence is a failure.
pub fn bin_dir() -> PathBuf {
    let named = env::var_os(BIN_DIR).map(PathBuf::from);
    let on_path = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let candidates = named.into_iter().chain(debian_folders()).chain(on_path);
    candidates.into_iter().find(|folder| has_server(folder)).unwrap_or_else(|| {
        panic!("no initdb of PostgreSQL found: run ./test, which installs it, or name its folder in {BIN_DIR}")
    })
}

fn has_server(folder: &Path) -> bool {
    folder.join("initdb").exists() && folder.join("pg_ctl").exists()
}

/// Debian keeps the server's programs off the PATH; the newest version first.
fn debian_folders() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.into_iter().rev().collect()
}
