//! The decision what is more than noise.

/// With fewer rounds on either side nothing is decided: even when three values all lie above three others, chance
/// alone does that once in ten times.
pub const ROUNDS_MIN: usize = 4;

/// A smaller change of the median, as a share, is not worth anybody's attention.
pub const CHANGE_MIN: f64 = 0.03;

/// How often at most, as a share of all comparisons, chance alone passes for a change.
pub const FALSE_ALARMS: f64 = 0.01;

/// More rounds than this on one side are left out of the test of ranks: it is certain long before.
const ROUNDS_MAX: usize = 40;

/// The greatest probability at which the test of ranks still speaks. Four rounds against four reach 2.9% when they
/// do not overlap at all; five against five may overlap by one.
const CHANCE_MAX: f64 = 0.03;

/// How many standard errors apart the medians have to be.
const ERRORS_MIN: f64 = 4.0;

/// Whether two sets of rounds differ by more than noise; `None` if there are too few to tell.
///
/// Three conditions hold together, because none is enough alone with a handful of rounds:
///
/// * the exact Mann-Whitney test, which assumes nothing about the distribution, so that one wild round cannot decide.
///   With five rounds it cannot be surer than 0.8%, and a comparison has hundreds of figures;
/// * so the medians must also lie four standard errors of the difference apart. This keeps false alarms below
///   1% for four rounds and 0.5% from five on, while a change of 10% under noise of 2% is still found with five rounds in 98
///   cases of 100 (a test in this file repeats the measurement);
/// * and the change must be at least 3%, so that figures with next to no noise do not cry out for nothing.
pub fn beyond_noise(a: &[f64], b: &[f64]) -> Option<bool> {
    if a.len() < ROUNDS_MIN || b.len() < ROUNDS_MIN {
        return None;
    }
    let (middle_a, middle_b) = (median(a), median(b));
    let distance = (middle_b - middle_a).abs();
    let error = (variance(a) / a.len() as f64 + variance(b) / b.len() as f64).sqrt();
    let large = distance > 0.0 && distance >= CHANGE_MIN * middle_a.abs();
    Some(large && distance >= ERRORS_MIN * error && chance(a, b) <= CHANCE_MAX)
}

/// The probability of ranks at least as far apart as these, in either direction, if both sides are alike: the exact
/// Mann-Whitney test, ties included, by counting all ways to choose the ranks of `a`.
fn chance(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (&a[..a.len().min(ROUNDS_MAX)], &b[..b.len().min(ROUNDS_MAX)]);
    let all: Vec<f64> = a.iter().chain(b).copied().collect();
    let ranks: Vec<usize> = all.iter().map(|&value| doubled_rank(&all, value)).collect();
    let total: usize = ranks.iter().sum();
    // ways[k][s]: in how many ways k of the ranks seen so far add up to s.
    let mut ways = vec![vec![0.0; total + 1]; a.len() + 1];
    ways[0][0] = 1.0;
    for &rank in &ranks {
        for taken in (1..=a.len()).rev() {
            for sum in rank..=total {
                ways[taken][sum] += ways[taken - 1][sum - rank];
            }
        }
    }
    // The mean of the sum is a whole number, since doubled ranks add up to n (n + 1).
    let mean = a.len() * (all.len() + 1);
    let seen = ranks[..a.len()].iter().sum::<usize>().abs_diff(mean);
    let sums = ways[a.len()].iter().enumerate();
    let extreme: f64 = sums.filter(|(sum, _)| sum.abs_diff(mean) >= seen).map(|(_, ways)| ways).sum();
    extreme / ways[a.len()].iter().sum::<f64>()
}

/// Twice the mean rank of all that equal `value`, counted from 1; twice, so that it is a whole number.
fn doubled_rank(all: &[f64], value: f64) -> usize {
    let below = all.iter().filter(|&&other| other < value).count();
    let equal = all.iter().filter(|&&other| other == value).count();
    2 * below + equal + 1
}

