//! Runs the program as a user would.

mod check;
mod doctor;
mod help;

use std::path::{Path, PathBuf};
use std::process::Command;

/// What a run printed, and its exit code.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

/// A directory of its own for a test, removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    /// A fresh directory below `parent`; `name` is unique among the tests.
    pub fn new(parent: &Path, name: &str) -> Folder {
        let path = parent.join(format!("mtad-test-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the directory can be made");
        Folder(path)
    }

    /// Runs mtad in the directory.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mtad"));
        let output = command.args(arguments).current_dir(&self.0).output().expect("mtad can be run");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("mtad prints UTF-8");
        Ran {
            code: output.status.code().unwrap_or(-1),
            output: text(&output.stdout),
            errors: text(&output.stderr),
        }
    }

    /// Writes `text` to the file `name` in the directory.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).expect("the file can be written");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
