//! An HSM in memory, with switches for its faults. It keeps the contract that real ones keep.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use hallmark_core::{
    key::Alg,
    ports::{
        Evidence, FaultClass, Hsm, HsmFault, HsmObject, HsmSession, KeyRef, NewKey, PinLedger, PinLedgerRefusal,
        PinVerdict, ResetRefused, TokenFacts,
    },
    public_key::PublicKey,
};

use crate::{pin_ledger::MemoryPinLedger, software_key::SoftwareKey};

/// The token: its objects, its PIN, and what is to go wrong. Shared by all [`FakeHsm`]s that use it.
pub struct FakeToken {
    state: Mutex<State>,
    /// Woken whenever the state changes.
    changed: Condvar,
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
}

impl FakeToken {
    pub const SERIAL: &str = "fa4e000000000001";
    pub const PIN: &str = "73915064";

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

    /// How many key pairs are on it.
    pub fn pairs(&self) -> usize {
        self.state().objects.len()
    }

    /// Closes all sessions, which also logs out.
    pub fn lose_sessions(&self) {
        let mut state = self.state();
        state.losses += 1;
        (state.logged_in, state.open_sessions) = (false, 0);
    }

    pub fn log_out(&self) {
        self.state().logged_in = false;
    }

    pub fn set_max_sessions(&self, max: Option<usize>) {
        self.state().max_sessions = max;
    }

    /// Puts a key there that was not generated there.
    pub fn plant(&self, cka_id: &[u8], label: &str, key: Arc<SoftwareKey>, extractable: bool) {
        let evidence = Evidence {
            local: Some(false),
            sensitive: Some(!extractable),
            always_sensitive: Some(false),
            extractable: Some(extractable),
            never_extractable: Some(false),
            key_gen_mechanism: None,
        };
        self.state().objects.push(Object { cka_id: cka_id.to_vec(), label: label.to_owned(), key, evidence });
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

/// A way to a [`FakeToken`], as a backend has it: with a PIN from a source, and a ledger of tries.
pub struct FakeHsm {
    token: Arc<FakeToken>,
    pin: String,
    ledger: Arc<dyn PinLedger>,
    epoch: Arc<AtomicU64>,
    login: Mutex<()>,
}

impl FakeHsm {
    /// With the right PIN.
    pub fn new(token: &Arc<FakeToken>) -> Self {
        Self::with_pin(token, FakeToken::PIN, Arc::new(MemoryPinLedger::default()))
    }

    /// The PIN is also the identity of its source: another PIN is another source.
    pub fn with_pin(token: &Arc<FakeToken>, pin: &str, ledger: Arc<dyn PinLedger>) -> Self {
        Self { token: token.clone(), pin: pin.to_owned(), ledger, epoch: Arc::default(), login: Mutex::default() }
    }

    fn is_connected(&self) -> bool {
        self.epoch.load(Ordering::Acquire) % 2 == 1
    }

    fn log_in(&self) -> Result<(), HsmFault> {
        // Once for all callers: who comes second finds the login done.
        let _one = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        if self.token.state().logged_in {
            return Ok(());
        }
        let source = format!("fake:{}", self.pin);
        match self.ledger.begin(FakeToken::SERIAL, &source) {
            Ok(()) => {}
            Err(PinLedgerRefusal::AlreadyTried) => {
                return Err(HsmFault::new(FaultClass::Pin, "C_Login", "tried before and not accepted"));
            }
            Err(PinLedgerRefusal::Store(e)) => return Err(HsmFault::new(FaultClass::Gone, "C_Login", e)),
        }
        let mut state = self.token.state();
        state.logged_in = self.pin == FakeToken::PIN;
        let verdict = if state.logged_in { PinVerdict::Accepted } else { PinVerdict::Refused };
        state.wrong_tries += usize::from(!state.logged_in);
        drop(state);
        // A ledger that fails leaves its marker, as it should.
        let _ = self.ledger.end(FakeToken::SERIAL, &source, verdict);
        match verdict {
            PinVerdict::Accepted => Ok(()),
            _ => Err(HsmFault::new(FaultClass::Pin, "C_Login", "CKR_PIN_INCORRECT")),
        }
    }
}

impl Hsm for FakeHsm {
    fn connect(&self) -> Result<TokenFacts, HsmFault> {
        self.disconnect();
        self.token.begin(Call::Connect)?;
        self.log_in()?;
        self.epoch.fetch_add(1, Ordering::AcqRel);
        let mut state = self.token.state();
        state.in_use += 1;
        Ok(TokenFacts {
            serial: FakeToken::SERIAL.into(),
            model: "fake".into(),
            max_sessions: state.max_sessions,
            algs: Alg::ALL.to_vec(),
        })
    }

    fn open(&self) -> Result<Box<dyn HsmSession>, HsmFault> {
        self.token.begin(Call::Open)?;
        if !self.is_connected() {
            return Err(fail(FaultClass::Gone, Call::Open));
        }
        self.log_in()?;
        let mut state = self.token.state();
        if state.max_sessions.is_some_and(|max| state.open_sessions >= max) {
            return Err(HsmFault::new(FaultClass::Unspecific, "C_OpenSession", "CKR_SESSION_COUNT"));
        }
        state.open_sessions += 1;
        Ok(Box::new(FakeSession {
            token: self.token.clone(),
            epoch: self.epoch.clone(),
            opened_in: (self.epoch.load(Ordering::Acquire), state.losses),
        }))
    }

    fn disconnect(&self) {
        if self.is_connected() {
            self.epoch.fetch_add(1, Ordering::AcqRel);
            let mut state = self.token.state();
            state.in_use -= 1;
            // The application's last session is closed with it.
            state.logged_in = state.in_use > 0;
        }
    }

    fn reset(&self) -> Result<(), ResetRefused> {
        self.token.begin(Call::Reset).map_err(ResetRefused::Failed)?;
        let state = self.token.state();
        if state.in_use > 0 {
            return Err(ResetRefused::SharedLibrary);
        }
        if state.inside.values().any(|inside| *inside > 0) {
            return Err(ResetRefused::ThreadInside);
        }
        Ok(())
    }
}

impl Drop for FakeHsm {
    fn drop(&mut self) {
        self.disconnect();
    }
}

struct FakeSession {
    token: Arc<FakeToken>,
    epoch: Arc<AtomicU64>,
    opened_in: (u64, u64),
}

impl FakeSession {
    fn begin(&self, call: Call) -> Result<MutexGuard<'_, State>, HsmFault> {
        let epoch = self.epoch.load(Ordering::Acquire);
        if epoch != self.opened_in.0 {
            return Err(fail(if epoch % 2 == 1 { FaultClass::Session } else { FaultClass::Gone }, call));
        }
        self.token.begin(call)?;
        let state = self.token.state();
        if state.losses != self.opened_in.1 {
            return Err(fail(FaultClass::Session, call));
        }
        if !state.logged_in {
            return Err(fail(FaultClass::Login, call));
        }
        Ok(state)
    }
}

impl Drop for FakeSession {
    fn drop(&mut self) {
        let mut state = self.token.state();
        if state.losses == self.opened_in.1 {
            state.open_sessions -= 1;
        }
    }
}

impl HsmSession for FakeSession {
    fn list(&mut self) -> Result<Vec<HsmObject>, HsmFault> {
        let state = self.begin(Call::List)?;
        let shown = |object: &Object| HsmObject {
            cka_id: object.cka_id.clone(),
            label: object.label.clone(),
            public: Some(object.key.public()),
            has_private: true,
        };
        Ok(state.objects.iter().map(shown).collect())
    }

