//! When each message is due.

use std::str::FromStr;

use serde::Serialize;

use crate::quantity::duration;

/// A rate that changes linearly in time and then stays.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ramp {
    /// Messages per second at the start.
    pub from: f64,
    /// Messages per second at the end and from there on.
    pub to: f64,
    /// How long it takes in seconds.
    pub seconds: f64,
}

impl FromStr for Ramp {
    type Err = String;

    /// Parses `100..5000:30s`; without a unit the time is in seconds.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not FROM..TO:TIME");
        let (rates, time) = text.split_once(':').ok_or_else(wrong)?;
        let (from, to) = rates.split_once("..").ok_or_else(wrong)?;
        let seconds = time.parse::<u32>().map(f64::from);
        let seconds = seconds.or_else(|_| duration(time).map(|time| time.as_secs_f64()))?;
        let (from, to) = (from.parse().map_err(|_| wrong())?, to.parse().map_err(|_| wrong())?);
        Ok(Self { from, to, seconds })
    }
}

/// The time of every message, whatever the server does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Schedule {
    ramp: Ramp,
}

impl Schedule {
    /// What `rate` and `ramp`, of which one may be given, ask for. A ramp may start at zero.
    pub(super) fn new(rate: Option<f64>, ramp: Option<Ramp>) -> Result<Option<Self>, String> {
        let ramp = match (rate, ramp) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => return Err("a rate and a ramp exclude each other".into()),
            (Some(rate), None) => Ramp { from: rate, to: rate, seconds: 0.0 },
            (None, Some(ramp)) => ramp,
        };
        if !(ramp.to.is_finite() && ramp.to > 0.0 && ramp.from.is_finite() && ramp.from >= 0.0) {
            return Err("the rate must be above zero".into());
        }
        if !(ramp.seconds.is_finite() && ramp.seconds >= 0.0) {
            return Err("the time of a ramp must not be negative".into());
        }
        Ok(Some(Self { ramp }))
    }

    /// Nanoseconds from the start to the time of message number `sequence`.
    pub(super) fn due(&self, sequence: u32) -> u64 {
        let Ramp { from, to, seconds: over } = self.ramp;
        let number = f64::from(sequence);
        // The number of messages due until a time is the area below the rate.
        let within = (from + to) / 2.0 * over;
        let seconds = if number >= within {
            over + (number - within) / to
        } else {
            // The root of number = from t + slope t^2 / 2, in the form that has no division by the slope.
            let slope = (to - from) / over;
            2.0 * number / (from + (from * from + 2.0 * slope * number).sqrt()).max(f64::MIN_POSITIVE)
        };
        (seconds * 1e9) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(text: &str) -> Schedule {
        Schedule::new(None, Some(text.parse().unwrap())).unwrap().unwrap()
    }

    #[test]
    fn a_rate_is_even() {
        let schedule = Schedule::new(Some(250.0), None).unwrap().unwrap();
        assert_eq!(
            [0, 1, 250, 1000].map(|number| schedule.due(number)),
            [0, 4_000_000, 1_000_000_000, 4_000_000_000]
        );
    }

    #[test]
    fn a_ramp_grows_and_then_stays() {
        for (text, total) in [("100..300:10", 2000), ("0..400:10s", 2000), ("300..100:10s", 2000)] {
            let (schedule, ramp) = (schedule(text), text.parse::<Ramp>().unwrap());
            let times: Vec<_> = (0..=total + 1000).map(|number| schedule.due(number)).collect();
            assert!(times.is_sorted() && times[0] == 0, "{text}");
            assert_eq!(times[total as usize], 10_000_000_000, "{text}");
            for middle in [2.0, 5.0, 8.0] {
                let near = times.iter().filter(|time| (**time as f64 / 1e9 - middle).abs() < 0.5).count();
                let expected = ramp.from + (ramp.to - ramp.from) * middle / 10.0;
                assert!((near as f64 - expected).abs() <= 1.0, "{text}: {near} around {middle} s");
            }
            let after = times.iter().filter(|time| (11.0..12.0).contains(&(**time as f64 / 1e9))).count();
            assert!((after as f64 - ramp.to).abs() <= 1.0, "{text}: {after}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in ["", "1..2", "1:2", "1..2:", "1..2:3d", "x..2:3", "1..y:3"] {
            assert!(wrong.parse::<Ramp>().is_err(), "{wrong}");
        }
        for wrong in ["1..0:3", "-1..2:3", "NaN..2:3", "1..inf:3"] {
            assert!(Schedule::new(None, Some(wrong.parse().unwrap())).is_err(), "{wrong}");
        }
        assert!(Schedule::new(Some(1.0), Some("1..2:3".parse().unwrap())).is_err());
        assert_eq!(Schedule::new(None, None), Ok(None));
        assert_eq!(schedule("5..5:0").due(5), 1_000_000_000);
    }
}