fn median(values: &[f64]) -> f64 {
    crate::rounds::Spread::of(values.iter().copied()).map_or(f64::NAN, |spread| spread.median)
}

/// The unbiased estimate of the variance.
fn variance(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIRS: usize = 10_000;

    fn rounds(random: &mut fastrand::Rng, count: usize, middle: f64, noise: f64) -> Vec<f64> {
        // The sum of twelve uniform numbers is normal enough.
        let mut normal = || (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
        (0..count).map(|_| middle * (1.0 + noise * normal())).collect()
    }

    /// How often, as a share, a pair with this change counts as beyond noise.
    fn found(seed: u64, count: usize, change: f64, noise: f64) -> f64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let one = |random: &mut fastrand::Rng| {
            let a = rounds(random, count, 8000.0, noise);
            let b = rounds(random, count, 8000.0 * (1.0 + change), noise);
            beyond_noise(&a, &b) == Some(true)
        };
        (0..PAIRS).filter(|_| one(&mut random)).count() as f64 / PAIRS as f64
    }

    #[test]
    fn false_alarms_are_rare() {
        for noise in [0.02, 0.1] {
            let four = found(1, 4, 0.0, noise);
            assert!(four <= FALSE_ALARMS, "{four} with four rounds and noise {noise}");
            for count in [5, 9] {
                let more = found(count as u64, count, 0.0, noise);
                assert!(more <= FALSE_ALARMS / 2.0, "{more} with {count} rounds and noise {noise}");
            }
        }
    }

    #[test]
    fn a_change_of_ten_percent_is_found() {
        assert!(found(7, 5, 0.1, 0.02) >= 0.975, "{}", found(7, 5, 0.1, 0.02));
        assert!(found(8, 5, -0.1, 0.02) >= 0.975, "{}", found(8, 5, -0.1, 0.02));
        assert!(found(9, 9, 0.1, 0.02) >= 0.999);
    }

    #[test]
    fn a_small_change_is_not_worth_it() {
        assert_eq!(beyond_noise(&[100.0; 5], &[102.9; 5]), Some(false));
        assert_eq!(beyond_noise(&[100.0; 5], &[103.1; 5]), Some(true));
        assert_eq!(beyond_noise(&[0.0; 5], &[0.0; 5]), Some(false));
        assert_eq!(beyond_noise(&[0.0; 5], &[1.0; 5]), Some(true));
    }

    #[test]
    fn too_few_rounds_decide_nothing() {
        assert_eq!(beyond_noise(&[1.0; 3], &[9.0; 10]), None);
        assert_eq!(beyond_noise(&[1.0; 10], &[]), None);
    }

    #[test]
    fn the_test_of_ranks_counts_exactly() {
        let near =
            |value: f64, expected: f64| assert!((value - expected).abs() < 1e-12, "{value} {expected}");
        near(chance(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]), 2.0 / 20.0);
        near(chance(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0]), 2.0 / 70.0);
        near(chance(&[1.0, 2.0, 3.0, 4.0, 6.0], &[5.0, 7.0, 8.0, 9.0, 10.0]), 4.0 / 252.0);
        near(chance(&[1.0, 1.0, 1.0], &[1.0, 1.0, 1.0]), 1.0);
        // Of the 6 ways to choose two of the ranks 1.5 1.5 3 4, two are as extreme as {1.5, 1.5} against its mean 5:
        // itself and {3, 4}.
        near(chance(&[1.0, 1.0], &[2.0, 3.0]), 2.0 / 6.0);
        let many: Vec<f64> = (0..200).map(f64::from).collect();
        near(chance(&many, &many), 1.0);
    }

    #[test]
    fn extreme_values_do_not_break_it() {
        let wild = [f64::MAX, -f64::MAX, 0.0, f64::MIN_POSITIVE, 1.0];
        assert_eq!(beyond_noise(&wild, &wild), Some(false));
        assert_eq!(beyond_noise(&wild, &[1.0; 5]), Some(false));
    }
}
