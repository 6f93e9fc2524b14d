//! Every HSM backend runs the contract suite of `testkit`, and a test holds the list of who ran it.

mod halves;
pub(crate) mod harness;
mod pkcs11_faults;
pub(crate) mod table;
mod yubikey;

use std::{collections::BTreeSet, fs, sync::Arc};

use hallmark_core::{
    key::Alg,
    ports::{Hsm, ImportSession, PinLedger},
};
use hallmark_testkit::{
    child::in_child,
    fake_hsm::{FakeHsm, FakeToken},
    fault_module::FaultModule,
    hsm_contract::{self, Losses, PinCase, Subject},
    p11_kit::P11Kit,
    softhsm::SoftHsm,
    software_key::SoftwareKey,
    virtual_yubikey::Firmware,
};

use self::{harness::Pkcs11Subject, table::Column};

/// Who runs the suite: a backend of `src/hsm/`, or the fake that stands for one in other tests.
const RUNS: &[(&str, &str)] = &[
    ("fake", "hsm_contract::fake_keeps_the_contract"),
    ("pkcs11", "hsm_contract::softhsm_keeps_the_contract"),
    ("pkcs11", "hsm_contract::softhsm_behind_p11_kit_keeps_the_contract"),
    ("pkcs11", "hsm_contract::softhsm_behind_the_fault_module_keeps_the_contract"),
    ("pkcs11", "hsm_contract::tpm_keeps_the_contract"),
    ("yubikey", "hsm_contract::yubikey_of_5_4_keeps_the_contract"),
    ("yubikey", "hsm_contract::yubikey_of_5_7_keeps_the_contract"),
];

/// The full name of a run, for a child process.
fn run(test: &str) -> &'static str {
    let found = RUNS.iter().find(|(_, run)| run.rsplit("::").next() == Some(test));
    found.unwrap_or_else(|| panic!("`{test}` is not in the list")).1
}

/// The suite, and what it found beside it, for `docs/hsm-support.md`.
fn run_and_report(token: &str, subject: &dyn Subject) {
    hsm_contract::run(subject);
    table::compare(token, &hsm_contract::report(subject));
}

#[test]
fn fake_keeps_the_contract() {
    hsm_contract::run(&FakeSubject(FakeToken::new()));
}

#[test]
fn softhsm_keeps_the_contract() {
    in_child(run("softhsm_keeps_the_contract"), harness::softhsm, || {
        let subject = Pkcs11Subject::new(SoftHsm::MODULE.as_ref(), SoftHsm::from_env(), &Alg::ALL);
        run_and_report("SoftHSM", &subject);
        // The suite would not have come to its end: `lost_session`, `lost_login`, `resets`.
        let recovery = "lost sessions and logins: with one retry; a new start of the library";
        table::compare_cell("SoftHSM", Column::Recovery, recovery);
    });
}

#[test]
fn softhsm_behind_p11_kit_keeps_the_contract() {
    in_child(run("softhsm_behind_p11_kit_keeps_the_contract"), harness::p11_kit, || {
        let token = SoftHsm::from_env();
        let mut server = P11Kit::new(&token);
        server.start();
        let token = SoftHsm::from_env();
        let subject = Pkcs11Subject::behind_a_line(&P11Kit::module(), token, harness::P11_KIT_ALGS);
        run_and_report("SoftHSM behind p11-kit", &subject);
    });
}

/// A module that is told of no fault is none.
#[test]
fn softhsm_behind_the_fault_module_keeps_the_contract() {
    in_child(run("softhsm_behind_the_fault_module_keeps_the_contract"), harness::fault_module, || {
        hsm_contract::run(&Pkcs11Subject::new(&FaultModule::library(), SoftHsm::from_env(), &Alg::ALL));
    });
}

#[test]
fn tpm_keeps_the_contract() {
    harness::in_child_with_tpm(run("tpm_keeps_the_contract"), |subject| {
        run_and_report("TPM 2.0 (software)", &subject);
    });
}

#[test]
fn yubikey_of_5_4_keeps_the_contract() {
    yubikey::in_child_with(run("yubikey_of_5_4_keeps_the_contract"), Firmware::V5_4, |subject| {
        run_and_report("YubiKey, firmware 5.4 (virtual)", subject);
    });
}

#[test]
fn yubikey_of_5_7_keeps_the_contract() {
    yubikey::in_child_with(run("yubikey_of_5_7_keeps_the_contract"), Firmware::V5_7, |subject| {
        run_and_report("YubiKey, firmware 5.7 (virtual)", subject);
    });
}

#[test]
fn the_last_try_of_a_yubikeys_pin_is_left_to_a_person_however_late_the_others_came() {
    let test = "hsm_contract::the_last_try_of_a_yubikeys_pin_is_left_to_a_person_however_late_the_others_came";
    yubikey::in_child_with(test, Firmware::V5_4, yubikey::leaves_the_last_try_to_a_person);
}

/// A backend that nobody asked to keep the contract does not keep it.
#[test]
fn every_backend_runs_the_suite() {
    let folders = fs::read_dir("src/hsm").unwrap().map(|entry| entry.unwrap());
    let backends = folders.filter(|entry| entry.path().join("mod.rs").exists());
    let mut backends: BTreeSet<_> = backends.map(|entry| entry.file_name().into_string().unwrap()).collect();
    backends.insert("fake".into());
    assert_eq!(backends, RUNS.iter().map(|(backend, _)| (*backend).to_owned()).collect());

    let source = include_str!("hsm_contract.rs");
    for (_, run) in RUNS {
        let test = run.rsplit("::").next().unwrap();
        assert!(source.contains(&format!("#[test]\nfn {test}()")), "no test has the name `{run}`");
    }
}

struct FakeSubject(Arc<FakeToken>);

impl Subject for FakeSubject {
    fn hsm(&self, pin: PinCase, ledger: Arc<dyn PinLedger>) -> Box<dyn Hsm> {
        let pin = if pin == PinCase::Right { FakeToken::PIN } else { "00000000" };
        Box::new(FakeHsm::with_pin(&self.0, pin, ledger))
    }

    fn algs(&self) -> &'static [Alg] {
        &Alg::ALL
    }

    fn plant(&self, cka_id: &[u8], label: &str, key: &Arc<SoftwareKey>, extractable: bool) {
        self.0.plant(cka_id, label, key.clone(), extractable);
    }

    fn importer(&self) -> Option<(Box<dyn Hsm>, Box<dyn ImportSession>)> {
        None
    }

    fn losses(&self) -> Option<&dyn Losses> {
        Some(self)
    }
}

impl Losses for FakeSubject {
    fn log_out(&self) {
        self.0.log_out();
    }

    fn lose_sessions(&self) {
        self.0.lose_sessions();
    }
}
