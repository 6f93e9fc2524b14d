//! One PKCS#11 token, found by serial or label wherever it is plugged in.

use std::sync::{
    Arc, Mutex, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering},
};

use cryptoki::{
    context::Pkcs11,
    error::{Error, RvError},
    session::Session,
    slot::{Limit, Slot, TokenInfo},
};
use hallmark_core::{
    key::Alg,
    ports::{FaultClass, Hsm, HsmFault, HsmSession, PinLedger, ResetRefused, TokenAbout, TokenFacts},
};

use super::{
    binding::Bindings,
    classify::fault,
    finding,
    generate::Making,
    life::{Epochs, Life, OpenSession},
    lock, login,
    mechanisms::{Mechanisms, Recipe},
    module::{InUse, Inside, Module},
    objects, question,
    session::Pkcs11Session,
};
use crate::hsm::{credentials::Credentials, pin::PinSource};

/// How the configuration names a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSelector {
    /// `token_serial`: stays right when tokens change slots or are labelled alike.
    Serial(String),
    /// `token_label`: must be the only one of the library.
    Label(String),
}

impl std::fmt::Display for TokenSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Serial(serial) => write!(f, "the token with serial `{serial}`"),
            Self::Label(label) => write!(f, "the token with label `{label}`"),
        }
    }
}

/// A PKCS#11 token as an [`Hsm`].
///
/// Nothing is asked of the token before `connect`. `disconnect` never calls into the library, which may hang: what it
/// leaves behind is closed by the next `connect`, by a reset, or on drop.
pub struct Pkcs11Token {
    module: Arc<Module>,
    selector: TokenSelector,
    credentials: Credentials,
    epochs: Epochs,
    connecting: Mutex<()>,
    live: RwLock<Option<Live>>,
    left_behind: Mutex<Vec<Arc<Epoch>>>,
}

struct Live {
    epoch: Arc<Epoch>,
    _in_use: InUse,
}

/// What is known of the token from one `connect` to the next: slot, login, objects.
pub(super) struct Epoch {
    pub(super) life: Life,
    mechanisms: RwLock<Mechanisms>,
    pub(super) bindings: Bindings,
    pub(super) making: Mutex<Making>,
    slot: Slot,
    /// Whether the token opens sessions that may not write: those are all that signing takes.
    read_only: bool,
    serial: String,
    needs_login: bool,
    /// Whether the device makes random numbers, unless it is known that it does not.
    has_rng: bool,
    logged_in: AtomicBool,
    /// The session that holds the login: when an application's last session closes, it is logged out.
    keeper: Mutex<OpenSession>,
}

impl Pkcs11Token {
    /// A token of `module`. Two tokens of one library take the same `module`, from one [`super::Modules`].
    pub fn new(module: Arc<Module>, selector: TokenSelector, pin: PinSource, ledger: Arc<dyn PinLedger>) -> Self {
        Self {
            module,
            selector,
            credentials: Credentials { source: pin, ledger },
            epochs: Epochs::default(),
            connecting: Mutex::default(),
            live: RwLock::default(),
            left_behind: Mutex::default(),
        }
    }

    /// As [`Hsm::open`], as what it is: a session that can also import.
    pub fn open_session(&self) -> Result<Pkcs11Session, HsmFault> {
        let epoch = self.epoch()?;
        let session = epoch.open(&self.credentials)?;
        Ok(Pkcs11Session::new(epoch, session))
    }

