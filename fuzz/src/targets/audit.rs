//! Audit logs, as auditors read them and as a server takes them up again.

use hallmark::audit::reading::try_bytes;
use hallmark_core::{
    audit::{
        Chain,
        checkpoint::CustodyKeys,
        finding::{MOST_FINDINGS, Verdict},
        line::Line,
        walk::Knowledge,
    },
    public_key::{Curve, PublicKey},
};

/// Lines of an audit log, as somebody left them: each is followed from the one before, as a server does that starts.
pub fn audit_line(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.lines();
    let mut chain = lines.next().and_then(|line| Chain::after("a", line));
    for line in lines {
        let Some(before) = &chain else { return };
        let next = before.follow(line);
        assert!(next.as_ref().is_none_or(|next| next.seq() > before.seq()), "it only goes on");
        chain = next;
    }
}

/// The files of a log, with a byte 0x1C (file separator) between them, as `audit verify` walks over them.
pub fn audit_files(data: &[u8]) {
    let files: Vec<&[u8]> = data.split(|byte| *byte == SEPARATOR).collect();
    let read = |known| {
        let verdict = try_bytes("a", &files, known).expect("what is wrong with a log is found, and no error");
        makes_sense(&verdict);
        verdict
    };
    let plain = read(Knowledge::default());
    agrees_with_the_writers_reader(&files, &plain);
    let mut keys = CustodyKeys::default();
    keys.trust(&PublicKey::from_ec_point(Curve::P256, CUSTODY_KEY).expect("a point"));
    let proven = read(Knowledge { keys: Some(&keys), ..Knowledge::default() });
    assert_eq!((plain.end, plain.records), (proven.end, proven.records), "keys change what is proven alone");
    read(Knowledge { keys: Some(&keys), partial: true, ..Knowledge::default() });
}

fn makes_sense(verdict: &Verdict) {
    assert!(verdict.findings.len() <= MOST_FINDINGS && verdict.notes.len() <= MOST_FINDINGS, "memory is bounded");
    for finding in &verdict.findings {
        assert!(finding.first <= finding.last, "{finding:?}");
    }
    let end = verdict.end.as_ref().map_or(0, |end| end.seq);
    assert!(verdict.first <= end || verdict.first == 0, "{} to {end}", verdict.first);
    assert!(
        verdict.proven.as_ref().is_none_or(|proven| proven.place.seq < end),
        "a checkpoint is behind what it signs"
    );
}

/// [`Chain::follow`] knows nothing of findings: where one reader says that all is whole, the other does.
fn agrees_with_the_writers_reader(files: &[&[u8]], verdict: &Verdict) {
    let is_clean = verdict.findings.is_empty() && verdict.notes.is_empty();
    let whole = whole(files);
    if is_clean && let Ok(text) = std::str::from_utf8(&files.concat()) {
        assert_eq!(whole, Some(verdict.records), "it is said to be whole: {text}");
    }
    let tells_only_of_itself = |line: &[u8]| Line::parse(line).is_none_or(|line| !SPECIAL.contains(&&*line.event));
    if whole.is_some() && files.iter().all(|file| file.split(|byte| *byte == b'\n').all(tells_only_of_itself)) {
        assert!(is_clean, "it is whole: {:?} {:?}", verdict.findings, verdict.notes);
    }
}

/// The number of records in files that are one whole chain, and nothing else.
fn whole(files: &[&[u8]]) -> Option<u64> {
    let mut chain = Chain::new("a");
    for file in files.iter().filter(|file| !file.is_empty()) {
        for line in std::str::from_utf8(file).ok()?.strip_suffix('\n')?.split('\n') {
            chain = chain.follow(line)?;
        }
    }
    Some(chain.seq())
}

/// Records that say something of files, or of other records.
const SPECIAL: [&str; 3] = ["checkpoint", "torn-tail", "file-abandoned"];
const SEPARATOR: u8 = 0x1C;

/// Of the checkpoints in `corpus/`; uncompressed (SEC 1 §2.3.3). Nobody has the private half any more.
const CUSTODY_KEY: &[u8] = &[
    0x04, 0x04, 0x8e, 0xf3, 0xcd, 0x5d, 0xe4, 0x58, 0x68, 0x05, 0x16, 0x5f, 0x5f, 0x80, 0x2b, 0x6f, 0xcd, 0xb2, 0x4a,
    0xf6, 0x73, 0x75, 0x30, 0x3a, 0xeb, 0xf2, 0x9a, 0xc8, 0x11, 0x96, 0x29, 0x33, 0x05, 0x8c, 0x2d, 0x49, 0x39, 0x2f,
    0x89, 0x9e, 0x00, 0x93, 0x45, 0x14, 0x3f, 0x65, 0x2a, 0x62, 0xf0, 0xce, 0x54, 0xfb, 0x06, 0x57, 0x93, 0xcb, 0x8b,
    0xb9, 0x52, 0x9f, 0x6d, 0x40, 0x2d, 0x78, 0x0a,
];
