use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};

use super::*;
use crate::{
    assertion::SigningInput,
    audit::{Chain, EncodedEvent, Event, checkpoint, checkpoint::Head},
    key::Alg,
    public_key::{Curve, PublicKey},
};

mod edits;

/// A custody key in memory.
struct Custody(EcdsaKeyPair);

impl Custody {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn public(&self) -> PublicKey {
        PublicKey::from_ec_point(Curve::P256, self.0.public_key().as_ref()).unwrap()
    }

    fn trusted(&self) -> CustodyKeys {
        let mut keys = CustodyKeys::default();
        keys.trust(&self.public());
        keys
    }

    fn sign(&self, head: &Head) -> String {
        let kid = self.public().thumbprint();
        let input: SigningInput = checkpoint::prepare(head, "interval", None, Alg::ES256, &kid).unwrap();
        assert_eq!(input.purpose(), crate::key::Purpose::Custody);
        let to_be_signed = input.encode(Timestamp::from_millis(7), [0; 16]).unwrap();
        let signature = self.0.sign(&SystemRandom::new(), &to_be_signed.bytes).unwrap();
        to_be_signed.into_compact(signature.as_ref()).unwrap().0
    }
}

/// A log under construction, in lines.
struct Log {
    chain: Chain,
    lines: Vec<String>,
}

impl Log {
    fn new() -> Self {
        Self { chain: Chain::new("a"), lines: Vec::new() }
    }

    fn add(&mut self, event: &Event<'_>) {
        let mut out = Vec::new();
        self.chain.link(&EncodedEvent::new(Timestamp::from_millis(1), event), &mut out);
        self.lines.push(String::from_utf8(out).unwrap().trim_end().to_owned());
    }

    fn records(mut self, count: u64) -> Self {
        (0..count).for_each(|count| self.add(&Event::RefusedMore { count }));
        self
    }

    /// Signed some records ago, as in life.
    fn checkpoint(mut self, custody: &Custody) -> Self {
        let jws = custody.sign(&Head::new(&self.chain, "a-00000001.jsonl"));
        self = self.records(2);
        self.add(&Event::Checkpoint { hsm: "soft", why: "interval", overdue: None, jws: &jws });
        self
    }
}

fn walk(lines: &[String], known: Knowledge<'_>) -> Verdict {
    let mut walk = Walk::new("a", known);
    walk.file("a-00000001.jsonl", Declared { last: true, ..Declared::default() });
    lines.iter().for_each(|line| walk.line(line.as_bytes()));
    walk.end_file(0, None);
    walk.finish()
}

fn plain(lines: &[String]) -> Verdict {
    walk(lines, Knowledge::default())
}

fn found(verdict: &Verdict) -> Vec<(Kind, u64, u64)> {
    verdict.findings.iter().map(|finding| (finding.kind, finding.first, finding.last)).collect()
}

#[test]
fn a_whole_log_is_found_whole_and_proven() {
    let custody = Custody::new();
    let log = Log::new().records(5).checkpoint(&custody).records(1).checkpoint(&custody).records(3);
    let keys = custody.trusted();
    let verdict = walk(&log.lines, Knowledge { keys: Some(&keys), ..Knowledge::default() });
    assert_eq!((found(&verdict), verdict.notes.len()), (vec![], 0));
    let proven = verdict.proven.unwrap();
    assert_eq!((proven.place.seq, proven.signed, verdict.checkpoints, verdict.records), (9, true, 2, 15));
    assert_eq!(verdict.events["refused-more"], 13);
    assert!(!plain(&log.lines).proven.unwrap().signed, "without a key nothing is proven by it");
}

#[test]
fn edits_that_a_hand_makes_are_told_apart() {
    let lines = Log::new().records(9).lines;
    let edited = |edit: &dyn Fn(&mut Vec<String>)| {
        let mut lines = lines.clone();
        edit(&mut lines);
        found(&plain(&lines))
    };
    assert_eq!(edited(&|_| {}), []);
    assert_eq!(edited(&|l| l[3] = l[3].replace("\"time\":1", "\"time\":2")), [(Kind::Changed, 4, 4)]);
    assert_eq!(edited(&|l| l[3] = l[3].replace("\"prev\":\"", "\"prev\":\"x")), [(Kind::Changed, 3, 4)]);
    assert_eq!(edited(&|l| l[3] = l[3].replace("\"seq\":4", "\"seq\":70")), [(Kind::Changed, 4, 4)]);
    assert_eq!(edited(&|l| l[3] = l[3].replace("\"seq\":4", "\"seq\":2")), [(Kind::Changed, 4, 4)]);
    assert_eq!(edited(&|l| l[3] = l[3].replace("\"instance\":\"a\"", "\"instance\":\"b\"")), [(Kind::Changed, 4, 4)]);
    assert_eq!(edited(&|l| l[3].clear()), [(Kind::Changed, 4, 4)]);
    assert_eq!(edited(&|l| l.insert(3, "# a remark".into())), [(Kind::Inserted, 3, 3)]);
    assert_eq!(edited(&|l| drop(l.remove(3))), [(Kind::Dropped, 4, 4)]);
    assert_eq!(edited(&|l| drop(l.drain(0..3))), [(Kind::Dropped, 1, 3)]);
    assert_eq!(edited(&|l| drop(l.remove(7))), [(Kind::Dropped, 8, 8)], "one record stands behind the gap");
    assert_eq!(edited(&|l| l.swap(3, 4)), [(Kind::Swapped, 4, 5)]);
    assert_eq!(edited(&|l| l.insert(3, l[2].clone())), [(Kind::Duplicated, 3, 3)]);
    assert_eq!(edited(&|l| l.splice(6..6, lines[2..5].to_vec()).for_each(drop)), [(Kind::Duplicated, 3, 5)]);
    let moved = edited(&|l| {
        let line = l.remove(2);
        l.insert(6, line);
    });
    assert_eq!(moved, [(Kind::Swapped, 3, 3)]);
}

