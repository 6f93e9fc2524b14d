//! The real verifiers of `tests/verifiers`.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::Receiver,
};

use serde_json::{Value, json};

use super::Process;

/// A real authorization server.
pub(crate) struct AuthorizationServer {
    process: Process,
    control: String,
    pub(crate) issuer: String,
    pub(crate) token_endpoint: String,
    _folder: tempfile::TempDir,
}

impl AuthorizationServer {
    pub(crate) fn oidc_provider() -> Self {
        Self::oidc_provider_with(|_| {})
    }

    pub(crate) fn oidc_provider_with(set_up: impl FnOnce(&mut Command)) -> Self {
        Self::start(NODE, "oidc-provider.mjs", set_up)
    }

    pub(crate) fn authlib() -> Self {
        Self::start(PYTHON, "authlib_server.py", |_| {})
    }

    pub(crate) fn openemr_7() -> Self {
        Self::start(PYTHON, "openemr_7.py", |_| {})
    }

    fn start(interpreter: &str, name: &str, set_up: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = script(interpreter, name, folder.path(), set_up);
        let ready: Value = serde_json::from_str(&process.line()).unwrap();
        let member = |name: &str| ready[name].as_str().unwrap().to_owned();
        let (issuer, token_endpoint) = (member("issuer"), member("token_endpoint"));
        Self { process, control: member("control"), issuer, token_endpoint, _folder: folder }
    }

    /// Registers a client that authenticates with `private_key_jwt`.
    pub(crate) async fn register(&self, client_id: &str, jwks_uri: &str, alg: &str, scope: &str) {
        let client = json!({ "client_id": client_id, "jwks_uri": jwks_uri, "alg": alg, "scope": scope });
        let answer =
            reqwest::Client::new().post(format!("{}/clients", self.control)).json(&client).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    }

    /// The next event, such as `{"event": "token_issued", …}`.
    pub(crate) fn event(&self) -> Value {
        serde_json::from_str(&self.process.line()).unwrap()
    }

    /// All events from now on, a line each.
    pub(crate) fn take_events(&mut self) -> Receiver<String> {
        self.process.take_lines()
    }
}

/// Starts one of the programs that run until they are told to stop; its log goes into `folder`.
pub(crate) fn script(interpreter: &str, name: &str, folder: &Path, set_up: impl FnOnce(&mut Command)) -> Process {
    Process::start(name, folder, installed(interpreter), |command| {
        command.arg(in_verifiers(name)).arg("--watch-stdin");
        set_up(command);
    })
}

/// Verifies with npm's jose; gives header and payload. Panics with its reason where it refuses.
pub(crate) fn jose(assertion: &str, jwks: &str, audience: &str, issuer: &str) -> Value {
    verify(NODE, "jose-verify.mjs", assertion, jwks, audience, issuer)
}

/// Verifies with PyPI's PyJWT.
pub(crate) fn pyjwt(assertion: &str, jwks: &str, audience: &str, issuer: &str) -> Value {
    verify(PYTHON, "pyjwt_verify.py", assertion, jwks, audience, issuer)
}

/// Why npm's jose does not take it.
pub(crate) fn jose_refuses(assertion: &str, jwks: &str, audience: &str, issuer: &str) -> String {
    refusal(&ask(NODE, "jose-verify.mjs", assertion, &["--jwks", jwks, "--audience", audience, "--issuer", issuer]))
}

/// Verifies evidence with PyPI's PyJWT, and the custody keys in the file `jwks`; gives header and payload.
pub(crate) fn evidence(jws: &str, jwks: &str, nonce: &str) -> Value {
    let answer = ask(PYTHON, "evidence_verify.py", jws, &["--jwks", jwks, "--nonce", nonce]);
    assert_eq!(answer["ok"], true, "{answer}");
    answer
}

fn refusal(answer: &Value) -> String {
    assert_eq!(answer["ok"], false, "it was taken: {answer}");
    answer["error"].as_str().unwrap().to_owned()
}

fn verify(interpreter: &str, script: &str, assertion: &str, jwks: &str, audience: &str, issuer: &str) -> Value {
    let answer = ask(interpreter, script, assertion, &["--jwks", jwks, "--audience", audience, "--issuer", issuer]);
    assert_eq!(answer["ok"], true, "{script}: {answer}");
    answer
}

fn ask(interpreter: &str, script: &str, jwt: &str, arguments: &[&str]) -> Value {
    let mut child = Command::new(installed(interpreter))
        .arg(in_verifiers(script))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(jwt.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn in_verifiers(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verifiers").join(name)
}

fn installed(interpreter: &str) -> PathBuf {
    let path = in_verifiers(interpreter);
    assert!(path.exists(), "the verifiers are not installed: no `{}`\nhint: make setup", path.display());
    path
}

pub(crate) const NODE: &str = ".venv/bin/node";
const PYTHON: &str = ".venv/bin/python";
