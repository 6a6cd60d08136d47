//! From end-of-data to the queue: the message is made durable, then its deliveries are queued.

use crate::content::Content;
use crate::metrics::Stage;
use crate::shard::Shard;
use host::Host;
use mail::{ByMode, Envelope, Indices, MessageId, Reply, WallTime};
use queue::NewDelivery;
use smtp::receive::Incoming;
use spool::{AppendError, Place};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Memory of a fresh message beside its content and recipients: its entry, sender, and allocations' headers.
const ENTRY_BYTES: usize = 256;
/// Memory of a recipient of a fresh message, about.
const RECIPIENT_BYTES: usize = 64;

/// Stored messages whose content is still in memory for the first attempt, within a budget of bytes; the oldest
/// are forgotten first and read back from the spool when their time comes.
#[derive(Debug)]
pub struct Fresh {
    messages: BTreeMap<MessageId, FreshMessage>,
    bytes: usize,
    bytes_max: usize,
}

/// One message that is still in memory.
#[derive(Clone, Debug)]
pub struct FreshMessage {
    /// Its envelope.
    pub envelope: Arc<Envelope>,
    /// Its content.
    pub content: Content,
    /// When it was accepted.
    pub accepted: WallTime,
    /// Deliveries that have not left yet.
    deliveries: usize,
}

impl FreshMessage {
    /// Memory that it holds, about: many small messages must not hold a multiple of the budget.
    fn bytes(&self) -> usize {
        self.content.len() + ENTRY_BYTES + self.envelope.recipients.len() * RECIPIENT_BYTES
    }
}

impl Fresh {
    /// Nothing yet, and at most `bytes_max` later.
    pub fn new(bytes_max: usize) -> Fresh {
        Fresh { messages: BTreeMap::new(), bytes: 0, bytes_max }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn keep(&mut self, id: MessageId, message: FreshMessage) {
        self.bytes += message.bytes();
        self.messages.insert(id, message);
        while self.bytes > self.bytes_max
            && let Some((_, oldest)) = self.messages.pop_first()
        {
            self.bytes -= oldest.bytes();
        }
    }

    /// The message for one of its deliveries; with the last one it is forgotten.
    pub fn take(&mut self, id: MessageId) -> Option<FreshMessage> {
        let message = self.messages.get_mut(&id)?;
        message.deliveries -= 1;
        if message.deliveries > 0 {
            return Some(message.clone());
        }
        let message = self.messages.remove(&id)?;
        self.bytes -= message.bytes();
        Some(message)
    }
}

impl<H: Host> Shard<H> {
    /// Makes a received message durable and queues it. `Ok` is the promise behind the 250.
    pub(crate) async fn store(
        &self,
        incoming: Incoming,
        client: IpAddr,
        user: Option<&str>,
    ) -> Result<(), Reply> {
        let Incoming { id, accepted, envelope, content, dotted } = incoming;
        if let Some(reply) = self.refusal_to_store() {
            self.metrics.count.messages_not_stored.bump();
            return Err(reply);
        }
        let begun = self.host.now();
        let appended = self.home.append_message(id, accepted, &envelope, &content).await;
        let place = appended.map_err(|error| self.refuse_to_store(id, error))?;
        let took = self.host.now().since(begun);
        self.metrics.count.messages_accepted.bump();
        self.metrics.count.bytes_accepted.add(content.len() as u64);
        self.metrics.record(Stage::Durable, took);
        tracing::info!(
            target: "mtad::accepted",
            %id, %client, user,
            from = sender_text(&envelope),
            recipients = envelope.recipients.len(),
            bytes = content.len(),
            durable_us = took.as_micros() as u64,
            "accepted"
        );
        self.enqueue(id, place, envelope, Content::received(content, dotted), accepted);
        Ok(())
    }

    fn refuse_to_store(&self, id: MessageId, error: AppendError) -> Reply {
        self.metrics.count.messages_not_stored.bump();
        // What is wrong is an alarm of the log, told once; here it is one record of many.
        tracing::info!(target: "mtad::refused", %id, %error, "message not stored");
        self.look_at_health();
        match error {
            AppendError::TooLarge => Reply::new(552, (5, 3, 4), "Message too large"),
            AppendError::Full | AppendError::Busy => {
                Reply::new(452, (4, 3, 1), "No room to store the message, try again later")
            }
            _ => Reply::new(451, (4, 3, 0), "The message could not be stored, try again later"),
        }
    }

    /// Queues a durable message and sends its deliveries on their way as far as limits allow.
    pub(crate) fn enqueue(
        &self,
        id: MessageId,
        place: Place,
        envelope: Envelope,
        content: Content,
        accepted: WallTime,
    ) {
        let now = self.host.now();
        let expires = now + self.lifetime(&envelope);
        let groups = self.group(envelope.recipients.iter().enumerate().map(|(i, r)| (i as u16, r.domain())));
        let fresh =
            FreshMessage { envelope: Arc::new(envelope), content, accepted, deliveries: groups.len() };
        self.fresh.borrow_mut().keep(id, fresh);
        let new = |(destination, recipients)| NewDelivery { destination, recipients, attempts: 0, due: now };
        self.queue.borrow_mut().add(id, place, expires, groups.into_iter().map(new), now);
        self.dispatch();
    }

    /// How long delivery of a new message is tried: no longer than its sender gave it, if it shall come back then.
    fn lifetime(&self, envelope: &Envelope) -> Duration {
        let max_age = self.config.retry.max_age;
        match envelope.parameters.as_ref().and_then(|asked| asked.by) {
            Some(by) if by.mode == ByMode::Return => by.until.since(self.host.wall()).min(max_age),
            _ => max_age,
        }
    }

    /// Groups recipients by their destination, none larger than a transaction takes: so each outcome goes on record as
    /// soon as the next hop has answered for it.
    pub(crate) fn group<'a>(
        &self,
        recipients: impl Iterator<Item = (u16, &'a str)>,
    ) -> Vec<(Arc<str>, Indices)> {
        let mut groups: Vec<(Arc<str>, Indices)> = Vec::with_capacity(1);
        // The last group of each destination but that of `groups`' own last.
        let mut open: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for (index, domain) in recipients {
            let destination = self.routes.destination(domain);
            let last = groups.len().checked_sub(1).filter(|last| groups[*last].0 == destination);
            let group = last.or_else(|| open.get(&destination).copied());
            match group.map(|group| &mut groups[group].1) {
                Some(group) if group.len() < self.config.delivery.recipients_max => group.push(index),
                _ => {
                    if let Some((before, _)) = groups.last() {
                        open.insert(before.clone(), groups.len() - 1);
                    }
                    groups.push((destination, [index].into_iter().collect()));
                }
            }
        }
        groups
    }
}

/// The reverse-path as logs show it.
pub(crate) fn sender_text(envelope: &Envelope) -> &str {
    envelope.sender.as_ref().map_or("<>", |sender| sender.as_str())
}
