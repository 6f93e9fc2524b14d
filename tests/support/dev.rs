//! A running `hallmark dev --ephemeral --json`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::{Caller, HALLMARK, Process, pki::Certified};

pub(crate) struct Dev {
    pub(crate) process: Process,
    /// The line that it printed when it was ready.
    pub(crate) line: Value,
    _folder: tempfile::TempDir,
}

impl Dev {
    /// Starts it, and waits until it can sign.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::start_with(options, |_| {})
    }

    pub(crate) fn start_with(options: &[&str], set_up: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = Process::start("dev", folder.path(), HALLMARK, |command| {
            command.args(["dev", "--ephemeral", "--json", "--exit-with-stdin"]).args(options);
            // Its own folder goes there: it can't remove it when it is killed, as it is at the end of most tests.
            command.env("TMPDIR", folder.path());
            set_up(command);
        });
        let line = process.line();
        let line = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        Self { process, line, _folder: folder }
    }

    pub(crate) fn text(&self, pointer: &str) -> &str {
        let found = self.line.pointer(pointer).and_then(Value::as_str);
        found.unwrap_or_else(|| panic!("no `{pointer}` in {}", self.line))
    }

    pub(crate) fn path(&self, pointer: &str) -> PathBuf {
        PathBuf::from(self.text(pointer))
    }

    pub(crate) fn dir(&self) -> &Path {
        Path::new(self.text("/dir"))
    }

    /// Calls as `workload` or `operator`.
    pub(crate) fn caller(&self, who: &str) -> Caller {
        let read = |pointer: &str| std::fs::read_to_string(self.path(pointer)).unwrap();
        let certified = Certified { cert: read(&format!("/{who}/cert")), key: read(&format!("/{who}/key")) };
        Caller::tls(self.text("/grpc"), &read("/ca"), Some(&certified))
    }

    pub(crate) fn jwks_url(&self, client: &str) -> &str {
        let clients = self.line["clients"].as_array().unwrap();
        let found = clients.iter().find(|found| found["name"] == client);
        found.and_then(|found| found["jwks_url"].as_str()).unwrap_or_else(|| panic!("no `{client}` in {}", self.line))
    }
}
