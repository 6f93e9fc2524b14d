//! Checks an evidence file offline: what of it is proven, and what is only claimed.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Nonce, TYP,
    attestation::{self, Attestation, NotAttested},
    custody_keys,
    document::{self, Document},
    possession_message,
    roots::Roots,
};
use crate::{client::Custody, key::Alg, public_key::PublicKey, time::Timestamp};

pub use super::report::{Finding, Report, Standing};

/// What whoever verifies trusts, and wants.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Keys that Hallmark's evidence is signed with, from a source of their own; empty: not known.
    pub custody_keys: Vec<PublicKey>,
    pub roots: Roots,
    /// What was asked for; `None`: not known.
    pub nonce: Option<Nonce>,
    pub now: Timestamp,
}

/// Checks `file`, a compact JWS with white space around it at most.
pub fn verify(file: &str, trust: &Trust) -> Report {
    let (findings, document, custody, attestation) = (Vec::new(), None, None, None);
    let mut report = Report { findings, document, custody, attestation, issued_at: None };
    let read = match Read::of(file.trim()) {
        Ok(read) => read,
        Err(why) => {
            report.add(Standing::Failed, format!("this is no evidence: {why}"));
            return report;
        }
    };
    check_signature(&read, trust, &mut report);
    check_time(&read, trust, &mut report);
    let Read { claims: Claims { evidence, iat, .. }, .. } = read;
    let key = check_key(&evidence, &mut report);
    if let Some(key) = &key {
        check_possession(&evidence, key, trust, &mut report);
        let shown = check_attestation(&evidence, key, trust, &mut report);
        list_claims(&evidence, &mut report);
        check_custody(&evidence, shown.as_ref(), &mut report);
        report.attestation = shown;
    }
    report.custody = evidence.custody.filter(|_| report.holds());
    report.issued_at = Some(iat);
    report.document = Some(evidence);
    report
}

/// The parts of the file.
struct Read {
    alg: Alg,
    signed: String,
    signature: Vec<u8>,
    claims: Claims,
    /// Of the custody key that the file names itself.
    named: PublicKey,
}

#[derive(Deserialize)]
struct Claims {
    iat: i64,
    evidence: Document,
    custody_jwk: Value,
}

impl Read {
    fn of(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Head {
            alg: Alg,
            typ: Option<String>,
        }
        if text.len() > LONGEST {
            return Err(format!("it has more than {LONGEST} bytes"));
        }
        let (signed, signature) = text.rsplit_once('.').ok_or("it is no JWS, which has three parts")?;
        let (header, claims) = signed.split_once('.').ok_or("it is no JWS, which has three parts")?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| "a part of it is no base64url".to_owned());
        let head: Head = serde_json::from_slice(&decode(header)?).map_err(|error| format!("its header: {error}"))?;
        if head.typ.as_deref() != Some(TYP) {
            return Err(format!("its `typ` is not `{TYP}`: it is another kind of JWT"));
        }
        let claims: Claims =
            serde_json::from_slice(&decode(claims)?).map_err(|error| format!("its claims: {error}"))?;
        if claims.evidence.version != document::VERSION {
            return Err(format!("it is of version {}, made by a newer Hallmark", claims.evidence.version));
        }
        let named = custody_keys::of_jwk(&claims.custody_jwk).map_err(|why| format!("its custody key: {why}"))?;
        Ok(Self { alg: head.alg, signed: signed.to_owned(), signature: decode(signature)?, claims, named })
    }

    fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.verifier(self.alg).is_ok_and(|verifier| verifier.verifies(self.signed.as_bytes(), &self.signature))
    }
}

