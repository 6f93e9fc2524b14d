//! What the process says of itself: log lines and metrics.
//!
//! Both are values that `app` makes and hands out; the only thing that is per process is the log, set once by `main`.

use std::io;

use tracing_subscriber::{EnvFilter, Layer, Registry, filter::ParseError, fmt, layer::SubscriberExt};

pub mod metrics;

pub use metrics::Metrics;

/// The form of the log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line; a line about a request has its `request_id`.
    Json,
}

/// A log filter that does not parse.
#[derive(Debug, thiserror::Error)]
#[error("not a log filter: `{filter}`: {cause}\nhint: try `info` or `info,hallmark=debug`")]
pub struct InvalidFilter {
    filter: String,
    cause: ParseError,
}

/// Sends the log of the whole process to standard error. To be called once, by `main`.
pub fn start_log(format: LogFormat, filter: &str) -> Result<(), InvalidFilter> {
    let subscriber = subscriber(format, filter, io::stderr)?;
    // Whoever set a log before us (a test) keeps it.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// A subscriber that writes lines to `writer`.
pub fn subscriber<W>(format: LogFormat, filter: &str, writer: W) -> Result<impl tracing::Subscriber, InvalidFilter>
where
    W: for<'w> fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    let parsed = EnvFilter::try_new(filter);
    let filter = parsed.map_err(|cause| InvalidFilter { filter: filter.to_owned(), cause })?;
    let lines = fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Human => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    Ok(Registry::default().with(lines).with(filter))
}

#[cfg(test)]
mod tests;
