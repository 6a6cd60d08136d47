//! Runs pieces, several at a time, and shows what came of them.

use crate::bounds::{self, Bounds, Counts, SLACK, Verdict};
use crate::callgrind;
use crate::pieces::{PIECES, Piece};
use std::fs;
use std::sync::Mutex;
use std::thread;

/// The committed bounds.
const BOUNDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bounds.toml");

/// A piece, and its counts.
type Measured = (&'static Piece, Counts);

/// Runs pieces and shows their counts.
pub fn show(pieces: &[&'static Piece]) -> Result<(), String> {
    print(&measure(pieces)?);
    Ok(())
}

/// Runs pieces; whether all counts are near their bounds.
pub fn check(pieces: &[&'static Piece]) -> Result<bool, String> {
    let (bounds, measured) = (read()?, measure(pieces)?);
    print(&measured);
    let mut faults: Vec<String> = measured.iter().flat_map(|measured| faults(measured, &bounds)).collect();
    let strange = bounds.keys().filter(|name| PIECES.iter().all(|piece| piece.name != **name));
    faults.extend(strange.map(|name| format!("{name} has bounds, but there is no such piece: remove them")));
    faults.iter().for_each(|fault| println!("{fault}"));
    if !faults.is_empty() {
        println!(
            "where it went: callgrind_annotate on the piece's profile in target/release/pieces; mtad-pieces sites PIECE"
        );
        println!("if it is right: scripts/dev pieces bless PIECE, and say in the commit why");
    }
    Ok(faults.is_empty())
}

/// Runs pieces and writes their counts down as bounds.
pub fn bless(pieces: &[&'static Piece]) -> Result<(), String> {
    let mut bounds = if fs::exists(BOUNDS).is_ok_and(|exists| exists) { read()? } else { Bounds::new() };
    bounds.retain(|name, _| PIECES.iter().any(|piece| piece.name == name));
    let measured = measure(pieces)?;
    print(&measured);
    for (piece, counts) in measured {
        // Three decimals tell one allocation in a thousand units from none.
        let rounded =
            counts.into_iter().map(|(name, count)| (name, (count * 1000.0).round() / 1000.0)).collect();
        bounds.entry(piece.name.to_owned()).or_default().counts = rounded;
    }
    fs::write(BOUNDS, bounds::format(&bounds)).map_err(|error| format!("{BOUNDS}: {error}"))
}

fn read() -> Result<Bounds, String> {
    let text = fs::read_to_string(BOUNDS).map_err(|error| format!("{BOUNDS}: {error}"))?;
    bounds::parse(&text).map_err(|error| format!("{BOUNDS}: {error}"))
}

/// As many at a time as there are processors: counts do not depend on the time that they take.
fn measure(pieces: &[&'static Piece]) -> Result<Vec<Measured>, String> {
    if !std::arch::is_x86_feature_detected!("avx2") {
        return Err(
            "this processor has no AVX2, so that other code would run than the bounds are for".to_owned()
        );
    }
    let (left, done) = (Mutex::new(pieces.iter()), Mutex::new(Vec::new()));
    let next = || left.lock().expect("no holder panics").next().copied();
    let work = || {
        while let Some(piece) = next() {
            let counts = callgrind::run(piece.name);
            done.lock().expect("no holder panics").push((piece, counts));
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut done = done.into_inner().expect("no holder panics");
    done.sort_by_key(|(piece, _)| PIECES.iter().position(|other| other.name == piece.name));
    done.into_iter().map(|(piece, counts)| Ok((piece, counts?))).collect()
}

fn faults((piece, counts): &Measured, bounds: &Bounds) -> Vec<String> {
    let Some(bound) = bounds.get(piece.name) else {
        return vec![format!("{} has no bounds: scripts/dev pieces bless {0}", piece.name)];
    };
    let fault = |(name, count): (&String, &f64)| {
        let (what, may) = (format!("{} {name} {count:.3}", piece.name), bound.counts.get(name).copied());
        let may = may.unwrap_or_default();
        match bound.judge(name, *count) {
            Verdict::Within => None,
            Verdict::Unbound => Some(format!("{what} has no bound: scripts/dev pieces bless {}", piece.name)),
            Verdict::Exceeds(ratio) => Some(format!(
                "{what} is {ratio:.3} times its bound of {may}; {:.0} % more are allowed",
                bound.tolerance(name) * 100.0
            )),
            Verdict::Fallen(ratio) => Some(format!(
                "{what} is {ratio:.3} times its bound of {may}, below {SLACK}: keep what was won, scripts/dev pieces bless {}",
                piece.name
            )),
        }
    };
    let gone = bound.counts.keys().filter(|name| !counts.contains_key(*name));
    let gone = gone.map(|name| format!("{} {name} has a bound, but is not counted: bless", piece.name));
    counts.iter().filter_map(fault).chain(gone).collect()
}

fn print(measured: &[Measured]) {
    let columns = [callgrind::INSTRUCTIONS, "allocations", "allocated_bytes", "copied_bytes"];
    println!("{:36}{:>14}{:>14}{:>17}{:>14}", "for each", columns[0], columns[1], columns[2], columns[3]);
    for (piece, counts) in measured {
        let count = |name: &str| counts.get(name).copied().unwrap_or_default();
        print!("{:22}{:14}{:14.1}{:14.3}", piece.name, piece.unit, count(columns[0]), count(columns[1]));
        print!("{:17.1}{:14.1}", count(columns[2]), count(columns[3]));
        let others = counts.iter().filter(|(name, _)| !columns.contains(&name.as_str()));
        others.for_each(|(name, count)| print!("  {name} {count:.3}"));
        println!();
    }
}