fn check_signature(read: &Read, trust: &Trust, report: &mut Report) {
    let named = read.named.thumbprint();
    if trust.custody_keys.is_empty() {
        if read.is_signed_by(&read.named) {
            let text = format!(
                "signed by key {named}, which the file names itself: with Hallmark's custody key at hand, from `hallmark keys \
                 custody --json`, --custody-key shows whether it is that"
            );
            return report.add(Standing::Unchecked, text);
        }
        return report
            .add(Standing::Failed, "the signature is not that of the key that the file names: it was altered");
    }
    match trust.custody_keys.iter().find(|key| read.is_signed_by(key)) {
        Some(key) if key.numbers() == read.named.numbers() => {
            report.add(
                Standing::Proven,
                format!("signed by custody key {named}, which you hold; nothing in it was altered"),
            );
        }
        Some(_) => {
            report.add(Standing::Failed, format!("it names {named} as its custody key, and was signed by another"))
        }
        None if read.is_signed_by(&read.named) => {
            report.add(
                Standing::Failed,
                format!("signed by key {named}, which is none of the custody keys that you hold"),
            );
        }
        None => {
            report.add(Standing::Failed, "no custody key that you hold has signed it: it was altered, or is another's")
        }
    }
}

fn check_time(read: &Read, trust: &Trust, report: &mut Report) {
    let iat = read.claims.iat;
    if iat > trust.now.secs().saturating_add(SKEW_SECS) {
        return report.add(Standing::Failed, "it says that it was made in the future; check this machine's clock");
    }
    let age = trust.now.secs().saturating_sub(iat).max(0);
    report.add(Standing::Claimed, format!("made {} ago, by the clock of the server", humane(age)));
}

fn check_key(evidence: &Document, report: &mut Report) -> Option<PublicKey> {
    let key = match custody_keys::of_jwk(&evidence.jwk) {
        Ok(key) => key,
        Err(why) => {
            report.add(Standing::Failed, format!("the key that it is about can't be read: {why}"));
            return None;
        }
    };
    let thumbprint = key.thumbprint();
    if thumbprint.as_str() != evidence.thumbprint {
        report.add(Standing::Failed, format!("the thumbprint is not that of the key, which is {thumbprint}"));
        return None;
    }
    let name = if thumbprint == evidence.kid { "its kid".to_owned() } else { format!("its kid is {}", evidence.kid) };
    report.add(Standing::Proven, format!("it is about the key with thumbprint {thumbprint} ({name})"));
    Some(key)
}

fn check_possession(evidence: &Document, key: &PublicKey, trust: &Trust, report: &mut Report) {
    let nonce = URL_SAFE_NO_PAD.decode(&evidence.nonce).ok().and_then(|bytes| Nonce::new(bytes).ok());
    let Some(nonce) = nonce else {
        return report.add(Standing::Failed, "its nonce has not 16 to 64 bytes of base64url");
    };
    let signature = URL_SAFE_NO_PAD.decode(&evidence.possession).unwrap_or_default();
    let message = possession_message(&evidence.kid, &nonce);
    let signs = key.verifier(evidence.alg).is_ok_and(|verifier| verifier.verifies(&message, &signature));
    match signs {
        true => report.add(Standing::Proven, format!("the key was at hand: it signed nonce {nonce:?}")),
        false => report.add(Standing::Failed, "the proof of possession does not hold: the key did not sign this nonce"),
    }
    match &trust.nonce {
        Some(wanted) if *wanted == nonce => {
            report.add(Standing::Proven, "it is fresh: the nonce is the one that you gave")
        }
        Some(_) => {
            report.add(Standing::Failed, "the nonce is not the one that you gave: this is another's, or of before")
        }
        None => report.add(Standing::Unchecked, "whether it is fresh: --nonce says which one was asked for"),
    }
}

