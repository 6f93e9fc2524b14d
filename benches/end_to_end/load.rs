//! Callers: what the server does when it is asked over mTLS, as a backend service would with the thin client.
//!
//! All callers share one client, hence one connection and one thread (a current-thread runtime): that is what costs
//! the client least. The thread's own CPU time is measured too, because client and server share the machine.

use std::{
    cell::RefCell,
    collections::HashMap,
    error::Error,
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use hallmark_client::{Client, Key, KeyState, SignRequest};
use hallmark_core::key::Alg;
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
    task::{JoinSet, LocalSet},
};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::{
    cpu::{self, ThreadTimes},
    sandbox::{HSM, Server, client_name},
    timing::{Window, quantile},
};

/// How the server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    #[value(name = "unary-1")]
    Unary1,
    #[value(name = "unary-8")]
    Unary8,
    #[value(name = "unary-64")]
    Unary64,
    Streamed,
}

impl Mode {
    pub(crate) const ALL: [Self; 4] = [Self::Unary1, Self::Unary8, Self::Unary64, Self::Streamed];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unary1 => "unary, 1",
            Self::Unary8 => "unary, 8",
            Self::Unary64 => "unary, 64",
            Self::Streamed => "streamed",
        }
    }

    /// Requests under way at any time.
    pub(crate) fn under_way(self) -> usize {
        match self {
            Self::Unary1 => 1,
            Self::Unary8 => 8,
            Self::Unary64 => 64,
            // As many as the server takes from one stream: it has always something to do.
            Self::Streamed => 128,
        }
    }
}

/// Who asks.
pub(crate) struct Callers {
    runtime: Runtime,
    client: Client,
}

/// What came of one measurement. CPU times are for one signature, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    pub(crate) per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
    pub(crate) client_cpu: f64,
    pub(crate) server_cpu: f64,
    /// The threads that own sessions: HSM, verification, and taking jobs.
    pub(crate) workers_cpu: f64,
    /// The threads of the asynchronous runtime: TLS, HTTP/2, policy, audit records.
    pub(crate) transport_cpu: f64,
    /// The thread that writes and syncs the audit log.
    pub(crate) audit_cpu: f64,
}

/// A key as the server uses it.
pub(crate) struct ActiveKey {
    pub(crate) key: Key,
    /// What was signed last, without the signature; and the signature, in base64url.
    pub(crate) assertion: String,
}

