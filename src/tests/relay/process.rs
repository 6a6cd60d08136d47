//! The relay as a process: started, asked, stopped, killed.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// The relay listens, or is not asked any more, after this long.
const START_WAIT: Duration = Duration::from_secs(20);
/// Grace time, last syncs, and what a crowded machine adds.
const STOP_WAIT: Duration = Duration::from_secs(70);
/// What is awaited in a test has happened after this long, or never will.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);
/// The end of a log that is shown when a test fails.
const LOG_TAIL_BYTES: usize = 4000;

/// Where a relay lives: its directory, its addresses and its configuration. It outlives the process.
pub struct Home {
    pub folder: PathBuf,
    address: Ipv4Addr,
    listen: String,
    more: String,
}

impl Home {
    /// A fresh home; `name` is unique among the tests. Mail from everybody is relayed, and retries come every second.
    pub fn new(name: &str) -> Home {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        // Few connections, so that the usual limit of open files suffices.
        let more = "[retry]\nintervals = [\"1s\"]\n[reception]\nconnections_max = 500\n".into();
        Home { folder, address: own_address(), listen: String::new(), more }
    }

    /// The address `port` of this home, where nothing listens unless the test or the relay does.
    pub fn at(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }

    /// Where the relay takes mail.
    pub fn smtp(&self) -> SocketAddr {
        self.at(2525)
    }

    /// Adds a route to one next hop.
    pub fn route(mut self, domain: &str, to: SocketAddr) -> Home {
        write!(self.more, "[[route]]\ndomain = \"{domain}\"\nto = [\"{to}\"]\n").unwrap();
        self
    }

    /// Adds lines to the section of the listening address.
    pub fn listen(mut self, lines: &str) -> Home {
        self.listen.push_str(lines);
        self
    }

    /// Writes the configuration and names its file.
    pub fn configure(&self) -> PathBuf {
        let Home { listen, more, .. } = self;
        let text = format!(
            "hostname = \"mx.example\"\n\
             [spool]\npath = \"{}\"\n\
             [metrics]\naddress = \"{}\"\n\
             [log]\nlevel = \"warn\"\n\
             [[listen]]\naddress = \"{}\"\n{listen}\n{more}",
            self.folder.join("spool").display(),
            self.at(9025),
            self.smtp(),
        );
        let file = self.folder.join("mtad.toml");
        fs::write(&file, text).unwrap();
        file
    }

    /// Starts a relay here and waits until it takes mail.
    pub fn start(&self, shards: usize) -> Relay<'_> {
        let log = File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mtad"));
        command.arg("--shards").arg(shards.to_string()).arg("--config").arg(self.configure());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut relay = Relay { home: self, child, shards };
        let begun = Instant::now();
        while relay.ask("/health").is_none_or(|answer| !answer.starts_with("HTTP/1.1 200 ")) {
            assert!(relay.child.try_wait().unwrap().is_none(), "the relay ended");
            assert!(begun.elapsed() < START_WAIT, "the relay does not start");
            std::thread::sleep(PAUSE);
        }
        relay
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read(self.folder.join("log")).unwrap_or_default();
            let tail = &log[log.len().saturating_sub(LOG_TAIL_BYTES)..];
            eprintln!(
                "{} is kept; its log ends so:\n{}",
                self.folder.display(),
                String::from_utf8_lossy(tail)
            );
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// A loopback address that no other home has, in this process or another: fixed ports are free there, also between
/// two starts, and outgoing connections do not take them.
fn own_address() -> Ipv4Addr {
    static HOMES: AtomicU8 = AtomicU8::new(64);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, HOMES.fetch_add(1, Ordering::Relaxed), high, low)
}

/// A running relay. One that is dropped is killed.
pub struct Relay<'h> {
    home: &'h Home,
    child: Child,
    shards: usize,
}

impl Relay<'_> {
    /// Asks the relay to stop; nothing is awaited.
    pub fn terminate(&self) {
        let id = libc::pid_t::try_from(self.child.id()).unwrap();
        // SAFETY: kill touches no memory. The id is that of our child, which is not reaped before `wait`.
        assert_eq!(unsafe { libc::kill(id, libc::SIGTERM) }, 0);
    }

    /// Waits for the end after [`Relay::terminate`].
    pub fn wait(mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < STOP_WAIT, "the relay does not stop");
            std::thread::sleep(PAUSE);
        }
    }

    /// Stops the relay, which must end well.
    pub fn stop(self) {
        self.terminate();
        assert_eq!(self.wait().code(), Some(0));
    }

    /// Ends the relay as a crash would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The sum of a metric over all shards.
    pub fn metric(&self, name: &str) -> u64 {
        let mut values = Vec::new();
        // A shard that is late is left out of an answer; so ask again.
        await_true(&format!("all shards to tell {name}"), || {
            let answer = self.ask("/metrics").unwrap_or_default();
            let of_shard = |line: &str| {
                line.strip_prefix("mtad_")?.strip_prefix(name)?.strip_prefix("{shard=\"")?;
                line.rsplit(' ').next()?.parse::<u64>().ok()
            };
            values = answer.lines().filter_map(of_shard).collect();
            values.len() == self.shards
        });
        values.iter().sum()
    }

    /// Waits until a metric has a value.
    pub fn await_metric(&self, name: &str, value: u64) {
        let mut seen = 0;
        let reached = try_await(|| {
            seen = self.metric(name);
            seen == value
        });
        assert!(reached, "{name} is {seen}, not {value}");
    }

    /// Waits until nothing is left to deliver, in memory and on disk, and no session has panicked.
    pub fn await_rest(&self) {
        for gauge in ["queue_deliveries", "queue_messages", "spool_messages", "connections_in"] {
            self.await_metric(gauge, 0);
        }
        assert_eq!((self.metric("sessions_panicked_total"), self.metric("host_panics_total")), (0, 0));
    }

    fn ask(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.home.at(9025)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: mtad\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `happened`, which `what` describes.
pub fn await_true(what: &str, happened: impl FnMut() -> bool) {
    assert!(try_await(happened), "waited in vain for {what}");
}

fn try_await(mut happened: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if happened() {
            return true;
        }
        std::thread::sleep(PAUSE);
    }
    false
}
