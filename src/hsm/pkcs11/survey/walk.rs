//! The calls that need no PIN, each announced before it is made.

use std::{path::PathBuf, sync::Arc};

use cryptoki::{
    mechanism::{MechanismInfo, MechanismType},
    slot::{Limit, Slot, SlotInfo, TokenInfo},
    types::Version,
};
use hallmark_core::ports::{FaultClass, HsmFault};

use super::{
    super::{
        classify::{fault, is_unreadable},
        module::{Inside, Module, ModuleError},
        objects::unpadded,
    },
    facts::{End, Event, Failure, Library, Mechanism, SlotShown, Step, TokenShown, Versions},
    raw::Raw,
};
use crate::hsm::credentials::PIN_SOURCE;

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub module: PathBuf,
    pub only: Option<Only>,
    /// Calls that did not come back from an earlier process: they are left out.
    pub skip: Vec<Step>,
}

/// One slot, or the token of that serial or label, instead of all.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Only {
    Slot(u64),
    Token(String),
}

impl Only {
    /// Whether it is that slot, or may be: a token that can't be read is looked at.
    pub fn wants(&self, slot: u64, token: Option<&TokenShown>) -> bool {
        match (self, token) {
            (Self::Slot(wanted), _) => *wanted == slot,
            (Self::Token(wanted), Some(token)) => [&token.serial, &token.label].contains(&wanted),
            (Self::Token(_), None) => false,
        }
    }
}

/// Loads the module, and asks it all that can be asked without a PIN. Gives the module as long as it works.
///
/// Loads it by `order.module` itself: one process looks at one module, once.
pub fn walk(order: &Order, tell: &mut dyn FnMut(Event)) -> Option<Arc<Module>> {
    let mut walker = Walker { skip: &order.skip, tell };
    let context = walker.step(&Step::new("dlopen"), || Module::open(&order.module).map_err(load_fault))?;
    let start = || Module::start(order.module.clone(), context).map_err(load_fault);
    let module = Arc::new(walker.step(&Step::new("C_Initialize"), start)?);
    {
        let inside = walker.step(&Step::new("C_Initialize"), || module.enter())?;
        let raw = Raw::of(&module, &inside);
        let call = &Call { inside: &inside, raw: raw.as_ref() };
        walker.library(call);
        walker.slots(call, order.only.as_ref());
    }
    Some(module)
}

/// `C_Finalize`, which recovery needs; the module is not to be used after it.
pub(super) fn finalize(module: &Module, skip: &[Step], tell: &mut dyn FnMut(Event)) {
    let mut walker = Walker { skip, tell };
    walker.step(&Step::new("C_Finalize"), || module.enter()?.context().clone().finalize().map_err(fault));
}

pub(super) struct Walker<'a> {
    pub(super) skip: &'a [Step],
    pub(super) tell: &'a mut dyn FnMut(Event),
}

struct Call<'a> {
    inside: &'a Inside<'a>,
    raw: Option<&'a Raw<'a>>,
}