    fn epoch(&self) -> Result<Arc<Epoch>, HsmFault> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        let epoch = live.as_ref().map(|live| live.epoch.clone());
        epoch.ok_or_else(|| HsmFault::new(FaultClass::Gone, "session", "not connected"))
    }

    fn set_live(&self, live: Option<Live>) -> Option<Live> {
        std::mem::replace(&mut *self.live.write().unwrap_or_else(PoisonError::into_inner), live)
    }

    fn begin_epoch(&self, inside: &Inside<'_>) -> Result<(Epoch, TokenFacts), HsmFault> {
        let found = finding::find(inside.context(), &self.selector, &self.module)?;
        let list = inside.context().get_mechanism_list(found.slot).map_err(fault)?;
        let mechanisms = Mechanisms::new(&list);
        let facts = TokenFacts {
            serial: found.serial.clone(),
            model: found.info.as_ref().map(|info| info.model().to_owned()).unwrap_or_default(),
            max_sessions: found.info.as_ref().and_then(|info| sessions_for_workers(info.max_session_count())),
            algs: mechanisms.algs(),
            about: about(inside.context(), &self.module, found.info.as_ref()),
        };
        let life = self.epochs.begin(&self.module, inside);
        let (keeper, read_only) = first_session(inside, found.slot)?;
        let epoch = Epoch {
            mechanisms: RwLock::new(mechanisms),
            bindings: Bindings::default(),
            making: Mutex::default(),
            slot: found.slot,
            read_only,
            serial: found.serial,
            needs_login: found.info.as_ref().is_none_or(TokenInfo::login_required),
            has_rng: found.info.is_none_or(|info| info.rng()),
            logged_in: AtomicBool::new(false),
            keeper: Mutex::new(OpenSession::new(&life, keeper)),
            life,
        };
        Ok((epoch, facts))
    }
}

impl Hsm for Pkcs11Token {
    fn connect(&self) -> Result<TokenFacts, HsmFault> {
        let _one = lock(&self.connecting);
        self.disconnect();
        // The keepers of before; what a token still holds of them counts against its sessions.
        lock(&self.left_behind).clear();

        let inside = self.module.enter()?;
        let begun = self.begin_epoch(&inside).and_then(|(epoch, facts)| {
            epoch.log_in(&inside, &self.credentials)?;
            Ok((epoch, facts))
        });
        let (epoch, facts) = begun.inspect_err(|_| self.epochs.end())?;
        self.set_live(Some(Live { epoch: Arc::new(epoch), _in_use: self.module.in_use() }));
        Ok(facts)
    }

    fn open(&self) -> Result<Box<dyn HsmSession>, HsmFault> {
        Ok(Box::new(self.open_session()?))
    }

    fn disconnect(&self) {
        self.epochs.end();
        if let Some(Live { epoch, .. }) = self.set_live(None) {
            lock(&self.left_behind).push(epoch);
        }
    }

    fn reset(&self) -> Result<(), ResetRefused> {
        self.module.reset()
    }
}

impl Epoch {
    /// A session for a worker. A new session shows whether the login still holds, so this is where it is renewed.
    fn open(&self, credentials: &Credentials) -> Result<OpenSession, HsmFault> {
        let inside = self.life.enter()?;
        let session = self.open_plain(&inside)?;
        if objects::is_logged_in(session.get()?)? == Some(false) {
            self.logged_out();
        }
        self.log_in(&inside, credentials)?;
        Ok(session)
    }

    pub(super) fn slot(&self) -> Slot {
        self.slot
    }

    /// Reads of objects that nobody may change meanwhile.
    pub(super) fn looking<T>(
        &self,
        inside: &Inside<'_>,
        reads: impl FnOnce() -> Result<T, HsmFault>,
    ) -> Result<T, HsmFault> {
        // SoftHSM takes note of what other processes changed at nearly every call, but no more once it has made an object
        // itself: what is looked for may have come while a key is being made.
        let take_note = || drop(inside.context().get_token_info(self.slot));
        let _turn = inside.turns().look(take_note);
        reads()
    }

    /// How the token signs with `alg`. A list that lacks it is asked for again: it may have been told too early.
    pub(super) fn recipe(&self, inside: &Inside<'_>, alg: Alg) -> Result<Recipe, HsmFault> {
        let known = || self.mechanisms.read().unwrap_or_else(PoisonError::into_inner).recipe(alg);
        if let Some(recipe) = known() {
            return Ok(recipe);
        }
        let list = inside.context().get_mechanism_list(self.slot).map_err(fault)?;
        *self.mechanisms.write().unwrap_or_else(PoisonError::into_inner) = Mechanisms::new(&list);
        known().ok_or_else(|| {
            let why = format!("the token has no mechanism for `{alg}`");
            HsmFault::new(FaultClass::Unsupported, "C_GetMechanismList", why)
        })
    }

    /// Another way to sign with `alg`, where the token refuses one that it listed.
    pub(super) fn without(&self, alg: Alg, refused: Recipe) -> Option<Recipe> {
        self.mechanisms.write().unwrap_or_else(PoisonError::into_inner).without(alg, refused)
    }

