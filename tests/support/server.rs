//! A running `hallmark serve`.

use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use super::{Caller, PATIENCE, Process, eventually, pki::Certified};

pub(crate) struct Server {
    pub(crate) process: Process,
    /// `https://127.0.0.1:PORT`
    pub(crate) grpc: String,
    pub(crate) unix: PathBuf,
    /// `127.0.0.1:PORT`
    pub(crate) jwks: String,
    pub(crate) metrics: String,
    pub(super) ca: String,
    pub(super) app: Certified,
    pub(super) ops: Certified,
}

impl Server {
    /// The workload of the configuration.
    pub(crate) fn app(&self) -> Caller {
        self.caller(Some(&self.app))
    }

    /// The operator of the configuration.
    pub(crate) fn ops(&self) -> Caller {
        self.caller(Some(&self.ops))
    }

    pub(crate) fn caller(&self, who: Option<&Certified>) -> Caller {
        Caller::tls(&self.grpc, &self.ca, who)
    }

    pub(crate) fn jwks_url(&self, client: &str) -> String {
        format!("http://{}/clients/{client}/jwks.json", self.jwks)
    }

    /// Waits until it signs.
    pub(crate) async fn ready(&self) -> &Self {
        eventually("/readyz/sign answers 200", PATIENCE, async || {
            (self.health("/readyz/sign").await.0 == 200).then_some(())
        })
        .await;
        // Readiness counts signatures of the custody key; those of clients are made right after it.
        let app = self.app();
        eventually("the clients have keys", PATIENCE, async || {
            let refused = app.sign_for("demo").await.err();
            refused.is_none_or(|refusal| refusal.reason != "NO_ACTIVE_KEY").then_some(())
        })
        .await;
        self
    }

    /// Status and text of a path on the metrics listener; 0 where nobody answers.
    pub(crate) async fn health(&self, path: &str) -> (u16, String) {
        match reqwest::get(format!("http://{}{path}", self.metrics)).await {
            Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap_or_default()),
            Err(_) => (0, String::new()),
        }
    }

    /// The value of one series, such as `hallmark_signatures_total{…}`; 0 where it is not there.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.health("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    pub(crate) async fn jwks_of(&self, client: &str) -> Value {
        reqwest::get(self.jwks_url(client)).await.unwrap().json().await.unwrap()
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// SIGTERM, and its end, which must be in order.
    pub(crate) async fn stop(self) {
        let mut process = self.process;
        // Beside this runtime, whose callers must hear that the server goes.
        let stopped = tokio::task::spawn_blocking(move || (process.stop(), process)).await;
        let (status, _shown_on_failure) = stopped.unwrap();
        assert_eq!(status.code(), Some(0), "{status}");
    }

    pub(crate) fn reload(&self) {
        self.process.signal(Signal::HUP);
    }
}
