//! One relay per spool and per address.

use crate::process::Home;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a start that is refused says.
fn refusal(file: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_mtad")).arg("--config").arg(file).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

/// A directory under another name; taken down when it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// Binds `from` to `to`; `None` where that is not permitted.
    fn bind(from: &Path, to: &Path) -> Option<Mounted> {
        fs::create_dir_all(to).unwrap();
        let bound = Command::new("mount").arg("--bind").arg(from).arg(to).output();
        bound.is_ok_and(|bound| bound.status.success()).then(|| Mounted(to.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_spool_is_one_by_whatever_path_it_is_reached() {
    let (home, other) = (Home::new("here"), Home::new("there"));
    let relay = home.start(1);
    let spool = home.folder.join("spool");
    let refused_at = |path: &Path| {
        let text = fs::read_to_string(other.configure()).unwrap();
        let own = other.folder.join("spool").display().to_string();
        let file = other.folder.join("path.toml");
        fs::write(&file, text.replace(&own, &path.display().to_string())).unwrap();
        let said = refusal(&file);
        assert!(said.ends_with("another mtad uses this spool; stop it, or set spool.path\n"), "{said}");
    };
    let link = other.folder.join("link");
    std::os::unix::fs::symlink(&spool, &link).unwrap();
    refused_at(&link);
    refused_at(&home.folder.join("./../").join(home.folder.file_name().unwrap()).join("spool/shard-0/.."));
    match Mounted::bind(&spool, &other.folder.join("mount")) {
        Some(mounted) => refused_at(&mounted.0),
        None => eprintln!("not tested: a spool under a bind mount, because this user may not mount"),
    }
    relay.await_rest();
    relay.stop();
}

#[test]
fn a_lock_does_not_outlive_its_process() {
    let home = Home::new("lock");
    let mut relay = home.start(2);
    for _ in 0..5 {
        relay.kill();
        assert!(home.folder.join("spool/lock").exists());
        relay = home.start(2);
    }
    relay.stop();
    home.start(1).stop();
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
