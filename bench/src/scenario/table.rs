//! The scenarios.

use super::{Kind, Scenario};
use crate::content::Content;
use crate::load::{self, LatencyFrom, Pipelining};
use crate::sink::Behaviour;

/// What is of interest when all that can be sent is sent.
const THROUGHPUT: &[&str] = &[
    "delivered",
    "accepted",
    "accept p50",
    "accept p99",
    "end to end p99",
    "CPU",
    "PSS",
    "switches",
    "written",
    "CPU of the load",
    "CPU of the sink",
    "messages",
];
/// What is of interest when one message at a time is sent.
const LATENCY: &[&str] = &[
    "accept p50",
    "accept p99",
    "end to end p50",
    "end to end p99",
    "accepted",
    "CPU",
    "switches",
    "messages",
];

/// All scenarios, in the order in which they run.
pub fn all() -> Vec<Scenario> {
    let mut all = plain();
    all.extend(large());
    all.extend(spread());
    all.extend(adverse());
    all.extend(backlogs());
    all.extend(others());
    all
}

/// 4 KiB from 100 persistent sessions to one next hop; the scenarios say in what they differ.
fn relay() -> Scenario {
    Scenario {
        name: "relay",
        shows: "Throughput of a relay host under full load: messages of 4 KiB from 100 persistent sessions to one \
                next hop that answers at once.",
        load: load::Config::default(),
        hops: 1,
        connections: 100,
        behaviour: Behaviour::default(),
        retry: 0,
        kind: Kind::Mail,
        figures: THROUGHPUT,
    }
}

fn plain() -> Vec<Scenario> {
    vec![
        relay(),
        Scenario {
            name: "injection",
            shows: "What one client feels that sends one message after the other over one connection and awaits \
                    each reply: no other load hides what a message takes to become durable and to get out.",
            load: load::Config { sessions: 1, pipelining: Pipelining::Off, ..relay().load },
            figures: LATENCY,
            ..relay()
        },
        Scenario {
            name: "one-message-per-connection",
            shows: "Many clients with one message each, 100 at a time: every message pays for a connection, and \
                    latency is counted from the attempt to connect.",
            load: load::Config {
                messages_per_session: 1,
                latency_from: LatencyFrom::Connection,
                ..relay().load
            },
            ..relay()
        },
    ]
}

fn large() -> Vec<Scenario> {
    let sized = |name, shows, bytes| Scenario {
        name,
        shows,
        load: load::Config { content: Content::Fixed(bytes), ..relay().load },
        ..relay()
    };
    vec![
        sized(
            "large",
            "Messages of 50 KB, the size of mail with pictures and markup; otherwise as relay.",
            50_000,
        ),
        sized(
            "100-kb",
            "Messages of 100 KB, where copying and writing outweigh the dialogue; otherwise as relay.",
            100_000,
        ),
    ]
}

fn spread() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "many-recipients",
            shows: "50 recipients per message, all of one domain: a relay that stores the content once and hands \
                    it on once pays little for each.",
            load: load::Config { recipients: 50, ..relay().load },
            ..relay()
        },
        Scenario {
            name: "many-domains",
            shows: "50 recipients per message, each of another domain with a next hop of its own: the content is \
                    stored once and handed on 50 times.",
            load: load::Config { recipients: 50, domains: 50, ..relay().load },
            hops: 50,
            connections: 10,
            ..relay()
        },
        Scenario {
            name: "wide",
            shows: "1,000 sessions in, 500 domains behind 50 next hops, and up to 1,000 sessions out: what many \
                    connections at once cost.",
            load: load::Config { sessions: 1000, domains: 500, ..relay().load },
            hops: 50,
            connections: 20,
            ..relay()
        },
    ]
}

fn adverse() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "tarpit",
            shows: "Half of the mail is for a neighbour's domains, in a second load of equal size. First the \
                    neighbour answers at once, then it takes 10 s for every reply. The figures are those of the \
                    healthy half: the share of its throughput that it kept, and its latency.",
            load: load::Config {
                sessions: 50,
                domains: 5,
                domain_suffix: "healthy.example".into(),
                ..relay().load
            },
            hops: 2,
            connections: 2_500,
            kind: Kind::Tarpit,
            figures: &[],
            ..relay()
        },
        Scenario {
            name: "deferrals",
            shows: "The next hop refuses 30% of all recipients for the moment, each time anew, and the relay is \
                    set to try again after a second: what deferring and trying again cost. The median end to \
                    end is that of mail that was never refused.",
            behaviour: Behaviour { temporary_percent: 30.0, ..Behaviour::default() },
            retry: 1,
            figures: &[
                "accepted",
                "delivered",
                "accept p99",
                "end to end p50",
                "end to end p99",
                "CPU",
                "PSS",
                "switches",
                "written",
                "messages",
            ],
            ..relay()
        },
        Scenario {
            name: "drip",
            shows: "1,000 clients hold connections and send two bytes a second, beside an ordinary load of 50 \
                    sessions: the share of its throughput that the load kept, and its latency.",
            load: load::Config { sessions: 50, ..relay().load },
            kind: Kind::Drip,
            figures: &[],
            ..relay()
        },
    ]
}

fn backlogs() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "deep-queue",
            shows: "The next hop takes connections and says nothing until everything is queued, then it takes \
                    mail at once: how fast a queue grows, what it needs in memory, and how fast it drains.",
            kind: Kind::DeepQueue,
            figures: &[],
            ..relay()
        },
        Scenario {
            name: "restart",
            shows: "As deep-queue, but when everything is queued all processes of the relay are killed and it is \
                    started again on what is on disk: the time until it greets and until the first message \
                    arrives, from the call of its adapter on, and whether everything that it had acknowledged \
                    arrives.",
            kind: Kind::Restart,
            figures: &[],
            ..relay()
        },
    ]
}

fn others() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "idle",
            shows: "10,000 connections behind EHLO that do nothing: how many of them the relay holds, what each \
                    costs in memory, and what holding them costs in CPU time.",
            load: load::Config { sessions: 10_000, ..relay().load },
            kind: Kind::Idle,
            figures: &[],
            ..relay()
        },
        Scenario {
            name: "smtp-source",
            shows: "As relay, but with Postfix's smtp-source and smtp-sink at both ends, without pipelining, for \
                    figures that others can compare with theirs. Both ends cost more CPU time than the rig's own.",
            load: load::Config { pipelining: Pipelining::Off, ..relay().load },
            kind: Kind::SmtpSource,
            figures: &[],
            ..relay()
        },
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_words_for_the_command_line_and_unique() {
        let names: Vec<_> = all().iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        for name in names {
            let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            assert!(!name.is_empty() && name.bytes().all(fine), "{name}");
        }
    }

    #[test]
    fn each_scenario_can_be_played_as_it_is_described() {
        for scenario in all() {
            let Scenario { name, load, .. } = &scenario;
            assert!(scenario.shows.len() > 40 && scenario.shows.ends_with('.'), "{name}");
            assert!(!scenario.shows.contains("  "), "{name}: a break of the line left its mark");
            assert!(scenario.hops >= 1 && load.domains >= 1 && scenario.connections >= 1, "{name}");
            assert_eq!(scenario.figures.is_empty(), scenario.kind != Kind::Mail, "{name}");
            let tarpit = scenario.kind == Kind::Tarpit;
            assert!(if tarpit { scenario.hops == 2 } else { scenario.hops <= load.domains }, "{name}");
            assert!(load.rate.is_none(), "{name}: calibration counts on a load that waits for nobody");
        }
    }
}
