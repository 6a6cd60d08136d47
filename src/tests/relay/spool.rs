//! One relay per spool and per address.

use crate::process::Home;
use std::process::{Command, Output};

fn start_second(home: &Home) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mtad")).arg("--config").arg(home.configure()).output().unwrap()
}

#[test]
fn a_second_relay_on_the_same_spool_is_refused() {
    let (home, mut other) = (Home::new("first"), Home::new("second"));
    let relay = home.start(1);
    let folder = std::mem::replace(&mut other.folder, home.folder.clone());
    let refused = start_second(&other);
    other.folder = folder;
    let said = format!(
        "mtad: the spool's lock {}: another mtad uses this spool; stop it, or set spool.path\n",
        home.folder.join("spool/lock").display()
    );
    assert_eq!((String::from_utf8_lossy(&refused.stderr), refused.status.code()), (said.into(), Some(1)));
    relay.await_rest();
    relay.stop();
}
