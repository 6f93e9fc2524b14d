//! What the parts of a server take from its configuration.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use hallmark_core::key::HsmName;

use crate::{
    config::{self, Config, UnsafeTesting},
    service::{
        registry::Registered,
        rules::{RuleSettings, UnsafeTimes},
    },
};

/// Clients, workloads and operators, as the configuration has them.
pub(super) fn registered(config: &Config) -> Registered {
    let (clients, workloads) = (config.clients.clone(), config.workloads.clone());
    let registered = Registered::new(clients, workloads, config.operators.clone());
    registered
        .with_rotation(config.rotate.clone())
        .with_book(config.book.clone(), config.lint())
        .with_roots(config.roots.clone())
        .with_custody_keys(custody_keys(config))
}

/// Those that the configuration names.
fn custody_keys(config: &Config) -> HashMap<HsmName, Vec<u8>> {
    let named = |hsm: &config::Hsm| Some((hsm.name.clone(), hsm.pkcs11()?.custody_key.clone()?.0));
    config.hsms.iter().filter_map(named).collect()
}

/// What the configuration of a server says of all clients alike.
pub(super) fn server_rules(config: &Config) -> RuleSettings {
    let settings = rule_settings(&config.jwks, config.store.lease, &config.rotation, config.unsafe_testing.as_ref());
    RuleSettings { hsms_elsewhere: config.hsms_elsewhere.clone(), ..settings }
}

/// The same, of those parts that a follower reads too.
pub(super) fn rule_settings(
    jwks: &config::Jwks,
    lease: Duration,
    rotation: &config::Rotation,
    testing: Option<&UnsafeTesting>,
) -> RuleSettings {
    let config::Rotation { line_timeout, destroy_after, require_rehearsal, certificate_warning, .. } = *rotation;
    let unsafe_times = UnsafeTimes {
        lead: testing.and_then(|testing| testing.lead),
        keep: testing.and_then(|testing| testing.keep),
        rotate: testing.and_then(|testing| testing.rotate_every),
    };
    let settings = RuleSettings::new(jwks.max_age, lease);
    let line_timeout = testing.and_then(|testing| testing.line_timeout).unwrap_or(line_timeout);
    RuleSettings { line_timeout, destroy_after, require_rehearsal, certificate_warning, unsafe_times, ..settings }
}

/// A port of 0 in `public_url` stands for the one that the system chose.
pub(super) fn public_url(jwks: &config::Jwks, listening: SocketAddr) -> String {
    let url = &jwks.public_url;
    match url.strip_suffix(":0") {
        Some(host) if jwks.listen.port() == 0 => format!("{host}:{}", listening.port()),
        _ => url.clone(),
    }
}

/// What a reload can't change, in a form that compares.
pub(super) fn fixed_part(config: &Config) -> String {
    let Config {
        instance,
        grpc,
        jwks,
        metrics,
        store,
        audit,
        rotation,
        approval,
        trusts,
        issuers,
        hsms,
        unsafe_testing,
        ..
    } = config;
    let elsewhere = &config.hsms_elsewhere;
    let server = format!("{instance:?}{grpc:?}{jwks:?}{metrics:?}{store:?}{audit:?}{rotation:?}{approval:?}");
    format!("{server}{trusts:?}{issuers:?}{hsms:?}{elsewhere:?}{unsafe_testing:?}")
}

/// What `[unsafe_testing]` says, where there is one.
pub(super) fn testing<T>(config: &Config, value: impl Fn(&UnsafeTesting) -> Option<T>) -> Option<T> {
    config.unsafe_testing.as_ref().and_then(value)
}
