//! Counts what the pieces of the relay cost, and holds the counts against committed bounds.

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the bounds are those of x86_64");

mod allocator;
mod bounds;
mod callgrind;
mod copies;
mod meter;
mod metered;
mod pieces;
mod runner;
mod sites;

use meter::Count;
use pieces::{PIECES, Piece};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: allocator::Counted = allocator::Counted;

const USAGE: &str = "\
mtad-pieces COMMAND

  list                       the pieces
  run [PIECE...]             counts under valgrind, without bounds
  check [PIECE...]           the same, against bench/pieces/bounds.toml; status 1 unless all hold
  bless [PIECE...]           writes the counts there as bounds
  sites PIECE [COUNT]        where allocations (or copied_bytes) come from
  count PIECE                counts without valgrind, in total
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(text) => {
            eprintln!("{text}");
            ExitCode::from(2)
        }
    }
}

/// Obeys; whether all is well, or what is wrong with the machine or the arguments.
fn run(words: &[&str]) -> Result<bool, String> {
    match words {
        ["list"] => PIECES.iter().for_each(|piece| println!("{:20} for each {}", piece.name, piece.unit)),
        ["run", names @ ..] => runner::show(&named(names)?)?,
        ["check", names @ ..] => return runner::check(&named(names)?),
        ["bless", names @ ..] => runner::bless(&named(names)?)?,
        ["sites", name] => sites::show(one(name)?, Count::Allocations),
        ["sites", name, count] => sites::show(one(name)?, gatherable(count)?),
        ["count", name] => count(one(name)?),
        _ => return Err(USAGE.to_owned()),
    }
    Ok(true)
}

fn one(name: &str) -> Result<&'static Piece, String> {
    PIECES.iter().find(|piece| piece.name == name).ok_or_else(|| format!("there is no piece {name}"))
}

/// All pieces when none is named.
fn named(names: &[&str]) -> Result<Vec<&'static Piece>, String> {
    if names.is_empty() { Ok(PIECES.iter().collect()) } else { names.iter().map(|name| one(name)).collect() }
}

fn gatherable(name: &str) -> Result<Count, String> {
    let known = [Count::Allocations, Count::CopiedBytes];
    known
        .into_iter()
        .find(|count| count.name() == name)
        .ok_or_else(|| format!("no sites are known of {name}"))
}

fn count(piece: &Piece) {
    let units = (piece.run)();
    println!("units {units}");
    // What no unit of this piece does is not its business.
    let counts = Count::ALL.into_iter().filter(|count| count.value() > 0 || count.is_general());
    counts.for_each(|count| println!("{} {}", count.name(), count.value()));
}
