//! What must be undone however a series ends: relays stopped, directories removed.

use std::io;
use std::process;
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::sys::Farewell;

type Action = Box<dyn FnOnce() + Send>;

/// What is to be undone, the last first.
static PENDING: Mutex<Vec<(u64, Action)>> = Mutex::new(Vec::new());
/// The status after SIGINT and SIGTERM.
const INTERRUPTED: i32 = 130;

/// Undoes something when it is dropped, or when the program is told to end before that.
#[must_use]
pub(crate) struct Undo {
    number: u64,
}

impl Undo {
    pub(crate) fn new(action: impl FnOnce() + Send + 'static) -> Self {
        let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
        let number = pending.last().map_or(0, |(number, _)| number + 1);
        pending.push((number, Box::new(action)));
        Self { number }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
        let place = pending.iter().position(|(number, _)| *number == self.number);
        let action = place.map(|place| pending.remove(place).1);
        // Without the lock, because undoing a relay takes its time.
        drop(pending);
        if let Some(action) = action {
            action();
        }
    }
}

/// Makes SIGINT and SIGTERM undo everything before the program ends. To be called before any other thread
/// starts.
pub fn upon_signals() -> io::Result<()> {
    let farewell = Farewell::expect()?;
    thread::Builder::new().name("farewell".into()).spawn(move || {
        if farewell.wait().is_ok() {
            // The lock is kept: nothing may be started while the program ends.
            let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
            pending.drain(..).rev().for_each(|(_, action)| action());
            process::exit(INTERRUPTED);
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    #[test]
    fn each_is_undone_once_and_in_any_order() {
        let undone = Arc::new(AtomicU32::new(0));
        let undo = |value: u32| {
            let undone = undone.clone();
            Undo::new(move || {
                undone.fetch_add(value, Relaxed);
            })
        };
        let (one, ten, hundred) = (undo(1), undo(10), undo(100));
        drop(ten);
        assert_eq!(undone.load(Relaxed), 10);
        drop(undo(1000));
        assert_eq!(undone.load(Relaxed), 1010);
        drop(one);
        drop(hundred);
        assert_eq!(undone.load(Relaxed), 1111);
    }
}