/// Made up rather than edited: readers go on all the same, and never back.
#[test]
fn numbers_that_no_log_reaches_are_no_records() {
    let lines = Log::new().records(3).lines;
    let with = |seq: &str| lines[2].replace("\"seq\":3", &format!("\"seq\":{seq}"));
    for seq in ["18446744073709551615", "18446744073709551614", "9007199254740992", "0"] {
        let verdict = plain(&[&lines[..2], &[with(seq), with(seq), with("4")]].concat());
        assert_eq!((found(&verdict)[0], verdict.end.unwrap().seq), ((Kind::Changed, 3, 3), 4), "{seq}");
        let partial = Knowledge { partial: true, ..Knowledge::default() };
        assert_eq!(walk(&[with(seq), with(seq)], partial).records, 0, "{seq}");
    }
    let far = with("9007199254740991");
    assert_eq!(plain(&[far.clone(), far]).end.unwrap().seq, 9_007_199_254_740_991);
}

#[test]
fn what_stood_too_early_is_over_once_the_log_has_passed_it() {
    let lines = Log::new().records(9).lines;
    // Records 3 to 6, each of which names something else than the one before it.
    let others: Vec<_> = (3..7).map(|seq| lines[8].replace("\"seq\":9", &format!("\"seq\":{seq}"))).collect();
    let verdict = plain(&[&lines[..2], &lines[3..4], &others[..]].concat());
    assert_eq!(verdict.end.unwrap().seq, 6, "the end is the last one, not the early one: {:?}", verdict.findings);
}

#[test]
fn a_fork_is_one_finding() {
    let log = Log::new().records(5);
    let mut second = Log { chain: log.chain.clone(), lines: vec![] };
    let first = log.records(4);
    (0..20).for_each(|n| second.add(&Event::RefusedMore { count: 100 + n }));
    let verdict = plain(&[first.lines, second.lines].concat());
    assert_eq!(found(&verdict), [(Kind::Fork, 6, 9)]);
    assert_eq!(verdict.end.unwrap().seq, 25, "it is looked at what comes behind it");
}

#[test]
fn what_was_made_to_fit_again_breaks_at_the_next_checkpoint() {
    let custody = Custody::new();
    let log = Log::new().records(5).checkpoint(&custody).records(4).checkpoint(&custody);
    // Record 10 tells another story, and all behind it are made anew; the signature can't be.
    let mut forged = Log::new();
    for (index, line) in log.lines.iter().enumerate() {
        let jws = Line::parse(line.as_bytes()).unwrap().jws().map(str::to_owned);
        match jws {
            Some(jws) => forged.add(&Event::Checkpoint { hsm: "soft", why: "interval", overdue: None, jws: &jws }),
            None if index == 9 => forged.add(&Event::RefusedMore { count: 999 }),
            None => {
                let count = serde_json::from_str::<serde_json::Value>(line).unwrap()["count"].as_u64().unwrap();
                forged.add(&Event::RefusedMore { count });
            }
        }
    }
    assert_eq!(forged.lines.len(), log.lines.len());
    let keys = custody.trusted();
    let verdict = walk(&forged.lines, Knowledge { keys: Some(&keys), ..Knowledge::default() });
    assert_eq!(found(&verdict), [(Kind::Rewritten, 6, 12)]);
    assert_eq!(verdict.proven.unwrap().place.seq, 5);
}

#[test]
fn a_tail_cut_off_is_found_by_who_knows_what_was_there() {
    let custody = Custody::new();
    let log = Log::new().records(5).checkpoint(&custody).records(4);
    let place = log.chain.place();
    let verdict = plain(&log.lines[..6]);
    assert_eq!(found(&verdict), [], "the log alone can't tell");
    let known = || Knowledge { places: vec![place.clone()], ..Knowledge::default() };
    assert_eq!(found(&walk(&log.lines[..6], known())), [(Kind::Truncated, 7, 12)]);
    assert_eq!(found(&walk(&log.lines, known())), []);
    let other = Knowledge { places: vec![Place { seq: 3, ..place.clone() }], ..Knowledge::default() };
    assert_eq!(found(&walk(&log.lines, other)), [(Kind::Rewritten, 3, 3)]);
}

