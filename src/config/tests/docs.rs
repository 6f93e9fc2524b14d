//! What mirrors the parser is held against it: documentation and samples.

use std::{collections::BTreeSet, fs};

use super::*;

const SAMPLES: &str = "hsm-config";

/// Every key that the parser asks for; it asks for all of them in a file that has all sections.
fn known_keys() -> BTreeSet<String> {
    let problems = Problems::default();
    assert!(read(format!("{SAMPLES}/advanced.toml").as_ref(), &problems).is_some());
    let all = problems.known();
    let is_section = |key: &String| all.iter().any(|other| other.starts_with(&format!("{key}.")));
    all.iter().filter(|key| !is_section(key)).cloned().collect()
}

#[test]
fn the_documentation_has_every_key_and_no_other() {
    let mut documented = BTreeSet::new();
    let mut section = "";
    for line in include_str!("../../../docs/config.md").lines() {
        if let Some(heading) = line.strip_prefix("## `") {
            section = heading.trim_matches(['[', ']', '`']);
        } else if let Some((key, _)) = line.strip_prefix("| `").and_then(|row| row.split_once('`')) {
            documented.insert(format!("{section}.{key}"));
        }
    }
    assert_eq!(documented, known_keys());
}

#[test]
fn the_advanced_sample_shows_every_key() {
    let text = fs::read_to_string(format!("{SAMPLES}/advanced.toml")).unwrap();
    for key in known_keys() {
        let name = key.rsplit('.').next().unwrap();
        assert!(text.contains(&format!("{name} = ")), "`{key}` is not in advanced.toml");
    }
}

#[test]
fn every_sample_loads() {
    let mut loaded = BTreeSet::new();
    for entry in fs::read_dir(SAMPLES).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ext| ext == "toml") {
            let read = match path.file_stem().is_some_and(|name| name == "follower") {
                true => load_follower(&path).map(drop),
                false => load(&path).map(drop),
            };
            read.unwrap_or_else(|error| panic!("{error}"));
            loaded.insert(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    assert!(
        loaded.is_superset(&["basic.toml".to_owned(), "advanced.toml".to_owned(), "follower.toml".to_owned()].into()),
        "{loaded:?}"
    );
}

fn pages() -> Vec<String> {
    let names = fs::read_dir(SAMPLES).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".md")).collect()
}

/// A page shows `[[hsm]]` sections to paste; each is put into an otherwise complete file.
#[test]
fn every_section_in_the_pages_loads() {
    let (server, _) = MINIMAL.split_once("[[hsm]]").unwrap();
    for page in pages() {
        let text = fs::read_to_string(format!("{SAMPLES}/{page}")).unwrap();
        let blocks: Vec<_> = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        assert!(!blocks.is_empty(), "{page} shows no section");
        for block in blocks {
            let (_dir, config) = loaded(&[server, block].concat());
            assert_eq!(config.hsms.len(), 1, "{page}");
        }
    }
}

/// Whoever has that HSM starts from a whole file with the page's own section in it, and the map names both.
#[test]
fn every_page_has_a_sample() {
    let map = fs::read_to_string(format!("{SAMPLES}/README.md")).unwrap();
    for page in pages().iter().filter(|page| *page != "README.md") {
        let name = page.strip_suffix(".md").unwrap();
        assert!(map.contains(&format!("`{name}.md`, `{name}.toml`")), "`{page}` is not in the README's table");
        let sample = fs::read_to_string(format!("{SAMPLES}/{name}.toml")).unwrap();
        let text = fs::read_to_string(format!("{SAMPLES}/{page}")).unwrap();
        let lines = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap().lines();
        for line in lines.map(str::trim) {
            assert!(sample.contains(line), "{page} shows `{line}`, and {name}.toml has another");
        }
    }
}

/// The pages of authorization servers show `[[client]]` sections: each has the page's profile, and needs no other word.
#[test]
fn every_client_in_the_pages_of_profiles_loads() {
    for profile in hallmark_core::profile::Profile::all() {
        let text = fs::read_to_string(format!("docs/profiles/{}.md", profile.name)).unwrap();
        let blocks: Vec<_> = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        assert!(!blocks.is_empty(), "{} shows no section", profile.name);
        for block in blocks {
            let (_dir, config) = loaded(&[MINIMAL, block].concat());
            assert!(!config.clients.is_empty(), "{}", profile.name);
            for client in &config.clients {
                assert_eq!((client.profile.name, client.makes), (profile.name, profile.makes));
            }
            let of_clients = config.warnings.iter().filter(|warning| warning.what.contains("profile")).count();
            assert_eq!(of_clients, 0, "{}: {:?}", profile.name, config.warnings);
        }
    }
}

/// The basic sample is what people copy: it must not begin with a warning.
#[test]
fn the_basic_sample_has_no_warning() {
    assert_eq!(load(format!("{SAMPLES}/basic.toml").as_ref()).unwrap().warnings, []);
}
