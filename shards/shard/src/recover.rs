//! Start: the logs that this shard looks after are opened, and what they hold is queued again.
//!
//! Directories are numbered; which shard looks after one is computed from its number and the number of shards, so a
//! spool opens with any number of shards. New messages go to the directory with the shard's own number; outcomes
//! always go to the directory that holds their message.

use crate::config::Config;
use crate::shard::Shard;
use host::Host;
use mail::{Indices, MessageId};
use queue::NewDelivery;
use spool::{Limits, Log, LogState, RecoveredMessage};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Damaged records of a log that are told of one by one.
const DAMAGE_TOLD_MAX: usize = 10;

/// What the logs held.
pub struct Recovered<H: Host> {
    /// By directory number; the shard's own is among them.
    pub logs: BTreeMap<u16, Log<H>>,
    /// Messages with recipients that wait.
    pub messages: Vec<RecoveredMessage>,
    /// The newest identity seen.
    pub newest: Option<MessageId>,
}

/// Opens the logs of shard `number` out of `shards`.
pub async fn open_logs<H: Host>(
    host: &H,
    config: &Config,
    number: usize,
    shards: usize,
) -> Result<Recovered<H>, String> {
    let root = &config.spool.path;
    host.create_dir(root).await.map_err(|e| format!("cannot make the spool {}: {e}", root.display()))?;
    let names =
        host.list_dir(root).await.map_err(|e| format!("cannot list the spool {}: {e}", root.display()))?;
    let mut numbers: Vec<u16> =
        names.iter().filter_map(|name| name.strip_prefix("shard-")?.parse().ok()).collect();
    numbers.push(number as u16);
    numbers.retain(|directory| usize::from(*directory) % shards == number);
    numbers.sort_unstable();
    numbers.dedup();
    let mut all = Recovered { logs: BTreeMap::new(), messages: Vec::new(), newest: None };
    for directory in numbers {
        open_log(host, config, root, directory, &mut all).await?;
    }
    Ok(all)
}

async fn open_log<H: Host>(
    host: &H,
    config: &Config,
    root: &Path,
    directory: u16,
    all: &mut Recovered<H>,
) -> Result<(), String> {
    let path = root.join(format!("shard-{directory}"));
    let limits = Limits {
        segment_bytes: config.spool.segment_bytes,
        spares_max: config.spool.spares_max,
        damaged_max: config.spool.damaged_max,
        damaged_bytes_max: config.spool.damaged_bytes_max,
        ..Limits::default()
    };
    let opened = Log::open(host.clone(), path.clone(), directory, limits).await;
    let (log, recovered) =
        opened.map_err(|error| format!("cannot open the spool log {}: {error}", path.display()))?;
    for damage in recovered.damaged.iter().take(DAMAGE_TOLD_MAX) {
        tracing::error!(log = %path.display(), segment = damage.segment, offset = damage.offset, what = ?damage.what, "damaged record");
    }
    let more = recovered.damaged.len().saturating_sub(DAMAGE_TOLD_MAX);
    if more > 0 {
        tracing::error!(log = %path.display(), more, "further damaged records");
    }
    tracing::info!(log = %path.display(), messages = recovered.messages.len(), "spool log opened");
    all.newest = all.newest.max(recovered.newest);
    all.messages.extend(recovered.messages);
    all.logs.insert(directory, log);
    Ok(())
}

/// Queues recovered messages, each due when its record says.
pub fn requeue<H: Host>(shard: &Shard<H>, messages: Vec<RecoveredMessage>) {
    let (now, wall) = (shard.host.now(), shard.host.wall());
    let longest = shard.config.retry.longest();
    for message in messages {
        let expires = now + shard.config.retry.max_age.saturating_sub(wall.since(message.accepted));
        let domains =
            message.recipients.iter().map(|recipient| (recipient.index, recipient.address.domain()));
        let state: BTreeMap<u16, (u16, _)> = message
            .recipients
            .iter()
            .map(|recipient| {
                let recorded = recipient.attempts;
                let attempts = shard.told.borrow_mut().recover(message.id, recipient.index, recorded);
                (recipient.index, (attempts, recipient.next))
            })
            .collect();
        let delivery = |(destination, recipients): (Arc<str>, Indices)| {
            let of_group = || recipients.iter().filter_map(|index| state.get(index));
            let attempts = of_group().map(|(attempts, _)| *attempts).max().unwrap_or(0);
            let next = of_group().map(|(_, next)| *next).min().unwrap_or(wall);
            // A wall clock that fell back holds mail for no longer than a wait can be.
            let due = (now + next.since(wall)).min(now + longest).min(expires);
            NewDelivery { destination, recipients, attempts, due }
        };
        let groups = shard.group(domains);
        if !groups.is_empty() {
            let deliveries = groups.into_iter().map(delivery);
            shard.queue.borrow_mut().add(message.id, message.place, expires, deliveries, now);
        }
    }
}

/// A metric: name, help, value.
type Metric = (&'static str, &'static str, u64);

/// Adds what a log says about itself to a shard's metrics.
pub fn add_log_stats<H: Host>(log: &Log<H>, counters: &mut Vec<Metric>, gauges: &mut Vec<Metric>) {
    let stats = log.stats();
    add(counters, ("spool_commits", "Groups written and synced.", stats.commits));
    add(counters, ("spool_bytes_written", "Bytes written to the spool.", stats.group_bytes));
    add(
        counters,
        ("spool_segments_failed", "Segments given up after a failed write or sync.", stats.failed_segments),
    );
    add(gauges, ("spool_messages", "Messages in the spool that are not done.", stats.live_messages));
    let failed = u64::from(matches!(stats.state, LogState::Failed));
    add(gauges, ("spool_failed", "Logs whose disk has failed, so that they take no mail.", failed));
    let full = u64::from(matches!(stats.state, LogState::Full));
    add(gauges, ("spool_full", "Logs without room for another segment, so that they take no mail.", full));
    add(gauges, ("spool_segments", "Segments in use.", stats.segments as u64));
    let damaged = stats.damaged as u64;
    add(gauges, ("spool_damaged", "Damaged segments kept for the operator, as .damaged files.", damaged));
}

/// Several logs of one shard count as one.
fn add(metrics: &mut Vec<Metric>, metric: Metric) {
    match metrics.iter_mut().find(|known| known.0 == metric.0) {
        Some(known) => known.2 += metric.2,
        None => metrics.push(metric),
    }
}
