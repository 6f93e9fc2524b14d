//! `hallmark hsm probe yubikey`: what the YubiKeys of this machine show without a PIN.

use std::{
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::super::{
    Failure, USAGE,
    args::ProbeArgs,
    output::{Output, printable, printable_lines, table},
};
use crate::hsm::yubikey::survey::{SurveyedSlot, SurveyedYubikey, Told, survey};

/// What was found.
#[derive(Debug, Default)]
struct Report {
    yubikeys: Vec<(SurveyedYubikey, Vec<SurveyedSlot>)>,
    /// Reader, and why no YubiKey in it can be used.
    readers: Vec<(String, String)>,
    /// What was asked, the answer.
    failures: Vec<(String, String)>,
}

/// The serial of `--token`; `--slot` and `--login` are for PKCS#11.
pub(super) fn serial(args: &ProbeArgs) -> Result<Option<u32>, Failure> {
    let wrong = |what: &str, hint: &str| Failure::new(what).hint(hint).with_exit_code(USAGE);
    if args.slot.is_some() || args.login {
        return Err(wrong(
            "--slot and --login are for PKCS#11 modules",
            "without them `hsm probe yubikey` shows all slots, and tries no PIN",
        ));
    }
    let serial = args.token.as_ref().map(|serial| serial.parse());
    serial.transpose().map_err(|_| wrong("the --token of a YubiKey is its serial", "the digits are printed on it"))
}

pub(super) async fn run(serial: Option<u32>, limit: Duration, json: bool) -> Result<u8, Failure> {
    let looked = tokio::task::spawn_blocking(move || look(serial, limit)).await;
    let report = looked.map_err(|error| Failure::new("the look at the YubiKeys broke off").caused_by(&error))?;
    let output =
        if json { Output::json(&as_json(&report)) } else { Output { stdout: as_text(&report), stderr: String::new() } };
    output.print()?;
    let is_usable = report.yubikeys.iter().any(|(yubikey, _)| yubikey.obstacles.is_empty());
    Ok(u8::from(!is_usable))
}

fn look(serial: Option<u32>, limit: Duration) -> Report {
    let (send, told) = channel();
    thread::spawn(move || {
        survey(serial, &mut |event| {
            // Nobody listens any more once it took too long.
            let _ = send.send(event);
        });
    });
    let (mut report, mut under_way) = (Report::default(), "readers".to_owned());
    loop {
        match told.recv_timeout(limit) {
            Ok(Told::End) => return report,
            Ok(Told::Begin(what)) => under_way = what,
            Ok(event) => report.take(event),
            Err(why) => {
                let why = match why {
                    RecvTimeoutError::Timeout => format!("no answer within {limit:?}"),
                    RecvTimeoutError::Disconnected => "it broke off".to_owned(),
                };
                report.failures.push((under_way, why));
                return report;
            }
        }
    }
}

impl Report {
    fn take(&mut self, event: Told) {
        match event {
            Told::Failed(what, why) => self.failures.push((what, why)),
            Told::Reader(reader, why) => self.readers.push((reader, why)),
            Told::Yubikey(yubikey) => self.yubikeys.push((yubikey, Vec::new())),
            Told::Slot(serial, slot) => {
                let its = self.yubikeys.iter_mut().filter(|(yubikey, _)| yubikey.serial == serial);
                its.take(1).for_each(|(_, slots)| slots.push(slot.clone()));
            }
            Told::Begin(_) | Told::End => {}
        }
    }

    fn sections(&self) -> String {
        let sections = self.yubikeys.iter().map(|(yubikey, _)| section(yubikey.serial, self.yubikeys.len() > 1));
        sections.collect::<Vec<_>>().join("\n")
    }
}

fn section(serial: u32, is_one_of_several: bool) -> String {
    let name = if is_one_of_several { format!("yubi-{serial}") } else { "yubi".to_owned() };
    format!(
        "[[hsm]]\nname = \"{name}\"\nkind = \"yubikey\"\nserial = {serial}\npin_source = \"file:/etc/hallmark/{name}.pin\"\n\
         management_key_source = \"file:/etc/hallmark/{name}.mgm\"\n"
    )
}

fn as_json(report: &Report) -> Value {
    let yubikey = |(yubikey, slots): &(SurveyedYubikey, Vec<SurveyedSlot>)| {
        let algs = yubikey.algs.iter().map(|(alg, makes)| {
            json!({ "alg": alg, "makes_keys": makes.is_ok(), "how": makes.as_ref().ok(), "why_not": makes.as_ref().err() })
        });
        json!({
            "serial": yubikey.serial,
            "firmware": yubikey.firmware,
            "reader": yubikey.reader,
            "tries_left": yubikey.tries_left,
            "obstacles": yubikey.obstacles,
            "algs": algs.collect::<Vec<_>>(),
            "destroys": yubikey.destroys,
            "slots": slots,
        })
    };
    let pairs = |names: [&str; 2], pairs: &[(String, String)]| -> Vec<Value> {
        pairs.iter().map(|(a, b)| json!({ names[0]: a, names[1]: b })).collect()
    };
    json!({
        "usable": report.yubikeys.iter().any(|(yubikey, _)| yubikey.obstacles.is_empty()),
        "yubikeys": report.yubikeys.iter().map(yubikey).collect::<Vec<_>>(),
        "other_readers": pairs(["reader", "why"], &report.readers),
        "failures": pairs(["asked", "answer"], &report.failures),
        "sections": report.sections(),
    })
}

fn as_text(report: &Report) -> String {
    let mut text: String = report.yubikeys.iter().map(|(yubikey, slots)| of_yubikey(yubikey, slots)).collect();
    if report.yubikeys.is_empty() {
        text += "no YubiKey was found\n";
    }
    for (reader, why) in &report.readers {
        text += &format!("reader `{}`: {}\n", printable(reader), printable(why));
    }
    for (what, why) in &report.failures {
        text += &format!("✗ {what}: {}\n", why.replace('\n', "\n  "));
    }
    if !report.yubikeys.is_empty() {
        text += "\nto paste into the configuration; PIN and management key (in hex) go into the files that it names, readable \
                 by the service's user alone (mode 0600)\n\n";
        text += &report.sections();
    }
    printable_lines(&text)
}

fn of_yubikey(yubikey: &SurveyedYubikey, slots: &[SurveyedSlot]) -> String {
    let SurveyedYubikey { serial, firmware, reader, tries_left, obstacles, algs, destroys } = yubikey;
    let tries =
        tries_left.map_or("not told: a program has a PIN session".to_owned(), |left| format!("{left} tries left"));
    let mut text = format!("YubiKey {serial}  firmware {firmware}\n  reader      {}\n", printable(reader));
    text += &format!("  PIN         {tries} (none was made)\n  destroying  {destroys}\n");
    let head = ["ALGORITHM", "KEYS"].map(str::to_owned);
    let row = |(alg, makes): &(String, Result<String, String>)| {
        [alg.clone(), makes.clone().unwrap_or_else(|why| format!("– {why}"))]
    };
    text += &format!("\n{}", indented(&table(&std::iter::once(head).chain(algs.iter().map(row)).collect::<Vec<_>>())));
    if !slots.is_empty() {
        let head = ["SLOT", "KIND", "MADE HERE", "PIN", "TOUCH", "HOLDS"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(head).chain(slots.iter().map(of_slot)).collect();
        text += &format!("\n{}", indented(&table(&rows)));
    }
    text += &obstacles.iter().map(|what| format!("  ✗ {what}\n")).collect::<String>();
    let blocked = slots.iter().filter_map(|slot| slot.blocked.as_ref());
    text += &blocked.map(|why| format!("  ! {why}\n")).collect::<String>();
    text + "\n"
}

fn of_slot(slot: &SurveyedSlot) -> [String; 6] {
    let said = |text: &Option<String>| text.clone().unwrap_or_else(|| "–".to_owned());
    let made = slot.generated.map_or("–", |yes| if yes { "yes" } else { "no" }).to_owned();
    let cells = [
        slot.slot.clone(),
        said(&slot.kind),
        made,
        said(&slot.pin_policy),
        said(&slot.touch_policy),
        slot.holds.clone(),
    ];
    cells.map(|cell| printable(&cell))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
