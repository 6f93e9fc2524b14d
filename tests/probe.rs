//! `hallmark hsm probe`, on modules that are good, down, empty, or none.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use hallmark_testkit::{
    fault_module::{FaultModule, Function},
    p11_kit::P11Kit,
    softhsm::SoftHsm,
    virtual_yubikey::{Firmware, Key, VirtualYubiKey},
};
use serde_json::Value;

use crate::support::HALLMARK;

fn run(module: &Path, env: &[(String, OsString)], more: &[&str]) -> Output {
    let mut command = Command::new(HALLMARK);
    command.args(["hsm", "probe"]).arg(module).args(more);
    command.envs(env.iter().map(|(name, value)| (name, value))).env_remove("HALLMARK_CONNECTION");
    command.output().unwrap()
}

/// The report, and the exit code.
fn probe(module: &Path, env: &[(String, OsString)], more: &[&str]) -> (Value, i32) {
    let output = run(module, env, &[more, &["--json"]].concat());
    let report = serde_json::from_slice(&output.stdout);
    let report = report.unwrap_or_else(|error| panic!("{error}:\n{}", String::from_utf8_lossy(&output.stderr)));
    (report, output.status.code().unwrap())
}

fn text(module: &Path, env: &[(String, OsString)], more: &[&str]) -> String {
    String::from_utf8(run(module, env, more).stdout).unwrap()
}

fn hallmarks_token(report: &Value) -> &Value {
    let slots = report["slots"].as_array().unwrap();
    slots.iter().find(|slot| slot["token"]["label"] == SoftHsm::LABEL).unwrap_or_else(|| panic!("{report:#}"))
}

fn failures(report: &Value) -> Vec<String> {
    let failures = report["failures"].as_array().unwrap();
    failures.iter().map(|failure| format!("{} {}", failure["function"], failure["end"])).collect()
}

