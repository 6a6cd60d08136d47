//! Series of runs that look like real ones, made from a seed.

use std::collections::BTreeMap;

use bench::run::Moment;
use bench::suite::{Better, Curve, Figure, Relay, Round, Scenario, Suite};
use fastrand::Rng;

/// What distinguishes a relay.
struct Nature {
    name: &'static str,
    version: &'static str,
    durability: &'static str,
    /// Messages per second.
    rate: f64,
    /// CPU per message in microseconds.
    cpu: f64,
    /// Median acceptance latency in microseconds.
    latency: f64,
}

const NATURES: [Nature; 4] = [
    Nature {
        name: "mtad",
        version: "0.1.0",
        durability: "synced to disk",
        rate: 7800.0,
        cpu: 62.0,
        latency: 9_000.0,
    },
    Nature {
        name: "postfix",
        version: "3.7.11",
        durability: "synced to disk",
        rate: 640.0,
        cpu: 2350.0,
        latency: 92_000.0,
    },
    Nature {
        name: "opensmtpd",
        version: "7.6.0p1",
        durability: "written",
        rate: 1450.0,
        cpu: 1180.0,
        latency: 41_000.0,
    },
    Nature {
        name: "exim",
        version: "4.96",
        durability: "synced to disk",
        rate: 410.0,
        cpu: 3900.0,
        latency: 170_000.0,
    },
];

const SCENARIOS: [(&str, &str, f64); 3] = [
    (
        "steady",
        "A hundred connections that stay open send 4 KiB messages as fast as replies come. It shows what the path of a message costs when nothing else is in the way.",
        1.0,
    ),
    (
        "one-each",
        "Every message comes over a connection of its own, as most mail from the outside does. It shows what opening and greeting cost.",
        0.45,
    ),
    (
        "uneven",
        "Five hundred domains, the popular ones far more often than the rare ones. It shows whether the queue is fair to small destinations while a large one is busy.",
        0.7,
    ),
];

/// A series with so many relays (4 at most) and rounds; `noise` is that of the figures as a share.
pub fn suite(seed: u64, relays: usize, rounds: usize, noise: f64) -> Suite {
    let mut random = Rng::with_seed(seed);
    let scenarios = SCENARIOS.iter().map(|&(name, shows, ease)| {
        let relays =
            NATURES.iter().take(relays).map(|nature| relay(&mut random, nature, ease, rounds, noise));
        Scenario { name: name.into(), shows: shows.into(), relays: relays.collect() }
    });
    Suite { scenarios: scenarios.collect(), card: card() }
}

fn card() -> BTreeMap<String, String> {
    let entries = [
        ("date", "2025-03-04 05:06:07 UTC"),
        ("kernel", "Linux 6.12.9"),
        ("processor", "AMD EPYC 7763, 2 of 64 cores"),
        ("governor", "performance"),
        ("memory", "7.8 GiB"),
        ("file system", "ext4, rw,relatime"),
        ("device sync latency", "1.9 ms median, 4.4 ms at 99%"),
    ];
    entries.iter().map(|&(name, value)| (name.into(), value.into())).collect()
}

fn relay(random: &mut Rng, nature: &Nature, ease: f64, rounds: usize, noise: f64) -> Relay {
    Relay {
        name: nature.name.into(),
        version: nature.version.into(),
        durability: nature.durability.into(),
        configuration: format!("{:012x}", Rng::with_seed(nature.rate as u64).u64(..) >> 16),
        rounds: (0..rounds).map(|_| round(random, nature, ease, noise)).collect(),
    }
}

fn round(random: &mut Rng, nature: &Nature, ease: f64, noise: f64) -> Round {
    let mut near = |value: f64| value * (1.0 + noise * normal(random));
    let rate = near(nature.rate * ease);
    let latency = near(nature.latency / ease);
    let figure = |name: &str, unit: &str, better, value| Figure {
        name: name.into(),
        unit: unit.into(),
        better,
        value,
    };
    let figures = vec![
        figure("delivered", "messages/s", Better::Higher, rate),
        figure("accepted", "messages/s", Better::Higher, near(nature.rate * ease * 1.04)),
        figure("accept, 50%", "ms", Better::Lower, latency / 1000.0),
        figure("accept, 99%", "ms", Better::Lower, near(nature.latency / ease * 4.3) / 1000.0),
        figure("CPU per message", "us", Better::Lower, near(nature.cpu / ease.sqrt())),
        figure("memory at most", "MiB", Better::Lower, near(38.0 + nature.cpu / 20.0)),
        figure("written per message", "KiB", Better::Lower, near(4.6 + nature.cpu / 400.0)),
        figure("connections to the sink", "", Better::Neither, near(20.0).round()),
    ];
    let curves = [
        ("accept".to_string(), curve(random, latency)),
        ("end to end".to_string(), curve(random, latency * 1.7)),
    ];
    Round { figures, curves: curves.into(), timeline: timeline(random, rate), trouble: String::new() }
}

fn curve(random: &mut Rng, median: f64) -> Curve {
    let tail = 0.32 + 0.06 * random.f64();
    let mut shares: Vec<f64> = (0..20).map(|step| f64::from(step) / 20.0).collect();
    shares
        .extend((2..40).map(|step| 1.0 - 10f64.powf(-f64::from(step) / 10.0)).filter(|share| *share > 0.95));
    shares.push(1.0);
    let place = |share: f64| if share < 1.0 { -(1.0 - share).log10() } else { 4.2 };
    shares
        .iter()
        .map(|&share| (share, (median * (0.55 + 10f64.powf(tail * place(share)) * 0.33)) as u64))
        .collect()
}

fn timeline(random: &mut Rng, rate: f64) -> Vec<Moment> {
    let messages = 60_000.0;
    let (mut accepted, mut delivered, mut moments) = (0.0, 0.0, Vec::new());
    for second in 1..=(messages / rate).ceil() as u32 + 1 {
        accepted = f64::min(messages, accepted + rate * 1.04 * (1.0 + 0.05 * normal(random)));
        delivered = f64::min(accepted, delivered + rate * (1.0 + 0.08 * normal(random)));
        moments.push(moment(f64::from(second), accepted as u64, delivered as u64));
    }
    let end = moments.len() as f64 + 0.04;
    moments.push(moment(end, messages as u64, messages as u64));
    moments
}

fn moment(seconds: f64, accepted: u64, delivered: u64) -> Moment {
    Moment { seconds, accepted, delivered, accept_p99: 40_000, end_to_end_p99: 90_000, ..Moment::default() }
}

/// The sum of twelve uniform numbers is normal enough.
fn normal(random: &mut Rng) -> f64 {
    (0..12).map(|_| random.f64()).sum::<f64>() - 6.0
}
