//! The report for people.

use super::{
    super::output::{printable, printable_lines, table},
    Report, paste,
};
use crate::hsm::pkcs11::survey::{
    AlgVerdict, Failure, Found, FoundKey, Login, Mechanism, SlotShown, TokenShown, TokenVerdict, Way, meaning,
};

pub(super) fn report(report: &Report) -> String {
    let Report { module, survey, verdicts, said, refused, missing } = report;
    let mut text = format!("module  {}\n", module.display());
    if let Some((why, hint)) = refused {
        text += &format!("✗ {why}\nhint: {hint}\n");
        return printable_lines(&text);
    }
    if let Some(library) = &survey.library {
        let (description, maker) = (&library.description, &library.manufacturer);
        text +=
            &row("library", &format!("{description} {}, by {maker}, PKCS#11 {}", library.version, library.cryptoki));
    }
    for (slot, found) in survey.found_slots() {
        let verdict = verdicts.iter().find(|verdict| verdict.slot == slot);
        text += &of_slot(slot, found, verdict);
    }
    match survey.slots.as_ref().map(|slots| slots.len()) {
        Some(0) => text += "\nno slots: is the HSM plugged in, its service up, and the module told where it is?\n",
        Some(_) if missing.is_some() => {}
        Some(_) if verdicts.is_empty() => text += "\nno token was found that could be looked at\n",
        _ => {}
    }
    if let Some((what, there)) = missing {
        text += &format!("\n✗ {what}; there are\n{there}");
    }
    text += &survey.login.as_ref().map(of_login).unwrap_or_default();
    text += &failures(&survey.failures);
    if !said.is_empty() {
        text += "\nthe module wrote\n";
        said.iter().for_each(|line| text += &format!("  {}\n", printable(line)));
    }
    if !survey.complete {
        text += "\nnot everything was asked: see the calls that failed\n";
    }
    text += &to_paste(report);
    printable_lines(&text)
}

