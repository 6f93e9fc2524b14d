//! The `testing` module, with a shell script in place of the binary.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use hallmark_client::testing::{StartError, TestHallmark};

struct Script {
    folder: tempfile::TempDir,
}

impl Script {
    /// `after` is what it does once it has printed its line.
    fn new(before: &str, line: &str, after: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().display();
        let text =
            format!("#!/bin/sh\necho \"$@\" >{dir}/arguments\n{before}\necho '{line}'\n{after}\necho end >{dir}/end\n");
        let script = Self { folder };
        let source = script.folder.path().join("source");
        fs::write(&source, text).expect("written");
        // By another process: while one that another test starts holds our descriptor, the script could not be run.
        let copied = Command::new("install").arg("-m755").args([source, script.path()]).status();
        assert!(copied.expect("install runs").success());
        script
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("hallmark")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }
}

const LINE: &str = r#"{"grpc":"https://127.0.0.1:1","jwks_listen":"127.0.0.1:2","dir":"/d","connection":"/d/workload.toml","operator_connection":"/d/operator.toml","clients":[{"name":"clinic","client_id":"clinic","alg":"RS384","jwks_url":"http://127.0.0.1:2/clients/clinic/jwks.json"}]}"#;

#[test]
fn starts_it_and_stops_it() {
    let script = Script::new("", LINE, "cat >/dev/null");
    let builder = TestHallmark::builder().binary(script.path()).client("clinic", "RS384");
    let hallmark = builder.token_endpoint("http://as/token").start().expect("started");
    assert_eq!(hallmark.jwks_url("clinic"), Some("http://127.0.0.1:2/clients/clinic/jwks.json"));
    assert_eq!(hallmark.jwks_url("other"), None);
    let arguments = "dev --ephemeral --json --exit-with-stdin --client clinic:RS384 --token-endpoint http://as/token\n";
    assert_eq!(script.read("arguments"), arguments);
    assert_eq!(script.read("end"), "", "it runs until it is dropped");
    drop(hallmark);
    assert_eq!(script.read("end"), "end\n", "it had its time to end by itself");
}

#[tokio::test]
async fn stops_without_blocking_the_runtime() {
    let script = Script::new("", LINE, "cat >/dev/null");
    let hallmark = TestHallmark::builder().binary(script.path()).start().expect("started");
    hallmark.stop().await;
    assert_eq!(script.read("end"), "end\n");
}

#[test]
fn tells_why_it_did_not_start() {
    let script = Script::new("echo 'error: no softhsm2' >&2; exit 1", "", "");
    let error = TestHallmark::builder().binary(script.path()).start().expect_err("ended");
    assert_eq!(error.to_string(), "hallmark ended before it was ready (exit status: 1): error: no softhsm2");
    let script = Script::new("echo waiting >&2; cat >/dev/null", "", "");
    let builder = TestHallmark::builder().binary(script.path()).timeout(Duration::from_millis(200));
    let error = builder.start().expect_err("not ready");
    assert!(matches!(&error, StartError::NotReady { stderr, .. } if stderr == "waiting"), "{error}");
    let error = TestHallmark::builder().binary("/nowhere/hallmark").start().expect_err("no binary");
    assert!(error.to_string().contains("HALLMARK_BIN"), "{error}");
}
