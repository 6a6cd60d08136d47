//! The configuration file: TOML in, [`Settings`] out, once at start; nothing parses a text again later.
//!
//! `parse` says which keys there are, `value` what their values mean, `section` how they are read, `sense` what
//! must hold between them, and `finding` how faults are reported.

mod finding;
mod parse;
mod section;
mod sense;
mod users;
mod value;

pub use finding::Finding;
pub use parse::parse;
pub use sense::pattern_text;
pub use users::{UserFile, load_users, parse_users};
pub use value::word;

use crate::log;
use finding::Problem;
use shard::config::Config;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

/// The largest file that is read, in bytes; a larger one is refused.
pub const FILE_BYTES_MAX: u64 = 4 << 20;

/// All that a configuration file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What the shards need to know.
    pub relay: Config,
    /// Where metrics are served, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// How log records are written.
    pub log: log::Settings,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            relay: Config { hostname: machine_name(), ..Config::default() },
            metrics: Some(SocketAddr::from(([127, 0, 0, 1], 9025))),
            log: log::Settings::default(),
        }
    }
}

/// Reads `file`, or takes the defaults when there is none. Gives the settings with warnings, or the errors along
/// with the warnings, in the order of the file.
pub fn load(file: Option<&Path>) -> Result<(Settings, Vec<Finding>), Vec<Finding>> {
    let Some(file) = file else {
        return Ok((Settings::default(), Vec::new()));
    };
    let name = file.display().to_string();
    match read(file) {
        Ok(text) => parse(&name, &text),
        Err(problem) => Err(vec![Finding::of_file(&name, problem)]),
    }
}

fn read(file: &Path) -> Result<String, Problem> {
    let unreadable = |error: std::io::Error| {
        Problem::new(format!("cannot be read ({error})"), "name a file that this user may read")
    };
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(unreadable)?;
    opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Problem::new("is larger than 4 MiB", "name a configuration file"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Problem::new(format!("is no UTF-8 text from byte {at} on"), "save it in UTF-8")
    })
}

/// The machine's name, or `localhost` when it has none that can be said in SMTP.
pub fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim().to_ascii_lowercase();
    if name.is_ascii() && mail::address::is_domain(&name) { name } else { "localhost".into() }
}

#[cfg(test)]
mod tests;
