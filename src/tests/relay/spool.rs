//! One relay per spool and per address.

use crate::process::Home;
use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What a start that is refused says.
fn refusal(file: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_mtad")).arg("--config").arg(file).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

#[test]
fn a_second_relay_on_the_same_spool_or_address_is_refused() {
    let (home, other) = (Home::new("first"), Home::new("second"));
    let relay = home.start(1);
    let (first, second) = (home.configure(), other.configure());
    let exchanged = |from: &dyn Display, to: &dyn Display| {
        let text = fs::read_to_string(&second).unwrap();
        assert!(text.contains(&from.to_string()), "{text}");
        let file = other.folder.join("exchanged.toml");
        fs::write(&file, text.replace(&from.to_string(), &to.to_string())).unwrap();
        file
    };
    let used = "another mtad uses this spool; stop it, or set spool.path";
    let lock = home.folder.join("spool/lock");
    let same_spool = exchanged(&other.folder.display(), &home.folder.display());
    assert_eq!(refusal(&same_spool), format!("mtad: the spool's lock {}: {used}\n", lock.display()));
    let taken = "cannot be listened at; stop what listens there (ss -ltnp shows it), or choose another";
    let same_address = exchanged(&other.smtp(), &home.smtp());
    for file in [same_address, first] {
        assert_eq!(refusal(&file), format!("mtad: listen {}: {taken}\n", home.smtp()));
    }
    relay.await_rest();
    relay.stop();
}
