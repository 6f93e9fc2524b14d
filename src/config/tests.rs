use std::path::PathBuf;

use hallmark_core::{
    client::{Custody, Provision},
    policy::Rate,
};
use tempfile::TempDir;

use super::*;

mod docs;
mod elsewhere;
mod follow;
mod issuer;
mod yubikey;

/// A configuration that lacks nothing, for tests that add to it.
const MINIMAL: &str = r#"
[instance]
id = "a"
[grpc]
unix = "hallmark.sock"
[jwks]
listen = "127.0.0.1:8080"
[store]
url = "sqlite:hallmark.db"
[audit]
dir = "audit"
[[hsm]]
name = "main"
module = "softhsm.so"
token_label = "hallmark"
pin_source = "file:main.pin"
"#;

const CLIENT: &str = r#"
[[client]]
name = "epic"
token_endpoint = "https://ehr.example.com/token"
hsm = ["main"]
"#;

const WORKLOAD: &str = r#"
[[workload]]
id = "uid:1000"
clients = ["epic"]
"#;

/// Writes `text` to a folder of its own and loads it.
fn load_text(text: &str) -> (TempDir, Result<Config, ConfigError>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hallmark.toml");
    std::fs::write(&path, text).unwrap();
    let config = load(&path);
    (dir, config)
}

fn loaded(text: &str) -> (TempDir, Config) {
    let (dir, config) = load_text(text);
    (dir, config.unwrap_or_else(|error| panic!("{error}")))
}

fn warnings(text: &str) -> Vec<String> {
    loaded(text).1.warnings.into_iter().map(|warning| warning.what).collect()
}

/// The whole message for each file of `bad/`, as its user sees it.
#[test]
fn each_bad_file_is_explained() {
    let folder = PathBuf::from("src/config/tests/bad");
    let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let mut path = folder.join(&name);
        if path.is_dir() {
            path.push("hallmark.toml");
        }
        let error = load(&path).expect_err(&format!("{} was taken", path.display()));
        let shown = error.to_string().replace(env!("CARGO_MANIFEST_DIR"), "/repo");
        let name = PathBuf::from(name).with_extension("");
        insta::assert_snapshot!(name.to_str().unwrap(), shown);
    }
}

#[test]
fn a_missing_file_is_explained() {
    insta::assert_snapshot!(load("no/such.toml".as_ref()).unwrap_err());
}

