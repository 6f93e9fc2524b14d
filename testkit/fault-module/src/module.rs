//! The real module, the plan in force, and what it makes of a call.

use std::{
    collections::HashMap,
    env, fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    ptr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use cryptoki_sys::{
    CK_FUNCTION_LIST, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_TRUE, CKR_DEVICE_REMOVED, CKR_FUNCTION_FAILED,
    CKR_OK, CKR_TOKEN_NOT_PRESENT,
};

use crate::{
    functions::Function,
    lies,
    plan::{Act, Plan, Rule},
    record::Recorder,
};

/// What a call is about.
#[derive(Clone, Copy)]
pub(crate) enum Subject {
    Library,
    Slot,
    Session(CK_SESSION_HANDLE),
}

/// Makes a call, or lets it fail as the plan says. `call` gets the real functions, and what the plan has for this call.
pub(crate) fn around(
    function: Function,
    subject: Subject,
    call: impl FnOnce(&CK_FUNCTION_LIST, Option<Act>) -> CK_RV,
) -> CK_RV {
    let Some(module) = module() else { return CKR_FUNCTION_FAILED };
    module.recorder.called(function);
    let plan = module.plan();
    let key = match subject {
        Subject::Session(session) => lock(&module.keys).get(&session).cloned(),
        Subject::Library | Subject::Slot => None,
    };
    let act = plan.act(function, key.as_ref());
    if act.is_some() {
        module.recorder.faulted(function);
    }
    match act {
        Some(Act::Return(value)) => return value,
        Some(Act::Hang) => module.wait_for_another(&plan),
        Some(Act::DropSessions) => module.drop_sessions(),
        Some(Act::Crash) => std::process::abort(),
        Some(Act::ReturnAfter(_) | Act::Corrupt) | None => {}
    }
    if let Some(away) = module.away(&plan, function, subject) {
        return away;
    }
    let inside = module.exclusive.read().unwrap_or_else(PoisonError::into_inner);
    let answer = call(&module.real, act);
    drop(inside);
    match act {
        Some(Act::ReturnAfter(value)) => value,
        _ => answer,
    }
}

/// The plan in force.
pub(crate) fn plan() -> Option<Arc<Current>> {
    Some(module()?.plan())
}

/// Takes note of how a login ended.
pub(crate) fn login_ended(answer: CK_RV) {
    if let Some(module) = module() {
        module.recorder.login_ended(answer);
    }
}

/// Takes note of the key that a session is about to sign with, where the plan asks for it.
pub(crate) fn signs_with(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) {
    let Some(module) = module() else { return };
    if module.plan().asks_for_keys() {
        let name = lies::name(&module.real, session, object);
        lock(&module.keys).insert(session, name);
    }
}

/// A library that was finalised has forgotten that its token was away.
pub(crate) fn finalized() {
    if let Some(module) = module() {
        module.away_until_finalize.store(false, Ordering::Release);
        lock(&module.keys).clear();
    }
}

/// How a key is called: its label, and its `CKA_ID` in hex.
#[derive(Clone, Default)]
pub(crate) struct KeyName {
    pub(crate) label: String,
    pub(crate) cka_id: String,
}

/// A plan, and how often each of its rules was asked.
pub(crate) struct Current {
    plan: Plan,
    /// Tells one file from the next in its place.
    identity: Option<(u64, i64, i64)>,
    rules: Vec<(Rule, AtomicU64)>,
}

impl std::ops::Deref for Current {
    type Target = Plan;

    fn deref(&self) -> &Plan {
        &self.plan
    }
}

impl Current {
    fn new(plan: Plan, identity: Option<(u64, i64, i64)>) -> Self {
        let rules = plan.rules.iter().map(|rule| (rule.clone(), AtomicU64::new(0))).collect();
        Self { plan, identity, rules }
    }

    /// What the first rule that concerns the call, and is not used up, makes of it.
    fn act(&self, function: Function, key: Option<&KeyName>) -> Option<Act> {
        self.rules.iter().find_map(|(rule, asked)| {
            if !concerns(rule, function, key) {
                return None;
            }
            let asked = asked.fetch_add(1, Ordering::Relaxed) + 1;
            let due = asked.is_multiple_of(rule.every) && rule.times.is_none_or(|times| asked / rule.every <= times);
            due.then_some(rule.act)
        })
    }
}

fn concerns(rule: &Rule, function: Function, key: Option<&KeyName>) -> bool {
    let is_key = |wanted: &String| key.is_some_and(|key| key.label.starts_with(wanted) || key.cka_id == *wanted);
    rule.function.is_none_or(|wanted| wanted == function) && rule.key.as_ref().is_none_or(is_key)
}

struct Module {
    real: CK_FUNCTION_LIST,
    /// Keeps the library loaded, which `real` points into.
    _library: cryptoki_sys::Pkcs11,
    folder: PathBuf,
    recorder: Recorder,
    current: Mutex<Arc<Current>>,
    /// The key that each session signs with.
    keys: Mutex<HashMap<CK_SESSION_HANDLE, KeyName>>,
    /// Whoever closes all sessions is alone inside: soft tokens crash where one is closed in the middle of a call.
    exclusive: RwLock<()>,
    away_until_finalize: AtomicBool,
    sessions_lost: AtomicBool,
}

/// `None`, and a line on standard error, where the environment or the real module is not as it must be.
fn module() -> Option<&'static Module> {
    static MODULE: OnceLock<Option<Module>> = OnceLock::new();
    let loaded = MODULE.get_or_init(|| Module::load().inspect_err(|why| eprintln!("fault module: {why}")).ok());
    loaded.as_ref()
}

