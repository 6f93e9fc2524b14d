//! A server under measurement, with what is known of it.

use std::{
    error::Error,
    path::{Path, PathBuf},
    time::Duration,
};

use hallmark_core::key::Alg;

use crate::{
    bare::Task,
    cpu,
    empty::Empty,
    load::{ActiveKey, Callers, Mode, Served},
    report::{Memory, Row},
    sandbox::{Sandbox, Server, clients},
    timing::Window,
    verify,
};

/// A server that can be started.
pub(crate) struct Subject {
    name: &'static str,
    hallmark: PathBuf,
    sandbox: Sandbox,
    /// What each sync of its audit log takes longer.
    delay: Option<Duration>,
}

/// A server that runs, has its keys, and was not asked for anything else yet.
pub(crate) struct Running<'a> {
    subject: &'a Subject,
    server: Server,
    callers: Callers,
    keys: Vec<(Alg, ActiveKey)>,
    idle: u64,
}

impl Subject {
    pub(crate) fn new(name: &'static str, hallmark: &Path, algs: &[Alg]) -> Result<Self, Box<dyn Error>> {
        Ok(Self { name, hallmark: hallmark.to_owned(), sandbox: Sandbox::new(&clients(algs))?, delay: None })
    }

    /// One server, with its audit log on three disks: what auditing costs is the difference.
    pub(crate) fn audited(hallmark: &Path, algs: &[Alg], delay: Duration) -> Result<Vec<Self>, Box<dyn Error>> {
        let free = Self::new("log in memory", hallmark, algs)?;
        let free = Self { sandbox: free.sandbox.audit_in_memory(), ..free };
        let slow = Self { delay: Some(delay), ..Self::new("log on the disk, and 5 ms", hallmark, algs)? };
        Ok(vec![free, Self::new("log on the disk", hallmark, algs)?, slow])
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Starts it with keys made.
    pub(crate) fn start(&self, algs: &[Alg], sync_delay: Option<Duration>) -> Result<Running<'_>, Box<dyn Error>> {
        // A first process makes the keys: that takes memory which a server does not need later.
        let server = self.sandbox.serve(&self.hallmark, None)?;
        let callers = Callers::connect(&server)?;
        let keys = algs.iter().map(|alg| Ok((*alg, callers.active_key(&server, *alg)?)));
        let keys = keys.collect::<Result<_, Box<dyn Error>>>()?;
        // A connection that nobody drives would hold the server up.
        drop(callers);
        server.stop()?;

        let server = self.sandbox.serve(&self.hallmark, sync_delay.or(self.delay))?;
        let idle = cpu::resident_memory(server.pid())?;
        let callers = Callers::connect(&server)?;
        eprintln!("==> {}: ready, {} MiB resident", self.name, idle >> 20);
        Ok(Running { subject: self, server, callers, keys, idle })
    }
}

impl Running<'_> {
    /// An empty row for it.
    pub(crate) fn row(&self, alg: Alg, mode: Mode, window: Window) -> Result<Row, Box<dyn Error>> {
        let verify_cpu = verify::cpu_micros(alg, self.key(alg)?)?;
        let empty = match mode {
            // An item of a stream is no call of its own.
            Mode::Streamed => Empty::default(),
            _ => Empty::measure(&self.callers, &self.server, mode.under_way(), window)?,
        };
        Ok(Row { server: self.subject.name, alg, mode, verify_cpu, empty, pairs: Vec::new() })
    }

    /// What the bare loop has to do to be compared with it.
    pub(crate) fn task(&self, alg: Alg) -> Result<Task, Box<dyn Error>> {
        let ActiveKey { key, assertion } = self.key(alg)?;
        let message_len = assertion.rfind('.').ok_or("not a JWS")?;
        Ok(Task { alg, cka_ids: vec![key.cka_id.clone()], message_len })
    }

    pub(crate) fn measure(&self, alg: Alg, mode: Mode, window: Window) -> Result<Served, Box<dyn Error>> {
        let served = self.callers.measure(&self.server, alg, mode, window);
        served.map_err(|error| format!("{error}; the server said:\n{}", self.subject.sandbox.log()).into())
    }

    pub(crate) fn stop(self) -> Result<Memory, Box<dyn Error>> {
        let Self { subject, server, callers, idle, .. } = self;
        let after_load = cpu::resident_memory(server.pid())?;
        drop(callers);
        server.stop()?;
        Ok(Memory { server: subject.name, idle, after_load })
    }

    fn key(&self, alg: Alg) -> Result<&ActiveKey, Box<dyn Error>> {
        let found = self.keys.iter().find(|(of, _)| *of == alg);
        found.map(|(_, key)| key).ok_or_else(|| format!("no key for {alg}").into())
    }
}
