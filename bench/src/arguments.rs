//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use bench::load::{Auth, LatencyFrom, Mechanism, Pipelining, Ramp, Spread};
use bench::quantity::duration;
use bench::search::Judged;
use bench::series::Messages;
use bench::sink::{Behaviour, Credentials, Listener, Plant};
use bench::{Content, Tls, Transfer, load, sink};
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Parser, Subcommand};

/// Drives an SMTP relay and accounts for every message.
///
/// The status is 0 if all is well, 1 if something was found (conservation is broken, connections are missing, a
/// round was in trouble, a figure got worse), 2 for trouble with arguments, files or the machine, and 3 if the
/// target stopped answering or sustained no rate.
#[derive(Parser)]
#[command(name = "mtad-bench", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Load, sink and account in one go
    Run(Box<RunArguments>),
    /// The load alone
    Load(LoadAlone),
    /// The sink alone, until SIGINT or SIGTERM
    Sink(SinkAlone),
    /// The account of loads and sinks that ran elsewhere, from their books
    Account(AccountArguments),
    /// Looks for the highest rate at which the target stays quick
    Search(Box<SearchArguments>),
    /// Opens idle connections and measures the target's memory
    Idle(IdleArguments),
    /// Plays named scenarios with several relays in turn
    Suite(SuiteArguments),
    /// Shows a series of runs as a page of HTML that needs nothing else
    Report(ReportArguments),
    /// Compares two series of runs: what changed by more than noise
    Compare(CompareArguments),
}

