//! A PKCS#11 token under test, and a second way into it.

use std::{ffi::OsString, path::Path, sync::Arc};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    mechanism::{Mechanism, MechanismType},
    object::{Attribute, KeyType, ObjectClass},
    session::{Session, UserType},
    slot::Slot,
    types::AuthPin,
};
use hallmark::hsm::{
    pin::PinSource,
    pkcs11::{Module, Modules, Pkcs11Token, TokenSelector},
};
use hallmark_core::{
    key::Alg,
    ports::{Hsm, ImportSession, PinLedger},
};
use hallmark_testkit::{
    child::in_child,
    fault_module::FaultModule,
    hsm_contract::{Bare, Losses, PinCase, Subject},
    p11_kit::P11Kit,
    pin_ledger::MemoryPinLedger,
    softhsm::SoftHsm,
    software_key::SoftwareKey,
    tpm::Tpm,
};

/// p11-kit 0.24 does not carry CKM_EDDSA.
pub(super) const P11_KIT_ALGS: &[Alg] =
    &[Alg::RS256, Alg::RS384, Alg::RS512, Alg::PS256, Alg::PS384, Alg::PS512, Alg::ES256, Alg::ES384];

/// A TPM 2.0 has no Ed25519.
const TPM_ALGS: &[Alg] = P11_KIT_ALGS;

type Environment = Vec<(String, OsString)>;

/// For a child process that loads SoftHSM.
pub(super) fn softhsm() -> (SoftHsm, Environment) {
    let token = SoftHsm::new();
    let env = token.env();
    (token, env)
}

/// For a child process that loads p11-kit's client.
pub(super) fn p11_kit() -> (SoftHsm, Environment) {
    let token = SoftHsm::new();
    let env = [token.env(), P11Kit::env(&token)].concat();
    (token, env)
}

/// For a child process that loads the module that fails as it is told.
pub(super) fn fault_module() -> ((SoftHsm, FaultModule), Environment) {
    let (token, module) = (SoftHsm::new(), FaultModule::new(SoftHsm::MODULE.as_ref()));
    let env = [token.env(), module.env()].concat();
    ((token, module), env)
}

/// Runs `body` in a child process that loads a TPM's library; not at all where there can be no TPM.
pub(super) fn in_child_with_tpm(test: &str, body: impl FnOnce(Pkcs11Subject)) {
    let is_child = std::env::var_os("TPM2_PKCS11_STORE").is_some();
    let tpm = if is_child { None } else { Tpm::start() };
    let Some(env) = tpm.as_ref().map(Tpm::env).or_else(|| is_child.then(Vec::new)) else { return };
    in_child(
        test,
        || (tpm, env),
        || {
            let token = SoftHsm::stand_in(Tpm::folder_from_env());
            body(Pkcs11Subject::that_takes_no_keys(&Tpm::module(), token, TPM_ALGS));
        },
    );
}

pub(super) fn pin_source(path: &Path) -> PinSource {
    PinSource::parse(path.to_str().unwrap(), None).unwrap()
}

/// A SoftHSM token that has no user PIN yet.
pub(super) fn initialise_token(label: &str, so_pin: &str) {
    let context = Pkcs11::new(SoftHsm::MODULE).unwrap();
    initialise(&context);
    let is_free = |slot: &_| !context.get_token_info(*slot).unwrap().token_initialized();
    let free = context.get_slots_with_token().unwrap().into_iter().find(is_free).unwrap();
    context.init_token(free, &AuthPin::from(so_pin), label).unwrap();
}

/// A token of a PKCS#11 module, as the backend sees it and as anyone else's program does.
pub(crate) struct Pkcs11Subject {
    token: SoftHsm,
    label: String,
    pin: &'static str,
    module: Arc<Module>,
    beneath: Pkcs11,
    same_application: bool,
    takes_keys: bool,
    algs: &'static [Alg],
}

impl Pkcs11Subject {
    pub(super) fn new(module: &Path, token: SoftHsm, algs: &'static [Alg]) -> Self {
        let beneath = Pkcs11::new(module).unwrap();
        let module = Modules::default().load(module).unwrap();
        initialise(&beneath);
        token.other_pin_file("wrong-pin", "00000000");
        let (label, pin) = (SoftHsm::LABEL.to_owned(), SoftHsm::PIN);
        Self { token, label, pin, module, beneath, same_application: true, takes_keys: true, algs }
    }

    /// p11-kit's client makes each context an application of its own: what is done in one is not felt in the other.
    pub(super) fn behind_a_line(module: &Path, token: SoftHsm, algs: &'static [Alg]) -> Self {
        Self { same_application: false, ..Self::new(module, token, algs) }
    }

    /// A token that takes no keys from outside, and whose library keeps something of each key that comes.
    pub(crate) fn that_takes_no_keys(module: &Path, token: SoftHsm, algs: &'static [Alg]) -> Self {
        Self { takes_keys: false, ..Self::new(module, token, algs) }
    }

    /// Of that label and PIN, instead of SoftHSM's.
    pub(crate) fn labelled(self, label: &str, pin: &'static str) -> Self {
        Self { label: label.to_owned(), pin, ..self }
    }

