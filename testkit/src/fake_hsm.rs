//! An HSM in memory, with switches for its faults. It keeps the contract that real ones keep.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use hallmark_core::ports::{Evidence, FaultClass, HsmFault, KeyAttributes};

use crate::{attestation::Maker, software_key::SoftwareKey};

mod backend;
mod session;

pub use self::backend::FakeHsm;

/// The token: its objects, its PIN, and what is to go wrong. Shared by all [`FakeHsm`]s that use it.
pub struct FakeToken {
    state: Mutex<State>,
    /// Woken whenever the state changes.
    changed: Condvar,
}

/// One of the two objects of a key pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    Private,
    Public,
}

/// A method of the ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Connect,
    Open,
    List,
    Generate,
    Sign,
    Destroy,
    Evidence,
    Reset,
}

#[derive(Default)]
struct State {
    objects: Vec<Object>,
    unplugged: bool,
    logged_in: bool,
    /// How often all sessions were lost.
    losses: u64,
    in_use: usize,
    open_sessions: usize,
    max_sessions: Option<usize>,
    wrong_tries: usize,
    forgeries: usize,
    leaky: bool,
    maker: Option<Arc<Maker>>,
    halving: VecDeque<Half>,
    faults: HashMap<Call, VecDeque<Option<FaultClass>>>,
    latency: HashMap<Call, Duration>,
    hanging: HashMap<Call, bool>,
    inside: HashMap<Call, usize>,
    calls: HashMap<Call, usize>,
}

struct Object {
    cka_id: Vec<u8>,
    label: String,
    key: Arc<SoftwareKey>,
    evidence: Evidence,
    /// What there is of it, where the rest is missing.
    half: Option<Half>,
}

impl FakeToken {
    /// What it says of itself.
    pub const SERIAL: &str = "fa4e000000000001";
    /// The right one.
    pub const PIN: &str = "73915064";

