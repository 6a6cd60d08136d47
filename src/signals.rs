//! The signals that ask the program to stop.
//!
//! They are blocked in every thread and taken by one that waits for them. A handler (as crates for signals
//! install) would run on any thread and cut short the system calls of a shard; here no shard ever sees one.

use std::io;

/// Why the program is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, from a service supervisor.
    Terminate,
    /// SIGINT, from a keyboard.
    Interrupt,
}

/// The blocked signals. Only who has them can wait, so that nothing waits for signals that still kill.
pub struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Blocks the signals for this thread and all that it starts from now on; so call it before any starts.
    pub fn block() -> io::Result<Signals> {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set that it is given, and cannot fail for a valid pointer.
        let mut set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            set.assume_init()
        };
        for number in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            // SAFETY: the set is initialised and the number is one of a real signal.
            unsafe { libc::sigaddset(&raw mut set, number) };
        }
        // SAFETY: the set is initialised; the old mask is not asked for.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
            0 => Ok(Signals { set }),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Waits until the program is asked to stop. SIGHUP is logged and changes nothing.
    pub fn wait(&self) -> Signal {
        loop {
            let mut number = 0;
            // SAFETY: the set is initialised and `number` is there to be written.
            let failed = unsafe { libc::sigwait(&raw const self.set, &raw mut number) };
            match number {
                _ if failed != 0 => {
                    tracing::warn!(error = failed, "waiting for a signal failed; waiting again")
                }
                libc::SIGTERM => return Signal::Terminate,
                libc::SIGINT => return Signal::Interrupt,
                _ => tracing::info!("SIGHUP ignored: a changed configuration needs a restart"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hangup_is_passed_over_and_the_next_signal_returned() {
        let signals = Signals::block().unwrap();
        // SAFETY: both signals are blocked in this thread, so that they wait for it.
        unsafe {
            libc::raise(libc::SIGHUP);
        }
        let stop = std::thread::scope(|scope| {
            // SAFETY: this thread exists while the one that it starts runs, for the scope waits for it.
            let waiting = unsafe { libc::pthread_self() };
            scope.spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(50));
                // SAFETY: as above; the signal is blocked there.
                unsafe { libc::pthread_kill(waiting, libc::SIGTERM) };
            });
            signals.wait()
        });
        assert_eq!(stop, Signal::Terminate);
    }
}
