//! What a target costs, seen from outside: its processes, its control group, the device of its queue, its
//! system calls.

mod calls;
mod cgroup;
mod device;
mod target;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Serialize;

use crate::{clock, sys};

pub use cgroup::Group;
pub use device::Device;
pub use target::{Observed, Observer, Target};

/// Time between two readings.
const INTERVAL: Duration = Duration::from_millis(200);

/// One reading of a process tree.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Reading {
    /// Processes alive.
    pub processes: u64,
    /// CPU time in user mode in microseconds, children that ended included.
    pub user: u64,
    /// CPU time in the kernel in microseconds, children that ended included.
    pub system: u64,
    /// Resident memory in bytes, pages shared between the processes counted in each.
    pub rss: u64,
    /// Context switches because there was nothing to do, of threads alive.
    pub voluntary: u64,
    /// Context switches because another thread was to run, of threads alive.
    pub involuntary: u64,
    /// Bytes caused to be written to a device, of processes alive.
    pub written: u64,
    /// Calls of the read and write kind, of processes alive (those through io_uring are not among them).
    pub calls: u64,
}

/// What a process tree did over a time.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Usage {
    /// The difference between the last and the first reading, except for processes and RSS: the last.
    pub spent: Reading,
    /// Largest RSS seen in bytes.
    pub rss_max: u64,
    /// Proportional set size in bytes at the end; 0 if the kernel did not tell.
    pub pss: u64,
}

/// The processes with this command name (as in /proc/PID/comm, at most 15 bytes).
pub fn named(name: &str) -> io::Result<Vec<u32>> {
    let named =
        |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name);
    Ok(all()?.into_iter().filter(named).collect())
}

/// Reads these processes and all their descendants. Fails if none of them is alive.
pub fn read(roots: &[u32]) -> io::Result<Reading> {
    let mut sum = Reading::default();
    for pid in tree(roots)? {
        // A process that ended meanwhile is in its parent's sum.
        let Ok(one) = read_one(pid) else { continue };
        sum.processes += 1;
        sum.user += one.user;
        sum.system += one.system;
        sum.rss += one.rss;
        sum.voluntary += one.voluntary;
        sum.involuntary += one.involuntary;
        sum.written += one.written;
        sum.calls += one.calls;
    }
    if sum.processes == 0 {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no process to observe is alive"));
    }
    Ok(sum)
}

/// Proportional set size of the tree in bytes: shared pages divided among those that share them.
pub fn proportional_memory(roots: &[u32]) -> io::Result<u64> {
    let kilobytes = tree(roots)?.into_iter().filter_map(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        field(&text, "Pss:")
    });
    Ok(kilobytes.sum::<u64>() * 1024)
}

/// Reads a tree from now on, on a thread of its own.
pub struct Watch {
    shared: Arc<Shared>,
    thread: JoinHandle<Usage>,
}

struct Shared {
    stop: AtomicBool,
    /// The last reading and its time.
    latest: Mutex<(u64, Reading)>,
}

impl Watch {
    /// Starts with a first reading.
    pub fn start(roots: Vec<u32>) -> io::Result<Self> {
        let first = read(&roots)?;
        let shared =
            Arc::new(Shared { stop: AtomicBool::new(false), latest: Mutex::new((clock::now(), first)) });
        let watched = shared.clone();
        let thread =
            thread::Builder::new().name("observe".into()).spawn(move || watch(&roots, first, &watched))?;
        Ok(Self { shared, thread })
    }