    /// An empty token that works.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: Condvar::new() })
    }

    /// The next `n` calls fail so, before they do anything.
    pub fn fail_next(&self, call: Call, n: usize, class: FaultClass) {
        self.state().faults.entry(call).or_default().extend(std::iter::repeat_n(Some(class), n));
    }

    /// The call after the next `n` fails so.
    pub fn fail_after(&self, call: Call, n: usize, class: FaultClass) {
        let mut state = self.state();
        let faults = state.faults.entry(call).or_default();
        faults.extend(std::iter::repeat_n(None, n));
        faults.push_back(Some(class));
    }

    /// The next `n` signatures do not verify.
    pub fn forge_next(&self, n: usize) {
        self.state().forgeries += n;
    }

    /// From now on, keys that are generated can leave the token.
    pub fn set_leaky(&self, leaky: bool) {
        self.state().leaky = leaky;
    }

    /// From now on, `maker` attests keys that are generated.
    pub fn set_maker(&self, maker: Option<Arc<Maker>>) {
        self.state().maker = maker;
    }

    /// The next key pair is not finished: of its objects only that one is there, and the token is gone for a moment, as
    /// for a process that is killed inside `C_GenerateKeyPair` or a token that loses its power.
    pub fn halve_next(&self, left: Half) {
        self.state().halving.push_back(left);
    }

    /// Each such call takes at least so long.
    pub fn set_latency(&self, call: Call, latency: Duration) {
        self.state().latency.insert(call, latency);
    }

    /// Such calls hang, from now until what this answers is dropped.
    pub fn hang(self: &Arc<Self>, call: Call) -> Hanging {
        self.state().hanging.insert(call, true);
        Hanging { token: self.clone(), call }
    }

    /// Takes the token away, or gives it back. Its sessions and its login are lost.
    pub fn set_unplugged(&self, unplugged: bool) {
        self.state().unplugged = unplugged;
        self.lose_sessions();
    }

    /// Whether it was taken away.
    pub fn is_unplugged(&self) -> bool {
        self.state().unplugged
    }

    /// How many complete key pairs are on it.
    pub fn pairs(&self) -> usize {
        self.state().objects.iter().filter(|object| object.half.is_none()).count()
    }

    /// The `CKA_ID`s of pairs of which one object is missing.
    pub fn halves(&self) -> Vec<Vec<u8>> {
        let state = self.state();
        let halves = state.objects.iter().filter(|object| object.half.is_some());
        halves.map(|object| object.cka_id.clone()).collect()
    }

    /// Closes all sessions, which also logs out.
    pub fn lose_sessions(&self) {
        let mut state = self.state();
        state.losses += 1;
        (state.logged_in, state.open_sessions) = (false, 0);
    }

    /// The application is not logged in any more.
    pub fn log_out(&self) {
        self.state().logged_in = false;
    }

    /// How many sessions the token says it has; `None`: it says nothing.
    pub fn set_max_sessions(&self, max: Option<usize>) {
        self.state().max_sessions = max;
    }

    /// Puts a key there that was not generated there.
    pub fn plant(&self, cka_id: &[u8], label: &str, key: Arc<SoftwareKey>, extractable: bool) {
        let attributes = KeyAttributes {
            local: Some(false),
            sensitive: Some(!extractable),
            always_sensitive: Some(false),
            extractable: Some(extractable),
            never_extractable: Some(false),
            key_gen_mechanism: None,
        };
        let evidence = Evidence { attributes, attestation: Vec::new() };
        self.state().objects.push(Object {
            cka_id: cka_id.to_vec(),
            label: label.to_owned(),
            key,
            evidence,
            half: None,
        });
    }

    /// From now on the key with that `CKA_ID` can leave the token.
    pub fn spoil(&self, cka_id: &[u8]) {
        let mut state = self.state();
        for object in state.objects.iter_mut().filter(|object| object.cka_id == cka_id) {
            object.evidence.attributes.extractable = Some(true);
        }
    }

    /// How often a wrong PIN was tried.
    pub fn wrong_tries(&self) -> usize {
        self.state().wrong_tries
    }

    /// How many such calls there were, failed ones included.
    pub fn calls(&self, call: Call) -> usize {
        self.state().calls.get(&call).copied().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens at the beginning of each call.
    fn begin(&self, call: Call) -> Result<(), HsmFault> {
        let mut state = self.state();
        *state.calls.entry(call).or_default() += 1;
        *state.inside.entry(call).or_default() += 1;
        self.changed.notify_all();
        let waiting = self.changed.wait_while(state, |state| state.hanging.get(&call) == Some(&true));
        let mut state = waiting.unwrap_or_else(PoisonError::into_inner);
        *state.inside.entry(call).or_default() -= 1;
        let fault = state.faults.get_mut(&call).and_then(VecDeque::pop_front).flatten();
        let latency = state.latency.get(&call).copied();
        if fault == Some(FaultClass::Login) {
            state.logged_in = false;
        }
        drop(state);
        #[expect(clippy::disallowed_methods, reason = "it stands for the time that hardware takes")]
        if let Some(latency) = latency {
            thread::sleep(latency);
        }
        match fault {
            Some(class) => Err(fail(class, call)),
            None if self.state().unplugged => Err(fail(FaultClass::Gone, call)),
            None => Ok(()),
        }
    }
}

/// Calls that hang; they go on when this is dropped.
pub struct Hanging {
    token: Arc<FakeToken>,
    call: Call,
}

impl Hanging {
    /// Waits until `n` calls hang.
    pub fn wait_for(&self, n: usize) {
        let state = self.token.state();
        let reached = |state: &mut State| state.inside.get(&self.call).copied().unwrap_or_default() < n;
        drop(self.token.changed.wait_while(state, reached));
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.token.state().hanging.insert(self.call, false);
        self.token.changed.notify_all();
    }
}

fn fail(class: FaultClass, call: Call) -> HsmFault {
    let function = match call {
        Call::Connect => "C_GetSlotList",
        Call::Open => "C_OpenSession",
        Call::List => "C_FindObjects",
        Call::Generate => "C_GenerateKeyPair",
        Call::Sign => "C_Sign",
        Call::Destroy => "C_DestroyObject",
        Call::Evidence => "C_GetAttributeValue",
        Call::Reset => "C_Initialize",
    };
    HsmFault::new(class, function, format!("fake {}", class.as_str()))
}
