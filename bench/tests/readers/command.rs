//! The commands `report` and `compare`: files in, text and status out.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bench::suite::Suite;

use crate::sample;

/// A file that is removed at the end.
struct File(PathBuf);

impl File {
    fn new(name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = std::env::temp_dir().join(format!("mtad-bench-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    fn suite(name: &str, suite: &Suite) -> Self {
        Self::new(name, serde_json::to_vec_pretty(suite).unwrap())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn run(arguments: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mtad-bench")).args(arguments).output().unwrap()
}

fn report(path: &Path) -> Output {
    run(&[Path::new("report"), path])
}

#[test]
fn the_page_goes_to_a_file_or_to_standard_output() {
    let suite = File::suite("page.json", &sample::suite(1, 2, 3, 0.02));
    let page = File::new("page.html", "");
    let printed = report(&suite.0);
    assert_eq!(printed.status.code(), Some(0), "{printed:?}");
    let written = run(&[Path::new("report"), &suite.0, Path::new("-o"), &page.0]);
    assert_eq!((written.status.code(), written.stdout.len()), (Some(0), 0), "{written:?}");
    assert_eq!(std::fs::read(&page.0).unwrap(), printed.stdout);
    assert!(printed.stdout.starts_with(b"<!DOCTYPE html>"));
}

#[test]
fn the_status_says_whether_anything_got_worse() {
    let before = sample::suite(2, 2, 5, 0.01);
    let mut slower = before.clone();
    for round in slower.scenarios.iter_mut().flat_map(|it| &mut it.relays[0].rounds) {
        round.figures[0].value *= 0.8;
    }
    let (a, b) = (File::suite("a.json", &before), File::suite("b.json", &slower));
    let compare = |a: &File, b: &File| run(&[Path::new("compare"), &a.0, &b.0]);
    assert_eq!(compare(&a, &a).status.code(), Some(0));
    assert_eq!(compare(&b, &a).status.code(), Some(0));
    let worse = compare(&a, &b);
    assert_eq!(worse.status.code(), Some(1));
    assert!(String::from_utf8(worse.stdout).unwrap().contains("−20.0%"));
    assert_eq!(compare(&a, &File(PathBuf::from("/nowhere.json"))).status.code(), Some(2));
}

#[test]
fn a_damaged_file_is_told_with_its_place() {
    let good = serde_json::to_string_pretty(&sample::suite(3, 1, 1, 0.02)).unwrap();
    let cases = [
        ("", "line 1"),
        ("{\"card\": {},\n \"scenarios\": 7}", "line 2"),
        ("{\"card\": {}}", "scenarios"),
        (&good[..good.len() / 2], "EOF"),
        (&good.replacen("\"value\": ", "\"value\": 1e999, \"other\": ", 1), "out of range"),
        (&good.replacen("\"higher\"", "\"sideways\"", 1), "sideways"),
        (&"[".repeat(100_000), "line 1"),
    ];
    for (text, place) in cases {
        let file = File::new("damaged.json", text);
        let output = report(&file.0);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("damaged.json") && error.contains(place), "{place}: {error}");
    }
    let missing = report(Path::new("/nowhere.json"));
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8(missing.stderr).unwrap().contains("/nowhere.json"));
}

#[test]
fn damage_anywhere_is_an_error_or_a_page_but_no_panic() {
    let mut suite = sample::suite(4, 1, 1, 0.02);
    suite.scenarios.truncate(1);
    suite.scenarios[0].relays[0].rounds[0].curves.clear();
    let good = serde_json::to_vec(&suite).unwrap();
    let mut random = fastrand::Rng::with_seed(6);
    let (mut refused, mut shown) = (0, 0);
    for _ in 0..2000 {
        let mut bad = good.clone();
        let place = random.usize(..bad.len());
        bad[place] = random.u8(b' '..=b'~');
        match serde_json::from_slice::<Suite>(&bad) {
            Ok(suite) => shown += usize::from(bench::paper::paper(&suite).ends_with("</html>")),
            Err(_) => refused += 1,
        }
    }
    assert_eq!(refused + shown, 2000);
    assert!(refused > 200 && shown > 200, "{refused} {shown}");
}

#[test]
fn a_value_that_could_not_be_computed_survives_the_file() {
    let mut suite = sample::suite(5, 1, 2, 0.02);
    suite.scenarios[0].relays[0].rounds[0].figures[0].value = f64::NAN;
    let file = File::suite("nan.json", &suite);
    let read = Suite::read(&file.0).unwrap();
    let relay = &read.scenarios[0].relays[0];
    assert!(relay.rounds[0].figures[0].value.is_nan());
    assert_eq!(relay.values("delivered").len(), 1);
    assert_eq!(relay.rounds[1].timeline, suite.scenarios[0].relays[0].rounds[1].timeline);
}
