//! A desk with a pcscd, one or two readers, and the cards in them; it does what standard input says.
//!
//! Runs in a mount and network namespace of its own (`unshare -rmn`), for pcscd's socket has one fixed path and vpcd's
//! readers have fixed ports. The socket is visible outside, as `FOLDER/run/pcscd/pcscd.comm`. The desk ends with its
//! standard input, and what it started ends with it, however it ends.

mod child;
mod pcsc;

use std::{
    fs,
    io::{self, BufRead},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::mount::mount_bind;

use self::{child::Child, pcsc::NAMES};
use crate::reader::say;

/// Orders, one a line, each answered with `ok` or `error: …` once it is done: `insert READER SERIAL FIRMWARE TOUCH`,
/// `pull READER`, `stop-pcscd`, `start-pcscd`, `slow READER MS`, `drop-pin READER`. Readers count from 0.
///
/// `outside` is the mount namespace of whoever starts the desk, as `/proc/self/ns/mnt` names it: there, the desk would take
/// the machine's own `/run` away.
///
/// # Errors
/// Where the desk can't be set up.
pub(crate) fn run(folder: &Path, readers: &str, outside: &str) -> Result<(), String> {
    let own = fs::read_link("/proc/self/ns/mnt").map_err(|error| format!("`/proc`: {error}"))?;
    if own == Path::new(outside) {
        return Err("not in a namespace of its own\nhint: start it by: unshare -rmn".into());
    }
    let readers = readers.parse().ok().filter(|count| (1..=NAMES.len()).contains(count));
    let readers = readers.ok_or("one reader or two\nhint: virtual-yubikey desk FOLDER 1 …")?;
    let mut desk = Desk::set_up(folder, readers)?;
    desk.start_pcscd()?;
    say("ok");
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        match desk.obey(&line) {
            Ok(()) => say("ok"),
            Err(message) => say(&format!("error: {message}")),
        }
    }
    Ok(())
}

struct Desk {
    folder: PathBuf,
    pcscd: Option<Child>,
    readers: Vec<Reader>,
}

#[derive(Default)]
struct Reader {
    /// Serial, firmware, touch: what is in it, also while there is no pcscd.
    inserted: Option<[String; 3]>,
    card: Option<Child>,
}

impl Desk {
    fn set_up(folder: &Path, readers: usize) -> Result<Self, String> {
        let folder = folder.canonicalize().map_err(|error| format!("`{}`: {error}", folder.display()))?;
        let (run, config) = (folder.join("run"), folder.join("readers"));
        let drivers: Vec<_> = (0..readers).map(|number| folder.join(format!("driver.{number}.so"))).collect();
        fs::create_dir_all(run.join("pcscd"))
            .and_then(|()| fs::create_dir_all(&config))
            .and_then(|()| fs::write(config.join("vpcd"), reader_conf(&drivers)))
            .map_err(|error| format!("`{}`: {error}", folder.display()))?;
        let copied = drivers.iter().try_for_each(|driver| fs::copy(DRIVER, driver).map(drop));
        copied.map_err(|error| format!("`{DRIVER}`: {error}\nhint: apt-get install vsmartcard-vpcd"))?;
        mount_bind(&run, "/run").map_err(|error| format!("can't mount: {error}\nhint: start it by: unshare -rmn"))?;
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        up.map_err(|error| format!("`ip` (of iproute2): {error}"))?;
        Ok(Self { folder, pcscd: None, readers: (0..readers).map(|_| Reader::default()).collect() })
    }

