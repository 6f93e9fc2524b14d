//! The arrows of `docs/ARCHITECTURE.md`: what is not drawn is forbidden.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Which rooms of `src/` may use which. A room may always use itself and `hallmark-core`.
const ARROWS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("cli", &["app", "audit", "config", "hardening", "hsm", "telemetry", "verifier"]),
    (
        "app",
        &[
            "audit",
            "config",
            "follow",
            "hardening",
            "hsm",
            "pool",
            "service",
            "store",
            "telemetry",
            "transport",
            "verifier",
        ],
    ),
    ("transport", &["service", "telemetry"]),
    ("follow", &["lock", "service", "telemetry"]),
    ("service", &["pool", "telemetry"]),
    ("pool", &[]),
    ("hsm", &["hardening"]),
    ("hardening", &[]),
    ("store", &["lock"]),
    ("audit", &["lock"]),
    ("lock", &[]),
    ("verifier", &[]),
    ("config", &[]),
    ("telemetry", &[]),
];

/// Which crates each crate of the workspace may use of ours.
const CRATES: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("proto", &[]),
    ("clients/rust", &["hallmark-proto"]),
    ("testkit", &["hallmark-core", "hallmark-fault-module"]),
    ("testkit/fault-module", &[]),
];

/// Libraries that only one room may know.
const OWNERS: &[(&str, &[&str])] = &[
    ("cryptoki", &["hsm"]),
    ("pcsc", &["hsm"]),
    ("cryptoki_sys", &["hsm"]),
    ("sqlx", &["store"]),
    ("tonic", &["transport"]),
    ("hyper", &["transport"]),
    ("hallmark_proto", &["transport"]),
    ("hallmark_client", &["app", "cli", "follow"]),
    ("reqwest", &["verifier"]),
    ("clap", &["cli", "main"]),
    ("rcgen", &["cli"]),
    ("p12_keystore", &["cli"]),
    ("pkcs8", &["cli", "hsm"]),
];

#[test]
fn rooms_use_only_what_is_drawn() {
    let mut forbidden = BTreeSet::new();
    for (file, text) in sources("src").into_iter().filter(|(file, _)| !is_test(file)) {
        let room = room(&file);
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
            if room != "lib" {
                forbidden.insert(format!("{}: the room `{room}` is not drawn", file.display()));
            }
            continue;
        };
        for used in used_rooms(&text) {
            if used != room && !allowed.contains(&used.as_str()) {
                forbidden.insert(format!("{}: {room} → {used}", file.display()));
            }
        }
    }
    assert!(forbidden.is_empty(), "arrows that are not drawn:\n{}", Vec::from_iter(forbidden).join("\n"));
}

#[test]
fn libraries_stay_in_their_rooms() {
    let mut forbidden = BTreeSet::new();
    for (file, text) in sources("src").into_iter().filter(|(file, _)| !is_of_tests(file)) {
        let room = room(&file);
        if is_test(&file) {
            continue;
        }
        for (library, owners) in OWNERS {
            if !owners.contains(&room.as_str()) && names_crate(&text, library) {
                forbidden.insert(format!("{}: {room} uses {library}", file.display()));
            }
        }
    }
    assert!(forbidden.is_empty(), "libraries outside their rooms:\n{}", Vec::from_iter(forbidden).join("\n"));
}

#[test]
fn crates_use_only_what_is_drawn() {
    for (folder, allowed) in CRATES {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let dependencies = manifest["dependencies"].as_table().unwrap();
        let ours: Vec<_> = dependencies.keys().filter(|name| name.starts_with("hallmark")).collect();
        assert!(ours.iter().all(|name| allowed.contains(&name.as_str())), "{folder} uses {ours:?}");
    }
}

#[test]
fn the_rules_know_no_clock_no_randomness_and_no_io() {
    for (file, text) in sources("core/src") {
        for banned in
            ["std::fs", "std::net", "std::io", "SystemTime", "Instant", "new_v4", "rand::", "async fn", "tokio"]
        {
            let production = text.split("#[cfg(test)]").next().unwrap_or_default();
            let inside_tests = is_of_tests(&file);
            assert!(inside_tests || !production.contains(banned), "{} uses {banned}", file.display());
        }
    }
}

/// Not rustc's `missing_docs`, which would have a comment on each field and variant too: most names say it all.
#[test]
fn public_items_say_their_contract() {
    let kinds = ["fn ", "async fn ", "const ", "struct ", "enum ", "trait ", "type "];
    let mut silent = Vec::new();
    for (file, text) in ["src", "core/src", "clients/rust/src"].into_iter().flat_map(sources) {
        let lines: Vec<_> = text.lines().map(str::trim_start).collect();
        for (at, line) in lines.iter().enumerate().filter(|_| !is_test(&file)) {
            let is_public =
                line.strip_prefix("pub ").is_some_and(|item| kinds.iter().any(|kind| item.starts_with(kind)));
            // Attributes may stand between.
            let begins = lines[..at].iter().rposition(|line| line.is_empty() || line.ends_with(['{', '}', ';']));
            let above = &lines[begins.map_or(0, |begins| begins + 1)..at];
            if is_public && !above.iter().any(|line| line.starts_with("///") || line.contains("$doc")) {
                silent.push(format!("{}:{}: {line}", file.display(), at + 1));
            }
        }
    }
    assert!(silent.is_empty(), "public items without a doc comment:\n{}", silent.join("\n"));
}

/// Compiled for tests alone: may make certificates and the like.
fn is_of_tests(file: &Path) -> bool {
    file.ends_with("tests.rs") || file.ends_with("fixture.rs")
}

fn used_rooms(text: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for path in ["crate::", "hallmark::"] {
        for (at, _) in text.match_indices(path) {
            let rest = &text[at + path.len()..];
            match rest.strip_prefix('{') {
                Some(group) => used.extend(first_names(group)),
                None => used.extend(word(rest)),
            }
        }
    }
    let rooms: Vec<_> = ARROWS.iter().map(|(name, _)| *name).collect();
    used.retain(|name| rooms.contains(&name.as_str()));
    used
}

/// The first segment of each path in `use crate::{a::b, c, …}`.
fn first_names(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut fresh) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && c.is_alphabetic() => {
                names.extend(word(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

fn word(text: &str) -> Option<String> {
    let word: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

fn names_crate(text: &str, library: &str) -> bool {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.into_iter().any(|line| {
        line.match_indices(&format!("{library}::"))
            .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
    })
}

/// Unit tests and their fixtures may use what they like.
fn is_test(file: &Path) -> bool {
    file.ends_with("tests.rs")
        || file.ends_with("fixture.rs")
        || file.components().any(|part| part.as_os_str() == "tests")
}

fn room(file: &Path) -> String {
    let relative = file.strip_prefix(root().join("src")).unwrap();
    let first = relative.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let (mut folders, mut found) = (vec![root().join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&entry).unwrap();
                found.push((entry, text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {folder}");
    found
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