    fn generate(&mut self, new: &NewKey<'_>) -> Result<PublicKey, HsmFault> {
        let mut state = self.begin(Call::Generate)?;
        if state.objects.iter().any(|object| object.cka_id == new.cka_id) {
            return Err(HsmFault::new(FaultClass::Request, "C_GenerateKeyPair", "an object with that CKA_ID is there"));
        }
        let key = Arc::new(SoftwareKey::generate(new.spec));
        let public = key.public();
        let yes = Some(true);
        let evidence = Evidence {
            local: yes,
            sensitive: yes,
            always_sensitive: yes,
            extractable: Some(state.leaky),
            never_extractable: Some(!state.leaky),
            key_gen_mechanism: Some("fake".into()),
        };
        state.objects.push(Object { cka_id: new.cka_id.to_vec(), label: new.label.to_owned(), key, evidence });
        Ok(public)
    }

    fn sign(&mut self, key: &KeyRef<'_>, alg: Alg, message: &[u8]) -> Result<Vec<u8>, HsmFault> {
        if !key.public.suits(alg) {
            return Err(fail(FaultClass::Request, Call::Sign));
        }
        let mut state = self.begin(Call::Sign)?;
        let object = find(&state, key)?;
        let weak = |why: &str| HsmFault::new(FaultClass::CustodyTooWeak, "C_GetAttributeValue", why);
        if object.evidence.custody().map_err(weak)? > key.custody {
            return Err(weak("it was not generated here"));
        }
        let software = object.key.clone();
        let forged = state.forgeries > 0;
        state.forgeries = state.forgeries.saturating_sub(1);
        // Real tokens sign for several sessions at once.
        drop(state);
        let mut signature = software.sign(alg, message);
        if let (true, Some(byte)) = (forged, signature.last_mut()) {
            *byte ^= 1;
        }
        Ok(signature)
    }

    fn destroy(&mut self, key: &KeyRef<'_>) -> Result<(), HsmFault> {
        let mut state = self.begin(Call::Destroy)?;
        find(&state, key)?;
        state.objects.retain(|object| object.cka_id != key.cka_id || object.label != key.label);
        Ok(())
    }

    fn evidence(&mut self, key: &KeyRef<'_>) -> Result<Evidence, HsmFault> {
        let state = self.begin(Call::Evidence)?;
        Ok(find(&state, key)?.evidence.clone())
    }
}

fn find<'a>(state: &'a State, key: &KeyRef<'_>) -> Result<&'a Object, HsmFault> {
    let mut matching = state.objects.iter().filter(|object| object.cka_id == key.cka_id && object.label == key.label);
    match (matching.next(), matching.next()) {
        (Some(object), None) if object.key.public().numbers() == key.public.numbers() => Ok(object),
        _ => Err(HsmFault::new(FaultClass::KeyAbsent, "C_FindObjects", "not exactly one pair with that public key")),
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
