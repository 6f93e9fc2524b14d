//! What can be found of a module.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// A call, or what else takes its time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Step {
    /// The function by its name in PKCS#11, or `dlopen`.
    pub function: String,
    pub slot: Option<u64>,
    /// The mechanism, key or algorithm that it is about.
    pub about: Option<String>,
}

/// What is told of a module, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The call is about to be made.
    Begin(Step),
    Failed(Failure),
    Library(Library),
    /// All slots, with or without a token.
    Slots(Vec<u64>),
    Slot(u64, SlotShown),
    Token(u64, TokenShown),
    /// The mechanisms that Hallmark knows by name, and the numbers of the others.
    Mechanisms(u64, Vec<Mechanism>, Vec<u64>),
    /// A mechanism with what more is known of it.
    Mechanism(u64, Mechanism),
    /// A session was opened without a login, and closed.
    Session(u64),
    LoggedIn(u64),
    Key(FoundKey),
    Signed(String, SignedWith),
    /// All that could be asked was asked.
    End,
}

/// A call that did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub step: Step,
    pub end: End,
}

/// How a call ended that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum End {
    /// It returned, with this code or complaint; `class` is a [`FaultClass`](hallmark_core::ports::FaultClass) by its name.
    Returned { code: String, class: String },
    /// It did not return in this time.
    Hung { millis: u64 },
    /// The process that made it died of it.
    Crashed { how: String },
    /// It was not made, for this reason.
    NotMade { why: String },
}

/// `C_GetInfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Library {
    pub manufacturer: String,
    pub description: String,
    pub version: String,
    /// Of PKCS#11 itself.
    pub cryptoki: String,
}

/// `C_GetSlotInfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotShown {
    pub description: String,
    pub manufacturer: String,
    /// Names of flags, without `CKF_`.
    pub flags: Vec<String>,
}

/// `C_GetTokenInfo`. Texts are without their padding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenShown {
    pub label: String,
    pub manufacturer: String,
    pub model: String,
    pub serial: String,
    /// Names of flags, without `CKF_`.
    pub flags: Vec<String>,
    /// `None`: it does not say, or has no limit.
    pub max_sessions: Option<u64>,
    pub sessions: Option<u64>,
    pub max_rw_sessions: Option<u64>,
    pub min_pin: u64,
    pub max_pin: u64,
    pub versions: Versions,
    /// The token's clock as it shows it, where it says that it has one.
    pub clock: Option<String>,
    /// Why Hallmark's PKCS#11 binding can't read this info; what is above was read past it.
    pub unreadable: Option<String>,
}

/// As `major.minor`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    pub hardware: String,
    pub firmware: String,
}

/// One of `C_GetMechanismList`, with `C_GetMechanismInfo` where that answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mechanism {
    pub name: String,
    pub id: u64,
    /// Smallest and largest, in the module's unit: bits for RSA and ECDSA, though some modules say bytes.
    pub key_sizes: Option<(u64, u64)>,
    /// Names of flags, without `CKF_`; `None` where the module does not say.
    pub flags: Option<Vec<String>>,
}

/// What a login showed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    pub slot: u64,
    pub keys: Vec<FoundKey>,
}

/// A pair of objects, or half of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundKey {
    /// In hexadecimal.
    pub cka_id: String,
    pub label: String,
    /// Such as `RSA-2048` or `P-256`; `None` where there is no public object that Hallmark can use.
    pub kind: Option<String>,
    pub has_private: bool,
    pub sensitive: Option<bool>,
    pub extractable: Option<bool>,
    /// What `custody` it satisfies, or why none.
    pub custody: Option<Result<String, String>>,
    pub signed: Vec<SignedWith>,
}

/// A signature that was made and looked at, then thrown away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedWith {
    pub alg: String,
    /// Whether the public object verifies it.
    pub verifies: bool,
    pub micros: u64,
}

/// What was found, so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Survey {
    pub library: Option<Library>,
    /// `None`: the module gave no list.
    pub slots: Option<BTreeMap<u64, Found>>,
    pub failures: Vec<Failure>,
    pub login: Option<Login>,
    /// All that could be asked was asked.
    pub complete: bool,
}

/// What was found of a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    pub slot: Option<SlotShown>,
    pub token: Option<TokenShown>,
    pub mechanisms: Option<Vec<Mechanism>>,
    /// Numbers of those that have no name here.
    pub other_mechanisms: Vec<u64>,
    /// Whether a session could be opened without a login.
    pub session: bool,
}

impl Survey {
    /// Takes in what was told. Told twice, it counts once.
    pub fn take(&mut self, event: Event) {
        match event {
            Event::Begin(_) => {}
            Event::Failed(failure) if self.failures.contains(&failure) => {}
            Event::Failed(failure) => self.failures.push(failure),
            Event::Library(library) => self.library = Some(library),
            Event::Slots(ids) => {
                let slots = self.slots.get_or_insert_default();
                ids.into_iter().for_each(|id| _ = slots.entry(id).or_default());
            }
            Event::Slot(slot, shown) => self.found(slot).slot = Some(shown),
            Event::Token(slot, shown) => self.found(slot).token = Some(shown),
            Event::Mechanisms(slot, known, others) => {
                let found = self.found(slot);
                found.other_mechanisms = others;
                // A second process asks again; what the first one learnt of each is kept.
                found.mechanisms.get_or_insert(known);
            }
            Event::Mechanism(slot, mechanism) => {
                let list = self.found(slot).mechanisms.get_or_insert_default();
                list.iter_mut().filter(|known| known.id == mechanism.id).for_each(|known| *known = mechanism.clone());
            }
            Event::Session(slot) => self.found(slot).session = true,
            Event::LoggedIn(slot) => self.login = Some(Login { slot, keys: Vec::new() }),
            Event::Key(key) => self.login.get_or_insert_default().keys.push(key),
            Event::Signed(cka_id, signed) => {
                let keys = self.login.iter_mut().flat_map(|login| &mut login.keys);
                keys.filter(|key| key.cka_id == cka_id).take(1).for_each(|key| key.signed.push(signed.clone()));
            }
            Event::End => self.complete = true,
        }
    }

    /// The slots that are known.
    pub fn found_slots(&self) -> impl Iterator<Item = (u64, &Found)> {
        self.slots.iter().flatten().map(|(id, found)| (*id, found))
    }

    fn found(&mut self, slot: u64) -> &mut Found {
        self.slots.get_or_insert_default().entry(slot).or_default()
    }
}

impl Step {
    /// A call that is about no slot.
    pub fn new(function: &str) -> Self {
        Self { function: function.to_owned(), slot: None, about: None }
    }

    /// The same, about a slot.
    #[must_use]
    pub fn at(mut self, slot: u64) -> Self {
        self.slot = Some(slot);
        self
    }

    /// The same, about something by its name.
    #[must_use]
    pub fn about(mut self, what: impl Into<String>) -> Self {
        self.about = Some(what.into());
        self
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { function, slot, about } = self;
        f.write_str(function)?;
        about.iter().try_for_each(|about| write!(f, " {about}"))?;
        slot.iter().try_for_each(|slot| write!(f, ", slot {slot}"))
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Returned { code, .. } => f.write_str(code),
            Self::Hung { millis } => write!(f, "no answer within {:?}", Duration::from_millis(*millis)),
            Self::Crashed { how } => write!(f, "crashed ({how})"),
            Self::NotMade { why } => write!(f, "not made: {why}"),
        }
    }
}

impl TokenShown {
    /// Whether it shows that flag, named without `CKF_`.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|shown| shown == flag)
    }
}
