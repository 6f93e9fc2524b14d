//! What Hallmark would make of what was found. The decisions are those of [`Mechanisms`]; nothing is asked here.

use cryptoki::mechanism::MechanismType;
use hallmark_core::key::Alg;
use serde::Serialize;

use super::{
    super::mechanisms::{Mechanisms, key_pair_mechanism, signing_mechanisms},
    facts::{Found, Mechanism, Survey, TokenShown},
};

/// What Hallmark would make of one token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenVerdict {
    pub slot: u64,
    /// One for each of the nine; none where the token gave no list of mechanisms.
    pub algs: Vec<AlgVerdict>,
    /// What stands in the way of signing, whatever the algorithm.
    pub obstacles: Vec<String>,
    /// What an operator should know.
    pub remarks: Vec<String>,
    /// How the configuration would name it, or why it can't.
    pub section: Result<Section, String>,
}

/// How one algorithm would be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlgVerdict {
    pub alg: String,
    pub way: Way,
    /// What may keep it from working all the same.
    pub doubts: Vec<String>,
}

/// What signs, and what Hallmark adds to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "use")]
pub enum Way {
    /// Keys are made and used.
    Full {
        mechanism: String,
        ours: Option<&'static str>,
    },
    /// Keys that are there can be used, and none can be made.
    SignOnly {
        mechanism: String,
        ours: Option<&'static str>,
        why: String,
    },
    No {
        why: String,
    },
}

/// The keys of `[[hsm]]` that name a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Section {
    /// A name for the HSM, after its label.
    pub name: String,
    /// `token_serial` or `token_label`.
    pub key: &'static str,
    pub value: String,
    /// Where the default of four is more than the token has sessions for.
    pub workers: Option<u64>,
}

/// Judges every token that was found.
pub fn judge(survey: &Survey) -> Vec<TokenVerdict> {
    let tokens: Vec<_> = survey.found_slots().filter(|(_, found)| found.token.is_some()).collect();
    let judge = |(slot, found): &(u64, &Found)| {
        let token = found.token.clone().unwrap_or_default();
        let others: Vec<_> =
            tokens.iter().filter(|(other, _)| other != slot).filter_map(|(_, found)| found.token.as_ref()).collect();
        let algs = found.mechanisms.as_deref().map(algs).unwrap_or_default();
        let is_useless = !algs.is_empty() && algs.iter().all(|alg| matches!(alg.way, Way::No { .. }));
        let section = match section(*slot, &token, &others) {
            Ok(_) if is_useless => Err("Hallmark could sign nothing with it".to_owned()),
            section => section,
        };
        let (obstacles, remarks) = (obstacles(&token, found), remarks(&token, found, &others));
        TokenVerdict { slot: *slot, algs, obstacles, remarks, section }
    };
    tokens.iter().map(judge).collect()
}

impl TokenVerdict {
    /// Whether Hallmark can sign with it, as far as it can be seen.
    pub fn is_usable(&self) -> bool {
        self.obstacles.is_empty() && self.algs.iter().any(|alg| !matches!(alg.way, Way::No { .. }))
    }
}

fn algs(list: &[Mechanism]) -> Vec<AlgVerdict> {
    let known: Vec<MechanismType> = list.iter().filter_map(|shown| MechanismType::try_from(shown.id).ok()).collect();
    let mechanisms = Mechanisms::new(&known);
    Alg::ALL.into_iter().map(|alg| of_alg(alg, &mechanisms, list)).collect()
}

fn of_alg(alg: Alg, mechanisms: &Mechanisms, list: &[Mechanism]) -> AlgVerdict {
    let named = |kind: MechanismType| list.iter().find(|shown| shown.id == *kind);
    let maker = key_pair_mechanism(alg);
    let mut doubts = Vec::new();
    let way = match mechanisms.recipe(alg) {
        None => {
            let names: Vec<_> = signing_mechanisms(alg).iter().map(ToString::to_string).collect();
            Way::No { why: format!("the token has no {}", names.join(" and no ")) }
        }
        Some(recipe) => {
            let (mechanism, ours) = (recipe.mechanism().to_string(), recipe.ours());
            doubts.extend(named(recipe.mechanism()).and_then(|shown| lacks(shown, "SIGN")));
            doubts.extend([recipe.mechanism(), maker].into_iter().filter_map(named).find_map(|shown| size(alg, shown)));
            if mechanisms.algs().contains(&alg) {
                doubts.extend(named(maker).and_then(|shown| lacks(shown, "GENERATE_KEY_PAIR")));
                Way::Full { mechanism, ours }
            } else {
                let why = format!("no {maker}: keys can't be made here; `keys adopt` and `keys import` bring some");
                Way::SignOnly { mechanism, ours, why }
            }
        }
    };
    AlgVerdict { alg: alg.to_string(), way, doubts }
}

fn lacks(shown: &Mechanism, flag: &str) -> Option<String> {
    let flags = shown.flags.as_ref()?;
    (!flags.iter().any(|has| has == flag)).then(|| format!("{} is listed without CKF_{flag}", shown.name))
}

