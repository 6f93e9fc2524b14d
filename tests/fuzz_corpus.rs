//! What the fuzz targets start from, and what once crashed one, goes through each again.

use std::fs;

#[path = "../fuzz/src/targets.rs"]
#[expect(unreachable_pub, reason = "public for the fuzz targets, which are a crate of their own")]
mod targets;

#[test]
fn nothing_in_the_corpus_ends_a_parser() {
    for (name, target) in targets::ALL {
        let folder = format!("{}/fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
        let inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(inputs.len() > 4, "{folder} has something to begin with");
        for input in inputs {
            target(&fs::read(input).unwrap());
        }
    }
}

#[test]
fn each_target_is_built_and_listed() {
    let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let mut built: Vec<_> =
        manifest["bin"].as_array().unwrap().iter().map(|bin| bin["name"].as_str().unwrap()).collect();
    let mut listed: Vec<_> = targets::ALL.iter().map(|(name, _)| *name).collect();
    built.sort_unstable();
    listed.sort_unstable();
    assert_eq!(built, listed);
}
