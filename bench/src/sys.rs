//! The few system calls that neither the standard library nor mio wraps.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Raises the limit on open files to the hard limit and returns it.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid, exclusively borrowed rlimit for both calls.
    let failed = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 || {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit) != 0
        }
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(limit.rlim_cur) }
}

/// CPU time of the calling thread in nanoseconds.
pub(crate) fn thread_cpu() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, exclusively borrowed timespec.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) != 0 };
    if failed { 0 } else { (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64 }
}

/// Sends SIGINT to a process that the caller started and has not waited for, so that the number is its own.
pub(crate) fn interrupt(pid: u32) {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return };
    // SAFETY: kill takes no pointer.
    unsafe { libc::kill(pid, libc::SIGINT) };
}

/// Clock ticks per second, the unit of CPU time in /proc/PID/stat.
pub(crate) fn ticks_per_second() -> u64 {
    // SAFETY: sysconf takes no pointer.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1)
}

/// Bytes per page, the unit of /proc/PID/statm.
pub(crate) fn page_bytes() -> u64 {
    // SAFETY: sysconf takes no pointer.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// SIGINT and SIGTERM, taken out of the hands of the default that ends the process at once.
pub struct Farewell {
    signals: libc::sigset_t,
}

impl Farewell {
    /// Blocks both signals in this thread and in all that it starts from now on.
    pub fn expect() -> io::Result<Self> {
        // SAFETY: an all-zero sigset_t is a valid place for sigemptyset to initialise.
        let mut signals: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `signals` is valid and exclusively borrowed; the old mask is not asked for.
        let error = unsafe {
            libc::sigemptyset(&mut signals);
            libc::sigaddset(&mut signals, libc::SIGINT);
            libc::sigaddset(&mut signals, libc::SIGTERM);
            libc::pthread_sigmask(libc::SIG_BLOCK, &signals, std::ptr::null_mut())
        };
        if error == 0 { Ok(Self { signals }) } else { Err(io::Error::from_raw_os_error(error)) }
    }

    /// Waits for one of them.
    pub fn wait(self) -> io::Result<()> {
        let mut signal = 0;
        // SAFETY: both places are valid for the call.
        let error = unsafe { libc::sigwait(&self.signals, &mut signal) };
        if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
    }
}

/// A one-shot timer with a descriptor, because the time-out of a poll is whole milliseconds and a fixed
/// schedule needs better.
pub(crate) struct Alarm {
    descriptor: OwnedFd,
}

impl Alarm {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: timerfd_create takes no pointer; its result is checked before use.
        let raw =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` is a fresh descriptor that nothing else owns.
        Ok(Self { descriptor: unsafe { OwnedFd::from_raw_fd(raw) } })
    }

    /// Fires once, `nanoseconds` from now (at least one: zero would disarm).
    pub(crate) fn set(&self, nanoseconds: u64) -> io::Result<()> {
        let wait = nanoseconds.max(1);
        let value =
            libc::timespec { tv_sec: (wait / 1_000_000_000) as _, tv_nsec: (wait % 1_000_000_000) as _ };
        let once =
            libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // SAFETY: `once` is valid for the call and the old value is not asked for.
        let failed = unsafe {
            libc::timerfd_settime(self.descriptor.as_raw_fd(), 0, &once, std::ptr::null_mut()) != 0
        };
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

/// Lets a command start with no signal blocked, whatever the rig itself has blocked.
pub(crate) fn unblock_signals(command: &mut Command) {
    // SAFETY: between fork and exec the closure calls only functions that are safe to call from a signal
    // handler, on a set of its own.
    unsafe {
        command.pre_exec(|| {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            match libc::pthread_sigmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()) {
                0 => Ok(()),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        });
    }
}