/// What the mechanism's key sizes leave out of what Hallmark makes.
fn size(alg: Alg, shown: &Mechanism) -> Option<String> {
    let (min, max) = shown.key_sizes.filter(|(_, max)| *max > 0)?;
    let wanted: &[u64] = match alg {
        Alg::ES256 => &[256],
        Alg::ES384 => &[384],
        Alg::EdDSA => return None,
        _ => &[2048, 3072, 4096],
    };
    let takes = |bits: &&u64| (min..=max).contains(*bits);
    // Some modules say bytes where the standard has bits.
    let takes_bytes = |bits: &&u64| (min..=max).contains(&(**bits / 8));
    if wanted.iter().all(|bits| takes(&bits)) {
        return None;
    }
    let taken: Vec<_> = wanted.iter().filter(takes).map(ToString::to_string).collect();
    Some(match taken.as_slice() {
        [] if wanted.iter().any(|bits| takes_bytes(&bits)) => {
            format!("{} takes keys of {min} to {max}, which must be bytes: the standard has bits", shown.name)
        }
        [] => format!("{} takes keys of {min} to {max} bits alone", shown.name),
        some => format!("{} takes keys of {min} to {max} bits: of Hallmark's, {}", shown.name, some.join(" and ")),
    })
}

fn obstacles(token: &TokenShown, found: &Found) -> Vec<String> {
    let mut obstacles = Vec::new();
    let mut say = |is_so: bool, what: &str| obstacles.extend(is_so.then(|| what.to_owned()));
    say(
        !token.has("TOKEN_INITIALIZED"),
        "the token is not initialised: do it with its maker's tools, or `softhsm2-util --init-token`, `pkcs11-tool \
         --init-token`; Hallmark does not",
    );
    say(token.has("USER_PIN_LOCKED"), "the user PIN is locked: its security officer must reset it");
    say(
        token.has("USER_PIN_FINAL_TRY"),
        "one try is left before the token locks its PIN, and Hallmark leaves it to you: log in once with the HSM's tools",
    );
    say(
        token.has("TOKEN_INITIALIZED") && token.has("LOGIN_REQUIRED") && !token.has("USER_PIN_INITIALIZED"),
        "the token has no user PIN yet: set one with the HSM's tools",
    );
    say(token.has("ERROR_STATE"), "the token says that it failed its self-test (CKF_ERROR_STATE)");
    say(found.mechanisms.is_none(), "the token gave no list of mechanisms, without which Hallmark does not connect");
    say(token.has("TOKEN_INITIALIZED") && !found.session, "no session could be opened");
    obstacles
}

fn remarks(token: &TokenShown, found: &Found, others: &[&TokenShown]) -> Vec<String> {
    let mut remarks = Vec::new();
    let mut say = |is_so: bool, what: &str| remarks.extend(is_so.then(|| what.to_owned()));
    if let Some(why) = &token.unreadable {
        let word = if others.is_empty() {
            "as the only token here it is taken at the configuration's word, and the state of its PIN is not seen before \
             a try"
        } else {
            "Hallmark can't choose it among several: let the module show it alone"
        };
        let clock = token.clock.as_ref().map(|clock| format!(" (its clock says `{clock}`)")).unwrap_or_default();
        say(true, &format!("its info does not read as PKCS#11 has it: {why}{clock}; {word}"));
    }
    say(token.has("USER_PIN_COUNT_LOW"), "a wrong PIN was tried since the last login (CKF_USER_PIN_COUNT_LOW)");
    say(token.has("USER_PIN_TO_BE_CHANGED"), "the user PIN is to be changed before it is of use");
    say(
        token.has("PROTECTED_AUTHENTICATION_PATH"),
        "it may want its PIN at a keypad; Hallmark gives the one of `pin_source`",
    );
    say(token.has("WRITE_PROTECTED"), "it is write-protected: it signs, and no key can be made or destroyed");
    say(
        !token.has("LOGIN_REQUIRED") && token.has("TOKEN_INITIALIZED"),
        "it wants no login: who can load the module can sign",
    );
    if let Some(max) = token.max_sessions.filter(|max| *max < 6) {
        say(true, &format!("it has {max} sessions; Hallmark keeps two of them for the login and for making keys"));
    }
    let no_info = |shown: &Mechanism| shown.flags.is_none();
    let unknown = found.mechanisms.iter().flatten().filter(|shown| no_info(shown)).count();
    say(
        unknown > 0,
        &format!("{unknown} of its mechanisms say nothing of their key sizes; Hallmark goes by the list alone"),
    );
    remarks
}

fn section(slot: u64, token: &TokenShown, others: &[&TokenShown]) -> Result<Section, String> {
    if !token.has("TOKEN_INITIALIZED") {
        return Err("it is not initialised, and has no name of its own yet".to_owned());
    }
    let unique = |value: &str, of: fn(&TokenShown) -> &str| {
        !value.is_empty() && !others.iter().any(|other| other.has("TOKEN_INITIALIZED") && of(other) == value)
    };
    let (key, value) = if unique(&token.serial, |token| &token.serial) {
        ("token_serial", &token.serial)
    } else if unique(&token.label, |token| &token.label) {
        ("token_label", &token.label)
    } else {
        return Err("neither its serial nor its label tells it from the others: give it a label of its own".to_owned());
    };
    let workers = token.max_sessions.map(|max| max.saturating_sub(2).max(1)).filter(|left| *left < DEFAULT_WORKERS);
    Ok(Section { name: name(slot, &token.label), key, value: value.clone(), workers })
}

/// A name that the configuration takes, `[a-z0-9-]`, at most 63.
fn name(slot: u64, label: &str) -> String {
    let plain = label.chars().map(|char| if char.is_ascii_alphanumeric() { char.to_ascii_lowercase() } else { '-' });
    let words: Vec<_> =
        plain.collect::<String>().split('-').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let name: String = words.join("-").chars().take(40).collect();
    match name.trim_end_matches('-') {
        "" => format!("slot-{slot}"),
        name => name.to_owned(),
    }
}

/// `workers` where the configuration does not say (`config::defaults`).
const DEFAULT_WORKERS: u64 = 4;
