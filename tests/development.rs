//! `hallmark dev`: one command, and everything that is needed is there.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
};

use hallmark_client::{SignRequest, testing::TestHallmark};
use rustix::process::Signal;

use crate::support::{Dev, HALLMARK, PATIENCE, Process, eventually};

/// A folder whose first run has been and failed, because a port was taken; then given ports that are free.
fn folder_with_free_ports(parent: &Path) -> PathBuf {
    let folder = parent.join("dev");
    // Where another program has the port already, that does as well.
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 7443));
    let failed = Command::new(HALLMARK).args(["dev", "--client", "demo:ES256", "--dir"]).arg(&folder).output().unwrap();
    let said = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(said.contains("can't listen on `127.0.0.1:74"), "{said}");

    let config = folder.join("hallmark.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = ["7443", "7480", "7490"].iter().fold(text, |text, port| text.replace(port, "0"));
    fs::write(config, text).unwrap();
    folder
}

/// Runs it until it has said what to try; gives that too.
fn run(parent: &Path, folder: &Path, more: &[&str]) -> (Process, Vec<String>) {
    let process = Process::start("dev", parent, HALLMARK, |command| {
        command.args(["dev", "--exit-with-stdin", "--dir"]).arg(folder).args(more);
    });
    let mut commands = Vec::new();
    loop {
        let line = process.line();
        if let Some(command) = line.strip_prefix("  ").filter(|line| line.starts_with(HALLMARK)) {
            commands.push(command.to_owned());
        }
        if line.starts_with("Ctrl-C") {
            return (process, commands);
        }
    }
}

#[test]
fn what_it_prints_works_when_pasted_and_a_second_run_reuses_all() {
    let parent = tempfile::tempdir().unwrap();
    let folder = folder_with_free_ports(parent.path());
    let mut keys = Vec::new();
    // As it was made, or with nothing said.
    for more in [&["--client", "demo:ES256"][..], &[]] {
        let (mut process, commands) = run(parent.path(), &folder, more);
        assert!(commands.len() >= 2, "{commands:?}");
        for command in &commands {
            let output = Command::new("sh").args(["-c", command]).current_dir("/").output().unwrap();
            assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
            if command.contains(" jwks ") {
                keys.push(String::from_utf8(output.stdout).unwrap());
            }
        }
        assert_eq!(process.stop().code(), Some(0));
    }
    assert_eq!(keys[0], keys[1], "the second run has the keys of the first");
    for other in [["--client", "demo:RS384"], ["--client", "other:ES256"], ["--token-endpoint", "https://as.example/"]]
    {
        let refused = Command::new(HALLMARK).args(["dev", "--dir"]).arg(&folder).args(other).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(64) && said.contains("is there already"), "{said}");
    }
    let pin = fs::metadata(folder.join("pin")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&pin.permissions()) & 0o777, 0o600);
}

#[test]
fn it_can_be_stopped_before_it_is_ready_after_a_hangup_too() {
    let parent = tempfile::tempdir().unwrap();
    let folder = folder_with_free_ports(parent.path());
    let (mut first, _) = run(parent.path(), &folder, &[]);
    first.stop();
    // Without its token it does not get ready.
    fs::rename(folder.join("tokens"), folder.join("tokens.away")).unwrap();
    fs::create_dir(folder.join("tokens")).unwrap();
    let mut process = Process::start("dev", parent.path(), HALLMARK, |command| {
        command.args(["dev", "--dir"]).arg(&folder);
    });
    process.wait_for_log("starting the server");
    process.signal(Signal::HUP);
    process.wait_for_log("as soon as the server is ready");
    process.signal(Signal::INT);
    assert_eq!(process.wait(PATIENCE).code(), Some(0));
}