    fn obey(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["insert", reader, serial, firmware, touch] => {
                self.insert(number(reader)?, [serial, firmware, touch].map(str::to_owned))
            }
            ["pull", reader] => self.pull(number(reader)?),
            ["stop-pcscd"] => self.stop_pcscd(),
            ["start-pcscd"] => self.start_pcscd(),
            ["slow", reader, ms] => self.card(number(reader)?)?.order(&format!("slow {ms}")),
            ["drop-pin", reader] => self.card(number(reader)?)?.order("drop-pin"),
            _ => Err(format!("no such order: `{line}`")),
        }
    }

    fn insert(&mut self, number: usize, what: [String; 3]) -> Result<(), String> {
        let reader = self.readers.get_mut(number).ok_or("no such reader")?;
        if reader.inserted.is_some() {
            return Err(format!("there is a card in reader {number} already"));
        }
        reader.inserted = Some(what);
        if self.pcscd.is_some() { self.power(number) } else { Ok(()) }
    }

    /// As fast as a hand is not: the card has no time to finish what it does.
    fn pull(&mut self, number: usize) -> Result<(), String> {
        let reader = self.readers.get_mut(number).ok_or("no such reader")?;
        reader.inserted.take().ok_or_else(|| format!("there is no card in reader {number}"))?;
        if self.pcscd.is_none() {
            return Ok(());
        }
        let changes = pcsc::changes(number)?;
        reader.card = None;
        pcsc::wait_for(number, false, changes)
    }

    fn start_pcscd(&mut self) -> Result<(), String> {
        if self.pcscd.is_some() {
            return Err("pcscd runs already".into());
        }
        let mut command = child::command("pcscd");
        command.arg("--foreground").arg("--config").arg(self.folder.join("readers"));
        self.pcscd = Some(Child::start(command, &self.folder.join("pcscd.log"))?);
        pcsc::wait_for_readers(self.readers.len())?;
        let inserted = |reader: &Reader| reader.inserted.is_some();
        let inserted: Vec<_> = (0..self.readers.len()).filter(|at| inserted(&self.readers[*at])).collect();
        inserted.into_iter().try_for_each(|number| self.power(number))
    }

    /// The cards lose their power too: their processes end with the reader's connection.
    fn stop_pcscd(&mut self) -> Result<(), String> {
        self.pcscd.take().ok_or("pcscd does not run")?;
        self.readers.iter_mut().for_each(|reader| reader.card = None);
        // A killed one leaves it behind, and clients would wait there.
        for left in ["pcscd.comm", "pcscd.pid"] {
            let _ = fs::remove_file(self.folder.join("run/pcscd").join(left));
        }
        Ok(())
    }

    fn power(&mut self, number: usize) -> Result<(), String> {
        let reader = &mut self.readers[number];
        let Some([serial, firmware, touch]) = &reader.inserted else { return Ok(()) };
        let own = std::env::current_exe().map_err(|error| format!("who am I: {error}"))?;
        let mut command = child::command(own);
        command.args(["card", &format!("127.0.0.1:{}", port(number))]);
        command.arg(self.folder.join("cards").join(serial)).args([serial, firmware, touch]);
        let changes = pcsc::changes(number)?;
        reader.card = Some(Child::start(command, &self.folder.join(format!("card.{number}.log")))?);
        pcsc::wait_for(number, true, changes)
    }

    fn card(&mut self, number: usize) -> Result<&mut Child, String> {
        let card = self.readers.get_mut(number).and_then(|reader| reader.card.as_mut());
        card.ok_or_else(|| format!("there is no card in reader {number}"))
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("not the number of a reader: `{text}`"))
}

/// Yubico's PKCS#11 module looks at readers with Yubico's name only. Each has a driver of its own, for pcscd lets readers
/// wait for each other that share one.
fn reader_conf(drivers: &[PathBuf]) -> String {
    let one = |(number, driver): (usize, &PathBuf)| {
        let (name, port, driver) = (NAMES[number], port(number), driver.display());
        format!("FRIENDLYNAME \"{name}\"\nDEVICENAME /dev/null:{port:#x}\nLIBPATH {driver}\nCHANNELID {port:#x}\n")
    };
    drivers.iter().enumerate().map(one).collect()
}

/// Each reader of vpcd has two slots and takes two ports; the second slot stays empty.
fn port(number: usize) -> usize {
    FIRST_PORT + 2 * number
}

const DRIVER: &str = "/usr/lib/pcsc/drivers/serial/libifdvpcd.so";
const FIRST_PORT: usize = 35963;
