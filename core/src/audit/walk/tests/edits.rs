//! Edits by a seeded hand: each is found, and named by record.

use proptest::prelude::*;

use super::*;

/// One edit, by a seeded hand.
#[derive(Clone, Debug)]
enum Edit {
    Byte { record: usize, at: prop::sample::Index, to: u8 },
    Drop { record: usize, count: usize },
    Duplicate { record: usize, to: usize },
    Swap { record: usize, with: usize },
    Truncate { to: usize },
}

const RECORDS: usize = 40;

fn edits() -> impl Strategy<Value = Edit> {
    // Not the last record: nothing follows it that would know it. Checkpoints are for that.
    let record = || 0..RECORDS - 1;
    prop_oneof![
        (record(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(record, at, to)| Edit::Byte {
            record,
            at,
            to
        }),
        (record(), 1..4_usize)
            .prop_map(|(record, count)| Edit::Drop { record, count: count.min(RECORDS - 1 - record) }),
        (record(), record()).prop_map(|(record, to)| Edit::Duplicate { record, to }),
        (record(), record()).prop_map(|(record, with)| Edit::Swap { record, with }),
        (1..RECORDS - 1).prop_map(|to| Edit::Truncate { to }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_edit_is_found_and_named_by_record(edit in edits()) {
        let log = Log::new().records(RECORDS as u64);
        let end = log.chain.place();
        let mut text: Vec<Vec<u8>> = log.lines.iter().map(|line| line.clone().into_bytes()).collect();
        let (record, is_edit) = match &edit {
            Edit::Byte { record, at, to } => {
                let at = at.index(text[*record].len());
                let is_edit = text[*record][at] != *to;
                text[*record][at] = *to;
                (*record, is_edit)
            }
            Edit::Drop { record, count } => { drop(text.drain(*record..*record + *count)); (*record, true) }
            Edit::Duplicate { record, to } => { let line = text[*record].clone(); text.insert(*to, line); (*record, true) }
            Edit::Swap { record, with } => { text.swap(*record, *with); (*record, record != with) }
            Edit::Truncate { to } => { text.truncate(*to); (*to, true) }
        };
        let file = text.join(&b'\n');
        let known = Knowledge { places: vec![end], ..Knowledge::default() };
        let mut walk = Walk::new("a", known);
        walk.file("a-00000001.jsonl", Declared { last: true, ..Declared::default() });
        file.split(|byte| *byte == b'\n').for_each(|line| walk.line(line));
        walk.end_file(0, None);
        let verdict = walk.finish();
        let number = record as u64 + 1;
        prop_assert_eq!(!verdict.findings.is_empty(), is_edit, "{:?}", verdict.findings);
        let named = verdict.findings.iter().any(|finding| (finding.first..=finding.last).contains(&number));
        prop_assert!(named || !is_edit, "record {number} is not named: {:?}", verdict.findings);
    }
}
