//! Where allocations and copies come from: a backtrace of each, told by the relay's own functions in it.

use crate::meter::{self, Count};
use crate::pieces::Piece;
use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Functions that are shown of each site, innermost first.
const FRAMES: usize = 4;

/// No count.
const NONE: usize = usize::MAX;

static GATHERED: AtomicUsize = AtomicUsize::new(NONE);

thread_local! {
    static SITES: RefCell<BTreeMap<String, (u64, u64)>> = const { RefCell::new(BTreeMap::new()) };
}

/// Runs a piece, gathers the sites of this count, and shows them; each backtrace takes its time.
pub fn show(piece: &Piece, count: Count) {
    GATHERED.store(count as usize, Ordering::Relaxed);
    let units = (piece.run)();
    let mut sites: Vec<_> = SITES.take().into_iter().collect();
    sites.sort_by_key(|(_, (times, bytes))| {
        Reverse(if count == Count::Allocations { *times } else { *bytes })
    });
    let per = |total: u64| total as f64 / units as f64;
    println!("for each {}: times, bytes, and the relay's functions, innermost first", piece.unit);
    for (site, (times, bytes)) in sites {
        println!("{:8.3} {:10.1}  {site}", per(times), per(bytes));
    }
}

/// So many bytes are being counted here.
#[inline]
pub fn note(count: Count, bytes: usize) {
    if GATHERED.load(Ordering::Relaxed) == count as usize {
        meter::uncounted(|| add(bytes));
    }
}

fn add(bytes: usize) {
    let site = name(&Backtrace::force_capture().to_string());
    SITES.with_borrow_mut(|sites| {
        let (count, total) = sites.entry(site).or_default();
        *count += 1;
        *total += bytes as u64;
    });
}

/// The innermost functions of the relay in a backtrace, each with its place: a line `N: FUNCTION`, then `at PLACE`.
fn name(backtrace: &str) -> String {
    let mut function = "";
    let mut shown: Vec<String> = Vec::new();
    for line in backtrace.lines().map(str::trim) {
        match line.strip_prefix("at ").and_then(|place| place.split_once("shards/")) {
            Some((_, place)) if !place.starts_with("sim/") => {
                shown.push(format!("{place} {}", short(function)))
            }
            Some(_) => {}
            None => function = line.split_once(": ").map_or("", |(_, function)| function),
        }
    }
    shown.truncate(FRAMES);
    if shown.is_empty() { "elsewhere".to_owned() } else { shown.join(" < ") }
}

/// A function's name without its types, which are long and say little here.
fn short(function: &str) -> &str {
    function.split_once('<').map_or(function, |(name, _)| name)
}
