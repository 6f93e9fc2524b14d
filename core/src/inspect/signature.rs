//! Whether the signature verifies, with which key, and if not, why.

use super::{
    Cited, Context, Report, Severity, Signature,
    certificates::Shown,
    compact::Compact,
    keyset::{Key, KeySet},
    text::quoted,
};
use crate::{key::Alg, public_key::PublicKey};

pub(super) fn check(
    compact: &Compact,
    alg: Option<Alg>,
    shown: Shown,
    context: &Context<'_>,
    report: &mut Report,
) -> Signature {
    let not_checked = |why: &str| Signature::NotChecked(why.to_owned());
    let Some(signature) = compact.signature.as_deref() else { return not_checked("there is none that can be read") };
    let kid = compact.header.as_ref().and_then(|header| header.text("kid"));
    let Some(alg) = alg else { return not_checked("its algorithm is none that could be verified") };
    let input = Input { signed: compact.signed.as_bytes(), signature, alg, kid };
    input.form(report);
    let verdict = match (context.keys.filter(|keys| !keys.is_empty()), &shown.leaf_key) {
        (Some(keys), leaf) => {
            if let Some(leaf) = leaf {
                input.against_certificate(leaf, keys, report);
            }
            input.with_set(keys, context, report)
        }
        (None, Some(leaf)) => input.with_key(leaf, "the certificate in `x5c`"),
        (None, None) => return not_checked("no key was given: name the JWKS"),
    };
    if let Signature::Failed(why) = &verdict {
        let hint =
            "sign the bytes of header.claims with the private half of the published key, and change nothing after";
        report.add(Severity::Error, "signature", format!("the signature does not verify: {why}"), hint, RULE);
    }
    verdict
}

/// What is verified.
struct Input<'a> {
    signed: &'a [u8],
    signature: &'a [u8],
    alg: Alg,
    kid: Option<&'a str>,
}

