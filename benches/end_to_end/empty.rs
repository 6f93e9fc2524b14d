//! What the front alone costs: calls over mTLS that nothing is done for.
//!
//! A server that signed, verified, and did nothing else that an empty call does not do would reach
//! [`Empty::ceiling`] of the bare loop's speed. No target above it can be reached on this machine with this transport.

use std::{error::Error, fs, path::Path, rc::Rc};

use hallmark_client::Endpoint;
use tokio::task::{JoinSet, LocalSet};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    load::{Callers, Counted},
    sandbox::Server,
    timing::Window,
};

/// CPU time of an empty call, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Empty {
    pub(crate) server_cpu: f64,
    pub(crate) client_cpu: f64,
}

impl Empty {
    /// Asks the health service, with so many callers on one connection.
    pub(crate) fn measure(
        callers: &Callers,
        server: &Server,
        under_way: usize,
        window: Window,
    ) -> Result<Self, Box<dyn Error>> {
        let counted = Rc::new(Counted::default());
        LocalSet::new().block_on(callers.runtime(), async {
            let channel = connect(server).await?;
            let mut asking = JoinSet::new();
            for _ in 0..under_way {
                asking.spawn_local(ask(HealthClient::new(channel.clone()), counted.clone()));
            }
            tokio::select! {
                served = counted.clone().watch(server.pid(), window) => {
                    let served = served?;
                    Ok(Self { server_cpu: served.server_cpu, client_cpu: served.client_cpu })
                }
                Some(ended) = asking.join_next() => Err(format!("a health check failed: {ended:?}").into()),
            }
        })
    }

    /// The highest share of the bare loop's speed, with all cores busy.
    pub(crate) fn ceiling(self, hsm_cpu: f64, verify_cpu: f64) -> f64 {
        hsm_cpu / (hsm_cpu + verify_cpu + self.server_cpu + self.client_cpu)
    }
}

async fn connect(server: &Server) -> Result<Channel, Box<dyn Error>> {
    let Endpoint::Tls { url, ca, cert, key, .. } = &server.workload().endpoint else { return Err("not TLS".into()) };
    let read = |path: &Path| fs::read(path);
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?));
    let tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
    Ok(Channel::from_shared(url.clone())?.tls_config(tls)?.tcp_nodelay(true).connect().await?)
}

async fn ask(mut health: HealthClient<Channel>, counted: Rc<Counted>) -> Result<(), tonic::Status> {
    loop {
        let asked = std::time::Instant::now();
        health.check(HealthCheckRequest { service: String::new() }).await?;
        counted.add(asked);
    }
}