    /// The last reading and when it was made ([`clock::now`]).
    pub fn latest(&self) -> (u64, Reading) {
        *self.shared.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends with a last reading. If the tree has died, what it did after the one before is not known.
    pub fn finish(self) -> io::Result<Usage> {
        self.shared.stop.store(true, Relaxed);
        self.thread.join().map_err(|_| io::Error::other("the observer panicked"))
    }
}

fn watch(roots: &[u32], first: Reading, shared: &Shared) -> Usage {
    let (mut last, mut rss_max) = (first, first.rss);
    loop {
        let ending = shared.stop.load(Relaxed);
        if let Ok(reading) = read(roots) {
            last = reading;
            rss_max = rss_max.max(last.rss);
            *shared.latest.lock().unwrap_or_else(PoisonError::into_inner) = (clock::now(), last);
        }
        if ending {
            let spent = last.since(&first);
            return Usage { spent, rss_max, pss: proportional_memory(roots).unwrap_or(0) };
        }
        clock::pause(INTERVAL);
    }
}

impl Reading {
    /// CPU time in microseconds.
    pub fn cpu(&self) -> u64 {
        self.user + self.system
    }

    fn since(&self, first: &Reading) -> Reading {
        Reading {
            processes: self.processes,
            user: self.user.saturating_sub(first.user),
            system: self.system.saturating_sub(first.system),
            rss: self.rss,
            voluntary: self.voluntary.saturating_sub(first.voluntary),
            involuntary: self.involuntary.saturating_sub(first.involuntary),
            written: self.written.saturating_sub(first.written),
            calls: self.calls.saturating_sub(first.calls),
        }
    }
}

fn all() -> io::Result<Vec<u32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

fn tree(roots: &[u32]) -> io::Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in all()? {
        if let Some(parent) = stat(pid).ok().and_then(|fields| fields.get(1).copied()) {
            children.entry(parent as u32).or_default().push(pid);
        }
    }
    let mut found: Vec<u32> = Vec::new();
    let mut open = roots.to_vec();
    while let Some(pid) = open.pop() {
        if !found.contains(&pid) {
            found.push(pid);
            open.extend(children.get(&pid).into_iter().flatten());
        }
    }
    Ok(found)
}

/// The numbers of /proc/PID/stat behind the command name, which itself may contain anything: state first
/// (read as 0).
fn stat(pid: u32) -> io::Result<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let behind = text.rfind(')').map_or("", |at| &text[at + 1..]);
    Ok(behind.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
}

fn read_one(pid: u32) -> io::Result<Reading> {
    let fields = stat(pid)?;
    let microseconds =
        |index: usize| fields.get(index).copied().unwrap_or(0) * 1_000_000 / sys::ticks_per_second();
    let memory = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages = memory.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    let (voluntary, involuntary) = switches(pid)?;
    // Another user's process does not show its input and output.
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let of_io = |name| field(&io, name).unwrap_or(0);
    Ok(Reading {
        processes: 1,
        // proc(5): utime, stime, cutime and cstime are fields 14 to 17 of all.
        user: microseconds(11) + microseconds(13),
        system: microseconds(12) + microseconds(14),
        rss: pages * sys::page_bytes(),
        voluntary,
        involuntary,
        written: of_io("write_bytes:"),
        calls: of_io("syscr:") + of_io("syscw:"),
    })
}

fn switches(pid: u32) -> io::Result<(u64, u64)> {
    let mut sum = (0, 0);
    for thread in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        sum.0 += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
        sum.1 += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
    }
    Ok(sum)
}

/// The number behind a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_and_its_child_are_seen() {
        let own = std::process::id();
        let before = read(&[own]).unwrap();
        let mut child = std::process::Command::new("sleep").arg("5").spawn().unwrap();
        let watch = Watch::start(vec![own]).unwrap();
        let start = sys::thread_cpu();
        while sys::thread_cpu() - start < 60_000_000 {
            std::hint::black_box(clock::now());
        }
        let tree = tree(&[own]).unwrap();
        let (time, latest) = watch.latest();
        assert!(time <= clock::now() && latest.rss > 0);
        let usage = watch.finish().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(tree.contains(&child.id()));
        assert_eq!(usage.spent.processes, before.processes + 1);
        assert!(usage.spent.user + usage.spent.system >= 40_000, "{usage:?}");
        assert!(usage.rss_max > 1 << 20 && usage.pss > 0);
        assert!(read(&[child.id()]).is_err());
    }
}