#[derive(Args)]
pub struct RunArguments {
    #[command(flatten)]
    pub load: LoadArguments,
    #[command(flatten)]
    pub sink: SinkArguments,
    #[command(flatten)]
    pub target: TargetArguments,
    /// Nothing arriving for this long ends the run
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub quiet: Duration,
    /// Control group of the target, to observe too: its path, or its name below /sys/fs/cgroup
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// Observe the device that holds this path, such as the target's queue: flushes, requests and bytes
    #[arg(long, value_name = "PATH")]
    pub device_of: Option<PathBuf>,
    /// Count the target's system calls with strace. It slows the target down: do it in a run of its own
    #[arg(long)]
    pub count_syscalls: bool,
    #[command(flatten)]
    pub account: Terms,
    /// Also write the report here, as JSON
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// What an account is drawn up by.
#[derive(Args)]
pub struct Terms {
    /// Deliveries may arrive twice, as after a crash of the target
    #[arg(long)]
    pub allow_repeats: bool,
    /// How many deliveries of each kind of trouble to list
    #[arg(long, default_value_t = 20)]
    pub list: usize,
    /// Run this at the end, in a shell: it has to print how many recipients are still in the target's queue.
    /// So many of those missing do not count as lost
    #[arg(long, value_name = "COMMAND")]
    pub queue_command: Option<String>,
}

#[derive(Args)]
pub struct LoadAlone {
    #[command(flatten)]
    pub load: LoadArguments,
    /// Write here what was acknowledged, for `mtad-bench account`
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
}

#[derive(Args)]
pub struct SinkAlone {
    #[command(flatten)]
    pub sink: SinkArguments,
    /// Write here what was received, for `mtad-bench account`
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
}

#[derive(Args)]
pub struct AccountArguments {
    /// What all loads and all sinks wrote with --ledger, in any order
    #[arg(required = true, value_name = "FILE")]
    pub books: Vec<PathBuf>,
    #[command(flatten)]
    pub terms: Terms,
    /// Also write the account here, as JSON
    #[arg(long)]
    pub json: Option<PathBuf>,
}

#[derive(Args)]
pub struct SearchArguments {
    // Its --rate and --ramp are refused, and its --messages is the most that a step sends.
    #[command(flatten)]
    pub run: RunArguments,
    /// Messages per second of the first step
    #[arg(long, default_value_t = 500.0)]
    pub from: f64,
    /// How long a step lasts
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub step: Duration,
    /// The highest latency at 99% that still is good
    #[arg(long, default_value = "20ms", value_parser = duration)]
    pub p99: Duration,
    /// Which latency decides
    #[arg(long, value_enum, default_value = "acceptance")]
    pub judged: Judged,
    /// End when good and bad rates are this near, as a share
    #[arg(long, default_value_t = 0.05)]
    pub resolution: f64,
}

#[derive(Args)]
pub struct LoadArguments {
    /// The server to send to, HOST:PORT
    #[arg(long, value_parser = address)]
    pub target: SocketAddr,
    /// Connections at the same time
    #[arg(long, default_value_t = 100)]
    pub sessions: usize,
    /// Messages in all
    #[arg(long, default_value_t = 100_000)]
    pub messages: u32,
    /// Messages per connection, 0 for no limit
    #[arg(long, default_value_t = 0)]
    pub messages_per_session: u32,
    /// Bytes per message, headers included: one size (4096, 4k, 1m), a range, evenly spread over its
    /// magnitudes (1k..64k), or classes with weights (2k:70,20k:25,1m:5)
    #[arg(long, default_value = "4096")]
    pub size: Content,
    /// A mix of real-looking messages instead of filler
    #[arg(long, conflicts_with = "size")]
    pub varied: bool,
    /// The messages of a directory of .eml files instead of filler
    #[arg(long, value_name = "DIR", conflicts_with_all = ["size", "varied"])]
    pub eml: Option<PathBuf>,
    /// How contents are sent: data, bdat (in one chunk) or bdat:CHUNK (chunks of this size)
    #[arg(long = "content", value_name = "data|bdat[:CHUNK]", default_value = "data")]
    pub transfer: Transfer,
    /// Encryption; certificates are not verified
    #[arg(long, value_enum, default_value = "off")]
    pub tls: Tls,
    /// Let connections take up earlier TLS sessions instead of full handshakes
    #[arg(long)]
    pub tls_resumption: bool,
    /// Authenticate with this mechanism
    #[arg(long, value_enum, requires = "user", requires = "password")]
    pub auth: Option<Mechanism>,
    /// Who to authenticate as
    #[arg(long, requires = "auth")]
    pub user: Option<String>,
    /// With which password
    #[arg(long, requires = "auth")]
    pub password: Option<String>,
    /// Recipients per message
    #[arg(long, default_value_t = 1)]
    pub recipients: u16,
    /// Recipient domains, d0.SUFFIX and so on
    #[arg(long, default_value_t = 1)]
    pub domains: u32,
    /// What the recipient domains end in
    #[arg(long, default_value = "example")]
    pub domain_suffix: String,
    /// Give the n-th domain the weight 1/n^EXPONENT instead of the same to all
    #[arg(long, value_name = "EXPONENT")]
    pub zipf: Option<f64>,
    /// The sender; failure reports to it count if they reach the sink
    #[arg(long, default_value = "bench@sender.example")]
    pub sender: String,
    /// How far commands run ahead of replies
    #[arg(long, value_enum, default_value = "commands", default_missing_value = "commands", num_args = 0..=1)]
    pub pipelining: Pipelining,
    /// Threads of the load
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Loopback addresses to connect from, 0 for the kernel's choice
    #[arg(long, default_value_t = 0)]
    pub sources: u8,
    /// Messages per second on a fixed schedule, latency counted from it
    #[arg(long)]
    pub rate: Option<f64>,
    /// The same with a rate that grows linearly over this time (30s, or a number of seconds) and then stays
    #[arg(long, value_name = "FROM..TO:TIME", conflicts_with = "rate")]
    pub ramp: Option<Ramp>,
    /// How often a message is sent again after a 4xx
    #[arg(long, default_value_t = 0)]
    pub retries: u32,
    /// Where latency starts
    #[arg(long, value_enum, default_value = "mail")]
    pub latency_from: LatencyFrom,
    /// Give up after this long without an acknowledgement
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub patience: Duration,
}

#[derive(Args)]
pub struct SinkArguments {
    /// Where to receive, HOST:PORT or HOST:PORT=BEHAVIOUR, several separated by commas
    ///
    /// BEHAVIOUR is one or more of these, joined by +:
    ///   delay:DURATION      pause before every reply
    ///   trickle:DURATION    pause between any two bytes of a reply
    ///   temp:PERCENT        recipients refused with 451
    ///   perm:PERCENT        recipients refused with 550
    ///   greylist:DURATION   451 for as long, from the first time that a client network asks for this
    ///                       recipient with this sender
    ///   slow-read:BYTES/s   contents read at this rate (20k/s), so that the client's socket fills up
    ///   cut:PERCENT         connections closed in the middle of a content, which is not taken
    ///   drop:PERCENT        connections closed at the end of a content without a reply, the message not taken
    ///   reset:PERCENT       the same with a TCP reset
    ///   limit:N             421 to connections above N at a time (for listeners only)
    ///   shut:N              421 to the MAIL after N messages on a connection (for listeners only)
    /// Who is hit by a share in percent depends on the number of the message and of the attempt only, so that
    /// runs repeat and a later attempt may succeed; recipients are hit in the order in which they come.
    #[arg(long = "sink", value_name = "HOST:PORT[=BEHAVIOUR]", required = true, value_delimiter = ',', value_parser = listener, verbatim_doc_comment)]
    pub listeners: Vec<Listener>,
    /// Behaviour towards a recipient domain, DOMAIN=BEHAVIOUR, several separated by commas: shares apply in
    /// place of the listener's or the higher of both (cut, drop, reset), the slower of both applies
    #[arg(long = "domain", value_name = "DOMAIN=BEHAVIOUR", value_delimiter = ',', value_parser = domain)]
    pub behaviours: Vec<(String, Behaviour)>,
    /// Threads of the sink
    #[arg(long, default_value_t = 1)]
    pub sink_threads: usize,
    /// Let the sink itself lose, repeat or alter a message, to see that it is found: lose:N, repeat:N or
    /// alter:N
    #[arg(long)]
    pub plant: Option<Plant>,
    /// Encryption with a certificate made at the start
    #[arg(long, value_enum, default_value = "off", default_missing_value = "starttls", num_args = 0..=1)]
    pub sink_tls: Tls,
    /// Whether CHUNKING is offered, without which clients have to use DATA
    #[arg(long, value_name = "on|off", default_value = "on", action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub sink_chunking: bool,
    /// Take mail only from this user
    #[arg(long, value_name = "USER:PASSWORD", value_parser = credentials)]
    pub sink_auth: Option<Credentials>,
}

#[derive(Args)]
pub struct TargetArguments {
    /// Process of the target, to observe with all its descendants
    #[arg(long)]
    pub pid: Vec<u32>,
    /// The same by the name of the process
    #[arg(long)]
    pub process: Vec<String>,
}

#[derive(Args)]
pub struct IdleArguments {
    /// The server to connect to, HOST:PORT
    #[arg(long, value_parser = address)]
    pub target: SocketAddr,
    /// Connections
    #[arg(long, default_value_t = 10_000)]
    pub connections: u64,
    /// Loopback addresses to connect from, more if the ports demand it
    #[arg(long, default_value_t = 4)]
    pub sources: usize,
    #[command(flatten)]
    pub observed: TargetArguments,
    /// How long to hold the connections
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub hold: Duration,
    /// How long to try to open them
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub patience: Duration,
    /// Also write the figures here, as JSON
    #[arg(long)]
    pub json: Option<PathBuf>,
}

#[derive(Args)]
pub struct ReportArguments {
    /// The series of runs, JSON
    pub suite: PathBuf,
    /// Where to write the page; without it, standard output
    #[arg(short, long, value_name = "HTML")]
    pub output: Option<PathBuf>,
}

#[derive(Args)]
pub struct CompareArguments {
    /// The series of runs before
    pub before: PathBuf,
    /// The series of runs after
    pub after: PathBuf,
    /// Show figures within noise, too
    #[arg(long)]
    pub all: bool,
}

#[derive(Args)]
pub struct SuiteArguments {
    /// Scenarios by name, all if none is given
    pub scenarios: Vec<String>,
    /// Print the names of the scenarios and what they show, and do nothing else
    #[arg(long)]
    pub list: bool,
    /// Relays by the names of their adapters, or adapters by their paths, separated by commas. Ratios are to
    /// the first
    #[arg(long, value_delimiter = ',', required_unless_present = "list")]
    pub relays: Vec<String>,
    /// Where adapters are found by name
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/adapters"))]
    pub adapters: PathBuf,
    /// Rounds of each scenario, in each of which every relay has its turn
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// Messages per round, for all relays or RELAY=MESSAGES, separated by commas; without it as many as last
    /// --seconds
    #[arg(long)]
    pub messages: Option<Messages>,
    /// How long a round should last
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Where relays keep their queues: a directory on the disk under test
    #[arg(long, required_unless_present = "list")]
    pub directory: Option<PathBuf>,
    /// Also write everything here, as JSON, after every round
    #[arg(long)]
    pub json: Option<PathBuf>,
}

impl LoadArguments {
    pub fn config(&self) -> load::Config {
        load::Config {
            target: self.target,
            sessions: self.sessions,
            messages: self.messages,
            messages_per_session: self.messages_per_session,
            content: self.content(),
            transfer: self.transfer,
            tls: self.tls,
            tls_resumption: self.tls_resumption,
            auth: self.auth.map(|mechanism| Auth {
                mechanism,
                user: self.user.clone().unwrap_or_default(),
                password: self.password.clone().unwrap_or_default(),
            }),
            recipients: self.recipients,
            domains: self.domains,
            domain_suffix: self.domain_suffix.clone(),
            spread: self.zipf.map_or(Spread::RoundRobin, Spread::Zipf),
            sender: self.sender.clone(),
            pipelining: self.pipelining,
            threads: self.threads,
            sources: self.sources,
            rate: self.rate,
            ramp: self.ramp,
            retries: self.retries,
            latency_from: self.latency_from,
            patience: self.patience,
            ..load::Config::default()
        }
    }

