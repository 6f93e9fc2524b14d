//! PKCS#11 libraries. `C_Initialize` counts for the whole process, so each library has one owner here.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11},
    error::{Error, RvError},
};
use hallmark_core::ports::{FaultClass, HsmFault, ResetRefused};

use super::{classify::fault, lock, turns::Turns};

/// The libraries that this process has loaded. Owned by `app`; two tokens of one library must share one registry.
#[derive(Debug, Default)]
pub struct Modules {
    loaded: Mutex<HashMap<PathBuf, Arc<Module>>>,
}

/// A library that can't be used, said for the person who configured it.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    #[error("PKCS#11 module `{}`: {source}\nhint: check `module` in the [[hsm]] section; is its package installed?", path.display())]
    Missing { path: PathBuf, source: io::Error },
    #[error("`{}` is not a PKCS#11 module: {reason}\nhint: `module` must name the HSM maker's PKCS#11 library (.so)", path.display())]
    NotAModule { path: PathBuf, reason: String },
    #[error(
        "PKCS#11 module `{}` does not start: {fault}\n\
         hint: look at the module's own configuration (for SoftHSM the file that SOFTHSM2_CONF names)",
        path.display()
    )]
    Initialise { path: PathBuf, fault: HsmFault },
}

impl Modules {
    /// The library at `path`, loaded and initialised now unless it was before.
    pub fn load(&self, path: &Path) -> Result<Arc<Module>, ModuleError> {
        let canonical = path.canonicalize().map_err(|source| ModuleError::Missing { path: path.into(), source })?;
        let mut loaded = lock(&self.loaded);
        if let Some(module) = loaded.get(&canonical) {
            return Ok(module.clone());
        }
        let context = Module::open(&canonical)?;
        let module = Arc::new(Module::start(canonical.clone(), context)?);
        loaded.insert(canonical, module.clone());
        Ok(module)
    }
}

/// One library, initialised. Every call into it is made inside an [`Inside`].
pub struct Module {
    path: PathBuf,
    context: Pkcs11,
    /// Whether `C_Initialize` was ours; what others in this process started is not ours to end.
    owned: bool,
    gate: Gate,
    turns: Turns,
    tokens_in_use: Mutex<usize>,
}

impl Module {
    /// Loads the library and finds its functions. Its own code may run as it is loaded.
    pub(super) fn open(path: &Path) -> Result<Pkcs11, ModuleError> {
        Pkcs11::new(path).map_err(|error| ModuleError::NotAModule { path: path.to_owned(), reason: error.to_string() })
    }

    /// `C_Initialize`, unless someone else in this process made that call.
    pub(super) fn start(path: PathBuf, context: Pkcs11) -> Result<Self, ModuleError> {
        let owned = match initialise(&context) {
            Ok(owned) => owned,
            Err(fault) => return Err(ModuleError::Initialise { path, fault }),
        };
        let (gate, tokens_in_use) = Default::default();
        let turns = Turns::new(path.clone());
        Ok(Self { path, context, owned, gate, turns, tokens_in_use })
    }

    /// The library's path, canonical.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Enters the library, whichever its generation. Waits where it is just being started anew.
    pub(super) fn enter(&self) -> Result<Inside<'_>, HsmFault> {
        let generation = self.gate.enter(ENTER_WAIT).ok_or_else(restarting)?;
        Ok(Inside { module: self, generation })
    }

    /// Enters the library to close a session. `None`: it is being started anew, which ends all sessions.
    pub(super) fn enter_to_close(&self) -> Option<Inside<'_>> {
        let generation = self.gate.enter_to_close(ENTER_WAIT)?;
        Some(Inside { module: self, generation })
    }

    pub(super) fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Counts a token as in use until the answer is dropped.
    pub(super) fn in_use(self: &Arc<Self>) -> InUse {
        *lock(&self.tokens_in_use) += 1;
        InUse(self.clone())
    }

    /// `C_Finalize` and `C_Initialize`, when no token is in use and no thread inside. All handles of before are void.
    pub(super) fn reset(&self) -> Result<(), ResetRefused> {
        // Asked before the gate is closed, for the keeper of an absent token comes every second, and the calls of
        // healthy ones are not to wait for it.
        if !self.owned || self.is_in_use() {
            return Err(ResetRefused::SharedLibrary);
        }
        let Some(mut closed) = self.gate.close(GATE_WAIT) else { return Err(ResetRefused::ThreadInside) };
        // And again with the gate closed: a token comes into use only from inside.
        if self.is_in_use() {
            return Err(ResetRefused::SharedLibrary);
        }
        closed.next_generation();
        match self.context.clone().finalize() {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiNotInitialized, _)) => {}
            Err(error) => return Err(ResetRefused::Failed(fault(error))),
        }
        initialise(&self.context).map(|_| ()).map_err(ResetRefused::Failed)
    }

    fn is_in_use(&self) -> bool {
        *lock(&self.tokens_in_use) > 0
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        if self.owned {
            // A library that does not end in order is not our concern any more.
            let _ = self.context.clone().finalize();
        }
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A token that is in use; see [`Module::in_use`].
pub(super) struct InUse(Arc<Module>);

impl Drop for InUse {
    fn drop(&mut self) {
        *lock(&self.0.tokens_in_use) -= 1;
    }
}

/// A thread that is inside the library, which keeps the library from being started anew.
pub(super) struct Inside<'a> {
    module: &'a Module,
    /// How often the library had been started anew when the thread entered.
    pub(super) generation: u64,
}

