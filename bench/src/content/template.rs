//! A finished message with places to patch.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use super::{Message, Transfer};
use crate::identity::{self, HASH_HEADER, HASH_TEXT_BYTES, STAMP_HEADER, STAMP_TEXT_BYTES, Stamp};
use crate::transparency;

/// Run and sequence, which the stamp starts with, make a Message-ID unique.
const MESSAGE_ID_BYTES: usize = 8 + 1 + 8;

/// A message as it goes over the wire. With DATA its body has doubled dots and the end-of-data mark.
#[derive(Clone)]
pub(crate) struct Template {
    /// All headers and the empty line.
    head: Vec<u8>,
    body: Arc<[u8]>,
    hashes: Range<usize>,
    message_id: Range<usize>,
    stamp: Range<usize>,
    /// What the hash of the headers covers.
    block: Range<usize>,
    body_hash: u64,
    bytes: usize,
}

impl Template {
    pub(super) fn new(message: &Message, transfer: Transfer, sender: &str) -> Self {
        let mut head = HASH_HEADER.to_vec();
        let hashes = placeholder(&mut head, HASH_TEXT_BYTES);
        head.extend_from_slice(b"\r\n");
        let start = head.len();
        head.extend_from_slice(&message.headers);
        head.extend_from_slice(b"Message-ID: <");
        let message_id = placeholder(&mut head, MESSAGE_ID_BYTES);
        let domain = sender.rsplit('@').next().unwrap_or(sender);
        head.extend_from_slice(format!("@{domain}>\r\n").as_bytes());
        head.extend_from_slice(STAMP_HEADER);
        let stamp = placeholder(&mut head, STAMP_TEXT_BYTES);
        head.extend_from_slice(b"\r\n");
        let block = start..head.len();
        head.extend_from_slice(b"\r\n");
        let mut body = Vec::with_capacity(message.body.len());
        match transfer {
            // No header line starts with a dot.
            Transfer::Data => {
                transparency::stuff(&message.body, &mut body);
                body.extend_from_slice(b".\r\n");
            }
            Transfer::Bdat(_) => body.extend_from_slice(&message.body),
        }
        let bytes = head.len() + message.body.len();
        let body_hash = identity::hash(&message.body);
        Self { head, body: body.into(), hashes, message_id, stamp, block, body_hash, bytes }
    }

    /// Size in bytes without doubled dots and end-of-data mark, as the SIZE parameter wants it.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes it the message of this stamp.
    pub(crate) fn stamp(&mut self, stamp: &Stamp) {
        stamp.write(&mut self.head[self.stamp.clone()]);
        let id = self.stamp.start..self.stamp.start + self.message_id.len();
        self.head.copy_within(id, self.message_id.start);
        let headers = identity::hash(&self.head[self.block.clone()]);
        identity::write_hashes(&mut self.head[self.hashes.clone()], headers, self.body_hash);
    }

    /// Appends the message and its end-of-data mark.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(&self.body);
    }

    /// Appends chunk number `index` behind its BDAT command; all but the last have `chunk` bytes. True if it
    /// is the last.
    pub(crate) fn write_chunk(&self, index: usize, chunk: usize, out: &mut Vec<u8>) -> bool {
        let start = index.saturating_mul(chunk).min(self.bytes);
        let end = start.saturating_add(chunk).min(self.bytes);
        let last = end == self.bytes;
        let suffix = if last { " LAST" } else { "" };
        out.write_fmt(format_args!("BDAT {}{suffix}\r\n", end - start))
            .expect("writing to a vector does not fail");
        let border = self.head.len();
        out.extend_from_slice(&self.head[start.min(border)..end.min(border)]);
        out.extend_from_slice(&self.body[start.max(border) - border..end.max(border) - border]);
        last
    }
}

fn placeholder(text: &mut Vec<u8>, bytes: usize) -> Range<usize> {
    let start = text.len();
    text.resize(start + bytes, b'0');
    start..text.len()
}
