//! The program itself: what it prints, writes and answers to the shell.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::TcpListener;
use std::process::{Command, Output};

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

    for plant in ["lose:7", "repeat:7", "alter:7"] {
        let bad = run(&["--plant", plant, "--quiet", "500ms"]);
        assert_eq!(bad.status.code(), Some(1), "{bad:?}");
        let text = String::from_utf8(bad.stdout).unwrap();
        assert!(text.contains("message/recipient 7/0") && text.contains("BROKEN"), "{text}");
    }
    let waived = run(&["--plant", "repeat:7", "--allow-repeats"]);
    assert_eq!(waived.status.code(), Some(0), "{waived:?}");
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
