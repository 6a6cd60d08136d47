//! The content of a message while it comes in.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use mail::{BodyType, Envelope, MessageId, Reply, Time, WallTime, trace};

use super::{Incoming, Profile, replies};
use crate::data::Decoder;

/// A message between 354 and its final dot.
#[derive(Debug)]
pub(super) struct Content {
    id: MessageId,
    accepted: WallTime,
    envelope: Envelope,
    decoder: Decoder,
    body: Body,
    /// Bytes of our own `Received` field at the start of the body.
    trace_bytes: usize,
    /// Since when bytes are waited for.
    begun: Time,
}

#[derive(Debug)]
enum Body {
    /// `Received` field and content so far.
    Kept(Vec<u8>),
    /// It will be refused for what it is; the decoder knows why.
    Dropped,
    /// It will be refused with this reply.
    Refused(Reply),
}

impl Content {
    pub(super) fn new(id: MessageId, accepted: WallTime, envelope: Envelope, trace: String) -> Content {
        let trace_bytes = trace.len();
        let body = Body::Kept(trace.into_bytes());
        Content { id, accepted, envelope, decoder: Decoder::new(), body, trace_bytes, begun: Time::default() }
    }

    pub(super) fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Uses up `bytes` to the end of the message at most; says how many.
    pub(super) fn take(&mut self, bytes: &[u8], bytes_max: u64) -> usize {
        let Body::Kept(content) = &mut self.body else {
            return self.decoder.skip(bytes);
        };
        let used = self.decoder.decode(bytes, content);
        if self.decoder.has_bare_line_end() || self.decoder.size() > bytes_max {
            self.body = Body::Dropped;
        }
        used
    }

    pub(super) fn is_complete(&self) -> bool {
        self.decoder.is_complete()
    }

    /// The first wait for bytes.
    pub(super) fn begin(&mut self, now: Time, profile: &Profile) -> Time {
        self.begun = now;
        self.deadline(now, profile)
    }

    /// When bytes must have come, if some came at `now`: within the time-out, and no later than a sender at the
    /// slowest rate would have them sent. A trickle so has an end.
    pub(super) fn deadline(&self, now: Time, profile: &Profile) -> Time {
        let next = now + profile.data_timeout;
        match self.decoder.size().checked_div(u64::from(profile.content_rate_min)) {
            Some(seconds) => next.min(self.begun + profile.data_timeout + Duration::from_secs(seconds)),
            None => next,
        }
    }

    /// Drops what has come and what will come; `reply` is given at the end unless the content deserves its own.
    pub(super) fn refuse(&mut self, reply: Reply) {
        self.body = Body::Refused(reply);
    }

    /// Bytes of memory.
    pub(super) fn held(&self) -> usize {
        match &self.body {
            Body::Kept(content) => content.capacity(),
            Body::Dropped | Body::Refused(_) => 0,
        }
    }

    /// The message after its final dot, or why it is refused. What the content is comes first, so that the reply
    /// does not depend on how it was cut into pieces.
    pub(super) fn finish(mut self, profile: &Profile) -> Result<Incoming, Reply> {
        if self.decoder.has_bare_line_end() {
            return Err(replies::BARE_LINE_END.clone());
        }
        if self.decoder.size() > profile.message_bytes_max {
            return Err(replies::TOO_LARGE.clone());
        }
        let content = match self.body {
            Body::Kept(content) => content,
            Body::Refused(reply) => return Err(reply),
            Body::Dropped => unreachable!("only what the decoder found fault with is dropped"),
        };
        if trace::hops(&content[self.trace_bytes..]) > profile.hops_max {
            return Err(replies::LOOP.clone());
        }
        self.envelope.body =
            if self.decoder.is_eight_bit() { BodyType::EightBit } else { BodyType::SevenBit };
        let dotted = self.decoder.is_dotted();
        Ok(Incoming { id: self.id, accepted: self.accepted, envelope: self.envelope, content, dotted })
    }
}
