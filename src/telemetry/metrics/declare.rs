//! Declaring a metric, so that the registry, the handles and the list in `docs/metrics.md` come from one line.

use std::{fmt, sync::atomic::AtomicU64};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry},
};

/// A metric as a reader of `/metrics` sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub name: String,
    pub kind: &'static str,
    pub labels: Vec<&'static str>,
    pub help: &'static str,
}

/// A declared metric with `N` labels.
pub(super) struct Declared<M, const N: usize> {
    family: Family<Vec<(&'static str, String)>, M>,
    labels: [&'static str; N],
}

impl<M, const N: usize> Clone for Declared<M, N> {
    fn clone(&self) -> Self {
        Self { family: self.family.clone(), labels: self.labels }
    }
}

impl<M, const N: usize> fmt::Debug for Declared<M, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Declared").field("labels", &self.labels).finish_non_exhaustive()
    }
}

impl<M: Clone, const N: usize> Declared<M, N> {
    /// The handle for these values of the labels.
    pub(super) fn of(&self, values: [&str; N]) -> M {
        let labels = self.labels.into_iter().zip(values.map(str::to_owned)).collect();
        self.family.get_or_create_owned(&labels)
    }

    /// Takes all series away.
    pub(super) fn clear(&self) {
        self.family.clear();
    }

    /// Takes the series with these values away.
    pub(super) fn remove(&self, values: [&str; N]) {
        let labels: Vec<_> = self.labels.into_iter().zip(values.map(str::to_owned)).collect();
        self.family.remove(&labels);
    }
}

pub(super) struct Declarations {
    pub(super) registry: Registry,
    pub(super) list: Vec<Described>,
}

impl Declarations {
    pub(super) fn new() -> Self {
        Self { registry: Registry::with_prefix(PREFIX), list: Vec::new() }
    }

    /// `_total` is appended to its name.
    pub(super) fn counter<const N: usize>(
        &mut self,
        name: &str,
        help: &'static str,
        labels: [&'static str; N],
    ) -> Declared<Counter, N> {
        self.declare(name, "counter", help, labels, Counter::default)
    }

    /// `_total` is appended to its name.
    pub(super) fn float_counter<const N: usize>(
        &mut self,
        name: &str,
        help: &'static str,
        labels: [&'static str; N],
    ) -> Declared<Counter<f64, AtomicU64>, N> {
        self.declare(name, "counter", help, labels, Counter::default)
    }

    pub(super) fn gauge<const N: usize>(
        &mut self,
        name: &str,
        help: &'static str,
        labels: [&'static str; N],
    ) -> Declared<Gauge, N> {
        self.declare(name, "gauge", help, labels, Gauge::default)
    }

    /// A histogram of times, from what a fast HSM takes to what a caller waits.
    pub(super) fn seconds<const N: usize>(
        &mut self,
        name: &str,
        help: &'static str,
        labels: [&'static str; N],
    ) -> Declared<Histogram, N> {
        self.declare(name, "histogram", help, labels, || Histogram::new(SECONDS))
    }

    fn declare<M: Clone, const N: usize>(
        &mut self,
        name: &str,
        kind: &'static str,
        help: &'static str,
        labels: [&'static str; N],
        make: fn() -> M,
    ) -> Declared<M, N>
    where
        Family<Vec<(&'static str, String)>, M>: Metric,
    {
        let family = Family::new_with_constructor(make);
        self.registry.register(name, help, family.clone());
        let suffix = if kind == "counter" { "_total" } else { "" };
        let name = format!("{PREFIX}_{name}{suffix}");
        self.list.push(Described { name, kind, labels: labels.to_vec(), help });
        Declared { family, labels }
    }
}

const PREFIX: &str = "hallmark";

const SECONDS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
