//! A PostgreSQL of the tests' own, from Debian's package.

use std::{
    env,
    ffi::OsString,
    fs::{self, File, Permissions},
    io,
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, geteuid, kill_process, test_kill_process};

/// A private cluster in a temporary folder, on a Unix socket only, with nobody's rights where the test is root. Stopped
/// on drop, and when the test's process ends without one.
///
/// Everyone may log in as [`Postgres::USER`] without a password; [`Postgres::OTHER_USER`] needs [`Postgres::PASSWORD`].
pub struct Postgres {
    folder: tempfile::TempDir,
    programs: PathBuf,
    /// Where it listens over TLS too, with the certificate in the folder.
    port: Option<u16>,
    env: Vec<(String, OsString)>,
    server: Mutex<Option<Server>>,
}

struct Server {
    pid: Pid,
    /// Dropped, it lets the thread go that started the server and waits for its end.
    keeper: thread::JoinHandle<()>,
}

impl Postgres {
    /// Let in from this host without a password.
    pub const USER: &str = "hallmark";
    /// Let in with [`Self::PASSWORD`] only.
    pub const OTHER_USER: &str = "guarded";
    /// Of [`Self::OTHER_USER`].
    pub const PASSWORD: &str = "Nj5-wRq8_tB2";

    /// The cluster that tests of this process share. `None` where there is no PostgreSQL: the test can't run, which is
    /// said, and is a failure where `CI=true`.
    pub fn shared() -> Option<Arc<Self>> {
        static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Some(running);
        }
        let started = Arc::new(Self::own()?);
        *shared = Arc::downgrade(&started);
        Some(started)
    }

    /// A cluster that the test may stop. `None` as with [`Self::shared`].
    pub fn own() -> Option<Self> {
        Self::new(None, &[])
    }

    /// A cluster that the test may stop, with a server that has this in its environment.
    pub fn own_under(env: &[(String, OsString)]) -> Option<Self> {
        Self::new(None, env)
    }

    /// A cluster that also takes connections to `localhost` over TLS, with this certificate and key in PEM.
    pub fn with_tls(certificate: &str, key: &str) -> Option<Self> {
        Self::new(Some((certificate, key)), &[])
    }

    fn new(tls: Option<(&str, &str)>, env: &[(String, OsString)]) -> Option<Self> {
        let Some(programs) = programs() else {
            eprintln!("not run: there is no PostgreSQL on this machine\nhint: make setup");
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "PostgreSQL is not installed: make setup");
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        give_away(folder.path());
        let port = tls.map(|(certificate, key)| {
            for (name, content) in [("server.pem", certificate), ("server.key", key)] {
                let path = folder.path().join(name);
                fs::write(&path, content).expect("a certificate");
                fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("its mode");
                give_away(&path);
            }
            // Free a moment ago: PostgreSQL can't ask the system for a port itself.
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port()
        });
        let cluster = Self { folder, programs, port, env: env.to_vec(), server: Mutex::new(None) };
        cluster.initialise();
        cluster.start();
        cluster.sql("postgres", &format!("CREATE ROLE {} LOGIN PASSWORD '{}'", Self::OTHER_USER, Self::PASSWORD));
        Some(cluster)
    }

    /// Makes an empty database, and gives its URL.
    pub fn database(&self) -> String {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0"));
        self.sql(&name, "GRANT ALL ON SCHEMA public TO PUBLIC");
        self.url(&name, Self::USER)
    }

    /// The URL of a database as one of the users.
    pub fn url(&self, database: &str, user: &str) -> String {
        let (folder, port) = (self.folder.path().display(), self.socket_port());
        format!("postgres:///{database}?host={folder}&port={port}&user={user}")
    }

    /// The URL of the same database over TLS, of a cluster made [`Self::with_tls`]; without `sslmode`.
    pub fn tls_url(&self, url: &str) -> String {
        let port = self.port.expect("a cluster with TLS");
        format!("postgres://{}@localhost:{port}/{}?", Self::USER, database_of(url))
    }

    /// Runs statements, and gives what they answered: a line a row.
    pub fn sql(&self, database: &str, statements: &str) -> String {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", Self::USER, "-d", database, "-c", statements, "-h"]);
        let done =
            psql.arg(self.folder.path()).args(["-p", &self.socket_port()]).stdin(Stdio::null()).output().expect("psql");
        text(&done, "psql")
    }

    /// The same, in the database that `url` names.
    pub fn sql_at(&self, url: &str, statements: &str) -> String {
        self.sql(database_of(url), statements)
    }

    /// Ends every connection and stops the server, in order.
    pub fn stop(&self) {
        self.end(Signal::INT);
    }

    /// As if the power had failed.
    pub fn kill(&self) {
        self.end(Signal::QUIT);
    }

    /// Starts the server, and waits until it takes connections.
    pub fn start(&self) {
        let mut running = self.running();
        assert!(running.is_none(), "the server runs already");
        let log = self.folder.path().join("log");
        let output = || File::options().create(true).append(true).open(&log).expect("a log file");
        let mut command = self.command("postgres", &["--pdeathsig", "QUIT"]);
        command.arg("-D").arg(self.data()).arg("-k").arg(self.folder.path()).args(SETTINGS);
        if let Some(port) = self.port {
            let file = |setting: &str, name: &str| format!("{setting}={}", self.folder.path().join(name).display());
            command.args(["-c", "listen_addresses=127.0.0.1", "-c", "ssl=on", "-c", &format!("port={port}")]);
            command.args(["-c", &file("ssl_cert_file", "server.pem"), "-c", &file("ssl_key_file", "server.key")]);
        }
        command.envs(self.env.iter().cloned()).stdin(Stdio::null()).stdout(output()).stderr(output());
        let (send, started) = mpsc::channel();
        // The server is told of its parent's death by the death of the thread that started it: this one waits for it.
        let keeper = thread::spawn(move || {
            let mut server = command.spawn().expect("postgres");
            send.send(server.id()).expect("who started this waits");
            let _ = server.wait();
        });
        let pid = i32::try_from(started.recv().expect("a server")).ok().and_then(Pid::from_raw).expect("a process id");
        *running = Some(Server { pid, keeper });
        let said = || fs::read_to_string(&log).unwrap_or_default();
        wait(|| self.answers(), &|| format!("PostgreSQL does not start:\n{}", said()));
    }

    /// Freezes the server and all of its processes, as if the network swallowed what goes there.
    pub fn pause(&self) {
        // The parent first, so that nobody is born meanwhile.
        self.signal_all(Signal::STOP);
    }

    /// Lets a frozen server go on.
    pub fn resume(&self) {
        self.signal_all(Signal::CONT);
    }

    /// Freezes the connections to one database that there are now, as if the network had forgotten them; new ones work.
    pub fn freeze_connections(&self, url: &str) {
        let pids = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let pids = self.sql_at(url, pids);
        pids.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).for_each(|pid| {
            let _ = kill_process(pid, Signal::STOP);
        });
    }

    fn initialise(&self) {
        let mut initdb = self.command("initdb", &[]);
        initdb.args(["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "-U", Self::USER, "-D"]);
        text(&initdb.arg(self.data()).output().expect("initdb"), "initdb");
        let rules = format!(
            "local all {} scram-sha-256\nlocal all all trust\nhostssl all all 127.0.0.1/32 trust\n",
            Self::OTHER_USER
        );
        fs::write(self.data().join("pg_hba.conf"), rules).expect("pg_hba.conf");
    }

    /// `setpriv` becomes the program itself, with the same process id.
    fn command(&self, program: &str, options: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        if let Some(user) = not_root() {
            command.args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".into()]);
        }
        command.args(options).arg("--").arg(self.programs.join(program));
        command.current_dir(self.folder.path()).env_remove("PGDATA").process_group(0);
        command
    }

    fn answers(&self) -> bool {
        let ready = Command::new(self.programs.join("pg_isready"))
            .args(["-q", "-p", &self.socket_port(), "-h"])
            .arg(self.folder.path())
            .status();
        ready.is_ok_and(|done| done.success())
    }

    /// It is part of the socket's name.
    fn socket_port(&self) -> String {
        self.port.unwrap_or(5432).to_string()
    }

    fn end(&self, how: Signal) {
        let Some(server) = self.running().take() else { return };
        for pid in family(server.pid) {
            let _ = kill_process(pid, Signal::CONT);
        }
        let children = family(server.pid);
        let _ = kill_process(server.pid, how);
        let _ = server.keeper.join();
        // A child outlives its parent by a moment, and may still hold the shared memory.
        wait(|| children.iter().all(|pid| test_kill_process(*pid).is_err()), &|| "a backend does not end".into());
    }

    fn signal_all(&self, signal: Signal) {
        let pid = self.running().as_ref().expect("a server").pid;
        let mut reached = Vec::new();
        // Until a look finds nobody new.
        while let Some(next) = family(pid).into_iter().find(|pid| !reached.contains(pid)) {
            let _ = kill_process(next, signal);
            reached.push(next);
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end(Signal::QUIT);
    }
}

/// What is kept on the disk is synced, as it would be in production.
const SETTINGS: &[&str] = &["-c", "listen_addresses=", "-c", "fsync=on", "-c", "max_connections=200"];
const START_LIMIT: Duration = Duration::from_secs(60);

/// Where Debian puts the servers, the newest one; else whatever is first on the PATH.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.filter(|path| path.join("bin/postgres").exists()).max_by_key(number);
    let on_path = || env::split_paths(&env::var_os("PATH")?).find(|folder| folder.join("postgres").exists());
    newest.map(|path| path.join("bin")).or_else(on_path)
}

/// To the server's user, where that is not the test's.
fn give_away(path: &Path) {
    if let Some(user) = not_root() {
        chown(path, Some(user), Some(user)).expect("a file of the server's user");
    }
}

fn database_of(url: &str) -> &str {
    url.trim_start_matches("postgres:///").split('?').next().unwrap_or_default()
}

/// PostgreSQL refuses to run as root: the user `nobody`, by its number.
fn not_root() -> Option<u32> {
    geteuid().is_root().then_some(65534)
}

/// The server's process first, then its children.
fn family(parent: Pid) -> Vec<Pid> {
    let children = |folder: PathBuf| -> io::Result<Vec<Pid>> {
        let text = fs::read_to_string(folder.join("children"))?;
        Ok(text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect())
    };
    let own = PathBuf::from(format!("/proc/{0}/task/{0}", parent.as_raw_nonzero()));
    [parent].into_iter().chain(children(own).unwrap_or_default()).collect()
}

fn text(done: &Output, what: &str) -> String {
    assert!(done.status.success(), "{what}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim_end().to_owned()
}

fn wait(mut is_so: impl FnMut() -> bool, complaint: &dyn Fn() -> String) {
    let limit = Instant::now() + START_LIMIT;
    while !is_so() {
        assert!(Instant::now() < limit, "{}", complaint());
        #[expect(clippy::disallowed_methods, reason = "another program tells nobody when it is ready")]
        thread::sleep(Duration::from_millis(10));
    }
}