/// The attestation, if it holds.
fn check_attestation(evidence: &Document, key: &PublicKey, trust: &Trust, report: &mut Report) -> Option<Attestation> {
    let chain = evidence.attestation.iter().map(|der| STANDARD.decode(der));
    let Ok(chain) = chain.collect::<Result<Vec<_>, _>>() else {
        report.add(Standing::Failed, "the attestation is damaged: no base64");
        return None;
    };
    let shown = match attestation::check(&chain, key, &trust.roots, trust.now) {
        Ok(shown) => shown,
        Err(NotAttested::None) => {
            let text = "its maker attests nothing: where the key was born is the HSM's own word, below";
            report.add(Standing::Claimed, text);
            return None;
        }
        Err(why) => {
            report.add(Standing::Failed, why.to_string());
            return None;
        }
    };
    let Attestation { serial, firmware, root, pin_policy, touch_policy, .. } = &shown;
    if evidence.hsm.serial.parse().is_ok_and(|named: u32| named != *serial) {
        let text =
            format!("it names HSM {}, and the attestation is of YubiKey {serial}", evidence.hsm.serial.escape_debug());
        report.add(Standing::Failed, text);
        return None;
    }
    let place = shown.slot.as_ref().map(|slot| format!(" in slot {slot}")).unwrap_or_default();
    let text = format!(
        "generated{place} of YubiKey {serial}, firmware {firmware}, and can't leave it: attested under `{root}`"
    );
    report.add(Standing::Proven, text);
    let (pin, touch) = (pin_policy.as_str(), touch_policy.as_str());
    report.add(Standing::Proven, format!("it asks for the PIN {pin}, and for a touch {touch}"));
    Some(shown)
}

/// What the HSM's module says, and Hallmark of itself.
fn list_claims(evidence: &Document, report: &mut Report) {
    let hsm = &evidence.hsm;
    let parts = [
        ("", &hsm.manufacturer),
        ("", &hsm.model),
        ("serial ", &hsm.serial),
        ("firmware ", &hsm.firmware),
        ("hardware ", &hsm.hardware),
        ("through ", &hsm.module),
    ];
    let said: Vec<_> =
        parts.iter().filter(|(_, text)| !text.is_empty()).map(|(word, text)| format!("{word}{text}")).collect();
    report.add(Standing::Claimed, format!("HSM `{}`: {}", hsm.name, said.join(", ")).escape_debug().to_string());
    let word = |value: Option<bool>| match value {
        Some(true) => "true",
        Some(false) => "false",
        None => "not known",
    };
    let named = evidence.attributes.named().map(|(name, value)| format!("{name} {}", word(value))).join(", ");
    let how = evidence.attributes.key_gen_mechanism.as_deref().unwrap_or("not known").escape_debug().to_string();
    report.add(Standing::Claimed, format!("{named}, CKA_KEY_GEN_MECHANISM {how}"));
    let whose =
        evidence.client.as_ref().map_or_else(|| "Hallmark itself".to_owned(), |client| format!("client `{client}`"));
    let Document { state, origin, alg, .. } = evidence;
    let text = format!("{alg} key of {whose}, {state}, {origin}");
    report.add(Standing::Claimed, text.escape_debug().to_string());
}

/// What the file says of custody must follow from what it shows.
fn check_custody(evidence: &Document, attested: Option<&Attestation>, report: &mut Report) {
    let by_itself = evidence.attributes.custody();
    let follows = match by_itself {
        Ok(Custody::Local) if attested.is_some() => Some(Custody::Attested),
        Ok(shown) => Some(shown),
        Err(_) => None,
    };
    // A verifier with fewer roots than the server sees less; never more.
    let too_much = match (evidence.custody, follows) {
        (Some(said), Some(shown)) => said < shown,
        (Some(_), None) => true,
        (None, _) => false,
    };
    if too_much {
        let text = "the custody that it names is better than what it shows";
        return report.add(Standing::Failed, text);
    }
    match (evidence.custody, attested.is_some()) {
        (Some(Custody::Attested), true) => report.add(Standing::Proven, "custody: attested"),
        (Some(said), _) => report.add(Standing::Claimed, format!("custody: {}", said.as_str())),
        (None, _) => {
            let why = by_itself.err().or(evidence.shortfall.as_deref()).unwrap_or("no reason is given");
            report.add(Standing::Claimed, format!("custody: none, for {}", why.escape_debug()));
        }
    }
}

fn humane(secs: i64) -> String {
    match secs {
        0..120 => format!("{secs} s"),
        120..7200 => format!("{} min", secs / 60),
        7200..172_800 => format!("{} h", secs / 3600),
        _ => format!("{} days", secs / 86_400),
    }
}

/// Clocks differ.
const SKEW_SECS: i64 = 300;
const LONGEST: usize = 256 * 1024;
