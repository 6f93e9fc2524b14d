//! Reads an audit log as an auditor would: from the files alone.

use std::{
    fs,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;

/// All records of an instance's chain, whose links are checked. Panics at the first that does not hold.
///
/// A file may end in lines that the next one does not follow: what a crash or a failed write left there. The next file
/// says so then.
pub(crate) fn read(dir: &Path, instance: &str) -> Vec<Value> {
    let origin = hash(format!("hallmark-audit-v1\0{instance}").as_bytes());
    let mut chain: Vec<(Value, String)> = Vec::new();
    for file in files(dir) {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.split_inclusive('\n').enumerate() {
            let Some(record) = line.strip_suffix('\n').and_then(|line| serde_json::from_str::<Value>(line).ok()) else {
                break;
            };
            let last = |chain: &[(Value, String)]| chain.last().map_or(origin.clone(), |(_, hash)| hash.clone());
            if number == 0 && record["prev"] != last(&chain) {
                assert!(text.contains("file-abandoned") || text.contains("torn-tail"), "{file:?} does not follow");
                while !chain.is_empty() && record["prev"] != last(&chain) {
                    chain.pop();
                }
            }
            assert_eq!(record["prev"], last(&chain), "the chain is broken at: {line}");
            chain.push((record, hash(line.trim_end_matches('\n').as_bytes())));
        }
    }
    let records: Vec<_> = chain.into_iter().map(|(record, _)| record).collect();
    for (index, record) in records.iter().enumerate() {
        assert_eq!(record["seq"], index + 1, "a line is missing or was added before: {record}");
        assert_eq!(record["instance"], instance);
    }
    records
}

/// The bytes of all its files, in their order.
pub(crate) fn text(dir: &Path) -> String {
    files(dir).iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    files
}

fn hash(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, bytes))
}
