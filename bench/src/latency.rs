//! Latencies in microseconds, kept in histograms with three significant digits.

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency told apart, one hour, in microseconds.
const MICROSECONDS_MAX: u64 = 3_600_000_000;

/// A histogram of latencies.
#[derive(Clone, Debug)]
pub struct Latencies {
    histogram: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram =
            Histogram::new_with_bounds(1, MICROSECONDS_MAX, 3).expect("the bounds are constants in range");
        Self { histogram }
    }
}

impl Latencies {
    /// Counts one latency, in nanoseconds.
    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.histogram.saturating_record((nanoseconds / 1000).max(1));
    }

    /// Counts all of `other`.
    pub fn add(&mut self, other: &Latencies) {
        self.histogram.add(&other.histogram).expect("all histograms have the same bounds");
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The latency in microseconds below which this share (0 to 1) of all stays.
    pub fn quantile(&self, share: f64) -> u64 {
        self.histogram.value_at_quantile(share)
    }

    /// The figures that a report shows.
    pub fn summary(&self) -> Summary {
        Summary {
            count: self.count(),
            mean: self.histogram.mean(),
            min: self.histogram.min(),
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p99: self.quantile(0.99),
            p999: self.quantile(0.999),
            max: self.histogram.max(),
        }
    }
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Summary {
    /// How many were counted.
    pub count: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// The shortest.
    pub min: u64,
    /// Median.
    pub p50: u64,
    /// 90%.
    pub p90: u64,
    /// 99%.
    pub p99: u64,
    /// 99.9%.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}