impl Walker<'_> {
    /// Makes a call, unless an earlier process died of it or hung in it; tells that it failed.
    pub(super) fn step<T>(&mut self, step: &Step, call: impl FnOnce() -> Result<T, HsmFault>) -> Option<T> {
        if self.skip.contains(step) || self.is_hopeless(&step.function) {
            return None;
        }
        (self.tell)(Event::Begin(step.clone()));
        call().map_err(|fault| self.failed(step, &fault)).ok()
    }

    /// Whether a function that says nothing of importance took two processes along: it would take more.
    fn is_hopeless(&self, function: &str) -> bool {
        let lost = self.skip.iter().filter(|skipped| skipped.function == function).count();
        ["C_GetMechanismInfo", "C_GetSlotInfo"].contains(&function) && lost > 1
    }

    fn failed(&mut self, step: &Step, fault: &HsmFault) {
        if fault.function == PIN_SOURCE {
            let end = End::NotMade { why: fault.code.clone() };
            return (self.tell)(Event::Failed(Failure { step: step.clone(), end }));
        }
        // A function that was called on the way, and is not the one that the step is named after.
        let code = if fault.function.starts_with("C_") && fault.function != step.function {
            fault.to_string()
        } else {
            fault.code.clone()
        };
        let end = End::Returned { code, class: fault.class.as_str().to_owned() };
        (self.tell)(Event::Failed(Failure { step: step.clone(), end }));
    }

    fn library(&mut self, call: &Call<'_>) {
        let asked = || call.inside.context().get_library_info().map_err(fault);
        if let Some(info) = self.step(&Step::new("C_GetInfo"), asked) {
            (self.tell)(Event::Library(Library {
                manufacturer: unpadded(info.manufacturer_id()).to_owned(),
                description: unpadded(info.library_description()).to_owned(),
                version: version(info.library_version()),
                cryptoki: version(info.cryptoki_version()),
            }));
        }
    }

    fn slots(&mut self, call: &Call<'_>, only: Option<&Only>) {
        let context = call.inside.context();
        let all = self.step(&Step::new("C_GetSlotList"), || context.get_all_slots().map_err(fault));
        // The question that Hallmark asks, and that some modules answer where they do not answer the other.
        let asked = Step::new("C_GetSlotList").about("with a token");
        let with_token = self.step(&asked, || context.get_slots_with_token().map_err(fault));
        if all.is_none() && with_token.is_none() {
            return;
        }
        let with_token = with_token.unwrap_or_default();
        let mut slots = all.unwrap_or_default();
        slots.extend(with_token.iter().filter(|slot| !slots.contains(slot)).copied().collect::<Vec<_>>());
        (self.tell)(Event::Slots(slots.iter().map(Slot::id).collect()));
        for slot in slots {
            self.slot(call, slot, with_token.contains(&slot), only);
        }
    }

    fn slot(&mut self, call: &Call<'_>, slot: Slot, has_token: bool, only: Option<&Only>) {
        let is_wanted = !matches!(only, Some(Only::Slot(wanted)) if *wanted != slot.id());
        let about = |function| Step::new(function).at(slot.id());
        let context = call.inside.context();
        let ask = || context.get_slot_info(slot).map_err(fault);
        if is_wanted && let Some(info) = self.step(&about("C_GetSlotInfo"), ask) {
            (self.tell)(Event::Slot(slot.id(), slot_shown(&info)));
        }
        if !has_token {
            return;
        }
        // Of the others too: what names the one must not name them.
        let token = self.token(call, slot, &about("C_GetTokenInfo"));
        if only.is_some_and(|only| !only.wants(slot.id(), token.as_ref())) {
            return;
        }
        self.mechanisms(call, slot, &about("C_GetMechanismList"));
        // A token that is not initialised has no sessions.
        if token.is_some_and(|token| !token.has("TOKEN_INITIALIZED")) {
            return;
        }
        let open = || context.open_ro_session_no_drop(slot).map_err(fault);
        if let Some(session) = self.step(&about("C_OpenSession"), open) {
            (self.tell)(Event::Session(slot.id()));
            self.step(&about("C_GetSessionInfo"), || session.get_session_info().map_err(fault));
            self.step(&about("C_CloseSession"), || session.close().map_err(fault));
        }
    }

    fn token(&mut self, call: &Call<'_>, slot: Slot, step: &Step) -> Option<TokenShown> {
        let mut past_it = None;
        let asked = self.step(step, || {
            call.inside.context().get_token_info(slot).map_err(fault).inspect_err(|fault| {
                if is_unreadable(fault) {
                    past_it = call.raw.and_then(|raw| raw.token(slot.id()));
                    past_it.iter_mut().for_each(|token| token.unreadable = Some(fault.code.clone()));
                }
            })
        });
        let token = asked.as_ref().map(token_shown).or(past_it);
        token.iter().for_each(|token| (self.tell)(Event::Token(slot.id(), token.clone())));
        token
    }

    fn mechanisms(&mut self, call: &Call<'_>, slot: Slot, step: &Step) {
        let context = call.inside.context();
        let mut others = Vec::new();
        let list = self.step(step, || {
            let list = context.get_mechanism_list(slot).map_err(fault)?;
            let all = call.raw.and_then(|raw| raw.mechanisms(slot.id())).unwrap_or_default();
            others.extend(all.into_iter().filter(|id| !list.iter().any(|known| **known == *id)));
            Ok(list)
        });
        let Some(list) = list else { return };
        let named = |kind: &MechanismType| Mechanism { name: kind.to_string(), id: **kind, ..Mechanism::default() };
        (self.tell)(Event::Mechanisms(slot.id(), list.iter().map(named).collect(), others));
        for kind in list {
            let step = Step::new("C_GetMechanismInfo").at(slot.id()).about(kind.to_string());
            if let Some(info) = self.step(&step, || context.get_mechanism_info(slot, kind).map_err(fault)) {
                (self.tell)(Event::Mechanism(slot.id(), mechanism_shown(named(&kind), &info)));
            }
        }
    }
}

