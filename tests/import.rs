//! Keys that someone was sent as a file, into the HSM: OpenSSL makes the files.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hallmark_testkit::softhsm::SoftHsm;
use serde_json::Value;

use crate::support::{HALLMARK, PATIENCE, Server, Site, claims, eventually, site::OPS};

const PASSPHRASE: &str = "Weidenkätzchen 7";

/// A server with clients that take keys from outside, and a place to work in.
struct Clinic {
    site: Site,
    server: Server,
    connection: PathBuf,
}

impl Clinic {
    async fn new(clients: &[(&str, &str)]) -> Self {
        let mut site = Site::new();
        for (name, alg) in clients {
            site.add_client(name, alg, "https://as.example/token");
            let auto = "provision = \"auto\"\n";
            // The last one is the new one.
            site.append("custody = \"imported\"\n");
            site.replace(
                &format!("hsm = [\"soft\"]\nkeys = [{{ alg = \"{alg}\" }}]\n{auto}custody"),
                &format!("hsm = [\"soft\"]\nkeys = [{{ alg = \"{alg}\" }}]\nprovision = \"manual\"\ncustody"),
            );
        }
        site.append("\n[[operator]]\nid = \"spiffe://test.example/looks\"\nroles = [\"view\"]\n");
        site.append("\n[unsafe_testing]\nsweep_every = \"100ms\"\nlead = \"1s\"\n");
        let server = site.start_with(|command| _ = command.arg("--unsafe-testing"));
        server.ready().await;
        let clinic = Self { connection: site.folder().join("ops.toml"), site, server };
        clinic.connection("ops", OPS);
        clinic.connection("looks", "spiffe://test.example/looks");
        clinic.secret("passphrase", PASSPHRASE);
        // OpenSSL's own would make a CA of each certificate.
        fs::write(clinic.path("req.cnf"), "[req]\ndistinguished_name = dn\n[dn]\n").unwrap();
        clinic
    }

    fn connection(&self, name: &str, id: &str) {
        self.site.ca.client(id).write(self.site.folder(), name);
        let (endpoint, ca) = (&self.server.grpc, "ca.pem");
        let text = format!("endpoint = \"{endpoint}\"\nca = \"{ca}\"\ncert = \"{name}.pem\"\nkey = \"{name}.key\"\n");
        fs::write(self.path(&format!("{name}.toml")), text).unwrap();
    }

    fn secret(&self, name: &str, text: &str) {
        fs::write(self.path(name), format!("{text}\n")).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.site.folder().join(name)
    }

    fn hallmark(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(HALLMARK);
        command.args(arguments).current_dir(self.site.folder());
        if !arguments.contains(&"--connection") {
            command.arg("--connection").arg(&self.connection);
        }
        command.output().unwrap()
    }

    /// `hallmark keys import` with what is the same each time.
    fn import(&self, client: &str, file: [&str; 2], more: &[&str]) -> Output {
        let words =
            ["keys", "import", client, file[0], file[1], "--config", "hallmark.toml", "--hsm", "soft", "--json"];
        let output = self.hallmark(&[words.as_slice(), &["--password-file", "passphrase"], more].concat());
        let all = [output.stdout.as_slice(), &output.stderr].concat();
        let all = String::from_utf8(all).unwrap();
        assert!(!all.contains(PASSPHRASE) && !all.contains("PRIVATE KEY") && !all.contains(SoftHsm::PIN), "{all}");
        output
    }

    fn imported(&self, client: &str, file: [&str; 2], more: &[&str]) -> Value {
        let before = fs::read(self.path(file[1])).unwrap();
        let output = self.import(client, file, &[&["--yes"], more].concat());
        assert_eq!(fs::read(self.path(file[1])).unwrap(), before, "the file was changed");
        json(&output)
    }

    fn refused(&self, client: &str, file: [&str; 2], more: &[&str]) -> String {
        let output = self.import(client, file, more);
        assert!(!output.status.success(), "{client}: {output:?}");
        let error: Value = serde_json::from_slice(&output.stderr).unwrap_or_default();
        assert_eq!(error["error"]["reason"], "IMPORT_REFUSED", "{output:?}");
        let hint = error["error"]["hint"].as_str().unwrap_or_default();
        format!("{} {} hint: {hint}", error["error"]["message"], error["error"]["caused_by"])
    }

