//! Looks for the highest rate that a target sustains: a run at a fixed rate for each step, and a decision.
//!
//! The schedule of a step does not wait for the target, so a target that falls behind shows it in latency or
//! in the rate that it achieves.

use std::io;
use std::time::Duration;

use serde::Serialize;

use crate::report::{Report, Verdict};
use crate::{clock, run};

/// Steps after which the search ends whatever it knows.
const STEPS_MAX: usize = 40;
/// The share of the asked rate that a step must achieve.
const ACHIEVED_MIN: f64 = 0.99;
/// Messages below which a percentile says too little; a step lasts as long as they need.
const MESSAGES_MIN: f64 = 100.0;
/// Time to open connections before the first message of a step, which would otherwise wait for its own.
pub const LEAD: Duration = Duration::from_millis(500);
/// Halvings of the first rate after which a search for a good one ends.
const HALVINGS_MAX: i32 = 6;

/// What to look for, and where.
#[derive(Clone, Debug)]
pub struct Config {
    /// What a step does. Its rate and ramp do not count, its number of messages is the most per step.
    pub run: run::Config,
    /// The first rate to try, in messages per second.
    pub from: f64,
    /// How long a step lasts, if its messages suffice.
    pub step: Duration,
    /// Time before the first message of a step in which its connections open: usually [`LEAD`].
    pub lead: Duration,
    /// The highest latency at 99% that still is good.
    pub p99: Duration,
    /// Which latency.
    pub judged: Judged,
    /// The search ends when the lowest bad rate is within this share above the highest good one.
    pub resolution: f64,
}

/// Which latency decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Judged {
    /// To the acknowledgement.
    #[default]
    Acceptance,
    /// To the arrival at the sink.
    EndToEnd,
}

/// What one step found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Messages per second asked for.
    pub rate: f64,
    /// Messages per second from the first acknowledgement to the last; with [`Judged::EndToEnd`] deliveries,
    /// divided by the recipients of a message.
    pub achieved: f64,
    /// Messages sent.
    pub messages: u64,
    /// The latency that decides, in microseconds.
    pub p50: u64,
    /// The same at 99%.
    pub p99: u64,
    /// The longest.
    pub max: u64,
    /// Messages or recipients that were refused, and connections that were lost.
    pub failures: u64,
    /// Conservation and the load as in a single run.
    pub verdict: Verdict,
    /// Whether the target sustains the rate.
    pub good: bool,
}

/// What the search found.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The highest rate that was good; `None` if none was.
    pub sustained: Option<f64>,
    /// The lowest rate that was not.
    pub exceeded: Option<f64>,
    /// The bound on the latency in microseconds.
    pub p99_max: u64,
    /// Which latency decided.
    pub judged: Judged,
    /// Whether no step broke conservation.
    pub conserved: bool,
    /// In the order in which they ran.
    pub steps: Vec<Step>,
}

/// Runs steps until the answer is near enough; `show` gets each as soon as it ends.
pub fn run(config: &Config, mut show: impl FnMut(&Step)) -> io::Result<Outcome> {
    let mut search = Search::new(config.from, config.resolution).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "from and resolution must be above zero")
    })?;
    let mut steps: Vec<Step> = Vec::new();
    while let Some(rate) = search.next_rate() {
        let step = judge(config, rate, &run::run(one(config, rate), |_| {})?);
        show(&step);
        search.learn(rate, step.good);
        steps.push(step);
        // A target that loses mail is not worth a figure.
        if step.verdict == Verdict::Broken {
            break;
        }
    }
    Ok(Outcome {
        sustained: search.good,
        exceeded: search.bad,
        p99_max: clock::nanoseconds(config.p99) / 1000,
        judged: config.judged,
        conserved: steps.iter().all(|step| step.verdict != Verdict::Broken),
        steps,
    })
}

/// The run of one step.
fn one(config: &Config, rate: f64) -> run::Config {
    let mut run = config.run.clone();
    let wanted = (rate * config.step.as_secs_f64()).max(MESSAGES_MIN);
    run.load.messages = run.load.messages.min(wanted as u32);
    (run.load.rate, run.load.ramp, run.load.lead) = (Some(rate), None, config.lead);
    // A mark of its own, so that a straggler from the step before is not taken for one of this.
    run.load.run = config.run.load.run.wrapping_add(fastrand::u32(..));
    run
}

