//! Where a key was born, shown to an auditor who has only a file, the custody keys, and what he asked for.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use crate::support::{HALLMARK, PATIENCE, Server, Site, eventually, verifiers};

mod yubikey;

const NONCE: &str = "000102030405060708090a0b0c0d0e0f";

const GENERATE: &[&str] = &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// A server, and an operator who looks.
struct Audit {
    site: Site,
    server: Server,
}

impl Audit {
    async fn new(edit: impl FnOnce(&mut Site)) -> Self {
        let mut site = Site::new();
        edit(&mut site);
        let server = site.start();
        server.ready().await;
        Self::of(site, server)
    }

    fn of(site: Site, server: Server) -> Self {
        let audit = Self { site, server };
        audit.connect();
        fs::write(audit.path("custody.json"), &audit.done(&["keys", "custody", "--json"]).stdout).unwrap();
        audit
    }

    fn connect(&self) {
        let ops = self.site.ca.client(crate::support::site::OPS);
        self.site.connection("ops", &ops, &self.server.grpc);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.site.folder().join(name)
    }

    fn hallmark(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(HALLMARK);
        command.args(arguments).args(["--connection", "ops.toml"]).current_dir(self.site.folder());
        command.output().unwrap()
    }

    fn done(&self, arguments: &[&str]) -> Output {
        let output = self.hallmark(arguments);
        assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
        output
    }

    /// What the auditor finds, with what he says beside the file; he has no server.
    fn verify(&self, file: &str, more: &[&str]) -> (bool, String) {
        let mut command = Command::new(HALLMARK);
        command.args(["evidence", "verify", file]).args(more).current_dir(self.site.folder());
        let output = command.output().unwrap();
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl").args(arguments).current_dir(self.site.folder()).output().unwrap();
        assert!(output.status.success(), "openssl {arguments:?}: {}", text(&output.stderr));
    }

    async fn active(&self, client: &str) -> String {
        self.server.app().sign_for(client).await.unwrap().kid
    }
}

/// A file for nobody else.
fn secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn evidence_is_verified_offline_line_by_line_and_by_a_stranger() {
    let audit = Audit::new(|_| {}).await;
    let kid = audit.active("demo").await;
    let shown = text(&audit.done(&["keys", "evidence", &kid, "--nonce", NONCE, "--out", "e.jws"]).stdout);
    assert!(shown.contains("claimed    custody: local"), "{shown}");

    let all = ["--custody-key", "custody.json", "--nonce", NONCE, "--require", "local"];
    let (holds, lines) = audit.verify("e.jws", &all);
    assert!(holds, "{lines}");
    for line in [
        "proven     signed by custody key",
        "proven     the key was at hand",
        "proven     it is fresh",
        "claimed    HSM `soft`: SoftHSM project",
        "CKA_LOCAL true, CKA_SENSITIVE true, CKA_ALWAYS_SENSITIVE true, CKA_EXTRACTABLE false, CKA_NEVER_EXTRACTABLE true",
        "CKM_EC_KEY_PAIR_GEN",
    ] {
        assert!(lines.contains(line), "no `{line}` in:\n{lines}");
    }

    let evidence = fs::read_to_string(audit.path("e.jws")).unwrap();
    let custody = audit.path("custody.json").display().to_string();
    let verified = verifiers::evidence(evidence.trim(), &custody, NONCE);
    assert_eq!(verified["payload"]["evidence"]["kid"], kid.as_str());
    let kinds = kinds(&audit);
    assert_eq!(kinds, ["possession", "evidence"], "each signature is in the log as what it is");
    audit.server.stop().await;
}

/// Of the signatures that nobody's assertion is.
fn kinds(audit: &Audit) -> Vec<String> {
    let files = fs::read_dir(audit.site.audit_dir()).unwrap().map(|file| file.unwrap().path());
    let lines = files.filter(|file| file.extension().is_some_and(|end| end == "jsonl"));
    let text: String = lines.map(|file| fs::read_to_string(file).unwrap()).collect();
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let signed = events.filter(|event| event["event"] == "sign-intent");
    let kinds = signed.map(|event| event["kind"].as_str().unwrap().to_owned());
    kinds.filter(|kind| ["possession", "evidence"].contains(&kind.as_str())).collect()
}

