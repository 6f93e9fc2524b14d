//! A token that can be cut off: `p11-kit server` in front of a [`SoftHsm`].

use std::{
    ffi::OsString,
    fs::File,
    os::unix::{net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::softhsm::{SoftHsm, require};

/// A server that serves the token of a [`SoftHsm`] over a Unix socket. Stopped on drop.
///
/// To a client that loads [`P11Kit::module`] with [`P11Kit::env`], [`P11Kit::kill`] looks like a network HSM that lost
/// its line, and [`P11Kit::start`] like its return.
pub struct P11Kit<'a> {
    token: &'a SoftHsm,
    server: Option<Child>,
}

impl<'a> P11Kit<'a> {
    /// A server, not started yet.
    pub fn new(token: &'a SoftHsm) -> Self {
        require("p11-kit", &Self::module());
        Self { token, server: None }
    }

    /// The library that the client loads.
    pub fn module() -> PathBuf {
        let multiarch = format!("/usr/lib/{}-linux-gnu/pkcs11/p11-kit-client.so", std::env::consts::ARCH);
        let plain = Path::new("/usr/lib/pkcs11/p11-kit-client.so");
        if plain.exists() { plain.into() } else { multiarch.into() }
    }

    /// For the client, beside that of the [`SoftHsm`].
    pub fn env(token: &SoftHsm) -> Vec<(String, OsString)> {
        let mut address = OsString::from("unix:path=");
        address.push(socket(token));
        vec![("P11_KIT_SERVER_ADDRESS".into(), address)]
    }

    /// Starts the server, and waits until it takes connections.
    pub fn start(&mut self) {
        assert!(self.server.is_none(), "the server runs already");
        let (socket, log) = (socket(self.token), self.token.folder().join("p11-kit.log"));
        // A killed server leaves its socket behind.
        let _ = std::fs::remove_file(&socket);
        let output = || File::options().create(true).append(true).open(&log).expect("a log file");
        let server = Command::new("p11-kit")
            .args(["server", "-f", "-n"])
            .arg(&socket)
            .args(["--provider", SoftHsm::MODULE, &format!("pkcs11:token={}", SoftHsm::LABEL)])
            .envs(self.token.env())
            .stdin(Stdio::null())
            .stdout(output())
            .stderr(output())
            // The server forks for each client; a group of their own lets all of them be stopped, and nothing else.
            .process_group(0)
            .spawn();
        self.server = Some(server.expect("p11-kit server"));
        let limit = Instant::now() + START_LIMIT;
        while UnixStream::connect(&socket).is_err() {
            let said = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(Instant::now() < limit, "p11-kit server takes no connections:\n{}", said());
            #[expect(clippy::disallowed_methods, reason = "another program's socket tells nobody when it is there")]
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Freezes the server and all that it forked: calls under way stay inside the client's library until the end.
    pub fn freeze(&mut self) {
        if let Some(server) = &self.server {
            let group = i32::try_from(server.id()).ok().and_then(Pid::from_raw).expect("a process id");
            kill_process_group(group, Signal::STOP).expect("the server's processes");
        }
    }

    /// Kills the server and all that it forked, at once and with their calls under way.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let group = i32::try_from(server.id()).ok().and_then(Pid::from_raw).expect("a process id");
            let _ = kill_process_group(group, Signal::KILL);
            let _ = server.wait();
        }
    }
}

impl Drop for P11Kit<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

fn socket(token: &SoftHsm) -> PathBuf {
    token.folder().join("p11-kit.sock")
}

const START_LIMIT: Duration = Duration::from_secs(20);