fn judge(config: &Config, rate: f64, report: &Report) -> Step {
    let throughput = &report.throughput;
    let recipients = f64::from(config.run.load.recipients.max(1));
    let (count, seconds, latency) = match config.judged {
        Judged::Acceptance => (throughput.accepted as f64, throughput.accepted_seconds, &report.acceptance),
        Judged::EndToEnd => {
            (throughput.delivered as f64 / recipients, throughput.delivered_seconds, &report.end_to_end)
        }
    };
    // The first answer cannot come sooner than this, however fast the target keeps up afterwards.
    let seconds = seconds - latency.min as f64 / 1e6;
    let achieved = if seconds > 0.0 { count / seconds } else { 0.0 };
    let p99_max = clock::nanoseconds(config.p99) / 1000;
    let in_time = latency.count > 0 && latency.p99 <= p99_max;
    Step {
        rate,
        achieved,
        messages: throughput.accepted,
        p50: latency.p50,
        p99: latency.p99,
        max: latency.max,
        failures: report.failures.iter().map(|failure| failure.count).sum(),
        verdict: report.verdict,
        good: in_time && achieved >= rate * ACHIEVED_MIN && report.verdict == Verdict::Holds,
    }
}

/// Which rate to try next: doubled while it is good, halved while none was, and in between afterwards.
#[derive(Clone, Debug)]
pub struct Search {
    from: f64,
    resolution: f64,
    good: Option<f64>,
    bad: Option<f64>,
    tried: usize,
}

impl Search {
    /// Starts at the rate `from` and ends within the share `resolution`; `None` if one is not above zero.
    pub fn new(from: f64, resolution: f64) -> Option<Self> {
        let fits = |value: f64| value.is_finite() && value > 0.0;
        let search = Self { from, resolution, good: None, bad: None, tried: 0 };
        (fits(from) && fits(resolution)).then_some(search)
    }

    /// The rate to try, unless the answer is near enough or no answer is to be expected.
    pub fn next_rate(&self) -> Option<f64> {
        if self.tried == STEPS_MAX {
            return None;
        }
        match (self.good, self.bad) {
            (None, None) => Some(self.from),
            (Some(good), None) => Some(good * 2.0),
            (None, Some(bad)) => (bad > self.from / 2f64.powi(HALVINGS_MAX)).then_some(bad / 2.0),
            (Some(good), Some(bad)) => (bad > good * (1.0 + self.resolution)).then_some((good + bad) / 2.0),
        }
    }

    /// Takes note of what came of a rate.
    pub fn learn(&mut self, rate: f64, good: bool) {
        self.tried += 1;
        if good {
            self.good = Some(rate);
        } else {
            self.bad = Some(rate);
        }
    }

    /// The highest rate that was good.
    pub fn sustained(&self) -> Option<f64> {
        self.good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches a target that sustains everything up to `knee`; returns the answer and the rates tried.
    fn found(from: f64, knee: f64, resolution: f64) -> (Option<f64>, Vec<f64>) {
        let mut search = Search::new(from, resolution).unwrap();
        let mut tried = Vec::new();
        while let Some(rate) = search.next_rate() {
            search.learn(rate, rate <= knee);
            tried.push(rate);
        }
        (search.sustained(), tried)
    }

    #[test]
    fn the_knee_is_found_from_either_side() {
        for knee in [100.0, 777.0, 12_345.0, 1e6] {
            for from in [10.0, 1000.0, 5_000.0] {
                for resolution in [0.2, 0.05, 0.01] {
                    let (sustained, tried) = found(from, knee, resolution);
                    let sustained = sustained.unwrap();
                    assert!(sustained <= knee && knee <= sustained * (1.0 + resolution), "{from} {tried:?}");
                    assert!(tried.len() < 30, "{tried:?}");
                }
            }
        }
    }

    #[test]
    fn the_way_is_doubling_and_then_halving_of_what_is_open() {
        let (sustained, tried) = found(1000.0, 2700.0, 0.1);
        assert_eq!(tried, [1000.0, 2000.0, 4000.0, 3000.0, 2500.0, 2750.0]);
        assert_eq!(sustained, Some(2500.0));
    }

    #[test]
    fn a_search_ends_without_a_knee() {
        let (sustained, tried) = found(1000.0, 0.0, 0.05);
        assert_eq!((sustained, tried.len()), (None, 7));
        let (sustained, tried) = found(1.0, f64::INFINITY, 0.05);
        assert_eq!((sustained, tried.len()), (Some(2f64.powi(39)), STEPS_MAX));
        for (from, resolution) in [(0.0, 0.1), (-1.0, 0.1), (f64::NAN, 0.1), (1.0, 0.0), (1.0, f64::INFINITY)]
        {
            assert!(Search::new(from, resolution).is_none());
        }
    }
}