#[tokio::test]
async fn what_was_altered_or_is_of_another_is_refused() {
    let audit = Audit::new(|_| {}).await;
    let kid = audit.active("demo").await;
    audit.done(&["keys", "evidence", &kid, "--nonce", NONCE, "--out", "e.jws"]);
    let known = ["--custody-key", "custody.json"];
    let refused = |file: &str, more: &[&str], why: &str| {
        let (holds, lines) = audit.verify(file, more);
        assert!(!holds && lines.contains("failed") && lines.contains(why), "`{why}`:\n{lines}");
    };
    refused("e.jws", &["--nonce", &"ab".repeat(16)], "the nonce is not the one that you gave");
    refused("e.jws", &["--require", "attested"], "its custody is not attested");
    let evidence = fs::read_to_string(audit.path("e.jws")).unwrap();
    let at = evidence.find('.').unwrap() + 100;
    let other = if &evidence[at..=at] == "A" { "B" } else { "A" };
    fs::write(audit.path("altered.jws"), format!("{}{other}{}", &evidence[..at], &evidence[at + 1..])).unwrap();
    refused("altered.jws", &known, "");
    audit.openssl(&[GENERATE, &["-out", "stranger.pem"]].concat());
    audit.openssl(&["pkey", "-in", "stranger.pem", "-pubout", "-out", "stranger.pub"]);
    refused("e.jws", &["--custody-key", "stranger.pub"], "none of the custody keys that you hold");
    // The private half is nothing to hand to a verifier.
    let (_, lines) = audit.verify("e.jws", &["--custody-key", "stranger.pem"]);
    assert!(lines.contains("private key"), "{lines}");
    audit.server.stop().await;
}

#[tokio::test]
async fn no_verifier_of_assertions_takes_evidence_for_one() {
    let audit = Audit::new(|_| {}).await;
    let kid = audit.active("demo").await;
    audit.done(&["keys", "evidence", &kid, "--nonce", NONCE, "--out", "e.jws"]);
    let evidence = fs::read_to_string(audit.path("e.jws")).unwrap();
    let signed = audit.server.app().sign_for("demo").await.unwrap();
    let claims = crate::support::claims(&signed.assertion);
    let (aud, iss) = (claims["aud"].as_str().unwrap(), claims["iss"].as_str().unwrap());
    // Its key is in no client's set.
    let jwks = audit.server.jwks_url("demo");
    let refused = verifiers::jose_refuses(evidence.trim(), &jwks, aud, iss);
    assert!(refused.contains("ERR_JWKS_NO_MATCHING_KEY"), "{refused}");
    // Nor would it help whoever has the custody key in his set: there is nobody whom it is from and for.
    let custody = served(fs::read(audit.path("custody.json")).unwrap());
    let refused = verifiers::jose_refuses(evidence.trim(), &custody, aud, iss);
    assert!(refused.contains("ERR_JWT_CLAIM_VALIDATION_FAILED"), "{refused}");
    // And what the client's own key signed in it is no JWS.
    let payload = crate::support::claims(evidence.trim());
    let possession = payload["evidence"]["possession"].as_str().unwrap();
    let forged = format!("{}.{possession}", signed.assertion.rsplit_once('.').unwrap().0);
    let refused = verifiers::jose_refuses(&forged, &jwks, aud, iss);
    assert!(refused.contains("ERR_JWS_SIGNATURE_VERIFICATION_FAILED"), "{refused}");
    audit.server.stop().await;
}

/// Its URL, as long as the test runs.
fn served(jwks: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
            let head = format!("{head}content-length: {}\r\n\r\n", jwks.len());
            let _ = stream.write_all(&[head.as_bytes(), &jwks].concat());
        }
    });
    url
}

#[tokio::test]
async fn an_imported_key_is_told_as_such_and_refused_where_the_policy_says_so() {
    let custody = "custody = \"imported\"\n";
    let mut audit = Audit::new(|site| {
        site.add_client("old", "ES256", "https://as.example/token");
        site.append(custody);
        let auto = "keys = [{ alg = \"ES256\" }]\nprovision = \"auto\"\ncustody";
        site.replace(auto, &auto.replace("auto", "manual"));
    })
    .await;
    audit.openssl(&[GENERATE, &["-out", "old.pem"]].concat());
    audit.done(&["keys", "import", "old", "--pem", "old.pem", "--config", "hallmark.toml", "--hsm", "soft", "--yes"]);
    let kid = audit.active("old").await;
    audit.done(&["keys", "evidence", &kid, "--nonce", NONCE, "--out", "e.jws"]);
    let (holds, lines) = audit.verify("e.jws", &["--custody-key", "custody.json", "--require", "imported"]);
    assert!(holds && lines.contains("CKA_LOCAL false") && lines.contains("custody: imported"), "{lines}");
    let (holds, lines) = audit.verify("e.jws", &["--require", "local"]);
    assert!(!holds, "{lines}");

    // A change of policy counts at the next signature.
    audit.site.replace(custody, "custody = \"local\"\n").write();
    audit.server.reload();
    refused(&audit.server).await;
    // And at start.
    audit.server.stop().await;
    audit.server = audit.site.start();
    audit.server.ready().await;
    refused(&audit.server).await;
    assert!(audit.server.log().contains("falls short of the client's custody"), "{}", audit.server.log());
    audit.site.replace("custody = \"local\"\n", custody).write();
    audit.server.reload();
    let app = audit.server.app();
    eventually("it signs again", PATIENCE, async || app.sign_for("old").await.ok().map(drop)).await;
    audit.server.stop().await;
}

async fn refused(server: &Server) {
    let app = server.app();
    eventually("the key is refused", PATIENCE, async || {
        let refusal = app.sign_for("old").await.err();
        refusal.is_some_and(|refusal| refusal.reason == "CUSTODY_TOO_WEAK").then_some(())
    })
    .await;
}
