//! The card in its reader: vpcd on a TCP connection. Chained commands, long answers, and faults that a test asks for.

use std::{
    io::{self, BufRead, Write},
    net::{TcpStream, ToSocketAddrs},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use iso7816::command::CommandView;
use rustix::net::sockopt::set_tcp_quickack;
use vpicc::VSmartCard;

use crate::{card::Card, status::Status};

/// Serves `card` until vpcd ends the connection.
///
/// # Errors
/// Where vpcd is not there within [`PATIENCE`], and how the connection ended.
pub(crate) fn serve(card: Card<'_>, address: &str, faults: Arc<Faults>) -> io::Result<()> {
    let stream = connect(address)?;
    let acknowledge = stream.try_clone()?;
    let mut connection = vpicc::Connection::from(stream);
    let mut inserted = Inserted { card, faults, chained: Vec::new(), pending: Vec::new() };
    loop {
        // vpcd writes length and command apart: without this, each costs the 40 ms of a delayed acknowledgement.
        set_tcp_quickack(&acknowledge, true)?;
        connection.poll(&mut inserted)?;
    }
}

/// What a test may switch on while the card is in.
#[derive(Default)]
pub(crate) struct Faults {
    /// Before each answer, in milliseconds.
    delay: AtomicU64,
    drop_pin: AtomicBool,
}

impl Faults {
    /// Takes orders from standard input, one a line, and answers each with `ok` once it is in force: `slow MS`,
    /// `drop-pin`.
    pub(crate) fn obey(self: Arc<Self>) {
        thread::spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                match line.split_once(' ') {
                    Some(("slow", ms)) => self.delay.store(ms.parse().unwrap_or(0), Ordering::SeqCst),
                    _ => self.drop_pin.store(line == "drop-pin", Ordering::SeqCst),
                }
                say("ok");
            }
        });
    }
}

/// A line on standard output, which whoever started the card reads.
pub(crate) fn say(line: &str) {
    let mut out = io::stdout().lock();
    // Nobody may be listening.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

struct Inserted<'a> {
    card: Card<'a>,
    faults: Arc<Faults>,
    /// Of a command that comes in parts (class bit 10).
    chained: Vec<u8>,
    /// Of an answer that goes in parts (61xx, GET RESPONSE).
    pending: Vec<u8>,
}

impl VSmartCard for Inserted<'_> {
    fn atr(&self) -> &[u8] {
        ATR
    }

    fn power_on(&mut self) {
        self.forget("power on");
    }

    fn power_off(&mut self) {
        self.forget("power off");
    }

    fn reset(&mut self) {
        self.forget("reset");
    }

    fn execute(&mut self, message: &[u8]) -> Vec<u8> {
        let began = Instant::now();
        self.suffer();
        let answer = match CommandView::try_from(message) {
            Ok(command) => self.answer(message, &command),
            Err(_) => Status::WRONG_LENGTH.0.to_be_bytes().to_vec(),
        };
        // Head and outcome, never data: a PIN would be among them.
        let head = &message[..message.len().min(4)];
        eprintln!("{head:02x?} → {:02x?} ({} µs)", &answer[answer.len() - 2..], began.elapsed().as_micros());
        answer
    }
}

impl Inserted<'_> {
    fn answer(&mut self, message: &[u8], command: &CommandView<'_>) -> Vec<u8> {
        let [class, instruction, p1, p2] = [message[0], message[1], message[2], message[3]];
        if class & CHAINED != 0 {
            self.chained.extend(command.data());
            return vec![0x90, 0];
        }
        let outcome = if instruction == GET_RESPONSE {
            Ok(std::mem::take(&mut self.pending))
        } else {
            self.pending.clear();
            let data = [&std::mem::take(&mut self.chained), command.data()].concat();
            self.card.command([class, instruction, p1, p2], &data)
        };
        match outcome {
            Ok(body) => self.first_part(body, if command.extended { command.expected().max(256) } else { 256 }),
            Err(Status(status)) => status.to_be_bytes().to_vec(),
        }
    }

    fn first_part(&mut self, mut body: Vec<u8>, longest: usize) -> Vec<u8> {
        let status = if body.len() > longest {
            self.pending = body.split_off(longest);
            [0x61, self.pending.len().min(0xff) as u8]
        } else {
            [0x90, 0]
        };
        body.extend(status);
        body
    }

    fn forget(&mut self, why: &str) {
        eprintln!("{why}");
        self.card.reset_session();
        self.chained.clear();
        self.pending.clear();
    }

    #[expect(clippy::disallowed_methods, reason = "slowness is what was asked for")]
    fn suffer(&mut self) {
        if self.faults.drop_pin.swap(false, Ordering::SeqCst) {
            self.card.drop_pin_session();
        }
        thread::sleep(Duration::from_millis(self.faults.delay.load(Ordering::SeqCst)));
    }
}

/// Again and again: a reader that was just made listens a moment later.
#[expect(clippy::disallowed_methods, reason = "another program's socket tells nobody when it is there")]
fn connect(address: &str) -> io::Result<TcpStream> {
    let end = Instant::now() + PATIENCE;
    let addresses: Vec<_> = address.to_socket_addrs()?.collect();
    loop {
        match TcpStream::connect(&addresses[..]) {
            Err(_) if Instant::now() < end => thread::sleep(Duration::from_millis(5)),
            outcome => return outcome,
        }
    }
}

/// For vpcd to listen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Of a YubiKey 5 NFC on USB.
const ATR: &[u8] = &[
    0x3b, 0xfd, 0x13, 0x00, 0x00, 0x81, 0x31, 0xfe, 0x15, 0x80, 0x73, 0xc0, 0x21, 0xc0, 0x57, 0x59, 0x75, 0x62, 0x69,
    0x4b, 0x65, 0x79, 0x40,
];
const CHAINED: u8 = 0x10;
const GET_RESPONSE: u8 = 0xc0;
