//! Round numbers along an axis.

/// No axis shows more than this; whatever is larger ends there.
const END_MAX: f64 = 1e18;

/// Few round values from 0, about `count` steps of 1, 2 or 5 times a power of ten; the last is the first that is not
/// below `most`.
pub(super) fn ticks(most: f64, count: usize) -> Vec<f64> {
    let most = if most > 0.0 { most.clamp(1e-12, END_MAX) } else { 1.0 };
    let rough = most / count.max(1) as f64;
    let power = 10f64.powi(rough.log10().floor() as i32);
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let steps = (most / step * 0.999_999).ceil().max(1.0) as usize;
    (0..=steps).map(|index| index as f64 * step).collect()
}

/// Ends and ticks of a logarithmic axis that holds `least` to `most`: the ends are 1, 2 or 5 times a power of ten;
/// the ticks are such values, too, or only the powers when there are more than two of them.
pub(super) fn decades(least: f64, most: f64) -> (f64, f64, Vec<f64>) {
    let least = if least > 0.0 { least.clamp(1e-6, END_MAX) } else { 1.0 };
    let most = if most > least { most.min(END_MAX) } else { least };
    let lowest = least.log10().floor() as i32 - 1;
    let highest = most.log10().ceil() as i32 + 1;
    let steps: Vec<(f64, bool)> = (lowest..=highest)
        .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| (digit * 10f64.powi(power), digit == 1.0)))
        .collect();
    // Rounding must not push an end past a value that lies on it.
    let from = steps.iter().rposition(|(step, _)| *step <= least * 1.000_001).unwrap_or(0);
    let to =
        steps.iter().position(|(step, _)| *step >= most * 0.999_999).unwrap_or(steps.len() - 1).max(from + 1);
    let inside = &steps[from..=to];
    let powers = inside.iter().filter(|(_, power)| *power).count();
    let shown = inside.iter().filter(|(_, power)| *power || powers < 3).map(|(step, _)| *step);
    (steps[from].0, steps[to].0, shown.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_few_and_round() {
        assert_eq!(ticks(8123.0, 4), [0.0, 5000.0, 10000.0]);
        assert_eq!(ticks(8000.0, 4), [0.0, 2000.0, 4000.0, 6000.0, 8000.0]);
        assert_eq!(ticks(61.0, 5), [0.0, 20.0, 40.0, 60.0, 80.0]);
        assert_eq!(ticks(1.0, 2), [0.0, 0.5, 1.0]);
        assert_eq!(ticks(10.0, 1), [0.0, 10.0]);
        let small = ticks(0.003, 3);
        assert!((small[1] - 0.001).abs() < 1e-9 && small.len() == 4, "{small:?}");
    }

    #[test]
    fn ticks_hold_the_most_and_stay_few_whatever_it_is() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..10_000 {
            let most = 10f64.powf(random.f64() * 30.0 - 13.0);
            let count = random.usize(1..8);
            let found = ticks(most, count);
            assert!(found.len() <= count + 2, "{most} {count}: {found:?}");
            assert!(*found.last().unwrap() >= most.min(END_MAX) * 0.999_99, "{most} {count}: {found:?}");
        }
        for wild in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -5.0, 0.0, f64::MAX, f64::MIN_POSITIVE] {
            let found = ticks(wild, 4);
            assert!((2..=6).contains(&found.len()) && found.iter().all(|tick| tick.is_finite()), "{found:?}");
        }
        assert_eq!(ticks(5.0, 0), [0.0, 5.0]);
    }

    #[test]
    fn decades_end_at_round_values() {
        assert_eq!(decades(300.0, 4_500_000.0), (200.0, 5e6, vec![1e3, 1e4, 1e5, 1e6]));
        assert_eq!(decades(3.0, 42.0), (2.0, 50.0, vec![2.0, 5.0, 10.0, 20.0, 50.0]));
        assert_eq!(decades(100.0, 1000.0), (100.0, 1000.0, vec![100.0, 200.0, 500.0, 1000.0]));
        assert_eq!(decades(7.0, 7.0), (5.0, 10.0, vec![5.0, 10.0]));
        assert_eq!(decades(10.0, 10.0), (10.0, 20.0, vec![10.0, 20.0]));
    }

    #[test]
    fn decades_hold_whatever_there_is() {
        let values = [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e-300, 1.0, 3.6e9, u64::MAX as f64, f64::MAX];
        for least in values {
            for most in values {
                let (from, to, ticks) = decades(least, most);
                assert!(from.is_finite() && to.is_finite() && from < to, "{least} {most}: {from} {to}");
                assert!(!ticks.is_empty() && ticks.len() < 30, "{least} {most}: {ticks:?}");
            }
        }
    }
}