fn load_fault(error: ModuleError) -> HsmFault {
    match error {
        ModuleError::Missing { source, .. } => HsmFault::new(FaultClass::Gone, "dlopen", source),
        ModuleError::NotAModule { reason, .. } => HsmFault::new(FaultClass::Unsupported, "dlopen", reason),
        ModuleError::Initialise { fault, .. } => fault,
    }
}

fn slot_shown(info: &SlotInfo) -> SlotShown {
    let flags = [
        ("TOKEN_PRESENT", info.token_present()),
        ("REMOVABLE_DEVICE", info.removable_device()),
        ("HW_SLOT", info.hardware_slot()),
    ];
    SlotShown {
        description: unpadded(info.slot_description()).to_owned(),
        manufacturer: unpadded(info.manufacturer_id()).to_owned(),
        flags: names(&flags),
    }
}

fn token_shown(info: &TokenInfo) -> TokenShown {
    let limit = |limit: Limit| match limit {
        Limit::Max(max) => Some(max),
        Limit::Unavailable | Limit::Infinite => None,
    };
    let clock = |time: cryptoki::types::UtcTime| {
        let cryptoki::types::UtcTime { year, month, day, hour, minute, second } = time;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    };
    TokenShown {
        label: unpadded(info.label()).to_owned(),
        manufacturer: unpadded(info.manufacturer_id()).to_owned(),
        model: unpadded(info.model()).to_owned(),
        serial: unpadded(info.serial_number()).to_owned(),
        flags: token_flags(info),
        max_sessions: limit(info.max_session_count()),
        sessions: info.session_count(),
        max_rw_sessions: limit(info.max_rw_session_count()),
        min_pin: info.min_pin_length() as u64,
        max_pin: info.max_pin_length() as u64,
        versions: Versions { hardware: version(info.hardware_version()), firmware: version(info.firmware_version()) },
        clock: info.utc_time().map(clock),
        unreadable: None,
    }
}

fn token_flags(info: &TokenInfo) -> Vec<String> {
    names(&[
        ("TOKEN_INITIALIZED", info.token_initialized()),
        ("LOGIN_REQUIRED", info.login_required()),
        ("USER_PIN_INITIALIZED", info.user_pin_initialized()),
        ("USER_PIN_COUNT_LOW", info.user_pin_count_low()),
        ("USER_PIN_FINAL_TRY", info.user_pin_final_try()),
        ("USER_PIN_LOCKED", info.user_pin_locked()),
        ("USER_PIN_TO_BE_CHANGED", info.user_pin_to_be_changed()),
        ("PROTECTED_AUTHENTICATION_PATH", info.protected_authentication_path()),
        ("WRITE_PROTECTED", info.write_protected()),
        ("CLOCK_ON_TOKEN", info.clock_on_token()),
        ("RNG", info.rng()),
        ("RESTORE_KEY_NOT_NEEDED", info.restore_key_not_needed()),
        ("DUAL_CRYPTO_OPERATIONS", info.dual_crypto_operations()),
        ("SO_PIN_LOCKED", info.so_pin_locked()),
        ("ERROR_STATE", info.error_state()),
    ])
}

fn mechanism_shown(mechanism: Mechanism, info: &MechanismInfo) -> Mechanism {
    let flags = [
        ("HW", info.hardware()),
        ("SIGN", info.sign()),
        ("VERIFY", info.verify()),
        ("GENERATE", info.generate()),
        ("GENERATE_KEY_PAIR", info.generate_key_pair()),
        ("ENCRYPT", info.encrypt()),
        ("DECRYPT", info.decrypt()),
        ("DIGEST", info.digest()),
        ("WRAP", info.wrap()),
        ("UNWRAP", info.unwrap()),
        ("DERIVE", info.derive()),
        ("EC_OID", info.ec_from_oid()),
        ("EC_UNCOMPRESS", info.ec_uncompressed()),
    ];
    let key_sizes = Some((info.min_key_size() as u64, info.max_key_size() as u64));
    Mechanism { key_sizes, flags: Some(names(&flags)), ..mechanism }
}

fn names(flags: &[(&str, bool)]) -> Vec<String> {
    flags.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| (*name).to_owned()).collect()
}

fn version(version: Version) -> String {
    format!("{}.{}", version.major(), version.minor())
}
