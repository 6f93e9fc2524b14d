//! Authorization servers: connections that ask for key sets without pause, over HTTP/1.1 and kept open.

use std::{error::Error, io, net::SocketAddr, rc::Rc, time::Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::{Builder, Runtime},
    task::{JoinSet, LocalSet},
};

use crate::{
    load::{Counted, Served},
    timing::Window,
};

/// Enough that the server has always something to do.
const CONNECTIONS: usize = 32;

/// Who asks: one thread, which does as little as it can.
pub(crate) struct Fetchers(Runtime);

impl Fetchers {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Builder::new_current_thread().enable_all().build()?))
    }

    /// Asks for all `paths` in turn.
    pub(crate) fn measure(
        &self,
        pid: u32,
        from: SocketAddr,
        paths: &[String],
        window: Window,
    ) -> Result<Served, Box<dyn Error>> {
        let request = |path: &String| format!("GET {path} HTTP/1.1\r\nHost: keys.example.com\r\nAccept: */*\r\n\r\n");
        let requests: Rc<[Vec<u8>]> = paths.iter().map(|path| request(path).into_bytes()).collect();
        let counted = Rc::new(Counted::default());
        LocalSet::new().block_on(&self.0, async {
            let mut fetching = JoinSet::new();
            for n in 0..CONNECTIONS {
                fetching.spawn_local(fetch(from, requests.clone(), n * SPREAD, counted.clone()));
            }
            tokio::select! {
                served = counted.clone().watch(pid, window) => Ok(served?),
                Some(ended) = fetching.join_next() => Err(format!("a connection ended: {ended:?}").into()),
            }
        })
    }
}

/// So that no two connections ask for the same set at the same time.
const SPREAD: usize = 311;

async fn fetch(from: SocketAddr, requests: Rc<[Vec<u8>]>, first: usize, counted: Rc<Counted>) -> io::Result<()> {
    let mut stream = TcpStream::connect(from).await?;
    stream.set_nodelay(true)?;
    let mut answer = vec![0; 16 * 1024];
    for request in requests.iter().cycle().skip(first % requests.len().max(1)) {
        let asked = Instant::now();
        stream.write_all(request).await?;
        let mut filled = 0;
        while !is_whole(&answer[..filled])? {
            match stream.read(&mut answer[filled..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => filled += more,
            }
        }
        counted.add(asked);
    }
    Ok(())
}

/// Whether header and body are there. Anything but a key set is an error.
fn is_whole(answer: &[u8]) -> io::Result<bool> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(false) };
    let header = std::str::from_utf8(&answer[..end]).map_err(io::Error::other)?;
    let length = header.split("\r\n").find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    match length {
        Some(length) if header.starts_with("HTTP/1.1 200") => Ok(answer.len() >= end + 4 + length),
        _ => Err(io::Error::other(format!("not a key set: {header}"))),
    }
}
