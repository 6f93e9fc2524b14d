//! Reads `keys` of a `[[client]]`: which key lines it has.

use std::time::Duration;

use hallmark_core::{
    key::{Alg, KeySpec},
    profile::Profile,
};

use super::{defaults, problem::At, section::Section};

/// The keys, each with how often it is to be replaced.
pub(super) fn keys(s: &Section<'_>, profile: Option<&Profile>) -> Vec<(KeySpec, Option<Duration>)> {
    if !s.has("keys") {
        let specs = profile.map(defaults::keys).unwrap_or_default();
        return specs.into_iter().map(|spec| (spec, None)).collect();
    }
    let mut keys: Vec<(KeySpec, Option<Duration>)> = Vec::new();
    s.tables("keys", |s| {
        let alg = s.required::<Alg>("alg", "\"RS384\"");
        let rotate = s.get::<Duration>("rotate");
        let rsa_bits = s.get::<u32>("rsa_bits");
        let Some(alg) = alg else { return };
        check_alg(s, &alg, profile);
        check_rsa_bits(s, alg.value, rsa_bits.as_ref());
        if keys.iter().any(|(spec, _)| spec.alg == alg.value) {
            let what = format!("`keys` in [[client]] names an algorithm twice: `{}`", alg.value);
            s.error(&alg.place, what, "leave one of them out: a client has one key line for each algorithm and HSM");
        }
        if let Some(rotate) = &rotate {
            check_rotate(s, rotate);
        }
        let rsa_bits = rsa_bits.map_or_else(defaults::rsa_bits, |bits| bits.value);
        keys.push((KeySpec { alg: alg.value, rsa_bits }, rotate.map(|rotate| rotate.value)));
    });
    if s.is_empty_list("keys") {
        let hint = "write `keys = [{ alg = \"RS384\" }]`, or leave it out for the profile's default";
        s.error(&s.place_of("keys"), "`keys` in [[client]] is empty", hint);
    }
    keys
}

fn check_alg(s: &Section<'_>, alg: &At<Alg>, profile: Option<&Profile>) {
    let Some(profile) = profile.filter(|profile| !profile.accepts.algs.is.contains(&alg.value)) else { return };
    let algs: Vec<_> = profile.accepts.algs.is.iter().map(|alg| format!("`{alg}`")).collect();
    let what = format!("profile `{}` does not accept algorithm `{}`", profile.name, alg.value);
    s.error(&alg.place, what, format!("it accepts {}", algs.join(", ")));
}

fn check_rsa_bits(s: &Section<'_>, alg: Alg, bits: Option<&At<u32>>) {
    let Some(At { value: bits, place }) = bits else { return };
    if !alg.is_rsa() {
        s.error(place, format!("`rsa_bits` makes no sense for `{alg}`"), "leave it out: the curve fixes the length");
    } else if !matches!(bits, 2048 | 3072 | 4096) {
        s.error(place, format!("RSA keys of that length are not made: `{bits}`"), "choose 2048, 3072 or 4096");
    }
}

fn check_rotate(s: &Section<'_>, rotate: &At<Duration>) {
    if rotate.value < DAY {
        let hint = "write a day or more, e.g. `\"90d\"`: a key must be published for long before it signs";
        s.error(&rotate.place, "`rotate` in [[client.keys]] is too short", hint);
    }
}

const DAY: Duration = Duration::from_hours(24);
