//! How long sweeps take, as the server counts it.

use std::{
    error::Error,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use crate::{sandbox::get, timing::median};

/// In seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sweeps {
    /// Of all that there were since the server started, by the server's own sum.
    pub(crate) mean: f64,
    /// Those that were seen one by one.
    pub(crate) each: Vec<f64>,
}

impl Sweeps {
    pub(crate) fn median(&self) -> f64 {
        median(self.each.iter().copied())
    }

    pub(crate) fn longest(&self) -> f64 {
        self.each.iter().copied().fold(self.mean, f64::max)
    }
}

/// Watches until so many were seen.
pub(crate) fn watch(metrics: SocketAddr, count: usize) -> Result<Sweeps, Box<dyn Error>> {
    let reading = || -> Result<(f64, f64), Box<dyn Error>> {
        let value = |name| value(metrics, name).ok_or_else(|| format!("no `{name}` in the metrics"));
        Ok((value("hallmark_rotation_sweep_seconds_sum")?, value("hallmark_rotation_sweep_seconds_count")?))
    };
    let (began, mut before) = (Instant::now(), reading()?);
    let mut each = Vec::new();
    while each.len() < count {
        if began.elapsed() > Duration::from_secs(120) {
            return Err("too few sweeps in two minutes".into());
        }
        #[expect(clippy::disallowed_methods, reason = "another process tells nobody when it swept")]
        thread::sleep(Duration::from_millis(100));
        let now = reading()?;
        let swept = now.1 - before.1;
        if swept > 0.0 {
            each.push((now.0 - before.0) / swept);
            before = now;
        }
    }
    Ok(Sweeps { mean: before.0 / before.1, each })
}

/// One series of the metrics.
pub(crate) fn value(metrics: SocketAddr, series: &str) -> Option<f64> {
    let text = get(metrics, "/metrics").ok()?;
    text.lines().find_map(|line| text_after(line, series)?.trim().parse().ok())
}

/// A series without labels may be written with empty braces.
fn text_after<'a>(line: &'a str, series: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(series)?;
    rest.strip_prefix("{}").unwrap_or(rest).strip_prefix(' ')
}