fn of_slot(slot: u64, found: &Found, verdict: Option<&TokenVerdict>) -> String {
    let SlotShown { description, flags, .. } = found.slot.clone().unwrap_or_default();
    let mut text = format!("\nslot {slot}  {description}\n");
    text += &row("flags", &flags.join(" "));
    let (Some(token), Some(verdict)) = (&found.token, verdict) else {
        return text + &row("token", "none that was looked at");
    };
    text += &of_token(token);
    // What an empty token could do shows once there is something in it.
    let is_empty = !token.has("TOKEN_INITIALIZED") && token.unreadable.is_none();
    if let (false, Some(known)) = (is_empty, &found.mechanisms) {
        text += &row("mechanisms", &counted(known.len(), found.other_mechanisms.len()));
        text += &mechanisms(known);
    }
    if !is_empty && !verdict.algs.is_empty() {
        let head = ["ALGORITHM", "HALLMARK WOULD USE", "HOW"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(head).chain(verdict.algs.iter().map(of_alg)).collect();
        text += &format!("\n{}", indented(&table(&rows)));
    }
    let doubts = verdict.algs.iter().flat_map(|alg| alg.doubts.iter().map(move |doubt| (alg, doubt)));
    let mut lines: Vec<_> = verdict.obstacles.iter().map(|what| format!("  ✗ {what}\n")).collect();
    lines.extend(verdict.remarks.iter().map(|what| format!("  ! {what}\n")));
    lines.extend(doubts.map(|(alg, doubt)| format!("  ! {}: {doubt}\n", alg.alg)));
    lines.extend(verdict.section.as_ref().err().map(|why| format!("  ✗ no section for it: {why}\n")));
    if !lines.is_empty() {
        text += &format!("\n{}", lines.concat());
    }
    text
}

fn of_token(token: &TokenShown) -> String {
    let TokenShown { label, serial, model, manufacturer, versions, min_pin, max_pin, .. } = token;
    let mut text = row("token", &format!("`{label}`, serial `{serial}`"));
    let firmware = format!("hardware {}, firmware {}", versions.hardware, versions.firmware);
    text += &row("model", &format!("{model}, by {manufacturer}, {firmware}"));
    text += &row("flags", &token.flags.join(" "));
    let limit = token.max_sessions.map_or("no limit is said".to_owned(), |max| format!("at most {max}"));
    let open = token.sessions.map(|open| format!(", {open} open")).unwrap_or_default();
    let writers = token.max_rw_sessions.map(|max| format!(", at most {max} that write")).unwrap_or_default();
    text += &row("sessions", &format!("{limit}{open}{writers}"));
    text += &row("PIN", &format!("{min_pin} to {max_pin} bytes"));
    text + &token.clock.as_ref().map(|clock| row("clock", clock)).unwrap_or_default()
}

fn counted(known: usize, others: usize) -> String {
    let others = if others > 0 { format!(", and {others} that have no name here") } else { String::new() };
    format!("{known}{others}; those that make and use Hallmark's kinds of keys (all of them: --json)")
}

/// Those that sign or make keys of kinds that Hallmark has.
fn mechanisms(list: &[Mechanism]) -> String {
    let is_ours = |shown: &&Mechanism| {
        ["_RSA_PKCS", "ECDSA", "EDDSA", "_EC_KEY", "_EC_EDWARDS", "_ECC_"].iter().any(|part| shown.name.contains(part))
    };
    let row = |shown: &Mechanism| {
        let sizes = shown.key_sizes.map_or("?".to_owned(), |(min, max)| format!("{min} to {max}"));
        [shown.name.clone(), sizes, shown.flags.as_ref().map_or("?".to_owned(), |flags| flags.join(" "))]
    };
    let rows: Vec<_> = list.iter().filter(is_ours).map(row).collect();
    if rows.is_empty() { String::new() } else { indented(&table(&rows)) }
}

fn of_alg(alg: &AlgVerdict) -> [String; 3] {
    let by = |ours: &Option<&str>| ours.unwrap_or("the token does it all").to_owned();
    let (uses, how) = match &alg.way {
        Way::Full { mechanism, ours } => (mechanism.clone(), by(ours)),
        Way::SignOnly { mechanism, ours, why } => (mechanism.clone(), format!("{}; {why}", by(ours))),
        Way::No { why } => ("–".to_owned(), why.clone()),
    };
    [alg.alg.clone(), uses, how]
}

fn of_login(login: &Login) -> String {
    let mut text = format!("\nlogin to slot {}: accepted; keys there\n", login.slot);
    if login.keys.is_empty() {
        return text + "  none\n";
    }
    let head = ["LABEL", "CKA_ID", "KIND", "SENSITIVE", "EXTRACTABLE", "CUSTODY", "SIGNED"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(login.keys.iter().map(of_key)).collect();
    text += &indented(&table(&rows));
    text
}

fn of_key(key: &FoundKey) -> [String; 7] {
    let said = |value: Option<bool>| value.map_or("?", |yes| if yes { "yes" } else { "no" }).to_owned();
    let kind = match (&key.kind, key.has_private) {
        (Some(kind), true) => kind.clone(),
        (Some(kind), false) => format!("{kind}, public alone"),
        (None, true) => "private alone, or of another kind".to_owned(),
        (None, false) => "public alone, of another kind".to_owned(),
    };
    let custody = match &key.custody {
        Some(Ok(custody)) => custody.clone(),
        Some(Err(why)) => format!("none: {why}"),
        None => "?".to_owned(),
    };
    let signed = key.signed.iter().map(|signed| {
        let wrong = if signed.verifies { "" } else { ", WHICH DOES NOT VERIFY" };
        format!("{} in {} ms{wrong}", signed.alg, signed.micros.div_ceil(1000))
    });
    let signed = signed.collect::<Vec<_>>().join(", ");
    let shown =
        [key.label.clone(), key.cka_id.clone(), kind, said(key.sensitive), said(key.extractable), custody, signed];
    shown.map(|cell| printable(&cell))
}

fn failures(failures: &[Failure]) -> String {
    if failures.is_empty() {
        return String::new();
    }
    let head = ["CALL", "ANSWER", "FOR HALLMARK"].map(str::to_owned);
    let (mut hints, mut rows) = (String::new(), vec![head]);
    for failure in failures {
        let answer = failure.end.to_string();
        let (answer, hint) = answer.split_once("\nhint: ").unwrap_or((&answer, ""));
        if !hint.is_empty() {
            hints += &format!("  hint: {hint}\n");
        }
        rows.push([failure.step.to_string(), printable(answer), meaning(failure)]);
    }
    format!("\ncalls that failed\n{}{hints}", indented(&table(&rows)))
}

fn to_paste(report: &Report) -> String {
    let sections = paste::sections(&report.module, &report.verdicts, &paste::module_variables(&report.module));
    if sections.is_empty() {
        return "\nthere is no section to paste\n".to_owned();
    }
    let word = "write the PIN into the file of `pin_source`, readable by the service's user alone (mode 0600)";
    format!("\nto paste into the configuration; {word}\n\n{sections}")
}

fn row(name: &str, value: &str) -> String {
    if value.is_empty() { String::new() } else { format!("  {name:<10}  {}\n", printable(value)) }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
