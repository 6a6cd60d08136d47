//! What the rounds of a relay say together.

use crate::suite::{Figure, Relay, Round, Scenario};

/// The middle and the ends of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median: the mean of the two in the middle if their number is even.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// `None` if no value is finite; those that are not are left out.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (&least, &most) = (values.first()?, values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        // Halves first: the sum of two large values may overflow.
        Some(Self { median: if low == high { low } else { low / 2.0 + high / 2.0 }, least, most })
    }
}

impl Scenario {
    /// One figure for each name, in the order in which they first appear.
    pub fn figures(&self) -> Vec<&Figure> {
        let mut found: Vec<&Figure> = Vec::new();
        for figure in self.relays.iter().flat_map(|relay| &relay.rounds).flat_map(|round| &round.figures) {
            if !found.iter().any(|other| other.name == figure.name) {
                found.push(figure);
            }
        }
        found
    }

    /// For one figure, the ratios of `relay` to the first relay, round by round. Paired rounds ran next to each
    /// other, so what drifts slowly on the machine cancels out.
    pub fn ratios(&self, relay: &Relay, figure: &str) -> Vec<f64> {
        let Some(first) = self.relays.first() else { return Vec::new() };
        let pairs = first.rounds.iter().zip(&relay.rounds);
        let pairs = pairs.filter_map(|(a, b)| Some((a.counted(figure)?, b.counted(figure)?)));
        pairs.map(|(a, b)| b / a).filter(|ratio| ratio.is_finite()).collect()
    }
}

impl Relay {
    /// The values of one figure in the rounds that count.
    pub fn values(&self, figure: &str) -> Vec<f64> {
        self.rounds.iter().filter_map(|round| round.counted(figure)).collect()
    }

    /// The round in the middle by its first figure, among those that count.
    pub fn middle(&self) -> Option<usize> {
        let first = |round: &Round| round.figures.first().map_or(0.0, |figure| figure.value);
        let mut counting: Vec<usize> =
            (0..self.rounds.len()).filter(|&index| self.rounds[index].counts()).collect();
        counting.sort_by(|&a, &b| first(&self.rounds[a]).total_cmp(&first(&self.rounds[b])));
        counting.get(counting.len().saturating_sub(1) / 2).copied()
    }
}

impl Round {
    /// Whether the round had no trouble.
    pub fn counts(&self) -> bool {
        self.trouble.is_empty()
    }

    /// The value of a figure, trouble or not; `None` if it was not measured.
    pub fn value(&self, figure: &str) -> Option<f64> {
        let found = self.figures.iter().find(|other| other.name == figure)?;
        found.value.is_finite().then_some(found.value)
    }

    fn counted(&self, figure: &str) -> Option<f64> {
        self.value(figure).filter(|_| self.counts())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(values: &[f64]) -> Relay {
        let figure = |value| Figure { name: "rate".into(), value, ..Figure::default() };
        let rounds = values.iter().map(|&value| Round { figures: vec![figure(value)], ..Round::default() });
        Relay { rounds: rounds.collect(), ..Relay::default() }
    }

    #[test]
    fn the_median_of_odd_even_and_no_values() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(spread(&[3.0, 1.0, 9.0]), Some(Spread { median: 3.0, least: 1.0, most: 9.0 }));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 9.0]).unwrap().median, 3.0);
        assert_eq!(spread(&[f64::NAN, 2.0, f64::INFINITY]).unwrap().median, 2.0);
        assert_eq!(spread(&[f64::MAX, f64::MAX]).unwrap().median, f64::MAX);
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[f64::NAN]), None);
    }

    #[test]
    fn ratios_are_of_paired_rounds_that_both_count() {
        let mut scenario = Scenario {
            relays: vec![relay(&[10.0, 20.0, 40.0, 0.0]), relay(&[5.0, 5.0, 5.0, 5.0])],
            ..Scenario::default()
        };
        scenario.relays[1].rounds[1].trouble = "died".into();
        assert_eq!(scenario.ratios(&scenario.relays[1], "rate"), [0.5, 0.125]);
        assert_eq!(scenario.relays[1].values("rate"), [5.0, 5.0, 5.0]);
        assert_eq!(scenario.relays[0].values("other"), [0.0; 0]);
    }

    #[test]
    fn the_middle_round_is_among_those_that_count() {
        let mut some = relay(&[5.0, 9.0, 1.0, 7.0]);
        assert_eq!(some.middle(), Some(0));
        some.rounds[0].trouble = "died".into();
        assert_eq!(some.middle(), Some(3));
        some.rounds.iter_mut().for_each(|round| round.trouble = "died".into());
        assert_eq!(some.middle(), None);
    }
}
