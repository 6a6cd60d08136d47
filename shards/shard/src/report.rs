//! What the sender is told, and that a failure counts only when its report is durable: the report first, then the
//! record. What was delivered beside it goes on record at once, unless it is reported too.

use crate::content::Content;
use crate::dispatch::read_contained;
use crate::message::Order;
use crate::settle::Verdict;
use crate::shard::Shard;
use host::Host;
use mail::bounce::{self, Action, Report, Told};
use mail::{BodyType, Envelope, Notify, Return};
use spool::RecipientState;
use std::rc::Rc;
use std::time::Duration;

/// Wait before a settlement is tried again whose report could not be stored.
const REPORT_RETRY: Duration = Duration::from_secs(10);

impl<H: Host> Shard<H> {
    /// Which reports the sender wants for a recipient.
    pub(crate) fn wanted(&self, envelope: &Envelope, index: u16) -> Notify {
        let default = Notify { success: false, failure: true, delay: self.config.bounce.delay_reports };
        envelope.asked(index).and_then(|asked| asked.notify).unwrap_or(default)
    }

    /// Whether the sender wants all of the message back when it fails, and may have it.
    pub(crate) fn returns_full(&self, envelope: &Envelope, bytes: usize) -> bool {
        let returns = envelope.parameters.as_ref().and_then(|asked| asked.returns);
        // A report of binary content could only be sent with BDAT.
        returns == Some(Return::Full)
            && envelope.body != BodyType::Binary
            && bytes <= self.config.bounce.return_bytes_max
    }
}

/// Stores the reports, and then puts the verdict on record.
pub(crate) async fn report_then_record<H: Host>(shard: Rc<Shard<H>>, order: Box<Order>, verdict: Verdict) {
    let Verdict { finals, failures, successes, delays, mut deferred, untried } = verdict;
    let is_delivered = |(_, state): &(u16, RecipientState)| *state == RecipientState::Delivered;
    let (delivered, failed): (Vec<_>, Vec<_>) = finals.into_iter().partition(is_delivered);
    if !successes.is_empty()
        && let Err(error) = report(&shard, &order, Action::Relayed, &successes).await
    {
        // The message must not be delivered again for the want of its report.
        shard.metrics.count.reports_lost.bump();
        tracing::error!(id = %order.id, error, "report of success not stored, and given up");
    }
    if !delivered.is_empty() {
        shard.record_finals(&order, delivered);
    }
    if !delays.is_empty() {
        report_delay(&shard, &order, &delays).await;
    }
    let reported = match failures[..] {
        [] => Ok(()),
        _ => report(&shard, &order, Action::Failed, &failures).await,
    };
    match reported {
        Ok(()) => {
            let verdict = Verdict { finals: failed, deferred, untried, ..Verdict::default() };
            shard.record(&order, verdict);
        }
        Err(error) => {
            tracing::error!(id = %order.id, error, "failure report not stored; trying again later");
            deferred.extend(failed.iter().map(|(index, _)| *index));
            deferred.extend(untried);
            let again = shard.host.now() + REPORT_RETRY;
            shard.settle_queue(order.key, order.id, order.place, deferred, again);
        }
    }
    shard.dispatch();
}

async fn report_delay<H: Host>(shard: &Rc<Shard<H>>, order: &Order, delays: &[(u16, Told)]) {
    let until = order.accepted + shard.config.retry.max_age;
    let told: Vec<Told> = delays.iter().map(|(_, told)| told.clone()).collect();
    match report(shard, order, Action::Delayed(until), &told).await {
        Ok(()) => {
            let mut told = shard.told.borrow_mut();
            delays.iter().for_each(|(index, _)| told.insert(order.id, *index));
        }
        // The next attempt that is deferred tells it.
        Err(error) => tracing::warn!(id = %order.id, error, "report of a delay not stored"),
    }
}

/// Stores and queues a report to the sender. A null reverse-path gets none (RFC 5321 section 4.5.5).
async fn report<H: Host>(
    shard: &Rc<Shard<H>>,
    order: &Order,
    action: Action,
    recipients: &[Told],
) -> Result<(), String> {
    let envelope = &order.envelope;
    let Some(sender) = &envelope.sender else {
        shard.metrics.count.bounces_suppressed.bump();
        return Ok(());
    };
    let (message, full) = returned(shard, order, action).await?;
    let now = shard.host.wall();
    let id = shard.ids.borrow_mut().next(now);
    let asked = envelope.parameters.as_ref();
    let report = Report {
        hostname: &shard.config.hostname,
        id,
        at: now,
        sender,
        original: order.id,
        envelope_id: asked.and_then(|asked| asked.envelope_id.as_deref()),
        arrived: order.accepted,
        action,
        recipients,
        message: &message,
        full,
        utf8: envelope.utf8,
    };
    let content = bounce::report(&report);
    let (body, utf8) = (report.body(), report.is_utf8());
    let new = Envelope { recipients: vec![sender.clone()], body, utf8, ..Envelope::default() };
    let appended = shard.home.append_message(id, now, &new, &content).await;
    let place = appended.map_err(|error| error.to_string())?;
    let count = &shard.metrics.count;
    let counter = match action {
        Action::Failed => &count.bounces_sent,
        Action::Delayed(_) => &count.delays_reported,
        Action::Relayed => &count.successes_reported,
    };
    counter.bump();
    tracing::info!(target: "mtad::report", %id, about = %order.id, to = %sender, recipients = recipients.len(), "report");
    shard.enqueue(id, place, new, Content::new(content), now);
    Ok(())
}

/// What the report returns of the message: its header, or all of it and what it is.
async fn returned<H: Host>(
    shard: &Shard<H>,
    order: &Order,
    action: Action,
) -> Result<(Vec<u8>, Option<BodyType>), String> {
    let part = |content: &[u8]| match action {
        Action::Failed if shard.returns_full(&order.envelope, content.len()) => {
            (content.to_vec(), Some(order.envelope.body))
        }
        _ => (bounce::headers(content).to_vec(), None),
    };
    if let Some(content) = &order.content {
        return Ok(part(content.bytes()));
    }
    let stored = read_contained(shard, order.place).await.map_err(|error| error.to_string())?;
    Ok(part(&stored.content))
}
