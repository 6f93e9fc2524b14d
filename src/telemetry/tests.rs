use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use hallmark_core::{
    error::Reason,
    key::Alg,
    ports::{FaultClass, HsmFault},
};

use super::{
    metrics::{AuditFigures, JobTimes, Refusal},
    *,
};

/// The line of a metric in a scrape, without its value.
fn value<'a>(scrape: &'a str, series: &str) -> &'a str {
    let line = scrape.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in:\n{scrape}"))
}

#[test]
fn handles_count_where_the_labels_say() {
    let metrics = Metrics::new();
    let times = JobTimes { hsm: Duration::from_millis(200), queued: Duration::from_millis(1), ..Default::default() };
    for _ in 0..3 {
        metrics.signed("epic", "main", Alg::ES256, Ok(times));
    }
    metrics.signed("epic", "main", Alg::RS384, Err(Reason::Overloaded));
    metrics.refused(Reason::RateLimited);
    metrics.refused(Reason::Internal);
    metrics.hsm_up("main", false);
    metrics.hsm_fault("main", &HsmFault::new(FaultClass::Gone, "C_Sign", "CKR_DEVICE_REMOVED"));
    metrics.hsm_fault("main", &HsmFault::new(FaultClass::KeyAbsent, "C_FindObjects", "no object with this id"));
    metrics.listener("grpc").refused(Refusal::HandshakeTimeout);
    let open = metrics.listener("grpc").accepted();
    metrics.jwks().answered(304);

    let scrape = metrics.encode();
    for (series, expected) in [
        (r#"hallmark_signatures_total{client="epic",alg="ES256",outcome="done"}"#, "3"),
        (r#"hallmark_signatures_total{client="epic",alg="RS384",outcome="OVERLOADED"}"#, "1"),
        (r#"hallmark_queue_seconds_bucket{le="0.001",hsm="main",alg="ES256"}"#, "3"),
        (r#"hallmark_hsm_seconds_bucket{le="0.1",hsm="main",alg="ES256"}"#, "0"),
        (r#"hallmark_hsm_seconds_bucket{le="0.25",hsm="main",alg="ES256"}"#, "3"),
        (r#"hallmark_refusals_total{reason="RATE_LIMITED"}"#, "1"),
        (r#"hallmark_refusals_total{reason="INTERNAL"}"#, "1"),
        (r#"hallmark_hsm_breaker_state{hsm="main"}"#, "1"),
        (r#"hallmark_hsm_faults_total{hsm="main",function="C_Sign",code="CKR_DEVICE_REMOVED"}"#, "1"),
        (r#"hallmark_hsm_faults_total{hsm="main",function="C_FindObjects",code="key-absent"}"#, "1"),
        (r#"hallmark_connections_refused_total{listener="grpc",cause="handshake-timeout"}"#, "1"),
        (r#"hallmark_connections{listener="grpc"}"#, "1"),
        (r#"hallmark_jwks_requests_total{status="304"}"#, "1"),
    ] {
        assert_eq!(value(&scrape, series), expected, "{series}");
    }
    drop(open);
    assert_eq!(value(&metrics.encode(), r#"hallmark_connections{listener="grpc"}"#), "0");
    assert!(scrape.ends_with("# EOF\n"));
}

#[test]
fn figures_of_others_are_asked_for_at_each_scrape() {
    let metrics = Metrics::new();
    let figures = AuditFigures {
        batches: 3,
        refusals: 2,
        sync: Duration::from_millis(1500),
        healthy: true,
        ..Default::default()
    };
    metrics.on_scrape(move |metrics| metrics.set_audit(&figures));
    let scrape = metrics.encode();
    assert_eq!(value(&scrape, "hallmark_audit_batches_total{}"), "3");
    assert_eq!(value(&scrape, "hallmark_audit_refusals_total{}"), "2");
    assert_eq!(value(&scrape, "hallmark_audit_sync_seconds_total{}"), "1.5");
    assert_eq!(value(&scrape, "hallmark_audit_healthy{}"), "1");
}

#[test]
fn the_documentation_lists_every_metric() {
    let row = |metric: &metrics::Described| {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
        format!("| `{}` | {} | {labels} | {} |\n", metric.name, metric.kind, metric.help)
    };
    let expected: String = Metrics::new().list().iter().map(row).collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let listed = std::fs::read_to_string(path).unwrap();
    let listed: String = listed.lines().filter(|l| l.starts_with("| `")).map(|l| format!("{l}\n")).collect();
    assert_eq!(listed, expected, "the table of docs/metrics.md must be:\n{expected}");
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(format: LogFormat, filter: &str) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = subscriber(format, filter, move || writer.clone()).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!(request_id = "r-1", client = "epic", "refused");
        tracing::debug!("detail");
    });
    let bytes = lines.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_line_about_a_request_carries_its_id() {
    let json: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json, "info")).unwrap();
    assert_eq!(json["request_id"], "r-1");
    assert_eq!((&json["message"], &json["client"]), (&"refused".into(), &"epic".into()));
    let human = logged(LogFormat::Human, "info");
    assert!(human.contains("r-1") && human.contains("refused") && !human.contains("detail"), "{human}");
}

#[test]
fn a_bad_filter_says_what_to_type() {
    let error = subscriber(LogFormat::Human, "hallmark=loud", io::stderr).err().unwrap();
    assert!(error.to_string().contains("hint:"), "{error}");
}
