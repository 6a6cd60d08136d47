//! The command line as a manual.

use crate::Folder;
use std::env::temp_dir;

#[test]
fn the_help_says_what_an_operator_looks_for() {
    let folder = Folder::new(&temp_dir(), "help");
    let ran = folder.run(&["help"]);
    assert_eq!((ran.code, ran.errors.as_str()), (0, ""));
    for part in [
        "Files:",
        "Environment:",
        "Exit codes:",
        "Examples:",
        "--shards",
        "--config",
        "--log",
        "check",
        "doctor",
        "demo",
    ] {
        assert!(ran.output.contains(part), "{part} is missing in {}", ran.output);
    }
    for command in ["check", "doctor", "demo"] {
        let ran = folder.run(&["help", command]);
        assert!(ran.code == 0 && ran.output.contains("Usage: mtad"), "{command}: {ran:?}");
    }
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let folder = Folder::new(&temp_dir(), "usage");
    for arguments in [&["--shards", "0"][..], &["--sharts", "1"], &["check"], &["serve"], &["--log", "xml"]] {
        let ran = folder.run(arguments);
        assert_eq!((ran.code, ran.output.as_str()), (2, ""), "{arguments:?}");
        assert!(ran.errors.starts_with("error: "), "{arguments:?}: {}", ran.errors);
    }
    assert!(folder.run(&["--shards", "0"]).errors.contains("write auto, or 1 to 1024"));
}