impl Module {
    fn load() -> Result<Self, String> {
        let variable = |name: &str| env::var_os(name).map(PathBuf::from).ok_or_else(|| format!("`{name}` is not set"));
        let (path, folder) = (variable("FAULT_MODULE_REAL")?, variable("FAULT_MODULE_DIR")?);
        // SAFETY: loading runs the module's initialisers, as it does in the program that asked for a PKCS#11 module.
        let library = unsafe { cryptoki_sys::Pkcs11::new(&path) };
        let library = library.map_err(|error| format!("`{}`: {error}", path.display()))?;
        let mut list: *mut CK_FUNCTION_LIST = ptr::null_mut();
        // SAFETY: `list` is a place for a pointer, as the function wants (PKCS#11 2.40 §5.4).
        let answer = unsafe { library.C_GetFunctionList(&mut list) };
        if answer != CKR_OK || list.is_null() {
            return Err(format!("`{}` has no function list: 0x{answer:x}", path.display()));
        }
        // SAFETY: not null, and the module says that it points to its list, which is never written to.
        let real = unsafe { *list };
        let recorder = Recorder::new(&folder).map_err(|error| format!("`{}`: {error}", folder.display()))?;
        Ok(Self {
            real,
            _library: library,
            folder,
            recorder,
            current: Mutex::new(Arc::new(Current::new(Plan::default(), None))),
            keys: Mutex::default(),
            exclusive: RwLock::default(),
            away_until_finalize: AtomicBool::new(false),
            sessions_lost: AtomicBool::new(false),
        })
    }

    /// The plan in the folder, read again where another file took its place.
    fn plan(&self) -> Arc<Current> {
        let path = self.folder.join("plan");
        let identity = fs::metadata(&path).ok().map(|found| (found.ino(), found.mtime(), found.mtime_nsec()));
        let mut current = lock(&self.current);
        if current.identity != identity {
            let plan = Plan::parse(&fs::read_to_string(&path).unwrap_or_default()).unwrap_or_else(|why| {
                eprintln!("fault module: {why}");
                Plan::default()
            });
            *current = Arc::new(Current::new(plan, identity));
        }
        current.clone()
    }

    #[expect(clippy::disallowed_methods, reason = "a file that another process replaces has no event")]
    fn wait_for_another(&self, plan: &Current) {
        while self.plan().identity == plan.identity {
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// What a call gets while the token is away; its sessions are lost when it goes.
    fn away(&self, plan: &Current, function: Function, subject: Subject) -> Option<CK_RV> {
        if plan.until_finalize && function != Function::C_Finalize {
            self.away_until_finalize.store(true, Ordering::Release);
        }
        if !plan.absent && !self.away_until_finalize.load(Ordering::Acquire) {
            self.sessions_lost.store(false, Ordering::Release);
            return None;
        }
        if !self.sessions_lost.swap(true, Ordering::AcqRel) {
            self.drop_sessions();
        }
        match subject {
            Subject::Library => None,
            Subject::Slot => Some(CKR_TOKEN_NOT_PRESENT),
            Subject::Session(_) => Some(CKR_DEVICE_REMOVED),
        }
    }

    /// Whether the token is away.
    fn is_away(&self, plan: &Current) -> bool {
        plan.absent || self.away_until_finalize.load(Ordering::Acquire)
    }

    fn drop_sessions(&self) {
        let _alone = self.exclusive.write().unwrap_or_else(PoisonError::into_inner);
        let (Some(slots), Some(close)) = (self.real.C_GetSlotList, self.real.C_CloseAllSessions) else { return };
        let mut found = [0; 64];
        let mut count = found.len() as u64;
        // SAFETY: there is room for as many slots as `count` says.
        if unsafe { slots(CK_TRUE, found.as_mut_ptr(), &mut count) } == CKR_OK {
            for slot in found.iter().take(usize::try_from(count).unwrap_or(0)) {
                // SAFETY: takes a number; nobody else is inside, so no session is in use.
                unsafe { close(*slot) };
            }
        }
    }
}

/// Whether the token is away, for those who list slots.
pub(crate) fn token_is_away() -> bool {
    module().is_some_and(|module| module.is_away(&module.plan()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
