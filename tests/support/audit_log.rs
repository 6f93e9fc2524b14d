//! Reads an audit log as an auditor would: from the files alone.

use std::{fs, path::Path};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;

/// All records of an instance's chain, whose links are checked. Panics at the first that does not hold.
pub(crate) fn read(dir: &Path, instance: &str) -> Vec<Value> {
    let mut prev = hash(format!("hallmark-audit-v1\0{instance}").as_bytes());
    let text = text(dir);
    let records: Vec<Value> = text
        .lines()
        .map(|line| {
            let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(record["prev"], prev, "the chain is broken at: {line}");
            prev = hash(line.as_bytes());
            record
        })
        .collect();
    for (index, record) in records.iter().enumerate() {
        assert_eq!(record["seq"], index + 1, "a line is missing or was added before: {record}");
        assert_eq!(record["instance"], instance);
    }
    records
}

/// The bytes of all its files, in their order.
pub(crate) fn text(dir: &Path) -> String {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    files.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

fn hash(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, bytes))
}
