//! Postfix's smtp-source and smtp-sink at both ends, for figures that others can compare with theirs.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Stage;
use super::stage::WARM_UP;
use crate::content::Content;
use crate::figures::{higher, lower, mebibytes, neutral};
use crate::observe::Watch;
use crate::suite::Round;
use crate::{clock, sys};

/// Time between two looks at the count of arrivals.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// The same count for this long is the end, whatever is missing.
const QUIET: Duration = Duration::from_secs(30);
/// Connections waiting at smtp-sink.
const BACKLOG: &str = "1000";

pub(super) fn play(stage: &Stage) -> io::Result<Round> {
    let relay = stage.start()?;
    let sink = Sink::start(stage.hops[0])?;
    send(stage, WARM_UP)?;
    sink.await_count(u64::from(WARM_UP))?;
    let watch = Watch::start(relay.pids.clone())?;
    let start = clock::now();
    send(stage, stage.messages)?;
    let accepted = clock::now() - start;
    let wanted = u64::from(WARM_UP) + u64::from(stage.messages);
    let (count, delivered) = sink.await_count(wanted)?;
    let usage = watch.finish()?;
    let messages = f64::from(stage.messages);
    let arrived = count.saturating_sub(u64::from(WARM_UP)) as f64;
    let spent = usage.spent;
    let trouble = match count == wanted {
        true => String::new(),
        false => format!("smtp-sink has {count} of {wanted} messages"),
    };
    Ok(Round {
        figures: vec![
            higher(
                "delivered",
                "deliveries/s",
                arrived * 1e9 / (delivered.saturating_sub(start)).max(1) as f64,
            ),
            higher("accepted", "messages/s", messages * 1e9 / accepted.max(1) as f64),
            lower("CPU", "us/message", (spent.user + spent.system) as f64 / messages),
            lower("PSS", "MiB", mebibytes(usage.pss)),
            lower("switches", "per message", (spent.voluntary + spent.involuntary) as f64 / messages),
            lower("written", "bytes/message", spent.written as f64 / messages),
            neutral("messages", "messages", messages),
        ],
        trouble,
        ..Round::default()
    })
}

/// Returns when all is handed in.
fn send(stage: &Stage, messages: u32) -> io::Result<()> {
    let load = &stage.scenario.load;
    let bytes = match load.content {
        Content::Fixed(bytes) => bytes,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "smtp-source has one size only")),
    };
    let mut command = Command::new("smtp-source");
    sys::unblock_signals(&mut command);
    command
        .args(["-d", "-s", &load.sessions.to_string(), "-m", &messages.to_string(), "-l", &bytes.to_string()])
        .args(["-f", &load.sender, "-t", &format!("b@d0.{}", load.domain_suffix)])
        .arg(stage.target().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let status = command.status().map_err(|error| unusable("smtp-source", &error))?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("smtp-source: {status}"))) }
}

fn unusable(program: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{program}, which comes with Postfix, cannot be run: {error}"))
}

/// A running smtp-sink.
struct Sink {
    process: Child,
    /// Where it writes how much has come.
    log: PathBuf,
}

impl Sink {
    fn start(address: SocketAddr) -> io::Result<Self> {
        let log = std::env::temp_dir().join(format!("mtad-bench-sink-{:08x}", fastrand::u32(..)));
        let file = File::create(&log)?;
        let mut command = Command::new("smtp-sink");
        sys::unblock_signals(&mut command);
        // Root is refused unless it says whom to become.
        if fs::metadata("/proc/self")?.uid() == 0 {
            command.args(["-u", "nobody"]);
        }
        command.arg("-c").arg(address.to_string()).arg(BACKLOG);
        command.stdin(Stdio::null()).stderr(file.try_clone()?).stdout(file);
        let process = command.spawn().map_err(|error| unusable("smtp-sink", &error))?;
        let sink = Self { process, log };
        for _ in 0..1000 {
            if TcpStream::connect(address).is_ok() {
                return Ok(sink);
            }
            clock::pause(LOOK_INTERVAL);
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "smtp-sink does not listen"))
    }

    /// Waits until so many messages have come, or no more do. Returns how many, and since when.
    fn await_count(&self, wanted: u64) -> io::Result<(u64, u64)> {
        let (mut count, mut since) = (0, clock::now());
        loop {
            let now = messages(&fs::read_to_string(&self.log)?);
            if now != count {
                (count, since) = (now, clock::now());
            }
            if count >= wanted || clock::now() - since > clock::nanoseconds(QUIET) {
                return Ok((count, since));
            }
            clock::pause(LOOK_INTERVAL);
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // It may have ended by itself, and its file may be gone: all the better.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_file(&self.log);
    }
}

/// The last count in what smtp-sink wrote; each overwrites the one before on a terminal, not in a file.
fn messages(text: &str) -> u64 {
    let last = text.rfind("mesg=").map_or("", |at| text[at + 5..].trim_start());
    last.split(|character: char| !character.is_ascii_digit())
        .next()
        .and_then(|count| count.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_count_is_read() {
        let text = "sess=    1 quit=     0 mesg=     7\rsess=    2 quit=     0 mesg=    12\r";
        assert_eq!(messages(text), 12);
        assert_eq!(messages(""), 0);
        assert_eq!(messages("sess=    1 quit=     0 mesg="), 0);
    }
}
