//! Records, policies, times and settings as no service would write them, but a store may hold.

use proptest::{option, prelude::*, sample::select};

use super::{
    fixture::{DAY, KEEP, LEAD, START, generated, id, key, ms, policy},
    verifiers::{HOUR, MINUTE},
    world::{Config, all_lines},
};
use crate::{
    client::Provision,
    key::{KeyRecord, KeyState},
    lifecycle::{KeyPolicy, Now},
    profile::Binding,
    time::Timestamp,
};

pub(super) fn record() -> impl Strategy<Value = KeyRecord> {
    let dates = (option::of(time()), option::of(time()), option::of(time()), time());
    let numbers = (select(vec![0, ms(LEAD), u64::MAX]), select(vec![0, ms(KEEP), u64::MAX]));
    let kind = (0..3_usize, select(KeyState::ALL.to_vec()), any::<bool>(), 0..200_u8);
    (kind, dates, numbers).prop_map(
        |((line, state, public, n), (published, activated, deactivated, created), (served, kept))| {
            let line = &all_lines()[line];
            let at = |ms: i64| Timestamp::from_millis(START.millis() + ms);
            let born = generated(n, line);
            let mut record = KeyRecord {
                public: born.public.filter(|_| public),
                served_for_ms: served,
                kept_for_ms: kept,
                ..key(n, line, state)
            };
            record.times.created = at(created);
            record.times.published = published.map(at);
            record.times.activated = activated.map(at);
            record.times.deactivated = deactivated.map(at);
            record
        },
    )
}

pub(super) fn any_policy() -> impl Strategy<Value = KeyPolicy> {
    let bindings = vec![Binding::Jwks, Binding::Jwks, Binding::CertChain];
    let flags = (any::<[bool; 3]>(), any::<bool>(), any::<bool>(), any::<bool>());
    (flags, select(bindings), select(vec![None, Some(DAY)])).prop_map(
        |((on, auto, first_rsa_key, rehearse), binding, destroy_after)| {
            let lines: Vec<_> = all_lines().into_iter().zip(on).filter_map(|(line, on)| on.then_some(line)).collect();
            let provision = if auto { Provision::Auto } else { Provision::Manual };
            KeyPolicy { provision, first_rsa_key, rehearse, binding, destroy_after, ..policy(&lines) }
        },
    )
}

pub(super) fn now() -> impl Strategy<Value = Now> {
    let name = || option::of(select(vec!["h", "i"]));
    (any::<bool>(), name(), name(), option::of(0..8_u8), time()).prop_map(
        |(held, unreachable, gone, unusable, wall)| Now {
            held,
            unreachable: unreachable.into_iter().map(|name| name.parse().unwrap()).collect(),
            gone: gone.into_iter().map(|name| name.parse().unwrap()).collect(),
            unusable: unusable.into_iter().map(id).collect(),
            ..Now::at(Timestamp::from_millis(START.millis() + wall))
        },
    )
}

pub(super) fn config() -> impl Strategy<Value = Config> {
    let times = (select(vec![0, 5 * MINUTE]), select(vec![0, 0, 2 * HOUR]), select(vec![0, MINUTE, 5 * MINUTE, HOUR]));
    (times, select(vec![20 * MINUTE, HOUR, 6 * HOUR])).prop_map(|((edge_ttl, profile_lead, max_age), rotate)| Config {
        lines: [true, true, false],
        rotate,
        max_age,
        keep_for: 0,
        destroy_after: None,
        edge_ttl,
        profile_lead,
        first_rsa_key: false,
    })
}

/// In milliseconds: hours or years, either way.
pub(super) fn time() -> impl Strategy<Value = i64> {
    prop_oneof![-400 * 24 * HOUR..400 * 24 * HOUR, -2 * HOUR..2 * HOUR]
}
