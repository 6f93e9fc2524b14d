//! `hallmark audit verify`.

use hallmark_core::audit::{checkpoint::CustodyKeys, finding::Verdict, walk::Knowledge};
use serde_json::json;

use self::{
    noted::{Known, expected, save},
    progress::{Progress, Rate},
};
use super::{chains, part, trusted};
use crate::{
    audit::reading::{self, ChainFiles},
    cli::{Failure, args::VerifyLogArgs, output::Output},
};

mod noted;
mod progress;
mod shown;

/// Something was done to the log.
const FOUND: u8 = 1;
/// Nothing was found, and nothing proves that there is nothing to be found.
const UNPROVEN: u8 = 3;

pub(super) async fn run(args: VerifyLogArgs, json: bool) -> Result<u8, Failure> {
    let keys = trusted(&args.custody_keys, args.places.config.as_deref()).await?;
    let mut known = args.expect.as_deref().map(|path| expected(path, &keys)).transpose()?.unwrap_or_default();
    if let Some(path) = &args.part {
        let exported = part::open(path)?;
        if args.places.places.is_empty() && args.places.config.is_none() {
            return report(&args, &exported.verify(&keys)?, &Rate::default(), json);
        }
        exported.places(|instance, place| known.entry(instance).or_default().push(place))?;
    }
    let chains = chains(&args.places)?;
    let (verdicts, rate) = tokio::task::spawn_blocking({
        let args = args.clone();
        move || verify(&chains, &keys, known, args.partial, !json)
    })
    .await
    .map_err(|error| Failure::new("reading the log ended early").caused_by(&error))??;
    report(&args, &verdicts, &rate, json)
}

fn verify(
    chains: &[ChainFiles],
    keys: &CustodyKeys,
    mut known: Known,
    partial: bool,
    shown: bool,
) -> Result<(Vec<Verdict>, Rate), Failure> {
    let total = chains.iter().flat_map(|chain| &chain.files).map(|file| file.len).sum();
    let mut progress = Progress::new(total, shown);
    let mut verdicts = Vec::new();
    // What is known of an instance without files is missing whole.
    let lost: Vec<_> =
        known.keys().filter(|name| !chains.iter().any(|chain| chain.instance == **name)).cloned().collect();
    let lost = lost.into_iter().map(|instance| ChainFiles { instance, files: Vec::new() });
    for chain in chains.iter().cloned().chain(lost) {
        let places = known.remove(&chain.instance).unwrap_or_default();
        let knowledge = Knowledge { keys: Some(keys), places, partial };
        let verdict = reading::walk(&chain, knowledge, &mut |bytes| progress.add(bytes));
        verdicts.push(verdict.map_err(|error| Failure::new("can't read the audit log").caused_by(&error))?);
    }
    let records = verdicts.iter().map(|verdict| verdict.records).sum();
    Ok((verdicts, progress.end(records)))
}

fn report(args: &VerifyLogArgs, verdicts: &[Verdict], rate: &Rate, json: bool) -> Result<u8, Failure> {
    let found = verdicts.iter().any(|verdict| !verdict.findings.is_empty());
    let proven = |verdict: &Verdict| verdict.proven.as_ref().is_some_and(|proven| proven.signed);
    let all_proven = !verdicts.is_empty() && verdicts.iter().all(proven);
    if json {
        let whole = !found;
        Output::json(&json!({ "whole": whole, "proven": whole && all_proven, "chains": verdicts })).print()?;
    } else {
        let stdout = verdicts.iter().map(shown::text).collect();
        Output { stdout, stderr: rate.text() }.print()?;
    }
    if let Some(path) = args.save.as_deref().filter(|_| !found) {
        save(path, verdicts)?;
    }
    Ok(match (found, all_proven) {
        (true, _) => FOUND,
        (false, true) => 0,
        (false, false) => UNPROVEN,
    })
}
