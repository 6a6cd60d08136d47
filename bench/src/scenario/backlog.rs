//! Mail that piles up because next hops are stuck: how it comes in, how it goes out, and what a crash costs.

use std::cell::Cell;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::Stage;
use crate::figures::{self, higher, lower, mebibytes};
use crate::load::Sent;
use crate::report::Report;
use crate::suite::{Figure, Round};
use crate::{clock, observe, run, sink};

/// How long a relay may take to greet after its restart, and how long to deliver the first message.
const RECOVERY_MAX: Duration = Duration::from_secs(120);
/// Time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// How long one attempt to get a greeting may take.
const GREETING_MAX: Duration = Duration::from_secs(1);

/// Everything comes in while next hops say nothing, then they take it.
pub(super) fn deep_queue(stage: &Stage) -> io::Result<Round> {
    let relay = stage.start()?;
    let (memory, resumed) = (Cell::new(0), Cell::new(0));
    let report = run::run_in_two(
        run::Config { paused: true, ..stage.config(&relay, stage.messages) },
        |_| {},
        |sent, sink| {
            memory.set(observe::proportional_memory(&relay.pids)?);
            resume(sent, sink, &resumed);
            Ok(())
        },
    )?;
    let figures = vec![
        accepted(&report),
        drained(&report, resumed.get()),
        lower("PSS", "MiB", mebibytes(memory.get())),
        lower("PSS per message", "bytes", memory.get() as f64 / report.throughput.accepted.max(1) as f64),
        figures::neutral("messages", "messages", report.throughput.accepted as f64),
    ];
    Ok(figures::with(&report, figures))
}

/// The same, but between coming in and going out all processes are killed and started again.
pub(super) fn restart(stage: &Stage) -> io::Result<Round> {
    let mut relay = stage.start()?;
    let (resumed, greeting, first) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let config = run::Config {
        repeats_allowed: true,
        ..run::Config { paused: true, ..stage.config(&relay, stage.messages) }
    };
    let report = run::run_in_two(
        config,
        |_| {},
        |sent, sink| {
            relay.kill()?;
            resume(sent, sink, &resumed);
            let start = clock::now();
            let child = relay.resume()?;
            await_greeting(stage.target())?;
            greeting.set(clock::now() - start);
            await_delivery(sink)?;
            first.set(clock::now() - start);
            relay.resumed(child)
        },
    )?;
    let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
    let figures = vec![
        lower("until it greets", "s", seconds(greeting.get())),
        lower("until it delivers", "s", seconds(first.get())),
        drained(&report, resumed.get()),
        lower("repeated", "deliveries", report.account.repeated as f64),
        figures::neutral("messages", "messages", report.throughput.accepted as f64),
    ];
    Ok(figures::with(&report, figures))
}

/// Lets the sink go on and notes when, in nanoseconds since the load began.
fn resume(sent: &Sent, sink: &sink::Handle, resumed: &Cell<u64>) {
    sink.resume();
    resumed.set(clock::now() - sent.time.0);
}

fn accepted(report: &Report) -> Figure {
    higher("accepted", "messages/s", report.throughput.accepted_per_second)
}

fn drained(report: &Report, resumed: u64) -> Figure {
    let seconds = report.throughput.delivered_seconds - resumed as f64 / 1e9;
    let rate = if seconds > 0.0 { report.throughput.delivered as f64 / seconds } else { 0.0 };
    higher("drained", "deliveries/s", rate)
}

/// Waits until a connection is greeted: a port may be open before the relay has recovered.
fn await_greeting(target: SocketAddr) -> io::Result<()> {
    await_true("the relay does not greet after its restart", || {
        let Ok(mut stream) = TcpStream::connect_timeout(&target, GREETING_MAX) else { return Ok(false) };
        stream.set_read_timeout(Some(GREETING_MAX))?;
        let mut code = [0; 3];
        Ok(stream.read_exact(&mut code).is_ok() && code == *b"220")
    })
}

fn await_delivery(sink: &sink::Handle) -> io::Result<()> {
    await_true("the relay delivers nothing after its restart", || Ok(sink.progress().delivered > 0))
}

fn await_true(what: &str, mut check: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let deadline = clock::now() + clock::nanoseconds(RECOVERY_MAX);
    while !check()? {
        if clock::now() > deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        }
        clock::pause(LOOK_INTERVAL);
    }
    Ok(())
}