#[test]
fn secrets_never_show_in_messages() {
    for file in ["hsms", "listeners"] {
        let error = load(format!("src/config/tests/bad/{file}.toml").as_ref()).unwrap_err().to_string();
        assert!(!error.contains("8213") && !error.contains("secret"), "{error}");
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let (dir, config) = loaded(&[MINIMAL, CLIENT, WORKLOAD].concat());
    assert_eq!(config.jwks.public_url, "http://127.0.0.1:8080");
    assert_eq!(config.jwks.max_age, Duration::from_secs(300));
    assert_eq!(config.store.lease, Duration::from_secs(60));
    assert!(!config.grpc.reflection && !config.jwks.behind_proxy);
    assert_eq!(config.hsms[0].workers, 4);
    let client = &config.clients[0];
    assert_eq!((client.profile.name, client.custody, client.provision), ("generic", Custody::Local, Provision::Manual));
    assert_eq!((client.keep_for, client.edge_ttl), (Duration::from_secs(86_400), Duration::ZERO));
    let keys: Vec<_> = client.keys.iter().map(|key| (key.alg, key.rsa_bits)).collect();
    assert_eq!(keys, [(Alg::RS384, 2048)]);
    assert_eq!(config.jwks_url(client), "http://127.0.0.1:8080/clients/epic/jwks.json");
    drop(dir);
}

#[test]
fn relative_paths_start_from_the_folder_of_the_file() {
    let (dir, config) = loaded(MINIMAL);
    let at = |name: &str| dir.path().join(name);
    assert_eq!(config.grpc.unix, Some(at("hallmark.sock")));
    assert_eq!(config.audit.dir, at("audit"));
    assert_eq!(config.store.url, format!("sqlite://{}", at("hallmark.db").display()));
    assert_eq!(config.hsms[0].pkcs11().unwrap().module, at("softhsm.so"));
    assert_eq!(config.hsms[0].pin_source, format!("file:{}", at("main.pin").display()));
}

#[test]
fn absolute_paths_and_other_pin_sources_are_kept() {
    for (given, kept) in [
        ("/etc/main.pin", "file:/etc/main.pin"),
        ("file:///etc/main.pin", "file:/etc/main.pin"),
        ("credential:main-pin", "credential:main-pin"),
        ("fd:3", "fd:3"),
    ] {
        let (_dir, config) = loaded(&MINIMAL.replace("file:main.pin", given));
        assert_eq!(config.hsms[0].pin_source, kept);
    }
    let (_dir, config) = loaded(&MINIMAL.replace("sqlite:hallmark.db", "sqlite:///var/lib/hallmark.db"));
    assert_eq!(config.store.url, "sqlite:///var/lib/hallmark.db");
}

#[test]
fn a_token_endpoint_is_kept_byte_for_byte() {
    let odd = "https://EHR.example.com:443//oauth/%7Ea/token/?tenant=A";
    let (_dir, config) = loaded(&[MINIMAL, &CLIENT.replace("https://ehr.example.com/token", odd)].concat());
    assert_eq!(config.clients[0].token_endpoint, odd);
}

#[test]
fn a_client_id_can_stand_in_a_file_and_is_up_to_8_kib_long() {
    let client = CLIENT.replace("hsm =", "client_id_file = \"id.txt\"\nhsm =");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hallmark.toml");
    std::fs::write(&path, [MINIMAL, &client].concat()).unwrap();
    for (length, taken) in [(8192, true), (8193, false)] {
        std::fs::write(dir.path().join("id.txt"), "x".repeat(length) + "\n").unwrap();
        let id = load(&path).map(|config| config.clients[0].client_id.as_ref().map(String::len));
        assert_eq!(id.ok().flatten(), taken.then_some(length));
    }
}

#[test]
fn clients_d_adds_clients_and_workloads() {
    let dir = tempfile::tempdir().unwrap();
    let more = dir.path().join("clients.d");
    std::fs::create_dir(&more).unwrap();
    let main = dir.path().join("hallmark.toml");
    // The main file's workload names a client that a later file brings.
    std::fs::write(&main, [MINIMAL, WORKLOAD].concat()).unwrap();
    std::fs::write(more.join("b.toml"), CLIENT).unwrap();
    std::fs::write(more.join("a.toml"), CLIENT.replace("epic", "cerner")).unwrap();
    std::fs::write(more.join(".c.toml"), "half written").unwrap();
    let config = load(&main).unwrap();
    let names: Vec<_> = config.clients.iter().map(|client| client.name.as_str()).collect();
    assert_eq!((names, config.workloads.len()), (vec!["cerner", "epic"], 1));
}

/// Whoever may write to `clients.d` must not learn what else the service can read, nor sign for other clients.
#[test]
fn clients_d_can_reach_nothing_but_itself() {
    let dir = tempfile::tempdir().unwrap();
    let more = dir.path().join("clients.d");
    std::fs::create_dir(&more).unwrap();
    let main = dir.path().join("hallmark.toml");
    std::fs::write(&main, MINIMAL).unwrap();
    for file in ["main.pin", "notes", "clients.d/id.txt"] {
        std::fs::write(dir.path().join(file), "73915064\n").unwrap();
    }
    std::os::unix::fs::symlink("../notes", more.join("link")).unwrap();
    std::fs::hard_link(dir.path().join("main.pin"), more.join("pin")).unwrap();
    let load_with = |file: &str| {
        let client = CLIENT.replace("hsm =", &format!("client_id_file = \"{file}\"\nhsm ="));
        std::fs::write(more.join("a.toml"), [client.as_str(), WORKLOAD].concat()).unwrap();
        load(&main).map_err(|error| error.to_string())
    };
    assert_eq!(load_with("clients.d/id.txt").unwrap().clients[0].client_id.as_deref(), Some("73915064"));
    for outside in ["main.pin", "notes", "clients.d/../notes", "clients.d/link", "/etc/passwd"] {
        let error = load_with(outside).unwrap_err();
        assert!(error.contains("is outside of `clients.d`") && error.contains("hint: "), "{outside}: {error}");
    }
    let error = load_with("clients.d/pin").unwrap_err();
    assert!(error.contains("is a file that holds a PIN or a private key: "), "{error}");
    assert!(!error.contains("73915064"), "{error}");

    std::fs::write(&main, [MINIMAL, CLIENT].concat()).unwrap();
    std::fs::write(more.join("a.toml"), WORKLOAD).unwrap();
    let error = load(&main).unwrap_err().to_string();
    assert!(error.contains("names a client of the main file: `epic`") && error.contains("a.toml:4"), "{error}");
}

#[test]
fn a_client_id_file_of_the_main_file_is_no_pin_or_private_key_either() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("hallmark.toml");
    let tls =
        "public_url = \"https://keys.example.com\"\ntls = { cert = \"server.pem\", key = \"server.key\" }\n[store]";
    for file in ["main.pin", "server.key"] {
        std::fs::write(dir.path().join(file), "73915064\n").unwrap();
        let client = CLIENT.replace("hsm =", &format!("client_id_file = \"{file}\"\nhsm ="));
        std::fs::write(&main, [MINIMAL.replace("[store]", tls), client].concat()).unwrap();
        let error = load(&main).unwrap_err().to_string();
        assert!(error.contains("is a file that holds a PIN or a private key: "), "{file}: {error}");
    }
}

