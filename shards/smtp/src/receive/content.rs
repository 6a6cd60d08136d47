//! The content of a message while it comes in.

use alloc::string::String;
use alloc::vec::Vec;

use mail::utf8::needs_smtputf8;
use mail::{BodyType, Envelope, MessageId, Reply, Time, WallTime, trace};

use super::pace::Pace;
use super::{Incoming, Profile, replies};
use crate::command::Chunk;
use crate::{chunk, data};

/// A message that comes: between 354 and its final dot, or from its first chunk to its last.
#[derive(Debug)]
pub(super) struct Content {
    id: MessageId,
    accepted: WallTime,
    envelope: Envelope,
    decoder: Decoder,
    body: Body,
    /// Bytes of our own `Received` field at the start of the body.
    trace_bytes: usize,
    pace: Pace,
}

#[derive(Debug)]
enum Decoder {
    Data(data::Decoder),
    Chunks(chunk::Decoder),
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
    /// A message whose content comes with DATA, or in chunks of which `chunk` is the first.
    pub(super) fn new(
        id: MessageId,
        accepted: WallTime,
        envelope: Envelope,
        trace: String,
        chunk: Option<Chunk>,
    ) -> Content {
        let trace_bytes = trace.len();
        let body = Body::Kept(trace.into_bytes());
        let decoder = match chunk {
            None => Decoder::Data(data::Decoder::new()),
            Some(_) => Decoder::Chunks(chunk::Decoder::default()),
        };
        let mut content =
            Content { id, accepted, envelope, decoder, body, trace_bytes, pace: Pace::default() };
        if let Some(chunk) = chunk {
            content.begin_chunk(chunk);
        }
        content
    }

    /// Another chunk comes.
    pub(super) fn begin_chunk(&mut self, chunk: Chunk) {
        if let Decoder::Chunks(decoder) = &mut self.decoder {
            decoder.begin(chunk.bytes, chunk.is_last);
        }
    }

    /// Whether `chunk` would make the message larger than `bytes_max`.
    pub(super) fn outgrows(&self, chunk: Chunk, bytes_max: u64) -> bool {
        self.decoder.size().saturating_add(chunk.bytes) > bytes_max
    }

    pub(super) fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Uses up `bytes` to the end of the message, or of the chunk, at most; says how many.
    pub(super) fn take(&mut self, bytes: &[u8], bytes_max: u64) -> usize {
        let Body::Kept(content) = &mut self.body else {
            return self.decoder.skip(bytes);
        };
        let used = self.decoder.decode(bytes, content);
        if self.has_bare_line_end() || self.decoder.size() > bytes_max {
            self.body = Body::Dropped;
        }
        used
    }

    pub(super) fn is_complete(&self) -> bool {
        match &self.decoder {
            Decoder::Data(decoder) => decoder.is_complete(),
            Decoder::Chunks(decoder) => decoder.is_complete(),
        }
    }

    /// Whether all of a chunk has come.
    pub(super) fn is_chunk_complete(&self) -> bool {
        matches!(&self.decoder, Decoder::Chunks(decoder) if decoder.is_chunk_complete())
    }

    /// Whether the chunk that came last had any bytes.
    pub(super) fn has_grown(&self) -> bool {
        matches!(&self.decoder, Decoder::Chunks(decoder) if !decoder.is_chunk_empty())
    }

    /// Why the message is refused already, after a chunk that is not its last.
    pub(super) fn refusal(&self) -> Option<&Reply> {
        match &self.body {
            Body::Kept(_) => None,
            Body::Refused(_) | Body::Dropped if self.has_bare_line_end() => Some(&replies::BARE_LINE_END),
            Body::Refused(reply) => Some(reply),
            Body::Dropped => Some(&replies::TOO_LARGE),
        }
    }

    /// When bytes must have come, if some came at `now`.
    pub(super) fn deadline(&mut self, now: Time, profile: &Profile) -> Time {
        self.pace.deadline(self.decoder.size(), now, profile)
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
        if self.has_bare_line_end() {
            return Err(replies::BARE_LINE_END.clone());
        }
        if self.decoder.size() > profile.message_bytes_max {
            return Err(replies::TOO_LARGE.clone());
        }
        let mut content = match self.body {
            Body::Kept(content) => content,
            Body::Refused(reply) => return Err(reply),
            Body::Dropped => unreachable!("only what the decoder found fault with is dropped"),
        };
        if trace::hops(&content[self.trace_bytes..]) > profile.hops_max {
            return Err(replies::LOOP.clone());
        }
        self.envelope.body = self.decoder.body(self.envelope.body);
        if self.envelope.body != BodyType::Binary && self.decoder.ends_in_line() {
            // A text that came in chunks, which DATA could not carry otherwise.
            content.extend_from_slice(b"\r\n");
        }
        self.envelope.utf8 = self.envelope.utf8 && needs_smtputf8(&content);
        let dotted = self.decoder.is_dotted();
        Ok(Incoming { id: self.id, accepted: self.accepted, envelope: self.envelope, content, dotted })
    }

    /// Binary content may hold what ends a line anywhere.
    fn has_bare_line_end(&self) -> bool {
        match &self.decoder {
            Decoder::Data(decoder) => decoder.has_bare_line_end(),
            Decoder::Chunks(decoder) => self.envelope.body != BodyType::Binary && decoder.has_bare_line_end(),
        }
    }
}

impl Decoder {
    fn decode(&mut self, bytes: &[u8], content: &mut Vec<u8>) -> usize {
        match self {
            Decoder::Data(decoder) => decoder.decode(bytes, content),
            Decoder::Chunks(decoder) => decoder.decode(bytes, content),
        }
    }

    fn skip(&mut self, bytes: &[u8]) -> usize {
        match self {
            Decoder::Data(decoder) => decoder.skip(bytes),
            Decoder::Chunks(decoder) => decoder.skip(bytes),
        }
    }

    fn size(&self) -> u64 {
        match self {
            Decoder::Data(decoder) => decoder.size(),
            Decoder::Chunks(decoder) => decoder.size(),
        }
    }

    fn is_dotted(&self) -> bool {
        match self {
            Decoder::Data(decoder) => decoder.is_dotted(),
            Decoder::Chunks(decoder) => decoder.is_dotted(),
        }
    }

    fn ends_in_line(&self) -> bool {
        matches!(self, Decoder::Chunks(decoder) if decoder.ends_in_line())
    }

    /// What the content is, when it was `declared` so.
    fn body(&self, declared: BodyType) -> BodyType {
        let (is_binary, is_eight_bit) = match self {
            Decoder::Data(decoder) => (false, decoder.is_eight_bit()),
            Decoder::Chunks(decoder) => (decoder.is_binary(), decoder.is_eight_bit()),
        };
        match declared {
            BodyType::Binary if is_binary => BodyType::Binary,
            _ if is_eight_bit => BodyType::EightBit,
            _ => BodyType::SevenBit,
        }
    }
}
