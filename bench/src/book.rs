//! The books of a load or a sink as a file, so that both may be on different machines.
//!
//! A book is JSON: `{"version":1,"mark":..,"side":{"load":{..}}}` or the same with `"sink"`; sets of deliveries are
//! ranges of numbers. [`audit`] draws up the account of any number of them.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::account::Audit;
use crate::load::Promises;
use crate::sink::Ledger;

/// The version that is written and read.
const VERSION: u32 = 1;

/// What one side knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// What a load was promised.
    Load(Promises),
    /// What a sink received.
    Sink(Ledger),
}

/// A file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Book<S> {
    version: u32,
    /// Random, so that a book that is given twice is seen.
    mark: u64,
    side: S,
}

/// Writes a book.
pub fn write(path: &Path, side: &Side) -> io::Result<()> {
    let book = Book { version: VERSION, mark: fastrand::u64(..), side };
    let mut file = BufWriter::new(File::create(path).map_err(|error| at(path, error))?);
    serde_json::to_writer(&mut file, &book)?;
    file.write_all(b"\n")?;
    file.flush()
}

/// Draws up the account of these books: at least one of a load and one of a sink.
pub fn audit(paths: &[PathBuf], queued: Option<u64>, listed: usize) -> io::Result<Audit> {
    let mut ledger = Ledger::default();
    let mut loads: Vec<Promises> = Vec::new();
    let (mut sinks, mut marks) = (0, Vec::new());
    for path in paths {
        let wrong = |text: &str| Err(at(path, io::Error::new(ErrorKind::InvalidData, text)));
        let book = read(path)?;
        if marks.contains(&book.mark) {
            return wrong("this book is given twice");
        }
        marks.push(book.mark);
        match book.side {
            Side::Load(load) if loads.iter().any(|other| other.run == load.run) => {
                return wrong("two loads have the same run");
            }
            Side::Load(load) => loads.push(load),
            Side::Sink(received) => {
                ledger.absorb(&received);
                sinks += 1;
            }
        }
    }
    if loads.is_empty() || sinks == 0 {
        let text = "an account needs the book of a load and that of a sink";
        return Err(io::Error::new(ErrorKind::InvalidInput, text));
    }
    Ok(Audit::new(&loads, &ledger, queued, listed))
}

fn read(path: &Path) -> io::Result<Book<Side>> {
    let file = BufReader::new(File::open(path).map_err(|error| at(path, error))?);
    let book: Book<Side> = serde_json::from_reader(file).map_err(|error| at(path, error.into()))?;
    let sound = match &book.side {
        Side::Load(load) => load.is_sound(),
        Side::Sink(_) => true,
    };
    if book.version == VERSION && sound {
        Ok(book)
    } else {
        Err(at(path, io::Error::new(ErrorKind::InvalidData, "not a book of this version, or a damaged one")))
    }
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
