//! The command line, which is also the manual.

use crate::{demo, log, users};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::str::FromStr;

const ABOUT: &str = "A durable, thread-per-core mail relay.

Takes mail by SMTP on every core, has it on disk before it says 250, and delivers it to the next hop. Without a \
command it runs the relay; without a configuration file it listens on 127.0.0.1:2525, keeps mail in ./spool, relays \
for loopback clients only, sends mail where its MX records say, and serves metrics on 127.0.0.1:9025.

It stops on SIGTERM or SIGINT: no more mail is taken, what is under way is finished within a grace time, and the \
rest stays in the spool for the next start. A second start on the same addresses is refused.";

const MANUAL: &str = "Files:
  config/mtad.toml        every key of the configuration with its default and what it means
  config/quickstart.toml  a short configuration to begin with
  config/mtad.service     a unit for systemd
  <spool.path>/shard-N/   the mail of shard N; may be opened again with another number of shards

Environment:
  No variable of mtad's own is read. The affinity mask (taskset), the cpuset and the CPU quota of the cgroup are
  respected by --shards auto. Limits that matter are RLIMIT_NOFILE (connections; the soft limit is raised to the
  hard one) and RLIMIT_MEMLOCK (at least 512 KiB). The kernel must allow io_uring: `mtad doctor` tells.

Output:
  Log records go to standard error, everything else to standard output. http://<metrics.address>/metrics is for
  Prometheus, /health and /ready answer 200 or 503, with JSON that says why.

Exit codes:
  0  done, or stopped in order
  1  something failed while running, or doctor found something missing
  2  the command line or the configuration is wrong

Examples:
  mtad demo                                     see it run, with a load and a sink of its own
  mtad check /etc/mtad/mtad.toml                what a configuration means, or what is wrong with it
  mtad user add alice --sender example.com      a user, kept in /etc/mtad/users.toml; asks for the password
  mtad doctor --config /etc/mtad/mtad.toml      whether this machine has what the relay needs
  mtad --shards auto --config /etc/mtad/mtad.toml --log json";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "mtad", version, about = "A durable, thread-per-core mail relay", long_about = ABOUT)]
#[command(after_long_help = MANUAL, args_conflicts_with_subcommands = true, max_term_width = 115)]
pub struct Arguments {
    /// What to do instead of running the relay.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to run the relay.
    #[command(flatten)]
    pub run: Run,
}

/// What to do instead of running the relay.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Explain a configuration file, or what is wrong with it.
    ///
    /// Every error is one line on standard error: file:line:column: key: what is wrong; what to do. Warnings are
    /// marked as such. Exits with 2 when there is an error; otherwise prints what the file means.
    Check {
        /// The configuration file.
        file: PathBuf,
    },
    /// Test whether this machine has what the relay needs.
    ///
    /// Looks at the kernel and each feature of io_uring that is used, limits, the file system of the spool and how
    /// long it takes to make 4 KiB durable there, and whether each address can be listened at. Exits with 1 when
    /// something is missing, with 2 when the configuration is wrong.
    Doctor {
        /// The configuration file; defaults when there is none.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Look after the users who may log in.
    User {
        /// What to do.
        #[command(subcommand)]
        command: users::Command,
    },
    /// See the relay run, with a load and a sink of its own.
    Demo(demo::Arguments),
}

/// How to run the relay.
#[derive(Debug, Args)]
pub struct Run {
    /// Number of shards, one thread each: `auto` for as many as there are CPUs for us, or 1 to 1024.
    ///
    /// `auto` counts the CPUs of the affinity mask that are in the cpuset of the cgroup too, but no more than the
    /// CPU quota of the cgroup pays for. Each shard is pinned to a CPU of its own; a number above that of the CPUs
    /// leaves them all unpinned.
    #[arg(long, default_value = "auto", value_name = "auto|N")]
    pub shards: Shards,
    /// The configuration file; defaults when there is none.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// For whom log records are written; overrides log.format.
    #[arg(long, value_enum, value_name = "human|json", hide_possible_values = true)]
    pub log: Option<log::Format>,
    /// The least important log records that are written: error, warn, info, debug or trace; overrides log.level.
    #[arg(long, value_enum, value_name = "LEVEL", hide_possible_values = true)]
    pub log_level: Option<log::Level>,
}

/// How many shards are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shards {
    /// As many as there are CPUs for us.
    Auto,
    /// So many.
    Count(usize),
}

impl FromStr for Shards {
    type Err = String;

    fn from_str(text: &str) -> Result<Shards, String> {
        match text.parse() {
            _ if text == "auto" => Ok(Shards::Auto),
            Ok(count) if (1..=mail::id::SHARDS_MAX).contains(&count) => Ok(Shards::Count(count)),
            _ => Err(format!("write auto, or 1 to {}", mail::id::SHARDS_MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn shards_are_auto_or_a_number_in_range() {
        assert_eq!("auto".parse(), Ok(Shards::Auto));
        assert_eq!("1024".parse(), Ok(Shards::Count(1024)));
        for bad in ["", "0", "1025", "-1", "two", "1.5"] {
            assert!(bad.parse::<Shards>().is_err(), "{bad}");
        }
    }

    #[test]
    fn options_of_the_relay_are_refused_before_other_commands() {
        assert!(Arguments::try_parse_from(["mtad", "--shards", "2", "check", "x"]).is_err());
        let arguments = Arguments::try_parse_from(["mtad", "--shards", "2", "--log", "json"]).unwrap();
        assert_eq!((arguments.run.shards, arguments.run.log), (Shards::Count(2), Some(log::Format::Json)));
    }
}