#[test]
fn a_checkpoint_of_a_stranger_proves_nothing() {
    let (custody, stranger) = (Custody::new(), Custody::new());
    let keys = custody.trusted();
    let known = || Knowledge { keys: Some(&keys), ..Knowledge::default() };
    let verdict = walk(&Log::new().records(5).checkpoint(&stranger).lines, known());
    assert_eq!(found(&verdict), [(Kind::BadCheckpoint, 8, 8)]);
    assert_eq!(verdict.proven, None);
    // A good signature over another statement, and no signature at all.
    let good = custody.sign(&Head::new(&Log::new().records(2).chain, "f"));
    let (signed, _) = good.rsplit_once('.').unwrap();
    let other = custody.sign(&Head::new(&Log::new().records(3).chain, "f"));
    for forged in [format!("{signed}.{}", other.rsplit_once('.').unwrap().1), format!("{signed}."), "x".into()] {
        assert!(keys.check(&forged).is_err(), "{forged}");
    }
    assert!(keys.check(&good).is_ok());
}

#[test]
fn an_old_checkpoint_takes_nothing_back_that_is_proven() {
    let custody = Custody::new();
    let keys = custody.trusted();
    let mut other = Log::new();
    (0..2).for_each(|_| other.add(&Event::RefusedMore { count: 99 }));
    for (early, expected) in [(Log::new().records(2), vec![]), (other, vec![(Kind::Rewritten, 2, 2)])] {
        let jws = custody.sign(&Head::new(&early.chain, "a-00000001.jsonl"));
        let mut log = Log::new().records(5).checkpoint(&custody);
        log.add(&Event::Checkpoint { hsm: "soft", why: "interval", overdue: None, jws: &jws });
        let verdict = walk(&log.lines, Knowledge { keys: Some(&keys), ..Knowledge::default() });
        assert_eq!((found(&verdict), verdict.proven.unwrap().place.seq), (expected, 5));
    }
}

#[test]
fn a_part_of_a_log_stands_by_itself() {
    let custody = Custody::new();
    let log = Log::new().records(5).checkpoint(&custody).checkpoint(&custody).records(1);
    let keys = custody.trusted();
    let known = Knowledge { keys: Some(&keys), partial: true, ..Knowledge::default() };
    let verdict = walk(&log.lines[6..], known);
    assert_eq!((found(&verdict), verdict.proven.unwrap().place.seq, verdict.first), (vec![], 8, 7));
}

#[test]
fn what_a_failing_disk_left_has_no_weight_but_a_checkpoint_there_has() {
    let custody = Custody::new();
    let keys = custody.trusted();
    let log = Log::new().records(4);
    let mut void = Log { chain: log.chain.clone(), lines: vec![] }.records(3);
    let next = Log { chain: log.chain.clone(), lines: vec![] }.records(2);
    let walked = |void: &[String]| {
        let mut walk = Walk::new("a", Knowledge { keys: Some(&keys), ..Knowledge::default() });
        walk.file("1", Declared { void_after: Some(4), ..Declared::default() });
        log.lines.iter().chain(void).for_each(|line| walk.line(line.as_bytes()));
        walk.end_file(5, None);
        walk.file("2", Declared { last: true, ..Declared::default() });
        next.lines.iter().for_each(|line| walk.line(line.as_bytes()));
        walk.end_file(0, None);
        walk.finish()
    };
    let verdict = walked(&void.lines);
    assert_eq!((found(&verdict), verdict.notes.len(), verdict.records), (vec![], 1, 6));
    void = void.checkpoint(&custody);
    assert_eq!(found(&walked(&void.lines)), [(Kind::Rewritten, 5, 7)]);
}

#[test]
fn a_line_that_a_crash_cut_is_no_edit_where_it_may_be_one() {
    let log = Log::new().records(4);
    let more = Log { chain: log.chain.clone(), lines: vec![] }.records(2);
    let walked = |cut: u64, torn: Option<u64>| {
        let mut walk = Walk::new("a", Knowledge::default());
        walk.file("1", Declared::default());
        log.lines.iter().for_each(|line| walk.line(line.as_bytes()));
        walk.end_file(cut, torn);
        walk.file("2", Declared { last: true, ..Declared::default() });
        more.lines.iter().for_each(|line| walk.line(line.as_bytes()));
        walk.end_file(9, None);
        walk.finish()
    };
    let verdict = walked(0, Some(20));
    assert_eq!((found(&verdict), verdict.notes.len()), (vec![], 2), "{:?}", verdict.notes);
    assert_eq!(found(&walked(20, None)), [(Kind::CutLine, 5, 5)]);
}
