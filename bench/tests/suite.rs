//! A whole series with stand-ins for relays: what it writes, and what it leaves behind.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bench::suite::Suite;

/// A directory that is gone afterwards.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mtad-bench-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn relays(&self) -> PathBuf {
        self.0.join("relays")
    }

    fn json(&self) -> PathBuf {
        self.0.join("out.json")
    }

    fn suite(&self) -> Suite {
        serde_json::from_slice(&fs::read(self.json()).unwrap()).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mtad-bench"));
        command.arg("suite").args(arguments).arg("--directory").arg(self.relays());
        command.args(["--adapters", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/adapters")]);
        command.arg("--json").arg(self.json());
        command
    }

    fn left_behind(&self) -> usize {
        fs::read_dir(self.relays()).unwrap().count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn every_relay_has_its_turn_in_every_round() {
    // One beside the other, because a round is mostly waiting.
    thread::scope(|scope| {
        scope.spawn(|| play_a_series(&["relay", "many-recipients"], "forwarder,absent", 1, 1));
        scope.spawn(|| play_a_series(&["relay"], "forwarder,absent,forwarder", 2, 2));
    });
}

/// Plays it and checks that so many relays, those that are not absent, had so many rounds.
fn play_a_series(scenarios: &[&str], relays: &str, present: usize, rounds: usize) {
    let place = Place::new(&format!("series-{rounds}"));
    let output = place
        .command(scenarios)
        .args(["--rounds", &rounds.to_string(), "--relays", relays, "--messages", "300"])
        .output()
        .unwrap();
    let text = text(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("absent is left out: it is not installed"), "{text}");
    assert!(text.contains("delivered (deliveries/s)"), "{text}");
    let suite = place.suite();
    assert!(suite.card.contains_key("sync"));
    let names: Vec<_> = suite.scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
    assert_eq!(names, scenarios);
    for scenario in &suite.scenarios {
        assert_eq!(scenario.relays.len(), present);
        let first = &scenario.relays[0];
        assert!(!first.configuration.is_empty());
        assert!(scenario.relays.iter().all(|relay| relay.configuration == first.configuration));
        for round in scenario.relays.iter().flat_map(|relay| &relay.rounds) {
            assert_eq!(round.trouble, "");
            let value = |name: &str| round.figures.iter().find(|figure| figure.name == name).unwrap().value;
            assert_eq!(value("messages"), 300.0, "the warm-up does not count");
            assert!(value("delivered") > 0.0 && value("CPU") > 0.0 && value("accept p99") > 0.0);
            assert!(!round.curves["accept"].is_empty() && !round.timeline.is_empty());
            let names = |round: &bench::suite::Round| -> Vec<_> {
                round.figures.iter().map(|figure| figure.name.clone()).collect()
            };
            assert_eq!(names(round), names(&first.rounds[0]));
        }
        assert!(scenario.relays.iter().all(|relay| relay.rounds.len() == rounds));
    }
    assert_eq!(place.left_behind(), 0);
}

#[test]
fn a_number_of_messages_is_found_out() {
    let place = Place::new("calibration");
    let output = place
        .command(&["relay", "--rounds", "1", "--seconds", "0.2", "--relays", "forwarder"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let suite = place.suite();
    let figures = &suite.scenarios[0].relays[0].rounds[0].figures;
    let messages = figures.iter().find(|figure| figure.name == "messages").unwrap().value;
    assert!(messages >= 200.0, "{messages}");
}

#[test]
fn a_relay_that_fails_is_in_trouble_and_the_others_go_on() {
    let place = Place::new("trouble");
    let output = place
        .command(&["injection", "--relays", "broken,forwarder", "--rounds", "1", "--messages", "200"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let suite = place.suite();
    let [broken, good] = &suite.scenarios[0].relays[..] else { panic!("{suite:?}") };
    assert!(broken.rounds[0].trouble.contains("the wheel has come off"), "{broken:?}");
    assert_eq!(good.rounds[0].trouble, "");
    assert_eq!(place.left_behind(), 0);
}

#[test]
fn wrong_names_are_told_with_those_that_there_are() {
    let place = Place::new("names");
    let scenario = place.command(&["no-such-scenario", "--relays", "forwarder"]).output().unwrap();
    assert_eq!(scenario.status.code(), Some(2));
    assert!(text(&scenario).contains("one-message-per-connection"));
    let relay = place.command(&["relay", "--relays", "no-such-relay"]).output().unwrap();
    assert_eq!(relay.status.code(), Some(2));
    assert!(text(&relay).contains("no-such-relay"));
    let list = Command::new(env!("CARGO_BIN_EXE_mtad-bench")).args(["suite", "--list"]).output().unwrap();
    assert_eq!(list.status.code(), Some(0));
    assert!(text(&list).contains("deep-queue\n    "));
}

#[test]
fn an_interrupted_series_leaves_no_relay_behind() {
    let place = Place::new("interrupted");
    let mut command = place.command(&["injection", "--relays", "forwarder", "--messages", "1000000"]);
    let mut series = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let relay = await_relay(&mut series, &place.relays());
    assert!(Path::new(&format!("/proc/{relay}")).exists());
    Command::new("kill").arg(series.id().to_string()).status().unwrap();
    assert_eq!(series.wait().unwrap().code(), Some(130));
    let state = fs::read_to_string(format!("/proc/{relay}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z"), "{state}");
    assert_eq!(place.left_behind(), 0);
}

/// The process of the relay, once it runs.
#[expect(clippy::disallowed_methods, reason = "a test may wait")]
fn await_relay(series: &mut Child, relays: &Path) -> u32 {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        let found = fs::read_dir(relays)
            .into_iter()
            .flatten()
            .flatten()
            .find_map(|entry| fs::read_to_string(entry.path().join("adapter.pid")).ok()?.parse().ok());
        if let Some(pid) = found {
            return pid;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    series.kill().unwrap();
    panic!("the relay did not start");
}
