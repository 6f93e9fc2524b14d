//! A TPM 2.0 without hardware: `swtpm`, the resource manager in front of it, and a PKCS#11 token on top.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::softhsm::{SoftHsm, private_file};

/// A TPM of the test's own with one token, whose label and PINs are those of [`SoftHsm`]. Stopped on drop.
///
/// Nothing of it is root's or the system's: all sockets are in its folder, the message bus too. The library reads its
/// environment once a process: a test that loads it needs [`crate::child::in_child`], with [`Tpm::env`].
pub struct Tpm {
    folder: PathBuf,
    /// Stays: GLib ends a process that loses its bus.
    bus: Option<Child>,
    tpm: Option<Child>,
    manager: Option<Child>,
    _owned: tempfile::TempDir,
}

impl Tpm {
    /// `None` where a program of it is missing, which is said, and is a failure where `CI=true`.
    pub fn start() -> Option<Self> {
        for program in ["swtpm", "tpm2-abrmd", "dbus-daemon", "tpm2_ptool", "tpm2_dictionarylockout"] {
            if !is_installed(program) || !Self::module().exists() {
                eprintln!(
                    "not run: no TPM: `{program}` or `{}` is missing\nhint: make setup",
                    Self::module().display()
                );
                assert_ne!(env::var("CI").as_deref(), Ok("true"), "no TPM");
                return None;
            }
        }
        let owned = tempfile::tempdir().expect("a temporary folder");
        let folder = owned.path().to_owned();
        ["state", "store"].iter().for_each(|name| fs::create_dir(folder.join(name)).expect("a folder"));
        private_file(&folder.join("pin"), SoftHsm::PIN);
        let mut tpm = Self { folder, bus: None, tpm: None, manager: None, _owned: owned };
        tpm.start_bus();
        tpm.power_on();
        tpm.tool("tpm2_ptool", &["init"]);
        let (pin, so_pin) = (format!("--userpin={}", SoftHsm::PIN), format!("--sopin={}", SoftHsm::SO_PIN));
        let label = format!("--label={}", SoftHsm::LABEL);
        tpm.tool("tpm2_ptool", &["addtoken", "--pid=1", &label, &pin, &so_pin]);
        Some(tpm)
    }

    /// The library that the process under test loads.
    pub fn module() -> PathBuf {
        let multiarch = format!("/usr/lib/{}-linux-gnu/pkcs11/libtpm2_pkcs11.so", env::consts::ARCH);
        let plain = Path::new("/usr/lib/pkcs11/libtpm2_pkcs11.so");
        if plain.exists() { plain.into() } else { multiarch.into() }
    }

    /// For that process.
    pub fn env(&self) -> Vec<(String, OsString)> {
        vec![
            ("DBUS_SESSION_BUS_ADDRESS".into(), self.bus_address()),
            ("TPM2_PKCS11_TCTI".into(), "tabrmd:bus_type=session".into()),
            ("TPM2_PKCS11_STORE".into(), self.folder.join("store").into()),
            ("TPM2_PKCS11_LOG_LEVEL".into(), "0".into()),
        ]
    }

    /// Inside a child process: the folder of the TPM whose environment it was given, with the PIN in a file `pin`.
    pub fn folder_from_env() -> PathBuf {
        let store = env::var_os("TPM2_PKCS11_STORE").expect("TPM2_PKCS11_STORE; is this the child process?");
        Path::new(&store).parent().expect("a path with a folder").to_owned()
    }

    /// Holds [`SoftHsm::PIN`].
    pub fn pin_file(&self) -> PathBuf {
        self.folder.join("pin")
    }

    /// Kills the TPM and the resource manager, at once and with their calls under way.
    pub fn power_off(&mut self) {
        self.lose_manager();
        self.lose_tpm();
    }

    /// Kills the resource manager alone: the TPM keeps what it has loaded for it.
    pub fn lose_manager(&mut self) {
        kill(self.manager.take());
    }

    /// Kills the TPM alone, a power cut: the resource manager finds nobody behind it.
    pub fn lose_tpm(&mut self) {
        kill(self.tpm.take());
    }

