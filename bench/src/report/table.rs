//! Reports and accounts for people.

use std::fmt::{self, Display, Formatter};

use super::{FailureReport, Report, Settings, Throughput, Verdict};
use crate::account::{Account, Audit, Delivery};
use crate::figures::mebibytes;
use crate::latency::Summary;
use crate::{Transfer, load};

/// System calls in the table, the most frequent ones; the JSON has all.
const CALLS_SHOWN_MAX: usize = 20;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.write_settings(f)?;
        self.write_throughput(f)?;
        self.write_latencies(f)?;
        self.write_cost(f)?;
        for FailureReport { failure, count } in &self.failures {
            let what = match failure.code {
                0 => "connection lost".into(),
                code => format!("reply {code}"),
            };
            writeln!(f, "failure      {count} x {what} at {:?}", failure.phase)?;
        }
        if self.sink_refusals > 0 {
            writeln!(f, "sink         refused or dropped {} times, as configured", self.sink_refusals)?;
        }
        write!(f, "{}", self.account)?;
        let verdict = match self.verdict {
            Verdict::Holds => "conservation holds",
            Verdict::Broken => "CONSERVATION IS BROKEN",
            Verdict::Stalled => "the load gave up: nothing was acknowledged any more",
        };
        writeln!(f, "verdict      {verdict}")
    }
}

impl Report {
    fn write_settings(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Settings { sessions, messages, recipients, domains, pipelining, .. } = &self.settings;
        let content = &self.settings.content;
        write!(
            f,
            "load         {messages} messages, {content}, {sessions} sessions, {recipients} recipients, \
             {domains} domains, pipelining {pipelining:?}"
        )?;
        if let Some(rate) = self.settings.rate {
            write!(f, ", {rate} per second by schedule")?;
        }
        if let Some(ramp) = self.settings.ramp {
            let load::Ramp { from, to, seconds } = ramp;
            write!(f, ", {from} to {to} per second by schedule within {seconds} s")?;
        }
        if self.settings.transfer != Transfer::Data.to_string() {
            write!(f, ", {}", self.settings.transfer)?;
        }
        writeln!(
            f,
            "\nrun          {:08x} to {}, sink {}",
            self.settings.run,
            self.settings.target,
            self.settings.sinks.join(" ")
        )
    }

    fn write_throughput(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let throughput = &self.throughput;
        writeln!(
            f,
            "accepted     {:>9} messages   in {:8.3} s  {:9.0}/s  over {} connections",
            throughput.accepted,
            throughput.accepted_seconds,
            throughput.accepted_per_second,
            throughput.connections
        )?;
        if throughput.handshakes > 0 {
            let Throughput { handshakes, resumed, .. } = throughput;
            writeln!(f, "TLS          {handshakes} handshakes, {resumed} of them resumed")?;
        }
        writeln!(
            f,
            "delivered    {:>9} deliveries in {:8.3} s  {:9.0}/s  at most {} connections",
            throughput.delivered,
            throughput.delivered_seconds,
            throughput.delivered_per_second,
            throughput.sink_connections_max
        )
    }

