//! Log records on standard error, for people or for machines.
//!
//! Records go through a bounded queue to a thread that writes them, so that a slow terminal or pipe never holds
//! up a shard. Records that find the queue full are dropped, counted, and the loss is told in the log itself.

use std::io::{self, BufWriter, IsTerminal, Stderr, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;

/// Records that wait to be written; beyond, they are dropped and counted.
pub const LINES_WAITING_MAX: usize = 16_384;
/// Bytes that are gathered before they are written; what is there is written as soon as no record waits.
const WRITE_BYTES: usize = 64 << 10;
/// Our crates, whose records the level is for; of others only warnings and errors are written.
const OURS: [&str; 8] = ["mtad", "mail", "smtp", "queue", "host", "spool", "shard", "bench"];

/// How log records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// For whom.
    pub format: Format,
    /// Which of them.
    pub level: Level,
}

/// For whom log records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One line of text per record, for people.
    #[default]
    Human,
    /// One JSON object per line and record, for machines.
    Json,
}

/// The least important records that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// Only what needs somebody to act.
    Error,
    /// Also what is odd.
    Warn,
    /// Also each reception, attempt and outcome.
    #[default]
    Info,
    /// Also decisions inside.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    fn filter(self) -> Targets {
        let level = match self {
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        };
        let ours = OURS.map(|name| (name, level));
        Targets::new().with_default(level.min(LevelFilter::WARN)).with_targets(ours)
    }
}

/// Writes what waits when it is dropped; keep it until the end of the program.
#[must_use]
pub struct Guard {
    _worker: WorkerGuard,
}

/// Starts to write log records to standard error. Fails when the program does so already.
pub fn start(settings: Settings) -> Result<Guard, String> {
    let (writer, worker) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_WAITING_MAX)
        .thread_name("mtad-log")
        .finish(Sink::new(io::stderr(), settings.format));
    let _ = QUEUE_DROPS.set(writer.error_counter());
    let colours = io::stderr().is_terminal();
    let set = match settings.format {
        Format::Human => tracing::subscriber::set_global_default(human(writer, settings.level, colours)),
        Format::Json => tracing::subscriber::set_global_default(json(writer, settings.level)),
    };
    set.map_err(|error| format!("the log cannot be started: {error}"))?;
    Ok(Guard { _worker: worker })
}

fn human(writer: NonBlocking, level: Level, colours: bool) -> impl tracing::Subscriber + Send + Sync {
    let layer =
        tracing_subscriber::fmt::layer().compact().with_target(false).with_ansi(colours).with_writer(writer);
    tracing_subscriber::registry().with(level.filter()).with(layer)
}

fn json(writer: NonBlocking, level: Level) -> impl tracing::Subscriber + Send + Sync {
    let layer = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(writer);
    tracing_subscriber::registry().with(level.filter()).with(layer)
}

static QUEUE_DROPS: OnceLock<ErrorCounter> = OnceLock::new();
static WRITE_DROPS: AtomicU64 = AtomicU64::new(0);

/// Records that were dropped since the start, because the queue was full or standard error could not be written.
pub fn lines_dropped() -> u64 {
    let queue = QUEUE_DROPS.get().map_or(0, ErrorCounter::dropped_lines);
    queue as u64 + WRITE_DROPS.load(Ordering::Relaxed)
}

/// The end of the queue: counts what cannot be written, and tells of losses once writing works again.
struct Sink<W: Write> {
    out: BufWriter<W>,
    format: Format,
    told: u64,
    dropped: fn() -> u64,
}

impl Sink<Stderr> {
    fn new(out: Stderr, format: Format) -> Sink<Stderr> {
        Sink { out: BufWriter::with_capacity(WRITE_BYTES, out), format, told: 0, dropped: lines_dropped }
    }
}

impl<W: Write> Sink<W> {
    fn tell_losses(&mut self) {
        let dropped = (self.dropped)();
        let lost = dropped.saturating_sub(self.told);
        if lost == 0 {
            return;
        }
        let told = match self.format {
            Format::Human => {
                writeln!(self.out, " WARN {lost} log records were dropped: standard error is too slow")
            }
            Format::Json => writeln!(
                self.out,
                "{{\"level\":\"WARN\",\"message\":\"log records were dropped: standard error is too slow\",\"lines\":{lost}}}"
            ),
        };
        if told.is_ok() {
            self.told = dropped;
        }
    }
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.tell_losses();
        if self.out.write_all(line).is_err() {
            WRITE_DROPS.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tell_losses();
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_told_once_in_the_format_of_the_log() {
        for (format, expected) in [
            (Format::Human, " WARN 7 log records were dropped: standard error is too slow\none\ntwo\n"),
            (
                Format::Json,
                "{\"level\":\"WARN\",\"message\":\"log records were dropped: standard error is too slow\",\"lines\":7}\none\ntwo\n",
            ),
        ] {
            let mut sink = Sink { out: BufWriter::new(Vec::new()), format, told: 0, dropped: || 7 };
            sink.write_all(b"one\n").unwrap();
            sink.write_all(b"two\n").unwrap();
            sink.flush().unwrap();
            assert_eq!(String::from_utf8_lossy(sink.out.get_ref()), expected);
        }
    }

    #[test]
    fn a_closed_standard_error_costs_records_and_no_more() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let before = WRITE_DROPS.load(Ordering::Relaxed);
        let mut sink =
            Sink { out: BufWriter::with_capacity(0, Closed), format: Format::Human, told: 0, dropped: || 0 };
        sink.write_all(b"one\n").unwrap();
        assert_eq!(WRITE_DROPS.load(Ordering::Relaxed), before + 1);
    }

    #[test]
    fn the_level_is_for_our_records_and_warnings_of_others_pass() {
        let filter = Level::Debug.filter();
        assert!(filter.would_enable("shard::accept", &tracing::Level::DEBUG));
        assert!(!filter.would_enable("shard::accept", &tracing::Level::TRACE));
        assert!(filter.would_enable("hickory_resolver", &tracing::Level::WARN));
        assert!(!filter.would_enable("hickory_resolver", &tracing::Level::INFO));
        assert!(!Level::Error.filter().would_enable("hickory_resolver", &tracing::Level::WARN));
    }
}