fn pkcs11_tool(token: &SoftHsm, arguments: &[&str]) -> String {
    let mut command = Command::new("pkcs11-tool");
    command.args(["--module", SoftHsm::MODULE]).args(arguments).envs(token.env());
    let output = command.output().expect("pkcs11-tool (Debian: opensc)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_soft_token_is_described_and_its_section_works() {
    let token = SoftHsm::new();
    let module = Path::new(SoftHsm::MODULE);
    let (report, code) = probe(module, &token.env(), &[]);
    assert_eq!((code, &report["usable"], &report["complete"]), (0, &true.into(), &true.into()), "{report:#}");
    assert_eq!(failures(&report), [] as [String; 0]);
    let found = hallmarks_token(&report);
    let algs = found["hallmark"]["algs"].as_array().unwrap();
    assert_eq!(algs.len(), 9);
    // SoftHSM 2.6 has no CKM_ECDSA_SHA384, which is why Hallmark hashes.
    let es384 = algs.iter().find(|alg| alg["alg"] == "ES384").unwrap();
    assert_eq!(es384["makes_keys"], true, "{es384}");
    let listed = found["mechanisms"].as_array().unwrap();
    let has = |name: &str| listed.iter().any(|mechanism| mechanism["name"] == name);
    let expected = if has("CKM_ECDSA_SHA384") { "CKM_ECDSA_SHA384" } else { "CKM_ECDSA" };
    assert_eq!(es384["way"]["mechanism"], expected);
    assert!(listed.iter().all(|mechanism| mechanism["key_sizes"].is_array()), "{listed:#?}");
    // A module like this has a slot for the next token too.
    let slots = report["slots"].as_array().unwrap();
    assert!(slots.iter().any(|slot| {
        slot["token"]["flags"].as_array().is_some_and(|flags| !flags.contains(&"TOKEN_INITIALIZED".into()))
    }));

    let text = text(module, &token.env(), &[]);
    assert!(text.contains("[[hsm]]\nname = \"hallmark-test\"\n"), "{text}");
    assert!(!text.contains(SoftHsm::PIN), "{text}");
    checks_as_a_configuration(&token, report["sections"].as_str().unwrap());
}

/// As pasted, but for the PIN's place, which the operator chooses.
fn checks_as_a_configuration(token: &SoftHsm, sections: &str) {
    let folder = tempfile::tempdir().unwrap();
    let basic = fs::read_to_string("hsm-config/basic.toml").unwrap();
    let mut config: toml::Table = basic.parse().unwrap();
    let read: toml::Table = sections.parse().unwrap();
    let mut hsm = read["hsm"][0].clone();
    assert!(hsm["token_serial"].as_str().is_some_and(|serial| !serial.is_empty()), "{sections}");
    assert_eq!(hsm["module_env"]["SOFTHSM2_CONF"].as_str(), token.folder().join("softhsm2.conf").to_str());
    let pin = format!("file:{}", token.pin_file().display());
    hsm.as_table_mut().unwrap().insert("pin_source".to_owned(), pin.into());
    let name = hsm["name"].clone();
    config.insert("hsm".to_owned(), vec![hsm].into());
    for client in config["client"].as_array_mut().unwrap() {
        client.as_table_mut().unwrap().insert("hsm".to_owned(), vec![name.clone()].into());
    }
    let path = folder.path().join("hallmark.toml");
    fs::write(&path, config.to_string()).unwrap();
    let checked = Command::new(HALLMARK).args(["check-config", "--config"]).arg(&path).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn one_of_several_tokens_can_be_looked_at_and_none_is_logged_in_to_by_guess() {
    let token = SoftHsm::new();
    token.add_token("second");
    let module = Path::new(SoftHsm::MODULE);
    let (report, code) = probe(module, &token.env(), &["--token", "second"]);
    assert_eq!(code, 0);
    let looked_at = |slot: &&Value| slot["session"] == true;
    let slots: Vec<_> = report["slots"].as_array().unwrap().iter().filter(looked_at).collect();
    assert!(slots.len() == 1 && slots[0]["token"]["label"] == "second", "{report:#}");

    for (more, what) in [(["--token", "nope"], "no such token: `nope`"), (["--slot", "99"], "no such slot: 99")] {
        let output = run(module, &token.env(), &more);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(what) && said.contains("token `second`, serial `"), "{said}");
    }

    let (report, _) = probe(module, &token.env(), &[]);
    let sections: toml::Table = report["sections"].as_str().unwrap().parse().unwrap();
    let names: Vec<_> = sections["hsm"].as_array().unwrap().iter().map(|hsm| hsm["name"].as_str().unwrap()).collect();
    assert!(names.len() == 2 && names.contains(&"second") && names.contains(&"hallmark-test"), "{names:?}");

    let pin = token.pin_file().display().to_string();
    let (report, _) = probe(module, &token.env(), &["--login", "--pin-source", &pin]);
    assert!(failures(&report).concat().contains("--token or --slot"), "{report:#}");
    assert_eq!(report["login"], Value::Null);
}

#[test]
fn a_login_shows_the_keys_and_has_them_sign_and_changes_nothing() {
    let token = SoftHsm::new();
    let pin = ["--login", "--pin", SoftHsm::PIN, "--token-label", SoftHsm::LABEL];
    for (kind, id, more) in [("rsa:2048", "01", "--sensitive"), ("EC:prime256v1", "02", "--extractable")] {
        let make = ["--keypairgen", "--key-type", kind, "--id", id, "--label", kind, more];
        pkcs11_tool(&token, &[pin.as_slice(), &make].concat());
    }
    let objects = || pkcs11_tool(&token, &[pin.as_slice(), &["--list-objects"]].concat());
    let before = objects();

    let state = tempfile::tempdir().unwrap();
    let env = [token.env(), vec![("XDG_STATE_HOME".to_owned(), state.path().into())]].concat();
    let source = token.pin_file().display().to_string();
    let login = ["--login", "--token", SoftHsm::LABEL, "--pin-source", &source];
    let (report, code) = probe(Path::new(SoftHsm::MODULE), &env, &login);
    assert_eq!(code, 0, "{report:#}");
    let keys = report["login"]["keys"].as_array().unwrap_or_else(|| panic!("{report:#}"));
    let key = |id: &str| keys.iter().find(|key| key["cka_id"] == id).unwrap();
    let (rsa, ec) = (key("01"), key("02"));
    assert_eq!((&rsa["kind"], &rsa["custody"]["Ok"]), (&"RSA-2048".into(), &"local".into()), "{rsa:#}");
    let signed: Vec<_> = rsa["signed"].as_array().unwrap().iter().collect();
    assert!(signed.len() == 6 && signed.iter().all(|signed| signed["verifies"] == true), "{rsa:#}");
    assert_eq!((&ec["extractable"], ec["signed"].as_array().unwrap().len()), (&true.into(), 0), "{ec:#}");
    assert!(ec["custody"]["Err"].as_str().unwrap().contains("extracted"), "{ec:#}");
    assert_eq!(objects(), before, "it left something on the token");
    let shown = text(Path::new(SoftHsm::MODULE), &env, &login);
    assert!(shown.contains("RS384 in ") && !shown.contains(SoftHsm::PIN), "{shown}");
}

#[test]
fn a_wrong_pin_is_tried_once() {
    let (token, state) = (SoftHsm::new(), tempfile::tempdir().unwrap());
    let wrong = token.other_pin_file("wrong", "00000000").display().to_string();
    let env = [token.env(), vec![("XDG_STATE_HOME".to_owned(), state.path().into())]].concat();
    let login = |source: &str| {
        probe(Path::new(SoftHsm::MODULE), &env, &["--login", "--token", SoftHsm::LABEL, "--pin-source", source])
    };
    let (first, code) = login(&wrong);
    assert_eq!(code, 1, "{first:#}");
    assert!(failures(&first).concat().contains("CKR_PIN_INCORRECT"), "{first:#}");
    let (second, code) = login(&wrong);
    assert_eq!(code, 1, "{second:#}");
    assert!(failures(&second).concat().contains("was tried before and not accepted"), "{second:#}");
    assert!(!second.to_string().contains("00000000"));
    let (third, code) = login(&token.pin_file().display().to_string());
    assert!(code == 0 && third["login"].is_object(), "another PIN is another try: {third:#}");
}

#[test]
fn a_pin_that_can_not_be_read_is_said_not_to_be_tried() {
    let (token, state) = (SoftHsm::new(), tempfile::tempdir().unwrap());
    let open = token.other_pin_file("open", SoftHsm::PIN);
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let env = [token.env(), vec![("XDG_STATE_HOME".to_owned(), state.path().into())]].concat();
    for (source, word) in [(open, "can be read by others"), (state.path().join("none"), "can't read the PIN")] {
        let source = source.display().to_string();
        let login = ["--login", "--token", SoftHsm::LABEL, "--pin-source", &source];
        let (report, code) = probe(Path::new(SoftHsm::MODULE), &env, &login);
        let failed = &report["failures"][0];
        assert!(code == 1 && failed["end"]["why"].as_str().is_some_and(|why| why.contains(word)), "{report:#}");
        assert!(failed["means"].as_str().unwrap().starts_with("no PIN was tried"), "{failed:#}");
    }
}

#[test]
fn a_pin_in_place_of_its_source_is_refused_and_not_shown() {
    let token = SoftHsm::new();
    for (source, shown) in [(SoftHsm::PIN.to_owned(), SoftHsm::PIN), ("pin:87654321".to_owned(), "87654321")] {
        for more in [&[][..], &["--json"]] {
            let login = [&["--login", "--token", SoftHsm::LABEL, "--pin-source", &source], more].concat();
            let output = run(Path::new(SoftHsm::MODULE), &token.env(), &login);
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8(said).unwrap();
            assert_eq!(output.status.code(), Some(64), "{said}");
            assert!(said.contains("file:PATH") && !said.contains(shown), "{said}");
        }
    }
}

#[test]
fn a_pin_source_starts_from_the_working_directory() {
    let (token, state) = (SoftHsm::new(), tempfile::tempdir().unwrap());
    let name = token.pin_file().file_name().unwrap().to_str().unwrap().to_owned();
    let mut command = Command::new(HALLMARK);
    command.args(["hsm", "probe", SoftHsm::MODULE, "--login", "--token", SoftHsm::LABEL, "--pin-source"]);
    command.arg(format!("file:{name}")).current_dir(token.pin_file().parent().unwrap());
    let output = command.envs(token.env()).env("XDG_STATE_HOME", state.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_module_whose_token_is_elsewhere_is_described_up_and_down() {
    let token = SoftHsm::new();
    let mut server = P11Kit::new(&token);
    let env = [token.env(), P11Kit::env(&token)].concat();
    let module = P11Kit::module();
    let (down, code) = probe(&module, &env, &["--timeout", "5s"]);
    assert_eq!((code, &down["usable"]), (1, &false.into()), "{down:#}");
    let slots = down["slots"].as_array().into_iter().flatten();
    assert!(slots.into_iter().all(|slot| slot["token"].is_null()), "{down:#}");

    server.start();
    let (up, code) = probe(&module, &env, &[]);
    assert_eq!(code, 0, "{up:#}");
    assert_eq!(hallmarks_token(&up)["hallmark"]["algs"].as_array().unwrap().len(), 9);
    let section: toml::Table = up["sections"].as_str().unwrap().parse().unwrap();
    assert_eq!(section["hsm"][0]["workers"].as_integer(), Some(1));
    assert!(section["hsm"][0]["module_env"].get("P11_KIT_SERVER_ADDRESS").is_some(), "{section}");

    // A line that is up and says nothing: each call hangs until it is cut off.
    server.freeze();
    let (frozen, code) = probe(&module, &env, &["--timeout", "500ms"]);
    assert_eq!(code, 1);
    assert!(failures(&frozen).concat().contains("\"hung\""), "{frozen:#}");
}

#[test]
fn a_module_without_keys_is_described() {
    let module = P11Kit::module().with_file_name("p11-kit-trust.so");
    if !module.exists() {
        assert!(std::env::var_os("CI").is_none(), "p11-kit-trust.so is missing (Debian: p11-kit-modules)");
        return eprintln!("not run: no {}", module.display());
    }
    let (report, code) = probe(&module, &[], &[]);
    assert_eq!((code, &report["complete"]), (1, &true.into()), "{report:#}");
    assert!(report["library"].is_object() && report["sections"] == "", "{report:#}");
    let verdicts: Vec<_> =
        report["slots"].as_array().unwrap().iter().filter_map(|slot| slot["hallmark"].as_object()).collect();
    assert!(!verdicts.is_empty(), "{report:#}");
    for verdict in verdicts {
        assert!(verdict["algs"].as_array().unwrap().iter().all(|alg| alg["signs"] == false), "{verdict:#?}");
    }
}

#[test]
fn what_is_no_module_is_told_why() {
    let folder = tempfile::tempdir().unwrap();
    let text_file = folder.path().join("libpkcs11.so");
    fs::write(&text_file, "this is a text, of some length\n").unwrap();
    let foreign = folder.path().join("foreign.so");
    let mut elf = fs::read(HALLMARK).unwrap();
    elf.truncate(4096);
    elf[18..20].copy_from_slice(&243_u16.to_le_bytes());
    fs::write(&foreign, elf).unwrap();
    for (path, word) in [
        (text_file.as_path(), "not a library"),
        (foreign.as_path(), "riscv64"),
        (Path::new("/nonexistent/libpkcs11.so"), "No such file"),
        (Path::new("Cargo.toml"), "not an absolute path"),
    ] {
        let (report, code) = probe(path, &[], &[]);
        let why = report["not_loaded"]["why"].as_str().unwrap_or_default();
        assert!(code == 1 && why.contains(word), "{}: {report:#}", path.display());
        assert!(text(path, &[], &[]).contains("hint: "));
    }
    // A library, and none of PKCS#11: only the linker can tell.
    let plain = fs::canonicalize(format!("/lib/{}-linux-gnu/libm.so.6", std::env::consts::ARCH)).unwrap();
    let (report, code) = probe(&plain, &[], &[]);
    assert_eq!(code, 1);
    assert!(failures(&report).concat().contains("C_GetFunctionList"), "{report:#}");
}

#[test]
fn a_yubikey_is_described_without_a_try_of_its_pin() {
    let Some(key) = VirtualYubiKey::start_with(&[Key::new(Firmware::V5_7, 11), Key::new(Firmware::V5_4, 22)]) else {
        return;
    };
    let (report, code) = probe(Path::new("yubikey"), &key.env(), &[]);
    assert_eq!(code, 0, "{report:#}");
    let found = report["yubikeys"].as_array().unwrap();
    let of = |serial: u32| found.iter().find(|yubikey| yubikey["serial"] == serial).unwrap();
    for serial in [11, 22] {
        assert_eq!(of(serial)["tries_left"], 3, "{report:#}");
        let algs = of(serial)["algs"].as_array().unwrap();
        assert_eq!(algs.iter().filter(|alg| alg["makes_keys"] == true).count(), 8, "{algs:#?}");
    }
    let rsa = |serial: u32| of(serial)["algs"][0]["how"].as_str().unwrap().to_owned();
    assert_eq!([rsa(11), rsa(22)], ["2048, 3072, 4096 bits", "2048 bits"]);
    let sections: toml::Table = report["sections"].as_str().unwrap().parse().unwrap();
    let serials: Vec<_> = sections["hsm"].as_array().unwrap().iter().map(|hsm| hsm["serial"].as_integer()).collect();
    assert!(serials.contains(&Some(11)) && serials.contains(&Some(22)), "{sections}");

    key.reader(1).pull();
    let (report, code) = probe(Path::new("yubikey"), &key.env(), &["--token", "22"]);
    assert_eq!(code, 1, "{report:#}");
    let shown = text(Path::new("yubikey"), &key.env(), &[]);
    assert!(shown.contains("YubiKey 11") && shown.contains("3 tries left") && shown.contains("serial = 11"), "{shown}");
}

#[test]
fn calls_that_fail_hang_and_crash_are_rows_and_the_rest_is_asked() {
    let token = SoftHsm::new();
    let faults = FaultModule::new(Path::new(SoftHsm::MODULE));
    let env = [token.env(), faults.env()].concat();
    faults.set(
        "C_GetInfo return CKR_FUNCTION_FAILED\nC_GetSlotInfo crash\nC_GetMechanismInfo hang\nC_Finalize crash\n\
         mechanism hide 0x41\n",
    );
    let (report, code) = probe(&FaultModule::library(), &env, &["--timeout", "2s"]);
    let failed = report["failures"].as_array().unwrap();
    let ended =
        |function: &str| failed.iter().find(|row| row["function"] == function).unwrap_or_else(|| panic!("{report:#}"));
    assert_eq!(ended("C_GetInfo")["end"]["code"], "CKR_FUNCTION_FAILED");
    assert_eq!(ended("C_GetSlotInfo")["end"]["kind"], "crashed");
    assert!(ended("C_GetSlotInfo")["end"]["how"].as_str().unwrap().contains("abort"), "{report:#}");
    assert_eq!(ended("C_GetMechanismInfo")["end"]["kind"], "hung");
    assert_eq!(ended("C_Finalize")["end"]["kind"], "crashed");
    assert!(ended("C_Finalize")["means"].as_str().unwrap().contains("75"), "{report:#}");
    // Two of each where there are many: slots, mechanisms.
    assert_eq!((code, &report["complete"], failed.len()), (0, &true.into(), 6), "{report:#}");
    // What was hidden: SHA384-RSA.
    let algs = hallmarks_token(&report)["hallmark"]["algs"].as_array().unwrap();
    let rs384 = algs.iter().find(|alg| alg["alg"] == "RS384").unwrap();
    assert_eq!(rs384["way"]["mechanism"], "CKM_RSA_PKCS");
    assert_eq!(faults.seen(Function::C_Login).calls, 0, "it tried a PIN");
    for function in
        [Function::C_GenerateKeyPair, Function::C_CreateObject, Function::C_DestroyObject, Function::C_InitToken]
    {
        assert_eq!(faults.seen(function).calls, 0, "{}", function.name());
    }

    faults.set("C_Initialize hang");
    let (report, code) = probe(&FaultModule::library(), &env, &["--timeout", "500ms"]);
    assert_eq!((code, failures(&report).len()), (1, 1), "{report:#}");
    assert!(text(&FaultModule::library(), &env, &["--timeout", "500ms"]).contains("no answer within 500ms"));
}

#[test]
fn a_login_that_never_came_back_is_not_repeated() {
    let (token, state) = (SoftHsm::new(), tempfile::tempdir().unwrap());
    let faults = FaultModule::new(Path::new(SoftHsm::MODULE));
    let env = [token.env(), faults.env(), vec![("XDG_STATE_HOME".to_owned(), state.path().into())]].concat();
    let pin = token.pin_file().display().to_string();
    let login = ["--login", "--token", SoftHsm::LABEL, "--pin-source", &pin, "--timeout", "2s"];
    for (fault, kind) in [("C_Login hang", "hung"), ("", "returned")] {
        faults.set(fault);
        let (report, _) = probe(&FaultModule::library(), &env, &login);
        let failed = report["failures"].as_array().unwrap();
        assert!(failed.iter().any(|row| row["function"] == "C_Login" && row["end"]["kind"] == kind), "{report:#}");
        assert_eq!(faults.seen(Function::C_Login).calls, 1, "the PIN was tried again");
    }
}
