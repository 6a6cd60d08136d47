//! Runs a piece under callgrind, in a process of its own.

use crate::bounds::Counts;
use crate::meter::TOGGLES;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The name of what callgrind counts.
pub const INSTRUCTIONS: &str = "instructions";

/// The counts of a piece for each of its units.
pub fn run(name: &str) -> Result<Counts, String> {
    let program =
        std::env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
    let profile = profile_of(&program, name)?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .args(TOGGLES.map(|toggle| format!("--toggle-collect={toggle}")))
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(&program)
        .args(["count", name])
        // Memory goes back to the system after a while: by the clock, which would count differently each time.
        .env("MIMALLOC_PURGE_DELAY", "-1")
        .output()
        .map_err(|error| format!("valgrind cannot be run ({error}); scripts/dev peers installs it"))?;
    read(&output).map_err(|error| format!("{name}: {error}\n{}", String::from_utf8_lossy(&output.stderr)))
}

/// Where the profile of a piece is left, to be looked at with callgrind_annotate: beside the program.
fn profile_of(program: &Path, name: &str) -> Result<PathBuf, String> {
    let directory = program.with_file_name("pieces");
    std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    Ok(directory.join(format!("{name}.callgrind")))
}

fn read(output: &Output) -> Result<Counts, String> {
    if !output.status.success() {
        return Err(format!("it ended with {}", output.status));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let mut lines = said.lines().filter_map(|line| line.split_once(' '));
    let units: f64 = match lines.next() {
        Some(("units", number)) => number.parse().map_err(|error| format!("units: {error}"))?,
        _ => return Err("it did not say how many units it counted".to_owned()),
    };
    let observed = String::from_utf8_lossy(&output.stderr);
    let collected = observed.lines().find_map(|line| line.split_once("Collected : "));
    let instructions = collected.ok_or("callgrind collected nothing")?.1;
    lines
        .chain([(INSTRUCTIONS, instructions)])
        .map(|(name, total)| {
            let total: f64 = total.trim().parse().map_err(|error| format!("{name} {total}: {error}"))?;
            Ok((name.to_owned(), total / units))
        })
        .collect()
}
