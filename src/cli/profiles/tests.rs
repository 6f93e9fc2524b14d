use std::{fs, path::Path};

use super::*;

#[test]
fn all_of_them() {
    insta::assert_snapshot!("list", list_text());
    assert_eq!(list_json()["profiles"].as_array().unwrap().len(), Profile::all().count());
}

#[test]
fn one_for_people_and_for_programs() {
    let show =
        |name: &str, markdown, json| show(&ShowProfileArgs { name: name.to_owned(), markdown }, json).unwrap().stdout;
    insta::assert_snapshot!("epic", show("epic", false, false));
    insta::assert_snapshot!("udap-b2b", show("udap-b2b", false, false));
    insta::assert_snapshot!("openemr-7-markdown", show("openemr-7", true, false));
    let json: Value = serde_json::from_str(&show("careevolution", false, true)).unwrap();
    insta::assert_snapshot!("careevolution-json", serde_json::to_string_pretty(&json).unwrap());
}

#[test]
fn a_name_that_is_not_known() {
    let failure = |name: &str| unknown(name).render(false);
    insta::assert_snapshot!(failure("epci") + &failure("x"), @r"
    error: unknown profile: `epci`
    hint: did you mean `epic`? all of them: hallmark profiles list
    error: unknown profile: `x`
    hint: see which there are: hallmark profiles list
    ");
    assert_eq!(unknown("x").exit_code(), USAGE);
}

/// The pages are printed in part from the profiles: renew them with `HALLMARK_RENEW=1 cargo test --lib profiles`.
#[test]
fn the_pages_are_of_this_version() {
    let mut stale = Vec::new();
    for profile in Profile::all() {
        stale.extend(renewed(&format!("docs/profiles/{}.md", profile.name), &as_markdown::profile(profile)));
    }
    stale.extend(renewed("docs/profiles/README.md", &as_markdown::index("")));
    stale.extend(renewed("README.md", &as_markdown::index("docs/profiles/")));
    assert!(stale.is_empty(), "other than the profiles; renew them with HALLMARK_RENEW=1: {stale:?}");
}

#[test]
fn every_page_has_a_profile() {
    for entry in fs::read_dir(root().join("docs/profiles")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let name = name.strip_suffix(".md").unwrap();
        assert!(name == "README" || Profile::find(name).is_some(), "docs/profiles/{name}.md");
    }
}

/// The page, where the block between its markers is not `block`; with `HALLMARK_RENEW` it is put in instead.
fn renewed(page: &str, block: &str) -> Option<String> {
    let path = root().join(page);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{page}: {error}"));
    let (before, rest) = text.split_once(BEGIN).unwrap_or_else(|| panic!("{page} has no `{BEGIN}`"));
    let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("{page} has no `{END}`"));
    let wanted = format!("{before}{BEGIN}\n{block}{END}{after}");
    if wanted == text {
        return None;
    }
    if std::env::var_os("HALLMARK_RENEW").is_none() {
        return Some(page.to_owned());
    }
    fs::write(&path, wanted).unwrap();
    None
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

const BEGIN: &str = "<!-- generated -->";
const END: &str = "<!-- end -->";
