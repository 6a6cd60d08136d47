//! The program itself: what it prints, writes and answers to the shell.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may panic and sleep")]

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn run(arguments: &[&str]) -> Output {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    Command::new(env!("CARGO_BIN_EXE_mtad-bench"))
        .args(["run", "--target", &port, "--sink", &port, "--messages", "200", "--sessions", "5"])
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn the_status_says_whether_conservation_holds() {
    let path = std::env::temp_dir().join(format!("mtad-bench-{}.json", std::process::id()));
    let good =
        run(&["--pipelining", "--recipients", "2", "--domains", "3", "--json", path.to_str().unwrap()]);
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(json["account"]["delivered"], 400);
    assert_eq!(json["domains"].as_object().unwrap().len(), 3);

    let waived = run(&["--plant", "repeat:7", "--allow-repeats"]);
    assert_eq!(waived.status.code(), Some(0), "{waived:?}");
}

#[test]
fn the_status_says_that_conservation_is_broken() {
    for plant in ["lose:7", "repeat:7", "alter:7"] {
        let bad = run(&["--plant", plant, "--quiet", "500ms"]);
        assert_eq!(bad.status.code(), Some(1), "{bad:?}");
        let text = String::from_utf8(bad.stdout).unwrap();
        assert!(text.contains("message/recipient 7/0") && text.contains("BROKEN"), "{text}");
    }
}

#[test]
fn wrong_arguments_are_trouble() {
    for wrong in
        [["--process", "no-such-process"], ["--rate", "0"], ["--size", "x"], ["--domain", "a=slow:1s"]]
    {
        let output = run(&wrong);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(!output.stderr.is_empty());
    }
}

/// Tries until it holds, for ten seconds.
fn await_that(what: impl Fn() -> bool) {
    for _ in 0..1000 {
        if what() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("it did not come true");
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_mtad-bench"))
}

/// A load and a sink in processes of their own; their books are written to these files.
fn load_and_sink(load_book: &Path, sink_book: &Path, plant: &[&str]) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut sink = program()
        .args(["sink", "--sink", &port, "--ledger", sink_book.to_str().unwrap()])
        .args(plant)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    await_that(|| TcpStream::connect(&port).is_ok());
    let load = program()
        .args(["load", "--target", &port, "--messages", "300", "--recipients", "2", "--sessions", "3"])
        .args(["--ledger", load_book.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(load.status.code(), Some(0), "{load:?}");
    assert!(Command::new("kill").arg(sink.id().to_string()).status().unwrap().success());
    assert_eq!(sink.wait().unwrap().code(), Some(0));
}

fn account(arguments: &[&str]) -> (Option<i32>, String) {
    let output = program().arg("account").args(arguments).output().unwrap();
    let texts = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code(), texts.concat())
}

#[test]
fn books_of_several_processes_make_one_account() {
    let directory = std::env::temp_dir().join(format!("mtad-bench-books-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let [load, sink, other_load, other_sink, json] =
        ["a", "b", "c", "d", "e"].map(|name| directory.join(name));
    load_and_sink(&load, &sink, &[]);
    load_and_sink(&other_load, &other_sink, &["--plant", "lose:123"]);
    let [load, sink, other_load, other_sink, json_text] =
        [&load, &sink, &other_load, &other_sink, &json].map(|path| path.to_str().unwrap());

    let (code, text) = account(&[load, sink]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("600 acknowledged = 600 delivered"), "{text}");
    let (code, text) = account(&[sink, other_load, other_sink, load, "--json", json_text]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("missing    2: message/recipient 123/0 123/1"), "{text}");
    let audit: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!((&audit["total"]["acknowledged"], &audit["total"]["lost"]), (&1200.into(), &2.into()));
    assert_eq!(audit["runs"].as_object().unwrap().len(), 2);
    let (code, text) = account(&[load, sink, other_load, other_sink, "--queue-command", "echo 2"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("2 in the target's queue, so 0 lost"), "{text}");

    let (code, text) = account(&[load, other_sink]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("no load's book for run"), "{text}");
    for wrong in
        [&[load][..], &[sink], &[load, sink, sink], &[load, load, sink], &[load, "/dev/null"], &["/x"]]
    {
        assert_eq!(account(wrong).0, Some(2), "{wrong:?}");
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn what_is_missing_is_queued_or_lost() {
    let queue = |command: &str| run(&["--plant", "lose:7", "--quiet", "300ms", "--queue-command", command]);
    let queued = queue("echo 1");
    assert_eq!(queued.status.code(), Some(0), "{queued:?}");
    let lost = queue("echo 0");
    assert_eq!(lost.status.code(), Some(1), "{lost:?}");
    assert!(String::from_utf8(lost.stdout).unwrap().contains("0 in the target's queue, so 1 lost"));
    assert_eq!(queue("echo many").status.code(), Some(2));
}