    fn backend(&self, pin: PinCase, ledger: Arc<dyn PinLedger>) -> Pkcs11Token {
        let name = if pin == PinCase::Right { "pin" } else { "wrong-pin" };
        let pin = pin_source(&self.token.folder().join(name));
        let selector = TokenSelector::Label(self.label.clone());
        Pkcs11Token::new(self.module.clone(), selector, pin, ledger)
    }

    /// A P-256 key's public object.
    pub(super) fn plant_public(&self, cka_id: &[u8], label: &str, key: &SoftwareKey) {
        let (_, point) = key.ec_parts();
        let point = Attribute::EcPoint([&[4, 65], point.as_slice()].concat());
        let public = [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Private(false), point];
        self.session().create_object(&[&names(cka_id, label)[..], &public].concat()).unwrap();
    }

    /// Its private object, of these attributes beside.
    pub(super) fn plant_private(&self, cka_id: &[u8], label: &str, key: &SoftwareKey, more: &[Attribute]) {
        let (scalar, _) = key.ec_parts();
        let value = Attribute::Value(scalar);
        let private =
            [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Private(true), Attribute::Sign(true), value];
        self.session().create_object(&[&names(cka_id, label)[..], &private, more].concat()).unwrap();
    }

    fn mechanisms(&self) -> Vec<MechanismType> {
        self.beneath.get_mechanism_list(self.slot()).unwrap()
    }

    fn slot(&self) -> Slot {
        let slots = self.beneath.get_slots_with_token().unwrap();
        let is_ours = |slot: &_| self.beneath.get_token_info(*slot).is_ok_and(|info| info.label() == self.label);
        slots.into_iter().find(is_ours).unwrap()
    }

    pub(super) fn session(&self) -> Session {
        let session = self.beneath.open_rw_session(self.slot()).unwrap();
        match session.login(UserType::User, Some(&AuthPin::from(self.pin))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => session,
            Err(error) => panic!("{error}"),
        }
    }
}

fn names(cka_id: &[u8], label: &str) -> Vec<Attribute> {
    const P256: &[u8] = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
    vec![
        Attribute::KeyType(KeyType::EC),
        Attribute::Token(true),
        Attribute::Id(cka_id.to_vec()),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::EcParams(P256.to_vec()),
    ]
}

/// The mechanism with which a token that can hash signs.
fn that_hashes(alg: Alg) -> MechanismType {
    match alg {
        Alg::RS256 => MechanismType::SHA256_RSA_PKCS,
        Alg::RS384 => MechanismType::SHA384_RSA_PKCS,
        Alg::RS512 => MechanismType::SHA512_RSA_PKCS,
        Alg::PS256 => MechanismType::SHA256_RSA_PKCS_PSS,
        Alg::PS384 => MechanismType::SHA384_RSA_PKCS_PSS,
        Alg::PS512 => MechanismType::SHA512_RSA_PKCS_PSS,
        Alg::ES256 => MechanismType::ECDSA_SHA256,
        Alg::ES384 => MechanismType::ECDSA_SHA384,
        Alg::EdDSA => MechanismType::EDDSA,
    }
}

impl Subject for Pkcs11Subject {
    fn hsm(&self, pin: PinCase, ledger: Arc<dyn PinLedger>) -> Box<dyn Hsm> {
        Box::new(self.backend(pin, ledger))
    }

    fn importer(&self) -> Option<(Box<dyn Hsm>, Box<dyn ImportSession>)> {
        if !self.takes_keys {
            return None;
        }
        let token = self.backend(PinCase::Right, Arc::new(MemoryPinLedger::default()));
        token.connect().unwrap();
        let session = token.open_session().unwrap();
        Some((Box::new(token), Box::new(session)))
    }

    fn algs(&self) -> &'static [Alg] {
        self.algs
    }

    fn plant(&self, cka_id: &[u8], label: &str, key: &Arc<SoftwareKey>, extractable: bool) {
        self.plant_public(cka_id, label, key);
        self.plant_private(
            cka_id,
            label,
            key,
            &[Attribute::Sensitive(!extractable), Attribute::Extractable(extractable)],
        );
    }

    fn plants(&self) -> bool {
        self.takes_keys
    }

    fn fallbacks(&self) -> String {
        let listed = self.mechanisms();
        let lacks = |alg: &&Alg| !listed.contains(&that_hashes(**alg));
        let lacking: Vec<_> = self.algs.iter().filter(lacks).map(Alg::to_string).collect();
        if lacking.is_empty() { "none".into() } else { format!("hash of our own for {}", lacking.join(" ")) }
    }

    fn bare(&self, cka_id: &[u8]) -> Option<Bare<'_>> {
        let session = self.session();
        let wanted = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Id(cka_id.to_vec())];
        let key = session.find_objects(&wanted).unwrap()[0];
        Some(Box::new(move |message| drop(session.sign(&Mechanism::Sha256RsaPkcs, key, message).unwrap())))
    }

    fn changes(&self) -> usize {
        if self.takes_keys { 40 } else { 3 }
    }

    fn losses(&self) -> Option<&dyn Losses> {
        self.same_application.then_some(self)
    }
}

impl Losses for Pkcs11Subject {
    fn log_out(&self) {
        self.session().logout().unwrap();
    }

    fn lose_sessions(&self) {
        self.beneath.clone().finalize().unwrap();
        initialise(&self.beneath);
    }
}

fn initialise(context: &Pkcs11) {
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => panic!("{error}"),
    }
}