    /// A session that may do as little as the token lets it.
    fn open_plain(&self, inside: &Inside<'_>) -> Result<OpenSession, HsmFault> {
        if !self.read_only {
            return self.open_rw(inside);
        }
        let _turn = inside.turns().session();
        let session = inside.context().open_ro_session_no_drop(self.slot).map_err(fault)?;
        Ok(OpenSession::new(&self.life, session))
    }

    /// A session that may change the token; closed as soon as it is dropped.
    pub(super) fn open_rw(&self, inside: &Inside<'_>) -> Result<OpenSession, HsmFault> {
        let _turn = inside.turns().session();
        let session = inside.context().open_rw_session_no_drop(self.slot).map_err(fault)?;
        Ok(OpenSession::new(&self.life, session))
    }

    /// Takes note that a call came back with `CKR_USER_NOT_LOGGED_IN`; the next `open` logs in.
    pub(super) fn logged_out(&self) {
        self.logged_in.store(false, Ordering::Release);
    }

    /// Logs in once for all sessions of the application; who comes meanwhile waits for the outcome.
    fn log_in(&self, inside: &Inside<'_>, credentials: &Credentials) -> Result<(), HsmFault> {
        if !self.needs_login || self.logged_in.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut keeper = lock(&self.keeper);
        if self.logged_in.load(Ordering::Acquire) {
            return Ok(());
        }
        let lost = |keeper: &OpenSession| matches!(keeper.get().map(objects::is_logged_in), Err(_) | Ok(Err(_)));
        if lost(&keeper) {
            keeper.forget();
            *keeper = self.open_plain(inside)?;
        }
        // Asked also where the library says that it is logged in: it says so without its device.
        if self.has_rng {
            question::ask(keeper.get()?)?;
        }
        login::log_in(credentials, inside, self.slot, &self.serial, keeper.get()?)?;
        // A token gives its private objects new handles when it is logged in anew.
        self.bindings.clear();
        self.logged_in.store(true, Ordering::Release);
        Ok(())
    }
}

/// The first session of an epoch, and whether it is a read-only one: AWS CloudHSM's library opens none of those, and says
/// no more than `CKR_FUNCTION_FAILED`.
fn first_session(inside: &Inside<'_>, slot: Slot) -> Result<(Session, bool), HsmFault> {
    let context = inside.context();
    let _turn = inside.turns().session();
    match context.open_ro_session_no_drop(slot) {
        Ok(session) => Ok((session, true)),
        Err(refused @ Error::Pkcs11(RvError::FunctionFailed | RvError::FunctionNotSupported, _)) => {
            // Where that fails too, it is not what the session may do.
            context.open_rw_session_no_drop(slot).map(|session| (session, false)).map_err(|_| fault(refused))
        }
        Err(error) => Err(fault(error)),
    }
}

/// What token and library say of themselves; nobody is kept from signing by a module that does not say.
fn about(context: &Pkcs11, module: &Module, token: Option<&TokenInfo>) -> TokenAbout {
    let library = context.get_library_info().ok();
    let path = module.path().display();
    let version = |version: cryptoki::types::Version| format!("{}.{}", version.major(), version.minor());
    TokenAbout {
        manufacturer: token.map(|info| info.manufacturer_id().to_owned()).unwrap_or_default(),
        firmware: token.map(|info| version(info.firmware_version())).unwrap_or_default(),
        hardware: token.map(|info| version(info.hardware_version())).unwrap_or_default(),
        module: library.map_or_else(
            || path.to_string(),
            |info| format!("{path} ({} {})", info.library_description(), version(info.library_version())),
        ),
    }
}

/// What is left for workers of a token's sessions: the keeper has one, and making or destroying a key takes another.
fn sessions_for_workers(max: Limit) -> Option<usize> {
    match max {
        // Where there are so few that none is left, one worker, and keys made when it can: better than not to sign.
        Limit::Max(max) => Some(usize::try_from(max).ok()?.saturating_sub(2).max(1)),
        Limit::Unavailable | Limit::Infinite => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_kept_back_for_the_keeper_and_for_making_keys() {
        let left = [1, 2, 3, 4, 10].map(|max| sessions_for_workers(Limit::Max(max)));
        assert_eq!(left, [1, 1, 1, 2, 8].map(Some));
        assert_eq!([Limit::Infinite, Limit::Unavailable].map(sessions_for_workers), [None, None]);
    }
}
