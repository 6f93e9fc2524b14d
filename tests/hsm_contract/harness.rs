//! A PKCS#11 token under test, and a second way into it.

use std::{ffi::OsString, path::Path, sync::Arc};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    object::{Attribute, KeyType, ObjectClass},
    session::{Session, UserType},
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
    fault_module::FaultModule,
    hsm_contract::{Losses, PinCase, Subject},
    p11_kit::P11Kit,
    pin_ledger::MemoryPinLedger,
    softhsm::SoftHsm,
    software_key::SoftwareKey,
};

/// p11-kit 0.24 does not carry CKM_EDDSA.
pub(super) const P11_KIT_ALGS: &[Alg] =
    &[Alg::RS256, Alg::RS384, Alg::RS512, Alg::PS256, Alg::PS384, Alg::PS512, Alg::ES256, Alg::ES384];

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
pub(super) struct Pkcs11Subject {
    token: SoftHsm,
    module: Arc<Module>,
    beneath: Pkcs11,
    same_application: bool,
    algs: &'static [Alg],
}

impl Pkcs11Subject {
    pub(super) fn new(module: &Path, token: SoftHsm, algs: &'static [Alg]) -> Self {
        let beneath = Pkcs11::new(module).unwrap();
        let module = Modules::default().load(module).unwrap();
        initialise(&beneath);
        token.other_pin_file("wrong-pin", "00000000");
        Self { token, module, beneath, same_application: true, algs }
    }

    /// p11-kit's client makes each context an application of its own: what is done in one is not felt in the other.
    pub(super) fn behind_a_line(module: &Path, token: SoftHsm, algs: &'static [Alg]) -> Self {
        Self { same_application: false, ..Self::new(module, token, algs) }
    }

    fn backend(&self, pin: PinCase, ledger: Arc<dyn PinLedger>) -> Pkcs11Token {
        let name = if pin == PinCase::Right { "pin" } else { "wrong-pin" };
        let pin = pin_source(&self.token.folder().join(name));
        let selector = TokenSelector::Label(SoftHsm::LABEL.into());
        Pkcs11Token::new(self.module.clone(), selector, pin, ledger)
    }

    pub(super) fn session(&self) -> Session {
        let slots = self.beneath.get_slots_with_token().unwrap();
        let is_ours = |slot: &_| self.beneath.get_token_info(*slot).unwrap().label() == SoftHsm::LABEL;
        let session = self.beneath.open_rw_session(slots.into_iter().find(is_ours).unwrap()).unwrap();
        match session.login(UserType::User, Some(&AuthPin::from(SoftHsm::PIN))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => session,
            Err(error) => panic!("{error}"),
        }
    }
}

impl Subject for Pkcs11Subject {
    fn hsm(&self, pin: PinCase, ledger: Arc<dyn PinLedger>) -> Box<dyn Hsm> {
        Box::new(self.backend(pin, ledger))
    }

    fn importer(&self) -> Option<(Box<dyn Hsm>, Box<dyn ImportSession>)> {
        let token = self.backend(PinCase::Right, Arc::new(MemoryPinLedger::default()));
        token.connect().unwrap();
        let session = token.open_session().unwrap();
        Some((Box::new(token), Box::new(session)))
    }

    fn algs(&self) -> &'static [Alg] {
        self.algs
    }

    fn plant(&self, cka_id: &[u8], label: &str, key: &Arc<SoftwareKey>, extractable: bool) {
        const P256: &[u8] = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
        let (scalar, point) = key.ec_parts();
        let common = [
            Attribute::KeyType(KeyType::EC),
            Attribute::Token(true),
            Attribute::Id(cka_id.to_vec()),
            Attribute::Label(label.as_bytes().to_vec()),
            Attribute::EcParams(P256.to_vec()),
        ];
        let public = [
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::Private(false),
            Attribute::EcPoint([&[4, 65], point.as_slice()].concat()),
        ];
        let private = [
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::Private(true),
            Attribute::Sensitive(!extractable),
            Attribute::Extractable(extractable),
            Attribute::Sign(true),
            Attribute::Value(scalar),
        ];
        let session = self.session();
        for object in [&public[..], &private[..]] {
            session.create_object(&[&common[..], object].concat()).unwrap();
        }
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
