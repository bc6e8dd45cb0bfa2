//! A PostgreSQL cluster for the tests, from the system's packages (Debian: `postgresql`).
//!
//! One cluster in the temporary folder serves all test processes of this checkout; each test has a
//! database of its own. It listens on a Unix socket in a folder that others cannot enter, so it needs
//! no password and can never meet another server.
//!
//! Who cleans up: every test process holds a shared lock while it runs. A small shell process waits
//! until nobody has held it for some seconds, then stops the server and removes everything. A test
//! that crashes or is killed gives its lock back like any other, so nothing stays behind.
//!
//! The server does not sync: tests ask what it knows, not what its disk keeps. With
//! `TALLYGATE_TEST_PG_SYNC=on` it does (a cluster of its own), for measurements.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use tallygate::secret::Secret;

use super::secrets;

/// Seconds without a test process after which the cluster goes away.
const IDLE_SECONDS: u32 = 8;

/// A database of one test; dropped with it.
pub struct TestDatabase {
    name: String,
}

impl TestDatabase {
    /// A new, empty database.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut random = [0u8; 6];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random).unwrap();
        let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("t{random}_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        admin(&format!("CREATE DATABASE {name}"));
        Self { name }
    }

    pub fn url(&self) -> Secret {
        cluster().url(&self.name)
    }
}

impl TestDatabase {
    /// Every row of every table, as bytes.
    fn dump(&self) -> Vec<(String, Vec<u8>)> {
        let mut client = postgres::Client::connect(self.url().expose(), postgres::NoTls).unwrap();
        let tables =
            client.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", &[]).unwrap();
        let mut rows = |table: String| {
            let mut bytes = Vec::new();
            let mut out = client.copy_out(&format!("COPY {table} TO STDOUT (FORMAT binary)")).unwrap();
            out.read_to_end(&mut bytes).unwrap();
            (table, bytes)
        };
        tables.iter().map(|row| rows(row.get(0))).collect()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let dump = if std::thread::panicking() { Vec::new() } else { self.dump() };
        admin(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
        dump.iter().for_each(|(table, rows)| secrets::assert_none_in(table, rows, &[]));
    }
}

fn admin(sql: &str) {
    let url = cluster().url("postgres");
    let mut client = postgres::Client::connect(url.expose(), postgres::NoTls).unwrap();
    client.batch_execute(sql).unwrap();
}

/// The Unix socket on which the server answers.
pub fn socket() -> PathBuf {
    cluster().folder.join("socket/.s.PGSQL.5432")
}

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(Cluster::join)
}

struct Cluster {
    folder: PathBuf,
    /// Held until the process ends.
    _in_use: File,
}

impl Cluster {
    fn url(&self, database: &str) -> Secret {
        let socket = self.folder.join("socket").display().to_string().replace('/', "%2F");
        Secret::new(format!("postgres://postgres@{socket}:5432/{database}"))
    }

    /// Joins the running cluster or starts it.
    fn join() -> Self {
        let checkout = tallygate::store::chain::sha256(env!("CARGO_MANIFEST_DIR").as_bytes());
        let tag: String = checkout.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let folder = std::env::temp_dir().join(format!("tallygate-test-pg-{tag}{}", sync_mark()));
        let lock = folder.with_extension("lock");
        let in_use = share(&lock);
        std::fs::create_dir_all(folder.join("start")).unwrap();
        let starting = File::create(folder.join("start/lock")).unwrap();
        starting.lock().unwrap();
        if !is_running(&folder) {
            start(&folder);
        }
        if !is_alive(&folder.join("start/keeper.pid")) {
            start_keeper(&folder, &lock);
        }
        drop(starting);
        Self { folder, _in_use: in_use }
    }
}

/// Takes the lock shared. The keeper removes the file while it holds the lock alone, so a lock on a
/// file that has no name any more is worth nothing.
fn share(path: &Path) -> File {
    loop {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).unwrap();
        file.lock_shared().unwrap();
        let named = std::fs::metadata(path).is_ok_and(|named| named.ino() == file.metadata().unwrap().ino());
        if named {
            return file;
        }
    }
}

fn syncs() -> bool {
    std::env::var("TALLYGATE_TEST_PG_SYNC").is_ok_and(|value| value == "on")
}

fn sync_mark() -> &'static str {
    if syncs() { "-sync" } else { "" }
}

fn is_running(folder: &Path) -> bool {
    let socket = folder.join("socket/.s.PGSQL.5432");
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

fn is_alive(pid_file: &Path) -> bool {
    let pid = std::fs::read_to_string(pid_file).unwrap_or_default();
    let pid = pid.trim();
    !pid.is_empty() && Path::new("/proc").join(pid).exists()
}

/// The newest installed server.
fn binaries() -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    installed
        .filter(|entry| entry.path().join("bin/initdb").exists())
        .max_by_key(|entry| entry.file_name().to_string_lossy().parse::<u32>().unwrap_or(0))
        .expect("PostgreSQL is not installed: apt-get install postgresql (make test does it)")
        .path()
        .join("bin")
}

/// The server refuses to run as root; then it runs as Debian's user `postgres`.
fn as_server_user(program: &Path) -> Command {
    if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

fn run(command: &mut Command) {
    let done = command.current_dir("/").stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {}\n{text}", done.status);
}

fn start(folder: &Path) {
    for old in ["data", "socket"] {
        let _ = std::fs::remove_dir_all(folder.join(old));
    }
    for new in ["data", "socket"] {
        std::fs::create_dir(folder.join(new)).unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(folder.join(new)));
        }
        run(Command::new("chmod").arg("0700").arg(folder.join(new)));
    }
    let data = folder.join("data");
    run(as_server_user(&binaries().join("initdb"))
        .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"])
        .arg("-D")
        .arg(&data));
    let sync = if syncs() { "" } else { "-c fsync=off -c full_page_writes=off" };
    let options = format!(
        "-c listen_addresses='' -c unix_socket_directories='{}' -c max_connections=200 {sync}",
        folder.join("socket").display()
    );
    let log = data.join("server.log");
    // The server must not keep the pipes of the test open.
    let mut server = as_server_user(&binaries().join("pg_ctl"));
    server.arg("-D").arg(&data).arg("-o").arg(options).arg("-l").arg(&log).args(["-w", "start"]);
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    let started = server.process_group(0).status().unwrap();
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    assert!(started.success(), "the PostgreSQL server did not start:\n{text}");
}

const KEEPER: &str = r#"
idle=0
while [ "$idle" -lt "$IDLE" ]; do
    sleep 1
    if flock -n -x "$LOCK" true; then idle=$((idle + 1)); else idle=0; fi
done
exec 9<>"$LOCK"
flock -n -x 9 || exec sh -c "$KEEPER"
pid=$(head -n 1 "$FOLDER/data/postmaster.pid")
kill -QUIT "$pid"
while kill -0 "$pid"; do sleep 0.1; done
rm -rf "$FOLDER"
rm -f "$LOCK"
"#;

#[expect(clippy::zombie_processes, reason = "the keeper outlives the test that started it")]
fn start_keeper(folder: &Path, lock: &Path) {
    let mut keeper = Command::new("setsid");
    keeper
        .args(["sh", "-c", KEEPER])
        .env("KEEPER", KEEPER)
        .env("IDLE", IDLE_SECONDS.to_string())
        .env("LOCK", lock)
        .env("FOLDER", folder)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    let child = keeper.spawn().unwrap();
    std::fs::write(folder.join("start/keeper.pid"), child.id().to_string()).unwrap();
}
