//! `mtad doctor`, and the same needs at a start of the relay.

use crate::Folder;
use std::env::temp_dir;
use std::net::TcpListener;
use std::path::Path;

/// A configuration with a spool at `spool` and a listener at `address`.
fn configuration(spool: &Path, address: &str) -> String {
    format!(
        "hostname = \"mail.example.com\"\nspool.path = {:?}\nmetrics.address = \"none\"\n[[listen]]\naddress = \"{address}\"\n",
        spool.display().to_string()
    )
}

/// An address that is free now.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").to_string()
}

#[test]
fn a_spool_on_tmpfs_is_missing_and_the_relay_does_not_start() {
    let memory = Path::new("/dev/shm");
    if !memory.is_dir() {
        return;
    }
    let folder = Folder::new(memory, "volatile");
    folder.write("mtad.toml", &configuration(&folder.0.join("spool"), &free_address()));
    let ran = folder.run(&["doctor", "--config", "mtad.toml"]);
    let line = ran.output.lines().find(|line| line.contains("spool keeps mail")).expect("is there");
    assert!(line.starts_with("missing  spool keeps mail"), "{line}");
    assert!(
        line.contains("tmpfs, volatile") && line.contains("; set spool.path to a directory on a disk"),
        "{line}"
    );
    assert_eq!(ran.code, 1);

    let ran = folder.run(&["--config", "mtad.toml", "--log-level", "error"]);
    assert_eq!((ran.code, ran.output.as_str()), (1, ""));
    assert!(
        ran.errors.starts_with("mtad: spool keeps mail: the file system is tmpfs, volatile"),
        "{}",
        ran.errors
    );
    assert!(!folder.0.join("spool").exists(), "nothing was made");
}

#[test]
fn every_check_is_one_line_and_an_address_in_use_is_missing() {
    let folder = Folder::new(&temp_dir(), "doctor");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    folder.write("mtad.toml", &configuration(&folder.0.join("spool"), &address));
    let ran = folder.run(&["doctor", "--config", "mtad.toml"]);
    assert_eq!(ran.code, 1);
    let (table, sum) = ran.output.split_once("\n\n").expect("a table and a sum");
    let is_check =
        |line: &str| ["ok       ", "warning  ", "missing  "].iter().any(|verdict| line.starts_with(verdict));
    assert!(table.lines().all(is_check), "{table}");
    assert!(sum.starts_with("The relay cannot run here. Missing: "), "{sum}");
    for name in
        ["kernel", "kernel.io_uring_disabled", "seccomp", "open files", "spool", "spool space", "spool sync"]
    {
        let names = |line: &str| line[9..].split("  ").next() == Some(name);
        assert_eq!(table.lines().filter(|line| names(line)).count(), 1, "{name} in {table}");
    }
    let listen = table.lines().find(|line| line.contains(&address)).expect("the address is there");
    assert!(listen.starts_with("missing  ") && listen.contains("stop what listens there"), "{listen}");
    assert_eq!(std::fs::read_dir(&folder.0).expect("is there").count(), 1, "only the configuration is left");
}

#[test]
fn a_wrong_configuration_is_told_before_anything_is_looked_at() {
    let folder = Folder::new(&temp_dir(), "wrong");
    folder.write("mtad.toml", "hostnam = 1\n");
    for arguments in [&["doctor", "--config", "mtad.toml"][..], &["--config", "mtad.toml"]] {
        let ran = folder.run(arguments);
        assert_eq!((ran.code, ran.output.as_str()), (2, ""));
        assert!(
            ran.errors.contains("mtad.toml:1:1: hostnam: is no key of mtad; perhaps hostname was meant\n")
        );
    }
}