impl Input<'_> {
    fn verifies(&self, key: &PublicKey) -> bool {
        key.verifier(self.alg).is_ok_and(|verifier| verifier.verifies(self.signed, self.signature))
    }

    fn with_key(&self, key: &PublicKey, what: &str) -> Signature {
        if !key.suits(self.alg) {
            return Signature::Failed(format!("{what} is of another kind than {} takes", self.alg));
        }
        if self.verifies(key) {
            Signature::Verified(what.to_owned())
        } else {
            Signature::Failed(format!("not with {what}"))
        }
    }

    /// ECDSA signatures of JOSE are r ‖ s; many libraries give DER.
    fn form(&self, report: &mut Report) {
        let length = match self.alg {
            Alg::ES256 | Alg::EdDSA => 64,
            Alg::ES384 => 96,
            _ => return,
        };
        if self.signature.len() == length {
            return;
        }
        let der = matches!(self.alg, Alg::ES256 | Alg::ES384) && self.signature.first() == Some(&0x30);
        let what = if der {
            "the ECDSA signature is in DER, and JOSE has r and s side by side".to_owned()
        } else {
            format!("the signature has {} bytes, and {} has {length}", self.signature.len(), self.alg)
        };
        report.add(Severity::Error, "signature", what, "convert it", Cited::specified("RFC 7518 §3.4"));
    }

    /// Of an `x5c` beside a JWKS: they must be one key.
    fn against_certificate(&self, leaf: &PublicKey, keys: &KeySet, report: &mut Report) {
        let Some(key) = keys.keys.iter().find(|key| key.kid.is_some() && key.kid.as_deref() == self.kid) else {
            return;
        };
        if key.public.as_ref().is_ok_and(|public| public.thumbprint() != leaf.thumbprint()) {
            let what = format!("the certificate in `x5c` is for another key than {} of the JWKS", key.name());
            let hint = "install the certificate that was issued for this key";
            report.add(Severity::Error, "x5c", what, hint, Cited::specified("RFC 7515 §4.1.6"));
        }
    }

    fn with_set(&self, set: &KeySet, context: &Context<'_>, report: &mut Report) -> Signature {
        if context.profile.jwks.first_rsa_key && self.alg.is_rsa() {
            return self.with_first_rsa(set, context, report);
        }
        let named: Vec<_> =
            set.keys.iter().filter(|key| self.kid.is_some() && key.kid.as_deref() == self.kid).collect();
        let candidates: Vec<_> = match self.kid {
            None => set.keys.iter().filter(|key| key.serves(self.alg)).take(MOST_TRIED).collect(),
            Some(_) => named.iter().copied().filter(|key| key.serves(self.alg)).take(MOST_TRIED).collect(),
        };
        if candidates.is_empty() {
            self.why_none(&named, set, report);
        } else if self.kid.is_none() && candidates.len() > 1 {
            let what = format!("there is no `kid`, and {} keys of the JWKS could be meant", candidates.len());
            report.add(
                Severity::Warning,
                "kid",
                what,
                "name the key: `kid` as in the JWKS",
                Cited::specified("RFC 7515 §4.1.4"),
            );
        }
        match candidates.iter().find(|key| self.verifies_with(key)) {
            Some(key) => Signature::Verified(format!("key {}", key.name())),
            None => Signature::Failed(self.by_another(set).unwrap_or_else(|| match candidates.as_slice() {
                [] => "no key of the JWKS can be used".to_owned(),
                [key] => format!("not with key {}", key.name()),
                several => format!("with none of {} keys", several.len()),
            })),
        }
    }

    fn with_first_rsa(&self, set: &KeySet, context: &Context<'_>, report: &mut Report) -> Signature {
        let Some(first) = set.keys.iter().find(|key| key.kty == "RSA") else {
            let what = "the JWKS has no RSA key";
            report.add(
                Severity::Error,
                "jwks",
                what,
                "publish the signing key",
                Cited::of(&context.profile.jwks.caching),
            );
            return Signature::Failed("the JWKS has no RSA key".to_owned());
        };
        if self.verifies_with(first) {
            return Signature::Verified(format!("key {}, the first RSA key of the set", first.name()));
        }
        let why = self.by_another(set);
        if why.is_some() {
            let what = format!(
                "{} takes the first RSA key of the JWKS, {}, whatever `kid` says",
                context.profile.system,
                first.name()
            );
            let hint = "publish the active key first, and switch order and signing key at once";
            report.add(Severity::Error, "jwks", what, hint, Cited::of(&context.profile.jwks.caching));
        }
        Signature::Failed(why.unwrap_or_else(|| format!("not with key {}, the first RSA key", first.name())))
    }

    fn verifies_with(&self, key: &Key) -> bool {
        key.public.as_ref().is_ok_and(|key| self.verifies(key))
    }

    /// Whose it is, if it is any other key's of the set.
    fn by_another(&self, set: &KeySet) -> Option<String> {
        let suits = |key: &&Key| key.public.as_ref().is_ok_and(|public| public.suits(self.alg));
        let other = set.keys.iter().filter(suits).take(MOST_TRIED).find(|key| self.verifies_with(key))?;
        Some(format!("it was made with key {}, and not with the one that a verifier takes", other.name()))
    }

    fn why_none(&self, named: &[&Key], set: &KeySet, report: &mut Report) {
        let rule = Cited::specified("RFC 7515 §6");
        let (about, what, hint) = match (self.kid, named.first()) {
            (Some(kid), None) => {
                let kids: Vec<_> = set.keys.iter().take(5).map(Key::name).collect();
                let what = format!("the JWKS has no key with `kid` {}; it has {}", quoted(kid), kids.join(", "));
                ("kid", what, "publish the key before it signs, or name the one that signed")
            }
            (Some(kid), Some(key)) => {
                let what = match (&key.public, &key.alg) {
                    (Ok(public), Some(alg)) if public.suits(self.alg) => {
                        format!("key {} is for {}, and `alg` is {}", quoted(kid), quoted(alg), self.alg)
                    }
                    (Ok(_), _) => {
                        format!("key {} is of another kind ({}) than {} takes", quoted(kid), quoted(&key.kty), self.alg)
                    }
                    (Err(why), _) => format!("key {} can't be used: {why}", quoted(kid)),
                };
                ("kid", what, "a key serves one algorithm: sign with that, or publish a key for this one")
            }
            (None, _) => ("jwks", format!("the JWKS has no key for {}", self.alg), "publish the key that signs"),
        };
        report.add(Severity::Error, about, what, hint, rule);
    }
}

const RULE: Cited = Cited::specified("RFC 7523 §3, point 9");
/// No set of ours has more keys, and each costs a verification.
const MOST_TRIED: usize = 50;