impl Inside<'_> {
    pub(super) fn context(&self) -> &Pkcs11 {
        &self.module.context
    }

    pub(super) fn turns(&self) -> &Turns {
        &self.module.turns
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.module.gate.leave();
    }
}

/// Counts the threads inside. Unlike an `RwLock` it can be closed with a time limit, and one who comes while it is
/// closed waits for some time only, instead of for ever behind a call that may hang.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    /// Someone left, or the gate opened.
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    inside: usize,
    closed: bool,
    generation: u64,
}

impl Gate {
    /// `None` where the gate stays closed for `limit`; else the generation, and [`Gate::leave`] must follow.
    fn enter(&self, limit: Duration) -> Option<u64> {
        self.enter_unless(limit, |state| state.closed)
    }

    /// As [`Gate::enter`], but lets in while others are inside, also where the gate is closed behind them: who closes
    /// a session may be one of them, and who waits for them would wait for itself.
    fn enter_to_close(&self, limit: Duration) -> Option<u64> {
        self.enter_unless(limit, |state| state.closed && state.inside == 0)
    }

    fn enter_unless(&self, limit: Duration, shut: impl Fn(&GateState) -> bool) -> Option<u64> {
        let mut state = self.wait_while(limit, &shut);
        if shut(&state) {
            return None;
        }
        state.inside += 1;
        Some(state.generation)
    }

    fn leave(&self) {
        lock(&self.state).inside -= 1;
        self.changed.notify_all();
    }

    /// Lets nobody in any more and waits until all have left; `None`, and open again, where that takes too long.
    fn close(&self, limit: Duration) -> Option<Closed<'_>> {
        let mut state = lock(&self.state);
        if state.closed {
            return None;
        }
        state.closed = true;
        drop(state);
        let closed = Closed(self);
        let empty = self.wait_while(limit, |state| state.inside > 0).inside == 0;
        empty.then_some(closed)
    }

    /// The state once `unwanted` is over, or after `limit`.
    fn wait_while(&self, limit: Duration, unwanted: impl Fn(&GateState) -> bool) -> MutexGuard<'_, GateState> {
        let waited = self.changed.wait_timeout_while(lock(&self.state), limit, |state| unwanted(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// A closed gate; it opens on drop.
struct Closed<'a>(&'a Gate);

impl Closed<'_> {
    fn next_generation(&mut self) {
        lock(&self.0.state).generation += 1;
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).closed = false;
        self.0.changed.notify_all();
    }
}

/// Whether the initialisation was ours.
fn initialise(context: &Pkcs11) -> Result<bool, HsmFault> {
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) => Ok(true),
        Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, Function::Initialize)) => Ok(false),
        Err(error) => Err(fault(error)),
    }
}

fn restarting() -> HsmFault {
    HsmFault::new(FaultClass::Gone, "C_Initialize", "the library is being started anew")
}

/// How long a reset waits for threads to come out of the library. Healthy calls take milliseconds; one that hangs may
/// take minutes, and the caller has better things to do.
const GATE_WAIT: Duration = Duration::from_millis(250);

/// How long one who comes to the closed gate waits: longer than a reset waits, and than a healthy library takes to
/// start. Beyond that the library hangs, and the token counts as gone.
const ENTER_WAIT: Duration = Duration::from_secs(1);