#[test]
fn rates_say_how_many_in_which_time() {
    let rate = |text: &str| {
        let (_dir, config) = loaded(&[MINIMAL, CLIENT, WORKLOAD, &format!("rate = \"{text}\"")].concat());
        config.workloads[0].rate
    };
    assert_eq!(rate("100/s"), Some(Rate { count: 100, per: Duration::from_secs(1) }));
    assert_eq!(rate("10/m"), Some(Rate { count: 10, per: Duration::from_secs(60) }));
}

#[test]
fn the_time_between_rotations_is_kept() {
    let keys = "keys = [{ alg = \"ES384\", rotate = \"90d\" }, { alg = \"RS384\" }]";
    let (_dir, config) = loaded(&[MINIMAL, CLIENT, keys].concat());
    let rotation: Vec<_> = config.rotate.iter().map(|((client, alg), every)| (client.as_str(), *alg, *every)).collect();
    assert_eq!(rotation, [("epic", Alg::ES384, Duration::from_secs(90 * 86_400))]);
}

#[test]
fn a_dns_suffix_ends_at_the_border_of_a_label() {
    let covered = |suffix: &str, id: &str| {
        let trust = format!("[[trust]]\nbundle = \"ca.pem\"\ndns_suffixes = [\"{suffix}\"]\n");
        let text = [MINIMAL, &trust, CLIENT, &WORKLOAD.replace("uid:1000", id)].concat();
        !warnings(&text).iter().any(|what| what.starts_with("nothing can vouch"))
    };
    assert!(covered(".Corp.example", "dns:billing.corp.example"));
    assert!(!covered(".corp.example", "dns:corp.example"));
    assert!(covered("corp.example", "dns:corp.example"));
    assert!(!covered("corp.example", "dns:evilcorp.example"));
}

#[test]
fn sets_in_one_folder_have_paths_of_their_own() {
    let client = |name: &str, path: &str| CLIENT.replace("epic", name) + &format!("jwks_path = \"{path}\"\n");
    let text = [MINIMAL, &client("a", "/k/a.json"), &client("b", "/k/b.json")].concat();
    assert_eq!(loaded(&text).1.clients.len(), 2);
}

#[test]
fn a_static_host_must_say_how_late_it_may_be_and_where_it_is() {
    let errors = |jwks: &str, client: &str| {
        let text = [&MINIMAL.replace("[jwks]\n", &format!("[jwks]\n{jwks}")), CLIENT, client].concat();
        load_text(&text).1.map(drop).map_err(|error| error.to_string()).err().unwrap_or_default()
    };
    let url = "public_url = \"https://keys.example\"\n";
    assert_eq!(errors(url, "jwks_host = \"static\"\nedge_ttl = \"15m\"\n"), "");
    let late = errors(url, "jwks_host = \"static\"\n");
    assert!(late.contains("`jwks_host = \"static\"` in [[client]] without `edge_ttl`"), "{late}");
    let nowhere = errors("", "jwks_host = \"static\"\nedge_ttl = \"15m\"\n");
    assert!(nowhere.contains("and [jwks] has no `public_url`"), "{nowhere}");
    let other = errors(url, "jwks_host = \"statik\"\n");
    assert!(other.contains("unknown value: `statik`") && other.contains("did you mean `static`?"), "{other}");
}