    fn openssl(&self, arguments: &[&str]) -> String {
        let output = Command::new("openssl").args(arguments).current_dir(self.site.folder()).output().unwrap();
        assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A key, `NAME.pem`, and a certificate of it, `NAME.crt`.
    fn make(&self, name: &str, algorithm: &[&str]) {
        let (key, crt, subject) = (format!("{name}.pem"), format!("{name}.crt"), format!("/CN={name}"));
        self.openssl(&[&["genpkey", "-out", &key, "-algorithm"], algorithm].concat());
        self.openssl(&[
            "req", "-x509", "-key", &key, "-out", &crt, "-subj", &subject, "-days", "30", "-config", "req.cnf",
        ]);
    }

    /// `NAME.p12`.
    fn pack(&self, name: &str, how: &[&str]) -> String {
        let (key, crt, p12) = (format!("{name}.pem"), format!("{name}.crt"), format!("{name}.p12"));
        let words = ["pkcs12", "-export", "-inkey", &key, "-in", &crt, "-out", &p12, "-passout", "file:passphrase"];
        self.openssl(&[words.as_slice(), how].concat());
        p12
    }

    fn keys(&self, client: &str) -> Vec<Value> {
        let list = json(&self.hallmark(&["keys", "list", "--client", client, "--json"]));
        list["keys"].as_array().unwrap().clone()
    }

    fn pkcs11_tool(&self, arguments: &[&str]) -> String {
        let tool = Command::new("pkcs11-tool")
            .args(["--module", SoftHsm::MODULE, "--token-label", SoftHsm::LABEL, "--login", "--pin", SoftHsm::PIN])
            .args(arguments)
            .envs(self.site.token.env())
            .output()
            .unwrap();
        assert!(tool.status.success(), "{}", String::from_utf8_lossy(&tool.stderr));
        String::from_utf8_lossy(&tool.stdout).into_owned()
    }

    /// How many objects there are of clients that take keys from outside.
    fn foreign_objects(&self) -> usize {
        let listed = self.pkcs11_tool(&["--list-objects"]);
        listed.matches("hallmark:ec:").count() + listed.matches("hallmark:rsa:").count()
    }

    fn strays(&self) -> Vec<Value> {
        json(&self.hallmark(&["keys", "list", "--fresh", "--json"]))["strays"].as_array().unwrap().clone()
    }

    /// That the client signs with this key, which its JWKS shows.
    async fn signs_with(&self, client: &str, kid: &str) -> Value {
        let signed = self.server.app().sign_for(client).await.unwrap();
        assert_eq!(
            (signed.kid.as_str(), claims(&signed.assertion)["iss"].as_str()),
            (kid, Some(&*format!("{client}-id")))
        );
        let jwks = self.server.jwks_of(client).await;
        let shown = jwks["keys"].as_array().unwrap().iter().find(|key| key["kid"] == kid).cloned();
        shown.unwrap_or_else(|| panic!("`{kid}` is not in {jwks}"))
    }
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

const RSA: &[&str] = &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
const P256: &[&str] = &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const P384: &[&str] = &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"];

#[tokio::test]
async fn what_openssl_makes_signs_under_the_kid_that_is_registered() {
    let clinic =
        Clinic::new(&[("modern", "RS384"), ("old", "ES256"), ("pem", "ES384"), ("plain", "PS256"), ("ed", "EdDSA")])
            .await;
    let old = ["-legacy", "-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-RC2-40", "-macalg", "sha1"];
    clinic.make("modern", RSA);
    clinic.make("old", P256);
    let (modern, old) = (clinic.pack("modern", &["-name", "clinic"]), clinic.pack("old", &old));

    let done = clinic.imported("modern", ["--pkcs12", &modern], &["--kid", "registered-1"]);
    assert_eq!(done["keys"][0]["origin"], "imported", "{done}");
    assert_eq!((&done["imported"]["entry"], &done["imported"]["certificates"]), (&"unwrapped".into(), &1.into()));
    let shown = clinic.signs_with("modern", "registered-1").await;
    let modulus = clinic.openssl(&["rsa", "-in", "modern.pem", "-noout", "-modulus"]);
    let n = BASE64_URL_SAFE_NO_PAD.decode(shown["n"].as_str().unwrap()).unwrap();
    let n: String = n.iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(modulus.trim(), format!("Modulus={n}"));
    // Its certificate came along.
    let certificate = json(&clinic.hallmark(&["cert", "show", "modern", "--json"])).to_string();
    assert!(certificate.contains("CN=modern"), "{certificate}");

    let done = clinic.imported("old", ["--pkcs12", &old], &["--kid", "registered-2"]);
    assert!(done["imported"]["warnings"][0].as_str().unwrap().contains("RC2 or 3DES"), "{done}");
    clinic.signs_with("old", "registered-2").await;

    clinic.openssl(&["genpkey", "-algorithm", P384[0], P384[1], P384[2], "-out", "bare.pem"]);
    clinic.openssl(&["pkcs8", "-topk8", "-in", "bare.pem", "-out", "pem.pem", "-passout", "file:passphrase"]);
    let done = clinic.imported("pem", ["--pem", "pem.pem"], &["--kid", "registered-3"]);
    assert_eq!(done["imported"]["certificates"], 0);
    clinic.signs_with("pem", "registered-3").await;

    clinic.openssl(&["genrsa", "-traditional", "-out", "plain.pem", "3072"]);
    assert!(fs::read_to_string(clinic.path("plain.pem")).unwrap().contains("BEGIN RSA PRIVATE KEY"));
    let done = clinic.imported("plain", ["--pem", "plain.pem"], &[]);
    clinic.signs_with("plain", done["imported"]["kid"].as_str().unwrap()).await;

    clinic.openssl(&["genpkey", "-algorithm", "ED25519", "-out", "ed.pem"]);
    let done = clinic.imported("ed", ["--pem", "ed.pem"], &["--kid", "registered-5"]);
    assert_eq!(done["imported"]["entry"], "created", "SoftHSM unwraps no Ed25519 key: {done}");
    clinic.signs_with("ed", "registered-5").await;
    clinic.server.stop().await;
}

#[tokio::test]
async fn what_is_refused_leaves_nothing_on_the_token() {
    let clinic = Clinic::new(&[("rsa", "RS384"), ("ec", "ES256")]).await;
    clinic.make("one", P256);
    let p12 = clinic.pack("one", &[]);
    let file = ["--pkcs12", p12.as_str()];

    let with_other = |clinic: &Clinic| {
        let words = ["keys", "import", "ec", "--config", "hallmark.toml", "--hsm", "soft", "--password-file", "other"];
        clinic.hallmark(&[&words[..], &file, &["--yes"]].concat())
    };
    clinic.secret("other", "Haselkätzchen");
    let wrong = with_other(&clinic);
    let wrong = String::from_utf8(wrong.stderr).unwrap();
    assert!(wrong.contains("the passphrase does not open it") && !wrong.contains("Hasel"), "{wrong}");
    fs::set_permissions(clinic.path("other"), fs::Permissions::from_mode(0o644)).unwrap();
    let open = with_other(&clinic);
    assert!(String::from_utf8_lossy(&open.stderr).contains("hint: chmod 600"), "{open:?}");

    let local = clinic.refused("demo", file, &["--yes"]);
    assert!(local.contains("custody = \\\"imported\\\"") || local.contains("custody = \"imported\""), "{local}");
    let other = clinic.refused("rsa", file, &["--yes"]);
    assert!(other.contains("`rsa` signs with RS384"), "{other}");
    let asked = clinic.import("ec", file, &[]);
    assert_eq!(asked.status.code(), Some(64), "{asked:?}");
    assert!(String::from_utf8_lossy(&asked.stderr).contains("--yes"), "{asked:?}");

    clinic.openssl(&["genrsa", "-out", "short.pem", "1024"]);
    let short = clinic.refused("rsa", ["--pem", "short.pem"], &["--yes"]);
    assert!(short.contains("1024 bits"), "{short}");
    let both = ["one.pem", "short.pem"].map(|name| fs::read_to_string(clinic.path(name)).unwrap()).concat();
    fs::write(clinic.path("both.pem"), both).unwrap();
    let both = clinic.refused("ec", ["--pem", "both.pem"], &["--yes"]);
    assert!(both.contains("several private keys: P-256 `"), "{both}");
    let not_pem = clinic.refused("ec", ["--pem", &p12], &["--yes"]);
    assert!(not_pem.contains("--pkcs12"), "{not_pem}");

    assert_eq!(clinic.foreign_objects(), 0);
    assert!(clinic.keys("ec").is_empty() && clinic.keys("rsa").is_empty());
    clinic.server.stop().await;
}

/// What was cut short between the token and the record is found, not made anew.
#[tokio::test]
async fn an_import_that_broke_off_goes_on() {
    let clinic = Clinic::new(&[("ec", "ES256"), ("rsa", "RS384")]).await;
    clinic.make("one", P256);
    let p12 = clinic.pack("one", &[]);
    let file = ["--pkcs12", p12.as_str()];
    // An operator who may look, but not adopt: the key gets as far as the token.
    let output = clinic.import("ec", file, &["--yes", "--connection", "looks.toml"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("type the same command again"), "{said}");
    // The server does not look twice within a moment, and SoftHSM shows an object before it has its attributes: a look just
    // then meets one that has no id yet.
    let whole = |strays: &Vec<Value>| !strays.is_empty() && strays.iter().all(|stray| stray["cka_id"] != "");
    let seen = async || Some(clinic.strays()).filter(whole);
    let strays = eventually("the key is listed as a stray", PATIENCE, seen).await;
    assert_eq!((strays.len(), clinic.foreign_objects()), (1, 2), "{strays:?}");

    let done = clinic.imported("ec", file, &["--kid", "registered"]);
    assert_eq!((&done["imported"]["entry"], &done["imported"]["cka_id"]), (&"found".into(), &strays[0]["cka_id"]));
    clinic.signs_with("ec", "registered").await;
    assert_eq!(clinic.strays(), Vec::<Value>::new());
    // Once more changes nothing.
    let again = clinic.imported("ec", file, &["--kid", "registered"]);
    assert_eq!(again["keys"][0]["id"], done["keys"][0]["id"]);
    // As another client's it is refused before anything is done.
    let taken = clinic.refused("ec", file, &["--kid", "another", "--yes"]);
    assert!(taken.contains("on record already"), "{taken}");

    // Half a pair, as a try leaves it that dies between the two objects.
    clinic.make("two", RSA);
    clinic.openssl(&["rsa", "-in", "two.pem", "-pubout", "-outform", "DER", "-out", "two.pub"]);
    let public = clinic.path("two.pub").display().to_string();
    let write = ["--write-object", &public, "--type", "pubkey", "--id", "c0ffee", "--label", "hallmark:rsa:RS384:0"];
    clinic.pkcs11_tool(&write);
    let done = clinic.imported("rsa", ["--pem", "two.pem"], &["--kid", "registered-too"]);
    assert_eq!((&done["imported"]["entry"], &done["imported"]["cka_id"]), (&"unwrapped".into(), &"c0ffee".into()));
    clinic.signs_with("rsa", "registered-too").await;
    clinic.server.stop().await;
}

#[tokio::test]
async fn the_imported_key_gives_way_to_one_born_in_the_hsm() {
    let clinic = Clinic::new(&[("ec", "ES256")]).await;
    clinic.make("one", P256);
    let p12 = clinic.pack("one", &[]);
    let done = clinic.imported("ec", ["--pkcs12", &p12], &["--kid", "registered", "--rotate"]);
    assert!(done["imported"]["rotation"].as_str().unwrap().contains("rotated"), "{done}");
    // Where verifiers were to see the standby first, an operator goes on.
    let rotated = || clinic.keys("ec").iter().any(|key| key["state"] == "active" && key["origin"] == "generated");
    eventually("a key that was born in the HSM signs", PATIENCE, async || {
        if !rotated() {
            clinic.hallmark(&["keys", "rotate", "ec", "--reason", "born in the HSM"]);
        }
        rotated().then_some(())
    })
    .await;
    let keys = clinic.keys("ec");
    let imported = keys.iter().find(|key| key["kid"] == "registered").unwrap();
    assert_eq!((&imported["origin"], &imported["state"]), (&"imported".into(), &"deactivated".into()));
    let born = keys.iter().find(|key| key["state"] == "active").unwrap();
    clinic.signs_with("ec", born["kid"].as_str().unwrap()).await;
    // It is still published: what it signed may be under way.
    let jwks = clinic.server.jwks_of("ec").await.to_string();
    assert!(jwks.contains("registered"), "{jwks}");
    clinic.server.stop().await;
}

/// A token locks after some wrong PINs, whoever tries them.
#[tokio::test]
async fn a_wrong_pin_is_tried_once() {
    let clinic = Clinic::new(&[("ec", "ES256")]).await;
    clinic.make("one", P256);
    let p12 = clinic.pack("one", &[]);
    let right = fs::read(clinic.site.token.pin_file()).unwrap();
    fs::write(clinic.site.token.pin_file(), "0000000\n").unwrap();
    let first = clinic.refused("ec", ["--pkcs12", &p12], &["--yes"]);
    assert!(first.contains("CKR_PIN_INCORRECT"), "{first}");
    let second = clinic.refused("ec", ["--pkcs12", &p12], &["--yes"]);
    assert!(
        second.contains("was tried before and not accepted") && second.contains("hint: correct the PIN"),
        "{second}"
    );
    fs::write(clinic.site.token.pin_file(), right).unwrap();
    clinic.imported("ec", ["--pkcs12", &p12], &["--kid", "registered"]);
    clinic.signs_with("ec", "registered").await;
    clinic.server.stop().await;
}
