//! The one address that verifiers are given: passes each connection on to a replica that answers.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

/// A load balancer for connections; ends with the runtime.
pub(super) struct Front {
    pub(super) address: SocketAddr,
    backends: Backends,
}

type Backends = Arc<Mutex<Vec<String>>>;

impl Front {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let backends = Backends::default();
        let shared = backends.clone();
        tokio::spawn(async move {
            let mut turn = 0;
            while let Ok((from, _)) = listener.accept().await {
                turn += 1;
                tokio::spawn(pass_on(from, shared.clone(), turn));
            }
        });
        Self { address, backends }
    }

    /// Where the replicas listen, those that were killed included: nobody tells a load balancer.
    pub(super) fn point_at(&self, addresses: Vec<String>) {
        *self.backends.lock().unwrap() = addresses;
    }
}

async fn pass_on(mut from: TcpStream, backends: Backends, turn: usize) {
    if let Ok(mut to) = connect(&backends, turn).await {
        // Either side may be killed.
        let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
    }
}

/// Waits a little for one that is being started.
async fn connect(backends: &Backends, turn: usize) -> io::Result<TcpStream> {
    let end = Instant::now() + PATIENCE;
    loop {
        let addresses = backends.lock().unwrap().clone();
        for place in 0..addresses.len() {
            if let Ok(stream) = TcpStream::connect(&addresses[(place + turn) % addresses.len()]).await {
                return Ok(stream);
            }
        }
        if Instant::now() > end {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Less than the verifiers have, by the fast clock.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