#[test]
fn options_that_are_wrong_leave_nothing_behind() {
    let parent = tempfile::tempdir().unwrap();
    let mine = parent.path().join("mine");
    fs::create_dir(&mine).unwrap();
    fs::write(mine.join("notes"), "").unwrap();
    for wrong in ["c:RS348", "not a name:RS384"] {
        for folder in ["new", "mine"] {
            let mut command = Command::new(HALLMARK);
            let output = command.current_dir(parent.path()).args(["dev", "--dir", folder, "--client", wrong]).output();
            let output = output.unwrap();
            assert_eq!(output.status.code(), Some(64), "{wrong}: {}", String::from_utf8_lossy(&output.stderr));
        }
        assert!(!parent.path().join("new").exists(), "{wrong}");
        assert!(!mine.join("hallmark.toml").exists() && mine.join("notes").exists(), "{wrong}");
    }
}

#[test]
fn ephemeral_ends_with_its_parent_and_leaves_nothing() {
    let mut dev = Dev::start(&["--client", "demo:ES256"]);
    assert!(dev.dir().exists());
    dev.process.close_stdin();
    assert_eq!(dev.process.wait(PATIENCE).code(), Some(0));
    assert!(!dev.dir().exists());
}

#[test]
fn ephemeral_told_to_stop_leaves_nothing() {
    let mut dev = Dev::start(&["--client", "demo:ES256"]);
    assert_eq!(dev.process.stop().code(), Some(0));
    assert!(!dev.dir().exists());
}

#[tokio::test]
async fn a_hangup_has_it_take_a_client_that_was_added() {
    let mut dev = Dev::start(&["--client", "demo:ES256"]);
    let config = dev.dir().join("hallmark.toml");
    let text = fs::read_to_string(&config).unwrap().replace("clients = [\"demo\"]", "clients = [\"demo\", \"second\"]");
    let (_, demo) = text.split_once("[[client]]").unwrap();
    let (demo, _) = demo.split_once("[[workload]]").unwrap();
    let second = demo.replace("\"demo\"", "\"second\"");
    fs::write(&config, format!("{text}\n[[client]]{second}")).unwrap();
    dev.process.signal(Signal::HUP);
    let workload = dev.caller("workload");
    eventually("the new client signs", PATIENCE, async || workload.sign_for("second").await.ok()).await;
    dev.process.wait_for_log("configuration taken");
}

/// As other people's test suites use it, two of them at once.
#[tokio::test]
async fn the_testing_module_brings_a_hallmark_of_its_own() {
    let start = |alg| TestHallmark::builder().binary(HALLMARK).client("clinic", alg).start().unwrap();
    let (one, two) = (start("ES256"), start("ES384"));
    assert_ne!(one.grpc(), two.grpc());
    for (hallmark, alg) in [(&one, "ES256"), (&two, "ES384")] {
        let signed = hallmark.client().unwrap().sign_assertion(SignRequest::new("clinic")).await.unwrap();
        assert_eq!(signed.alg, alg);
        let keys = hallmark.operator().unwrap().list_keys(Some("clinic")).await.unwrap();
        assert!(keys.iter().any(|key| key.kid.as_deref() == Some(signed.kid.as_str())));
        let jwks = reqwest::get(hallmark.jwks_url("clinic").unwrap()).await.unwrap();
        assert_eq!(jwks.status(), 200);
    }
    let (pid, folder) = (one.pid(), one.connection_file().parent().unwrap().to_owned());
    drop(one);
    assert!(!Path::new(&format!("/proc/{pid}")).exists() && !folder.exists(), "dropping it ends it");
    two.client().unwrap().sign_assertion(SignRequest::new("clinic")).await.unwrap();
}

/// Someone else's metrics, health and all are there too, on ports of their own.
#[tokio::test]
async fn two_copies_at_once() {
    let (one, two) = (Dev::start(&["--client", "demo:ES256"]), Dev::start(&["--client", "demo:ES256"]));
    for dev in [&one, &two] {
        let url = format!("http://{}/readyz", dev.text("/metrics"));
        eventually("it is ready", PATIENCE, async || reqwest::get(&url).await.ok().filter(|a| a.status() == 200)).await;
    }
    let (one, two) = (one.caller("workload").sign_for("demo").await, two.caller("workload").sign_for("demo").await);
    assert_ne!(one.unwrap().kid, two.unwrap().kid);
}
