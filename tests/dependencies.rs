//! Every dependency is used, and `docs/dependencies.md` says what for.

use std::{collections::BTreeSet, fs, path::Path};

use toml::Table;

/// The crates of the workspace, and where each keeps its code.
const CRATES: &[(&str, &[&str])] = &[
    (".", &["src", "tests", "benches"]),
    ("core", &["src"]),
    ("proto", &["src", "build.rs"]),
    ("clients/rust", &["src", "tests"]),
    ("testkit", &["src"]),
    (FAULT_MODULE, &["src"]),
];

/// Loaded by servers under test, and part of none.
const FAULT_MODULE: &str = "testkit/fault-module";

/// Named by generated code only.
const GENERATED: &[(&str, &str)] = &[("proto", "prost-types"), ("proto", "tonic-prost"), ("proto", "tonic-types")];

#[test]
fn the_page_lists_what_the_manifests_do() {
    let (mut production, mut tests) = (BTreeSet::new(), BTreeSet::new());
    for (folder, _) in CRATES {
        let manifest = manifest(folder);
        let of = if *folder == FAULT_MODULE { &mut tests } else { &mut production };
        of.extend(names(&manifest, "dependencies"));
        production.extend(names(&manifest, "build-dependencies"));
        tests.extend(names(&manifest, "dev-dependencies"));
    }
    let page = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let (always, only_tests) = page.split_once("## Only for tests").unwrap();
    assert_eq!(listed(always), production);
    assert_eq!(listed(only_tests), &tests - &production);
}

#[test]
fn every_dependency_is_used() {
    let mut unused = Vec::new();
    for (folder, places) in CRATES {
        let code: String = places.iter().map(|place| code(&root().join(folder).join(place))).collect();
        let manifest = manifest(folder);
        for table in ["dependencies", "build-dependencies", "dev-dependencies"] {
            let names = names(&manifest, table).into_iter();
            unused.extend(
                names
                    .filter(|name| !GENERATED.contains(&(*folder, name)) && !is_named(&code, name))
                    .map(|name| format!("{folder}: {name}")),
            );
        }
    }
    assert!(unused.is_empty(), "dependencies that nothing names: {unused:?}");
}

/// Other people's crates in one table of a manifest.
fn names(manifest: &Table, table: &str) -> BTreeSet<String> {
    let names = manifest.get(table).and_then(|table| table.as_table()).into_iter().flat_map(Table::keys);
    names.filter(|name| !name.starts_with("hallmark")).cloned().collect()
}

/// The crates in the first column of the page's tables.
fn listed(page: &str) -> BTreeSet<String> {
    let first_cells = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('|').next());
    let names = first_cells.flat_map(|cell| cell.split(',')).map(|name| name.trim().trim_start_matches('`'));
    names.filter_map(|name| name.split('`').next()).map(str::to_owned).collect()
}

fn is_named(code: &str, name: &str) -> bool {
    let path = format!("{}::", name.replace('-', "_"));
    let starts_there = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
    code.match_indices(&path).any(|(at, _)| starts_there(at))
}

fn code(place: &Path) -> String {
    if place.is_file() {
        return fs::read_to_string(place).unwrap();
    }
    let Ok(entries) = fs::read_dir(place) else { return String::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let paths = paths.filter(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "rs"));
    paths.map(|path| code(&path)).collect()
}

fn manifest(folder: &str) -> Table {
    fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap().parse().unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