impl Callers {
    pub(crate) fn connect(server: &Server) -> Result<Self, Box<dyn Error>> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(async { Client::connect(server.workload()) })?;
        Ok(Self { runtime, client })
    }

    /// Asks for one assertion, once.
    pub(crate) fn sign_once(&self, client: &str) -> Result<String, hallmark_client::Error> {
        Ok(self.runtime.block_on(self.client.sign_assertion(SignRequest::new(client)))?.assertion)
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Waits until the key for `alg` is made, and shows it.
    pub(crate) fn active_key(&self, server: &Server, alg: Alg) -> Result<ActiveKey, Box<dyn Error>> {
        let name = client_name(alg);
        self.runtime.block_on(async {
            let patience = Instant::now() + Duration::from_secs(60);
            let signed = loop {
                match self.client.sign_assertion(SignRequest::new(&name)).await {
                    Ok(signed) => break signed,
                    Err(error) if Instant::now() > patience => return Err(error.into()),
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            };
            let keys = Client::connect(server.operator())?.list_keys(Some(&name)).await?;
            let key = keys.into_iter().find(|key| key.state == KeyState::Active).ok_or("no active key")?;
            Ok(ActiveKey { key, assertion: signed.assertion })
        })
    }

    pub(crate) fn measure(
        &self,
        server: &Server,
        alg: Alg,
        mode: Mode,
        window: Window,
    ) -> Result<Served, Box<dyn Error>> {
        self.measure_clients(server, &[client_name(alg)], mode, window)
    }

    /// For several clients in turn; streamed, for the first alone.
    pub(crate) fn measure_clients(
        &self,
        server: &Server,
        clients: &[String],
        mode: Mode,
        window: Window,
    ) -> Result<Served, Box<dyn Error>> {
        let counted = Rc::new(Counted::default());
        let requests: Rc<[_]> = clients.iter().map(SignRequest::new).collect();
        LocalSet::new().block_on(&self.runtime, async {
            let mut callers = JoinSet::new();
            if mode == Mode::Streamed {
                let request = requests.first().ok_or("no client")?.clone();
                callers.spawn_local(stream(self.client.clone(), request, mode.under_way(), counted.clone()));
            } else {
                for caller in 0..mode.under_way() {
                    let requests = requests.clone();
                    callers.spawn_local(call(self.client.clone(), requests, caller, counted.clone()));
                }
            }
            let watch = counted.clone().watch(server.pid(), window);
            tokio::select! {
                served = watch => Ok(served?),
                // They only end with an error.
                Some(ended) = callers.join_next() => match ended? {
                    Ok(()) => Err("the server ended the stream".into()),
                    Err(error) => Err(error.into()),
                },
            }
        })
    }
}

/// One caller that asks for an assertion, waits for it, and asks for the next one.
async fn call(
    client: Client,
    requests: Rc<[SignRequest]>,
    first: usize,
    counted: Rc<Counted>,
) -> Result<(), hallmark_client::Error> {
    // No two callers begin with the same one.
    for request in requests.iter().cycle().skip(first % requests.len().max(1)) {
        let asked = Instant::now();
        client.sign_assertion(request.clone()).await?;
        counted.add(asked);
    }
    Ok(())
}

/// One caller with a stream, who asks for another assertion whenever one comes back.
async fn stream(
    client: Client,
    request: SignRequest,
    under_way: usize,
    counted: Rc<Counted>,
) -> Result<(), hallmark_client::Error> {
    let (ask, asked) = mpsc::unbounded_channel();
    let mut since = HashMap::new();
    let mut next = 0_u64..;
    let mut answers = client.sign_assertions(UnboundedReceiverStream::new(asked)).await?;
    let mut ask_next = |since: &mut HashMap<String, Instant>| {
        let id = next.next().unwrap_or_default().to_string();
        since.insert(id.clone(), Instant::now());
        // The stream ends before its receiver does.
        let _ = ask.send((id, request.clone()));
    };
    (0..under_way).for_each(|_| ask_next(&mut since));
    while let Some(answer) = answers.next().await {
        let answer = answer?;
        answer.result?;
        if let Some(asked) = since.remove(&answer.correlation_id) {
            counted.add(asked);
        }
        ask_next(&mut since);
    }
    Ok(())
}

/// What falls into the window.
#[derive(Default)]
pub(crate) struct Counted(RefCell<Option<Vec<Duration>>>);

impl Counted {
    pub(crate) fn add(&self, asked: Instant) {
        if let Some(latencies) = self.0.borrow_mut().as_mut() {
            latencies.push(asked.elapsed());
        }
    }

    pub(crate) async fn watch(self: Rc<Self>, pid: u32, window: Window) -> io::Result<Served> {
        tokio::time::sleep(window.warm_up).await;
        let (server_before, client_before) = (ThreadTimes::of(pid)?, cpu::of_this_thread()?);
        let opened = Instant::now();
        self.0.replace(Some(Vec::new()));
        tokio::time::sleep(window.length).await;
        let mut latencies = self.0.take().unwrap_or_default();
        let length = opened.elapsed();
        let (server, client) = (ThreadTimes::of(pid)?, cpu::of_this_thread()?);

        latencies.sort_unstable();
        let count = latencies.len() as f64;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / count;
        let used = |fits: fn(&str) -> bool| each(server.since(&server_before, fits));
        Ok(Served {
            per_second: count / length.as_secs_f64(),
            p50: quantile(&latencies, 0.5),
            p99: quantile(&latencies, 0.99),
            client_cpu: each(client.saturating_sub(client_before)),
            server_cpu: used(|_| true),
            workers_cpu: used(is_worker),
            transport_cpu: used(|name| name == "main" || name.starts_with("tokio")),
            audit_cpu: used(|name| name == "audit"),
        })
    }
}

/// `softhsm-0`, and not `softhsm-keeper`.
fn is_worker(name: &str) -> bool {
    let index = name.strip_prefix(HSM).and_then(|rest| rest.strip_prefix('-'));
    index.is_some_and(|index| index.bytes().all(|byte| byte.is_ascii_digit()))
}