    fn content(&self) -> Content {
        match &self.eml {
            Some(directory) => Content::Eml(directory.clone()),
            None if self.varied => Content::Varied,
            None => self.size.clone(),
        }
    }
}

impl SinkArguments {
    pub fn config(&self) -> sink::Config {
        sink::Config {
            listeners: self.listeners.clone(),
            domains: self.behaviours.clone(),
            threads: self.sink_threads,
            plant: self.plant,
            tls: self.sink_tls,
            chunking: self.sink_chunking,
            auth: self.sink_auth.clone(),
            ..sink::Config::default()
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|error| format!("not HOST:PORT: {error}"))?;
    found.next().ok_or("the host has no address".into())
}

fn listener(text: &str) -> Result<Listener, String> {
    let (place, behaviour) = match text.split_once('=') {
        Some((place, behaviour)) => (place, behaviour.parse()?),
        None => (text, Behaviour::default()),
    };
    Ok(Listener { address: address(place)?, behaviour })
}

fn domain(text: &str) -> Result<(String, Behaviour), String> {
    let (name, behaviour) = text.split_once('=').ok_or("not DOMAIN=BEHAVIOUR")?;
    Ok((name.to_ascii_lowercase(), behaviour.parse()?))
}

fn credentials(text: &str) -> Result<Credentials, String> {
    let (user, password) = text.split_once(':').ok_or("not USER:PASSWORD")?;
    Ok(Credentials { user: user.into(), password: password.into() })
}
