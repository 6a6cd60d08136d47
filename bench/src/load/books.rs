//! What the clients of one thread share: the jobs, the contents, and the record of what became of them.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use fastrand::Rng;

use super::{Failure, Phase, Shared, Spread, Tally};
use crate::clock;
use crate::content::{Templates, Transfer};
use crate::identity::Stamp;

/// A message to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) sequence: u32,
    /// How often it was refused already.
    pub(super) refusals: u32,
}

pub(super) struct Books {
    pub(super) shared: Arc<Shared>,
    index: usize,
    templates: Templates,
    /// For [`Spread::Zipf`]: the share of the first n domains, ascending to 1.
    shares: Vec<f64>,
    /// Messages to be sent again.
    redo: Vec<Job>,
}

impl Books {
    pub(super) fn new(shared: Arc<Shared>, index: usize) -> Self {
        let config = &shared.config;
        let templates = shared.templates.clone();
        let shares = match config.spread {
            Spread::RoundRobin => Vec::new(),
            Spread::Zipf(exponent) => zipf(config.domains, exponent),
        };
        Self { index, templates, shares, redo: Vec::new(), shared }
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.shared.tallies[self.index]
    }

    /// The next message, if there is one and the load is not being stopped.
    pub(super) fn take(&mut self) -> Option<Job> {
        if self.shared.stop.load(Relaxed) {
            return None;
        }
        self.redo.pop().or_else(|| {
            let sequence = u32::try_from(self.shared.next.fetch_add(1, Relaxed)).ok()?;
            (sequence < self.shared.config.messages).then_some(Job { sequence, refusals: 0 })
        })
    }

    pub(super) fn any_left(&self) -> bool {
        let fresh = self.shared.next.load(Relaxed) < self.shared.config.messages.into();
        !self.shared.stop.load(Relaxed) && (fresh || !self.redo.is_empty())
    }

    pub(super) fn give_back(&mut self, job: Job) {
        self.redo.push(job);
    }

    /// When this message is to be sent by the schedule, if there is one.
    pub(super) fn due(&self, job: Job) -> Option<u64> {
        let schedule = self.shared.schedule.as_ref()?;
        // A repeated message is late by nature: it starts when it can.
        (job.refusals == 0).then(|| self.shared.started + schedule.due(job.sequence))
    }

    pub(super) fn write_mail(&mut self, job: Job, size: bool, eight_bit: bool, out: &mut Vec<u8>) {
        let bytes = self.templates.of(job.sequence).bytes();
        put(out, format_args!("MAIL FROM:<{}>", self.shared.config.sender));
        if size {
            put(out, format_args!(" SIZE={bytes}"));
        }
        if eight_bit {
            put(out, format_args!(" BODY=8BITMIME"));
        }
        put(out, format_args!("\r\n"));
    }

    pub(super) fn write_recipient(&self, job: Job, recipient: u16, out: &mut Vec<u8>) {
        let domain = self.domain(self.delivery(job, recipient));
        let suffix = &self.shared.config.domain_suffix;
        put(out, format_args!("RCPT TO:<r{recipient}@d{domain}.{suffix}>\r\n"));
    }

    /// The whole content, ended by a lone dot.
    pub(super) fn write_content(&mut self, job: Job, started: u64, out: &mut Vec<u8>) {
        let stamp = self.stamp(job, started);
        let template = self.templates.of(job.sequence);
        template.stamp(&stamp);
        template.write(out);
    }

    /// Chunk number `index` behind its BDAT. True if it is the last.
    pub(super) fn write_chunk(&mut self, job: Job, started: u64, index: usize, out: &mut Vec<u8>) -> bool {
        let Transfer::Bdat(chunk) = self.shared.config.transfer else { return true };
        let stamp = self.stamp(job, started);
        let template = self.templates.of(job.sequence);
        // Another connection may have stamped it since the chunk before.
        template.stamp(&stamp);
        template.write_chunk(index, chunk, out)
    }

    fn stamp(&self, job: Job, started: u64) -> Stamp {
        let config = &self.shared.config;
        Stamp { run: config.run, sequence: job.sequence, recipients: config.recipients, time: started }
    }

    /// The server took the message for all recipients but `rejected`.
    pub(super) fn acknowledged(&self, job: Job, rejected: &[u16], started: u64) {
        let count = self.mark(job, rejected, |delivery| self.shared.acknowledged.insert(delivery));
        let now = clock::now();
        let tally = self.tally();
        tally.with(|detail| detail.latency.record(now.saturating_sub(started)));
        tally.last.store(now, Relaxed);
        tally.accepted_recipients.fetch_add(count, Relaxed);
        tally.accepted.fetch_add(1, Relaxed);
    }

    pub(super) fn in_doubt(&self, job: Job, rejected: &[u16]) {
        self.mark(job, rejected, |delivery| self.shared.in_doubt.insert(delivery));
        self.tally().in_doubt.fetch_add(1, Relaxed);
    }

    /// The server refused the message: it is repeated if the code and the configuration say so.
    pub(super) fn refused(&mut self, job: Job, code: u16) {
        if code / 100 == 4 && job.refusals < self.shared.config.retries {
            self.redo.push(Job { refusals: job.refusals + 1, ..job });
        } else {
            self.tally().refused.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn failure(&self, phase: Phase, code: u16) {
        self.tally().with(|detail| *detail.failures.entry(Failure { phase, code }).or_insert(0) += 1);
    }

    fn mark(&self, job: Job, rejected: &[u16], mut put: impl FnMut(u64)) -> u64 {
        let mut count = 0;
        for recipient in 0..self.shared.config.recipients {
            if !rejected.contains(&recipient) {
                put(self.delivery(job, recipient));
                count += 1;
            }
        }
        count
    }

    /// The number of a delivery in the sets of acknowledged and arrived ones.
    fn delivery(&self, job: Job, recipient: u16) -> u64 {
        u64::from(job.sequence) * u64::from(self.shared.config.recipients) + u64::from(recipient)
    }

    fn domain(&self, delivery: u64) -> u64 {
        if self.shares.is_empty() {
            return delivery % u64::from(self.shared.config.domains);
        }
        // Seeded by the delivery, so that a repeated message goes to the same domain.
        let point = Rng::with_seed(delivery).f64();
        self.shares.partition_point(|share| *share <= point).min(self.shares.len() - 1) as u64
    }
}

fn zipf(domains: u32, exponent: f64) -> Vec<f64> {
    let weights = (1..=domains).map(|rank| f64::from(rank).powf(-exponent));
    let total: f64 = weights.clone().sum();
    let mut sum = 0.0;
    let shares = weights.map(|weight| {
        sum += weight / total;
        sum
    });
    shares.collect()
}

/// Appends text; a vector takes it without fail.
pub(super) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a vector does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_gives_the_first_domain_the_most() {
        let shares = zipf(4, 1.0);
        let total = 1.0 + 0.5 + 1.0 / 3.0 + 0.25;
        assert!((shares[0] - 1.0 / total).abs() < 1e-9);
        assert!((shares[1] - 1.5 / total).abs() < 1e-9);
        assert!((shares[3] - 1.0).abs() < 1e-9);
        assert_eq!(zipf(3, 0.0).len(), 3);
    }
}