#[test]
fn an_identity_that_nothing_can_vouch_for_is_a_warning() {
    let trust = "[[trust]]\nbundle = \"ca.pem\"\ntrust_domain = \"prod.example\"\n";
    let warned = |id: &str| {
        let text = [MINIMAL, trust, CLIENT, &WORKLOAD.replace("uid:1000", id)].concat();
        warnings(&text).iter().any(|what| what.starts_with("nothing can vouch"))
    };
    assert!(!warned("spiffe://prod.example/billing"));
    assert!(!warned("uid:1000"));
    assert!(warned("spiffe://prod.example.evil/billing"));
    assert!(warned("dns:billing.prod.example"));
    assert!(warned("jwt:https://issuer.example#billing"));
    // The trust makes workloads, and no operators.
    let operator = "[[operator]]\nid = \"spiffe://prod.example/ops\"\nroles = [\"view\"]";
    let all = warnings(&[MINIMAL, trust, operator].concat());
    assert_eq!(all, ["nothing can vouch for operator `spiffe://prod.example/ops`"]);
}

#[test]
fn what_is_allowed_and_hardly_meant_is_a_warning() {
    let text = MINIMAL.replace("unix =", "listen = \"127.0.0.1:8443\"\nunix =");
    let text = text.replace("[store]", "public_url = \"http://keys.example.com\"\nmax_age = \"1h\"\n[store]");
    let client = CLIENT.replace("https://ehr", "http://ehr") + "keys = [{ alg = \"RS384\", rotate = \"90d\" }]";
    let testing = "[unsafe_testing]\naudit_sync_delay = \"5ms\"\n";
    let (_dir, config) = loaded(&[&text, testing, &client].concat());
    let shown: Vec<_> =
        config.warnings.iter().map(|w| format!("{}: {}\n  hint: {}", w.line.unwrap(), w.what, w.hint)).collect();
    insta::assert_snapshot!(shown.join("\n"));
    assert_eq!(config.unsafe_testing.unwrap().audit_sync_delay, Some(Duration::from_millis(5)));
}

#[test]
fn modules_share_one_environment() {
    let with_env =
        MINIMAL.replace("token_label", "module_env = { SOFTHSM2_CONF = \"/etc/softhsm2.conf\" }\ntoken_label");
    let (_dir, config) = loaded(&with_env);
    assert_eq!(config.module_env().into_iter().collect::<Vec<_>>(), [("SOFTHSM2_CONF", "/etc/softhsm2.conf")]);
}

#[test]
fn only_where_a_maker_attests_can_attested_keys_be_asked_for() {
    let text = [MINIMAL, &CLIENT.replace("hsm =", "custody = \"attested\"\nhsm ="), WORKLOAD].concat();
    let error = load_text(&text).1.unwrap_err().to_string();
    assert!(error.contains("a PKCS#11 token has none") && error.contains("hint: use `custody = \"local\"`"), "{error}");
}

#[test]
fn roots_of_attestations_are_read_and_judged_with_the_configuration() {
    let named = |file: &str| MINIMAL.replace("[instance]\n", &format!("[instance]\nattestation_roots = \"{file}\"\n"));
    let error = load_text(&named("no-such.pem")).1.unwrap_err().to_string();
    assert!(error.contains("`attestation_roots` in [instance]") && error.contains("No such file"), "{error}");
    let (dir, config) = loaded(MINIMAL);
    assert_eq!(*config.roots, hallmark_core::evidence::roots::Roots::yubico());
    let maker = hallmark_testkit::attestation::Maker::unknown();
    std::fs::write(dir.path().join("roots.pem"), maker.root_pem()).unwrap();
    let path = dir.path().join("roots.pem").display().to_string();
    let (_dir, config) = loaded(&named(&path));
    assert_ne!(*config.roots, hallmark_core::evidence::roots::Roots::yubico());
}
