//! `mtad check`: what is said of right and of wrong files, to the letter.

use crate::{Folder, Ran};
use std::env::temp_dir;

/// Has no warning of its own, so that each case shows only what is wrong in it.
const GOOD: &str = "hostname = \"mail.example.com\"\nspool.path = \"/spool\"\n";

/// Cases apart by an empty line: text that follows [`GOOD`] from line 3 on, then what is said of it behind `> `.
const WRONG: &str = include_str!("wrong.txt");

/// As [`WRONG`], for files that can be used nevertheless.
const ODD: &str = include_str!("odd.txt");

fn check_cases(cases: &str, code: i32) {
    let folder = Folder::new(&temp_dir(), &format!("check-{code}"));
    for case in cases.split("\n\n") {
        let (said, text): (Vec<&str>, Vec<&str>) = case.lines().partition(|line| line.starts_with("> "));
        let said: String = said.iter().map(|line| format!("{}\n", &line[2..])).collect();
        assert!(!said.is_empty(), "nothing is expected of {case}");
        folder.write("f", &format!("{GOOD}{}\n", text.join("\n")));
        let ran = folder.run(&["check", "f"]);
        assert_eq!((ran.errors, ran.code), (said, code), "{case}");
        assert_eq!(ran.output.is_empty(), code != 0, "{case}");
    }
}

#[test]
fn wrong_files_are_refused_with_the_place_and_what_to_do() {
    check_cases(WRONG, 2);
}

#[test]
fn odd_files_are_warned_of() {
    check_cases(ODD, 0);
}

#[test]
fn a_fault_of_syntax_is_told_with_its_place() {
    let folder = Folder::new(&temp_dir(), "syntax");
    for (text, place) in [
        ("[log", "1:5"),
        ("\na = ", "2:5"),
        ("a b = 1", "1:3"),
        ("[retry]\nmax_age = \"1d\"\nmax_age = \"2d\"", "3:1"),
        ("[log]\n[log]", "2:2"),
        ("\u{e9} = 1", "1:1"),
    ] {
        folder.write("f", text);
        let ran = folder.run(&["check", "f"]);
        assert_eq!(ran.code, 2, "{text}");
        assert!(ran.errors.starts_with(&format!("f:{place}: syntax: ")), "{text}: {}", ran.errors);
        assert!(ran.errors.ends_with("; write it as TOML (https://toml.io)\n"), "{text}: {}", ran.errors);
    }
}

#[test]
fn a_right_file_is_explained() {
    let folder = Folder::new(&temp_dir(), "right");
    folder.write("right.toml", include_str!("right.toml"));
    let ran = folder.run(&["check", "right.toml"]);
    assert_eq!(ran, Ran { code: 0, output: include_str!("right.txt").into(), errors: String::new() });
}
