//! What the HTTP stack can do alone: the same listener on a thread of its own, in a child of the benchmark, and behind it
//! nothing but static files, in memory: the same documents under the same paths.

use std::{
    collections::HashMap,
    convert::Infallible,
    error::Error,
    future::{Ready, ready},
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Stdio},
    sync::Arc,
    thread,
    time::SystemTime,
};

use bytes::Bytes;
use hallmark::{
    telemetry::Metrics,
    transport::listener::{Callers, Limits, Listener, Protocol, Socket},
};
use hallmark_core::{ports::Clock, time::Timestamp};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, service::Service};
use tokio_util::sync::CancellationToken;

use crate::this_program;

/// The arguments of the child.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PlainArgs {
    /// Serves the answers that are on its standard input.
    #[arg(long, hide = true)]
    plain: bool,
}

/// The child, seen from the benchmark.
pub(crate) struct Plain {
    child: Child,
    addr: SocketAddr,
}

impl Plain {
    /// Serves `answers`, by path: their headers and their bodies.
    pub(crate) fn start(answers: &HashMap<String, String>) -> Result<Self, Box<dyn Error>> {
        let mut child = this_program()?.arg("--plain").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(mut input), Some(output)) = (input, output) else { return Err("no pipes".into()) };
        input.write_all(&serde_json::to_vec(answers)?)?;
        drop(input);
        let mut addr = String::new();
        BufReader::new(output).read_line(&mut addr)?;
        Ok(Self { addr: addr.trim().parse()?, child })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl PlainArgs {
    /// Whether this process is the child.
    pub(crate) fn is_child(&self) -> bool {
        self.plain
    }

    /// The child's life: serves until it is killed.
    pub(crate) fn serve(&self) -> Result<(), Box<dyn Error>> {
        let mut text = Vec::new();
        io::stdin().read_to_end(&mut text)?;
        let answers: HashMap<String, String> = serde_json::from_slice(&text)?;
        let files = answers.into_iter().map(|(path, answer)| Ok((path, File::parse(&answer)?)));
        let files = Files(Arc::new(files.collect::<Result<_, Box<dyn Error>>>()?));
        let front = async {
            let socket = Socket::tcp((Ipv4Addr::LOCALHOST, 0).into()).await?;
            println!("{}", socket.addr().ok_or_else(|| io::Error::other("no address"))?);
            let listener = Listener {
                socket,
                tls: None,
                callers: Callers::Anyone,
                protocol: Protocol::Http,
                limits: Limits::http(),
                clock: Arc::new(Wall),
                metrics: Metrics::new().listener("jwks"),
            };
            listener.serve(move |_| files.clone(), CancellationToken::new()).await;
            io::Result::Ok(())
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let served = thread::scope(|scope| scope.spawn(|| runtime.block_on(front)).join());
        Ok(served.map_err(|_| "the thread panicked")??)
    }
}

#[derive(Clone)]
struct Files(Arc<HashMap<String, File>>);

struct File {
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl File {
    fn parse(answer: &str) -> Result<Self, Box<dyn Error>> {
        let (header, body) = answer.split_once("\r\n\r\n").ok_or("not an answer")?;
        let fields = header.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
        // The others come from the stack.
        let fields = fields.filter(|(name, _)| ["cache-control", "etag", "content-type"].contains(name));
        let fields = fields.map(|(name, value)| Ok((name.parse()?, value.parse()?)));
        let headers = fields.collect::<Result<_, Box<dyn Error>>>()?;
        Ok(Self { headers, body: body.to_owned().into() })
    }
}

impl Service<Request<Incoming>> for Files {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let Some(File { headers: fields, body }) = self.0.get(request.uri().path()) else {
            let mut missing = Response::default();
            *missing.status_mut() = StatusCode::NOT_FOUND;
            return ready(Ok(missing));
        };
        let mut response = Response::new(Full::new(body.clone()));
        let headers = response.headers_mut();
        headers.reserve(fields.len());
        headers.extend(fields.iter().cloned());
        ready(Ok(response))
    }
}

#[derive(Debug)]
struct Wall;

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
    }
}
