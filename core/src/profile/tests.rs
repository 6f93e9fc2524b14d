use std::collections::HashSet;

use super::*;

#[test]
fn names_are_unique_and_written_as_in_configuration() {
    let names: HashSet<_> = Profile::names().collect();
    assert_eq!(names.len(), Profile::all().count());
    let plain = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    assert!(names.iter().all(|name| plain(name)), "{names:?}");
    assert!(Profile::find(Profile::DEFAULT).is_some());
}

#[test]
fn no_system_refuses_what_its_own_profile_makes() {
    for profile in Profile::all() {
        assert_eq!(profile.objections(&profile.makes), [], "{}", profile.name);
    }
}

#[test]
fn every_system_is_there() {
    let names: Vec<_> = Profile::names().collect();
    let expected = [
        "generic",
        "smart-v2",
        "smart-2018",
        "smart-bulk-data-server",
        "epic",
        "oracle-health",
        "ecw-healow",
        "webchart",
        "openemr-7",
        "openemr-8",
        "careevolution",
        "cerner-carequality-2019",
        "udap-b2b",
        "entra",
        "auth0",
        "okta",
        "keycloak",
        "oidc-provider",
        "hydra",
        "rfc7523bis",
        "fapi2",
    ];
    assert_eq!(names, expected);
}

/// What Hallmark always does, whatever a profile says.
#[test]
fn every_system_takes_what_is_no_field() {
    const UUID: usize = 36;
    for Profile { name, accepts, makes, .. } in Profile::all() {
        assert!(accepts.jti.is.longest.is_none_or(|longest| longest >= UUID), "{name}");
        assert_ne!(accepts.jti.is.need, Need::Unwanted, "{name}");
        assert!(makes.lifetime <= FIVE_MINUTES && makes.lifetime >= Duration::from_secs(60), "{name}");
        assert!(accepts.iat_age.is.is_none_or(|age| age > makes.backdate), "{name}");
    }
}

/// A client of the default algorithm gets keys that the system takes, also where it wants a certificate or a PEM.
#[test]
fn default_algorithms_are_those_of_the_specification() {
    let default = |name| Profile::find(name).unwrap().default_alg();
    for name in ["smart-v2", "epic", "openemr-7", "openemr-8", "webchart", "ecw-healow", "oracle-health"] {
        assert_eq!(default(name), Alg::RS384, "{name}");
    }
    for name in ["smart-2018", "careevolution", "cerner-carequality-2019", "udap-b2b", "keycloak", "hydra", "okta"] {
        assert_eq!(default(name), Alg::RS256, "{name}");
    }
    for name in ["entra", "rfc7523bis", "fapi2"] {
        assert_eq!(default(name), Alg::PS256, "{name}");
    }
}

#[test]
fn certificates_are_shown_where_one_is_what_the_system_holds() {
    let with: Vec<_> = Profile::all().filter(|profile| profile.makes.wants_certificate()).collect();
    let names: Vec<_> = with.iter().map(|profile| profile.name).collect();
    assert_eq!(names, ["careevolution", "cerner-carequality-2019", "udap-b2b", "entra"]);
    for profile in with {
        assert_ne!(profile.binding, Binding::Jwks, "{}", profile.name);
        assert!(!profile.on_revocation.is_empty(), "{}", profile.name);
    }
}

/// What was registered by hand goes on being accepted: an operator must hear where to take it away.
#[test]
fn who_does_not_read_the_jwks_is_told_of_a_revocation() {
    for profile in Profile::all() {
        let asks_each_time = profile.jwks.lead.is_zero() && profile.binding == Binding::Jwks;
        assert!(asks_each_time || !profile.on_revocation.is_empty(), "{}", profile.name);
    }
}

#[test]
fn caching_that_nobody_knows_is_taken_for_a_day() {
    for profile in Profile::all() {
        if profile.jwks.caching.evidence == Evidence::Unverified {
            assert_eq!(profile.jwks.lead, UNKNOWN_CACHING, "{}", profile.name);
            let asked = profile.unverified.iter().any(|question| question.contains("JWKS"));
            assert!(asked, "{} does not ask how the JWKS is kept", profile.name);
        }
    }
}

/// Hearsay and guesses are never shown without the question that would settle them.
#[test]
fn what_nobody_could_find_out_is_asked() {
    for Profile { name, accepts, unverified, .. } in Profile::all() {
        let evidence = [
            accepts.algs.evidence,
            accepts.typ.evidence,
            accepts.kid.evidence,
            accepts.certificate.evidence,
            accepts.iss.evidence,
            accepts.aud.evidence,
            accepts.lifetime.evidence,
            accepts.skew.evidence,
            accepts.jti.evidence,
        ];
        let guessed = evidence.iter().any(|evidence| *evidence >= Evidence::Hearsay);
        assert!(!guessed || !unverified.is_empty(), "{name}");
    }
}

#[test]
fn refusals_say_what_they_mean_and_what_to_type() {
    for Profile { name, refusals, .. } in Profile::all() {
        assert!(!refusals.is_empty(), "{name}");
        for Refusal { says, means, remedy } in *refusals {
            assert!(!means.is_empty() && !remedy.is_empty(), "{name}: {says}");
            assert!(!means.ends_with('.') && !remedy.ends_with('.'), "{name}: {says}");
        }
        let typed = refusals.iter().any(|refusal| refusal.remedy.contains("hallmark "));
        assert!(typed, "{name}: no remedy has a command");
    }
}

#[test]
fn systems_with_forms_of_their_own_get_them() {
    let of = |name| Profile::find(name).unwrap();
    assert_eq!(of("udap-b2b").token_request.fixed, [("udap", "1")]);
    assert_eq!(of("udap-b2b").accepts.claims.is, ["extensions"]);
    for name in ["careevolution", "entra", "hydra"] {
        assert!(of(name).token_request.client_id, "{name}");
    }
    assert_eq!(of("ecw-healow").token_request.optional[0].0, "practice_code");
    let epic = of("epic").registration.uploaded_algs.unwrap();
    assert!(epic.is.iter().all(|alg| alg.is_rsa()));
}

#[test]
fn overrides_that_are_known_to_be_refused_are_objected_to() {
    let profile = Profile::find("smart-v2").unwrap();
    let makes = Makes {
        typ: Typ::ClientAuthentication,
        kid: false,
        aud: Audience::Issuer,
        lifetime: FIVE_MINUTES + Duration::from_secs(1),
        ..profile.makes
    };
    let objections = profile.objections(&makes);
    let fields: Vec<_> = objections.iter().map(|objection| objection.field).collect();
    assert_eq!(fields, ["typ", "kid", "audience", "lifetime"]);
    assert_eq!(
        objections[1].to_string(),
        "`kid` is required (specification: SMART App Launch 2.2, client-confidential-asymmetric)"
    );
}
