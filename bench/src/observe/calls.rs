//! System calls counted by strace. Everything takes longer under it, so such a run tells no times.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::tree;
use crate::{clock, sys};

/// How long strace may take to attach to all threads.
const ATTACH_MAX: Duration = Duration::from_secs(10);

/// strace, attached to a process tree.
pub(super) struct Count {
    strace: Child,
    said: Option<JoinHandle<String>>,
}

impl Count {
    /// Attaches to these processes, their descendants, and all that they start.
    pub(super) fn start(roots: &[u32]) -> io::Result<Self> {
        let members = tree(roots)?;
        let mut command = Command::new("strace");
        command.args(["-f", "-c", "-U", "calls,name"]).stdin(Stdio::null()).stdout(Stdio::null());
        for pid in &members {
            command.arg("-p").arg(pid.to_string());
        }
        let mut strace = command.stderr(Stdio::piped()).spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                io::Error::new(error.kind(), "strace is not installed, and counts the calls")
            }
            _ => error,
        })?;
        let said = strace.stderr.take().map(|mut stderr| {
            thread::spawn(move || {
                let mut text = Vec::new();
                // What was said before trouble is as good as the rest.
                let _ = stderr.read_to_end(&mut text);
                String::from_utf8_lossy(&text).into_owned()
            })
        });
        let mut count = Self { strace, said };
        count.await_attached(&members)?;
        Ok(count)
    }

    fn await_attached(&mut self, members: &[u32]) -> io::Result<()> {
        let deadline = clock::now() + clock::nanoseconds(ATTACH_MAX);
        while !members.iter().all(|&pid| is_traced(pid, self.strace.id())) {
            if self.strace.try_wait()?.is_some() || clock::now() > deadline {
                let said = self.end()?;
                return Err(io::Error::other(format!("strace could not attach: {}", said.trim())));
            }
            clock::pause(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Detaches, and returns how often each call was made.
    pub(super) fn finish(mut self) -> io::Result<BTreeMap<String, u64>> {
        let said = self.end()?;
        let calls = parse(&said);
        if calls.is_empty() {
            return Err(io::Error::other(format!("strace counted nothing: {}", said.trim())));
        }
        Ok(calls)
    }

    fn end(&mut self) -> io::Result<String> {
        if self.strace.try_wait()?.is_none() {
            sys::interrupt(self.strace.id());
        }
        self.strace.wait()?;
        Ok(self.said.take().and_then(|said| said.join().ok()).unwrap_or_default())
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        // Whatever ended the run early, the target must not stay under trace.
        let _ = self.end();
    }
}

/// Whether all threads of a process are traced by `tracer`; true for one that has ended.
fn is_traced(pid: u32, tracer: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    tasks.flatten().all(|task| {
        let status = fs::read_to_string(task.path().join("status"));
        status.map_or(true, |text| super::field(&text, "TracerPid:") == Some(tracer.into()))
    })
}

/// Lines of a number and a name; a total stands at the end.
fn parse(text: &str) -> BTreeMap<String, u64> {
    let call = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (count, name) = (words.next()?.parse().ok()?, words.next()?);
        (words.next().is_none() && name != "total").then(|| (name.to_string(), count))
    };
    text.lines().filter_map(call).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_strace_is_read() {
        let text = "strace: Process 12 attached with 3 threads\n^Cstrace: Process 12 detached\n\
            \x20   calls syscall\n--------- ----------------\n     1234 io_uring_enter\n        5 read\n\
            --------- ----------------\n     1239 total\n";
        let expected = BTreeMap::from([("io_uring_enter".to_string(), 1234), ("read".to_string(), 5)]);
        assert_eq!(parse(text), expected);
        assert_eq!(
            parse("strace: attach: ptrace(PTRACE_SEIZE, 1): Operation not permitted\n"),
            BTreeMap::new()
        );
    }
}