    fn write_latencies(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "latency (ms) {:>9} {:>9} {:>9} {:>9} {:>9}", "p50", "p90", "p99", "p99.9", "max")?;
        let mut line = |name: &str, summary: &Summary| {
            let [p50, p90, p99, p999, max] =
                [summary.p50, summary.p90, summary.p99, summary.p999, summary.max]
                    .map(|value| value as f64 / 1000.0);
            writeln!(f, "  {name:<10} {p50:9.3} {p90:9.3} {p99:9.3} {p999:9.3} {max:9.3}")
        };
        line("accept", &self.acceptance)?;
        line("end to end", &self.end_to_end)?;
        if self.lanes.len() > 1 {
            for lane in &self.lanes {
                line(&lane.name, &lane.end_to_end)?;
            }
        }
        Ok(())
    }

    fn write_cost(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let cost = &self.cost;
        write!(f, "CPU/message  load {:.1} us, sink {:.1} us", cost.load_cpu, cost.sink_cpu)?;
        if let (Some(cpu), Some(target)) = (cost.target_cpu, &cost.target) {
            write!(f, ", target {cpu:.1} us")?;
            write!(
                f,
                "\ntarget       {} processes, RSS {:.1} MiB (max {:.1}), PSS {:.1} MiB, {:.2} context switches and {:.0} bytes written per message",
                target.spent.processes,
                mebibytes(target.spent.rss),
                mebibytes(target.rss_max),
                mebibytes(target.pss),
                cost.target_switches.unwrap_or(0.0),
                cost.target_written.unwrap_or(0.0)
            )?;
        }
        writeln!(f)?;
        self.write_cgroup(f)?;
        self.write_device(f)?;
        self.write_calls(f)
    }

    fn write_cgroup(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let cost = &self.cost;
        let Some(group) = &cost.cgroup else { return Ok(()) };
        let told = [
            cost.cgroup_cpu.map(|cpu| format!("CPU {cpu:.1} us per message")),
            group.memory.map(|bytes| format!("memory {:.1} MiB", mebibytes(bytes))),
            group.memory_peak.map(|bytes| format!("at most ever {:.1} MiB", mebibytes(bytes))),
            cost.cgroup_written.map(|bytes| format!("{bytes:.0} bytes written per message")),
        ];
        let told: Vec<_> = told.into_iter().flatten().collect();
        writeln!(f, "cgroup       {}", told.join(", "))
    }

    fn write_device(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let cost = &self.cost;
        let Some(device) = &cost.device else { return Ok(()) };
        let flushes =
            cost.device_flushes.map_or("flushes unknown".into(), |count| format!("{count:.4} flushes"));
        writeln!(
            f,
            "device       {}: {flushes}, {:.4} write requests and {:.0} bytes written per message, by everybody",
            device.name,
            cost.device_writes.unwrap_or(0.0),
            cost.device_written.unwrap_or(0.0)
        )
    }

    fn write_calls(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(calls) = &self.cost.calls else { return Ok(()) };
        writeln!(
            f,
            "system calls {:.4} per message, counted under strace: rates and times of this run do not count",
            calls.per_message
        )?;
        let mut by_name: Vec<_> = calls.by_name.iter().collect();
        by_name.sort_by(|one, other| other.1.total_cmp(one.1));
        for (name, count) in by_name.into_iter().take(CALLS_SHOWN_MAX) {
            writeln!(f, "  {count:9.4} {name}")?;
        }
        Ok(())
    }
}

impl Display for Audit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (run, account) in &self.runs {
            write!(f, "run          {run}\n{account}")?;
        }
        if !self.strangers.is_empty() {
            writeln!(f, "no load's book for run {}", self.strangers.join(" "))?;
        }
        write!(f, "all runs\n{}", self.total)
    }
}

impl Display for Account {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "account      {} acknowledged = {} delivered + {} reported as failed + {} missing + {} only altered",
            self.acknowledged,
            self.delivered,
            self.reported,
            self.missing,
            self.acknowledged - self.delivered - self.reported - self.missing
        )?;
        if self.in_doubt + self.not_sent + self.foreign > 0 {
            writeln!(
                f,
                "             {} in doubt ({} arrived), {} not sent or refused, {} foreign messages",
                self.in_doubt, self.in_doubt_delivered, self.not_sent, self.foreign
            )?;
        }
        if let Some(queued) = self.queued {
            writeln!(f, "             {queued} in the target's queue, so {} lost", self.lost)?;
        }
        let mut trouble = |name: &str, count: u64, first: &[Delivery]| {
            if count == 0 {
                return Ok(());
            }
            let first: Vec<_> =
                first.iter().map(|delivery| format!("{}/{}", delivery.message, delivery.recipient)).collect();
            writeln!(f, "  {name:<10} {count}: message/recipient {}", first.join(" "))
        };
        trouble("missing", self.missing, &self.missing_first)?;
        trouble("altered", self.altered, &self.altered_first)?;
        trouble("repeated", self.repeated, &self.repeated_first)?;
        trouble("unexpected", self.unexpected, &self.unexpected_first)
    }
}