    /// Starts what was lost: comes back when it can be used. Keys are still there.
    ///
    /// A resource manager has no use for another TPM than the one that it was started with, so it is started anew with it.
    pub fn power_on(&mut self) {
        self.lose_manager();
        if self.tpm.is_none() {
            self.start_tpm();
        }
        let tcti = format!("swtpm:path={}", self.folder.join("tpm").display());
        self.until("the last resource manager is off the bus", || !self.is_on_the_bus());
        self.manager = Some(self.run("tpm2-abrmd", &["--allow-root", "--session", "--tcti", &tcti]));
        self.until("the resource manager is on the bus", || self.is_on_the_bus());
    }

    /// As an operator does after the third power cut: a TPM counts each as a failed try of whatever has a PIN, and takes
    /// none after three (TPM 2.0 Library, part 1, "Dictionary Attack Protection").
    pub fn clear_lockout(&self) {
        self.tool("tpm2_dictionarylockout", &["--clear-lockout"]);
    }

    fn start_tpm(&mut self) {
        let [tpm, ctrl] = ["tpm", "tpm.ctrl"].map(|name| self.folder.join(name));
        // Whoever was killed leaves them behind.
        let _ = [&tpm, &ctrl].map(fs::remove_file);
        let state = format!("dir={}", self.folder.join("state").display());
        let [server, control] = [&tpm, &ctrl].map(|socket| format!("type=unixio,path={}", socket.display()));
        let state = ["--tpmstate", &state, "--flags", "not-need-init,startup-clear"];
        let swtpm =
            self.run("swtpm", &[&["socket", "--tpm2", "--server", &server, "--ctrl", &control], &state[..]].concat());
        self.tpm = Some(swtpm);
        self.until("the TPM listens", || tpm.exists() && ctrl.exists());
    }

    fn start_bus(&mut self) {
        let socket = self.folder.join("bus");
        let address = format!("--address=unix:path={}", socket.display());
        self.bus = Some(self.run("dbus-daemon", &["--session", &address, "--nofork", "--nopidfile"]));
        self.until("the bus listens", || UnixStream::connect(&socket).is_ok());
    }

    fn is_on_the_bus(&self) -> bool {
        let asked = Command::new("dbus-send")
            .args(["--session", "--print-reply", "--dest=org.freedesktop.DBus", "/org/freedesktop/DBus"])
            .args(["org.freedesktop.DBus.NameHasOwner", "string:com.intel.tss2.Tabrmd"])
            .env("DBUS_SESSION_BUS_ADDRESS", self.bus_address())
            .output()
            .expect("dbus-send");
        String::from_utf8_lossy(&asked.stdout).contains("boolean true")
    }

    fn bus_address(&self) -> OsString {
        let mut address = OsString::from("unix:path=");
        address.push(self.folder.join("bus"));
        address
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// Starts a part that ends with this process, whatever becomes of that.
    fn run(&self, program: &str, arguments: &[&str]) -> Child {
        let output = || File::options().create(true).append(true).open(self.log(program)).expect("a log file");
        let part = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", program])
            .args(arguments)
            .env("DBUS_SESSION_BUS_ADDRESS", self.bus_address())
            .stdin(Stdio::null())
            .stdout(output())
            .stderr(output())
            .spawn();
        part.expect("setpriv (of util-linux) starts programs")
    }

    fn until(&self, what: &str, there: impl Fn() -> bool) {
        let limit = Instant::now() + START_LIMIT;
        while !there() {
            let said = ["dbus-daemon", "swtpm", "tpm2-abrmd"].map(|name| fs::read_to_string(self.log(name)));
            assert!(Instant::now() < limit, "not within {START_LIMIT:?}: {what}: {said:?}");
            #[expect(clippy::disallowed_methods, reason = "another program's socket tells nobody when it is there")]
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn tool(&self, program: &str, arguments: &[&str]) {
        let done = Command::new(program)
            .args(arguments)
            .envs(self.env())
            .env("TPM2TOOLS_TCTI", "tabrmd:bus_type=session")
            .output()
            .expect(program);
        let said = || String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{program} {}: {}", arguments[0], said());
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        self.power_off();
        kill(self.bus.take());
    }
}

fn kill(part: Option<Child>) {
    if let Some(mut part) = part {
        let _ = part.kill();
        let _ = part.wait();
    }
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(sbin).any(|folder| folder.join(program).exists())
}

const START_LIMIT: Duration = Duration::from_secs(20);
