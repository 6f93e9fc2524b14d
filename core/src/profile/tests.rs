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
