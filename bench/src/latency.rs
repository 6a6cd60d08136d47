//! Latencies in microseconds, kept in histograms with three significant digits.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::suite::Curve;

/// The longest latency told apart, one hour, in microseconds.
const MICROSECONDS_MAX: u64 = 3_600_000_000;
/// Points of a curve in every half of what remains up to 100%: a million latencies make about 100.
const POINTS_PER_HALF: u32 = 5;

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

    /// The distribution, the closer to 100% the denser, because the tail is what differs; nothing if nothing
    /// was counted.
    pub fn curve(&self) -> Curve {
        let count = self.count();
        if count == 0 {
            return Curve::new();
        }
        let mut curve = Curve::new();
        let mut remains = 1.0;
        // A share nearer to 1 than one latency of all could only repeat the maximum.
        while remains * count as f64 >= 1.0 {
            for point in 0..POINTS_PER_HALF {
                let share = 1.0 - remains + remains / 2.0 * f64::from(point) / f64::from(POINTS_PER_HALF);
                curve.push((share, self.quantile(share)));
            }
            remains /= 2.0;
        }
        curve.push((1.0, self.histogram.max()));
        curve
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_climbs_from_the_least_to_the_most() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.curve(), []);
        (1..=1_000_000).for_each(|microseconds| latencies.record(microseconds * 1000));
        let curve = latencies.curve();
        assert!((90..=110).contains(&curve.len()), "{}", curve.len());
        assert_eq!(curve[0], (0.0, 1));
        assert_eq!(curve[curve.len() - 1], (1.0, latencies.summary().max));
        assert!(curve.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1));
        for (share, microseconds) in curve {
            assert!((microseconds as f64 - share * 1e6).abs() <= share * 2e3 + 1.0, "{share} {microseconds}");
        }
    }

    #[test]
    fn one_latency_makes_a_curve() {
        let mut latencies = Latencies::default();
        latencies.record(5_000_000);
        assert!(latencies.curve().iter().all(|&(_, microseconds)| (5000..=5003).contains(&microseconds)));
        assert_eq!(latencies.curve().last().map(|point| point.0), Some(1.0));
    }
}
