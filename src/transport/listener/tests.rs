mod crowd;
mod ending;
mod identity;
mod protocol;
mod silence;
mod strangers;

use std::time::Duration;

use http_body_util::Full;
use hyper::{body::Bytes, service::service_fn};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::*;
use crate::{
    telemetry::Metrics,
    transport::{
        fixture::{Files, Running, certified, closed, connect_tls, exchange, plain, run, uri, whoami},
        reload::Reload,
        tls::PeerCertificates,
    },
};

const SOON: Duration = Duration::from_millis(200);
const LATE: Duration = Duration::from_secs(10);

fn count(metrics: &Metrics, series: &str) -> u64 {
    let scrape = metrics.encode();
    let value = scrape.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

fn refused(metrics: &Metrics, cause: &str) -> u64 {
    count(metrics, &format!(r#"hallmark_connections_refused_total{{listener="test",cause="{cause}"}}"#))
}

/// A TLS listener that asks for certificates, and speaks HTTP/1.1 too, so that tests can write requests by hand.
async fn secured(files: &Files, metrics: &Metrics) -> Listener {
    Listener {
        tls: Some(files.tls(PeerCertificates::Asked, metrics)),
        callers: Callers::Certificate(files.trusts(metrics)),
        ..plain(metrics).await
    }
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}
