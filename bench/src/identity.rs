//! How a message is known again at the far end: its stamp and its two content hashes.
//!
//! The load puts two headers of fixed width around its others: first `X-Mtad-Bench-Hash: HEADERS-BODY`, last
//! `X-Mtad-Bench: RUN-SEQUENCE-RECIPIENTS-TIME`, all in hexadecimal. The first hash covers everything from
//! behind the hash line to the end of the stamp line, the second everything behind the empty line. So a relay
//! may add headers before and after the block, as relays do, and any other change is seen. Both hashes are
//! XXH3 with 64 bits.

use memchr::{memchr, memmem};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// The start of the hash line.
pub const HASH_HEADER: &[u8] = b"X-Mtad-Bench-Hash: ";
/// The start of the stamp line.
pub const STAMP_HEADER: &[u8] = b"X-Mtad-Bench: ";
/// Bytes of both hashes as text.
pub(crate) const HASH_TEXT_BYTES: usize = 16 + 1 + 16;
/// Bytes of a stamp as text.
pub(crate) const STAMP_TEXT_BYTES: usize = 8 + 1 + 8 + 1 + 4 + 1 + 16;

/// Which message this is, end to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The load's run.
    pub run: u32,
    /// The message's number within the run, from 0.
    pub sequence: u32,
    /// How many recipients every message of the run has.
    pub recipients: u16,
    /// When its transaction started (or should have): [`crate::clock::now`].
    pub time: u64,
}

impl Stamp {
    /// Writes the stamp's text; `place` has [`STAMP_TEXT_BYTES`].
    pub(crate) fn write(&self, place: &mut [u8]) {
        hex(&mut place[..8], self.run.into());
        place[8] = b'-';
        hex(&mut place[9..17], self.sequence.into());
        place[17] = b'-';
        hex(&mut place[18..22], self.recipients.into());
        place[22] = b'-';
        hex(&mut place[23..39], self.time);
    }

    /// The first stamp in a message, or in as much of it as has come.
    pub(crate) fn find(message: &[u8]) -> Option<Self> {
        let at = memmem::find(message, STAMP_HEADER)?;
        Self::read(&message[at + STAMP_HEADER.len()..])
    }

    fn read(text: &[u8]) -> Option<Self> {
        let text = text.get(..STAMP_TEXT_BYTES)?;
        if [text[8], text[17], text[22]] != [b'-'; 3] {
            return None;
        }
        Some(Self {
            run: unhex(&text[..8])? as u32,
            sequence: unhex(&text[9..17])? as u32,
            recipients: unhex(&text[18..22])? as u16,
            time: unhex(&text[23..39])?,
        })
    }
}

/// Writes both hashes' text; `place` has [`HASH_TEXT_BYTES`].
pub(crate) fn write_hashes(place: &mut [u8], headers: u64, body: u64) {
    hex(&mut place[..16], headers);
    place[16] = b'-';
    hex(&mut place[17..33], body);
}

/// The hash that both ends use.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// What arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A message of a load, as it was sent.
    Intact(Stamp),
    /// A message of a load, changed on its way. The stamp itself may be what changed.
    Altered(Option<Stamp>, Alteration),
    /// A delivery report about a message of a load, with the recipients (by number) that it says failed.
    Report(Stamp, Vec<u16>),
    /// Anything else.
    Foreign,
}

/// Which part of a message changed on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Alteration {
    /// The load's headers.
    Headers,
    /// The body.
    Body,
}

/// Identifies and verifies a message (transparency dots removed, final CRLF included).
pub fn examine(message: &[u8]) -> Arrival {
    let mut hashes = None;
    let mut stamp = None;
    let mut block = 0..0;
    let mut report = false;
    let mut position = 0;
    while let Some(length) = memchr(b'\n', &message[position..]) {
        let next = position + length + 1;
        let line = &message[position..next];
        if line == b"\r\n" {
            position = next;
            break;
        }
        if line.starts_with(HASH_HEADER) && hashes.is_none() {
            hashes = Some(read_hashes(&line[HASH_HEADER.len()..]));
            block = next..next;
        } else if line.starts_with(STAMP_HEADER) && stamp.is_none() {
            stamp = Some(Stamp::read(&line[STAMP_HEADER.len()..]));
            block.end = next;
        } else if hashes.is_none() {
            report |= names_report(line);
        }
        position = next;
    }
    let body = &message[position..];
    match (hashes, stamp) {
        (None, None) if report => read_report(body).unwrap_or(Arrival::Foreign),
        (None, None) => Arrival::Foreign,
        (hashes, stamp) => {
            judge(hashes.flatten(), stamp.flatten(), message.get(block).unwrap_or_default(), body)
        }
    }
}

fn judge(hashes: Option<(u64, u64)>, stamp: Option<Stamp>, headers: &[u8], body: &[u8]) -> Arrival {
    match (hashes, stamp) {
        (Some((of_headers, of_body)), Some(stamp)) if of_headers == hash(headers) => {
            if of_body == hash(body) {
                Arrival::Intact(stamp)
            } else {
                Arrival::Altered(Some(stamp), Alteration::Body)
            }
        }
        (_, stamp) => Arrival::Altered(stamp, Alteration::Headers),
    }
}

fn names_report(line: &[u8]) -> bool {
    // RFC 6522: the type may stand on a folded line, so any header line that names it will do.
    let wanted = b"multipart/report";
    line.windows(wanted.len()).any(|window| window.eq_ignore_ascii_case(wanted))
}

/// RFC 3464: one field group per recipient, then the returned headers with the stamp among them.
fn read_report(body: &[u8]) -> Option<Arrival> {
    let at = memmem::find(body, STAMP_HEADER)?;
    let stamp = Stamp::find(&body[at..])?;
    let mut failed = Vec::new();
    let mut group = Group::default();
    for line in body[..at].split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii) {
        if line.is_empty() {
            failed.extend(std::mem::take(&mut group).failed());
        } else if let Some(value) = field(line, b"final-recipient:") {
            group.recipient = recipient_number(value.rsplit(|&byte| byte == b';').next().unwrap_or(value));
        } else if let Some(value) = field(line, b"action:") {
            group.action_failed = value.eq_ignore_ascii_case(b"failed");
        }
    }
    failed.extend(group.failed());
    Some(Arrival::Report(stamp, failed))
}

/// The fields of one recipient in a delivery report.
#[derive(Default)]
struct Group {
    recipient: Option<u16>,
    action_failed: bool,
}

impl Group {
    fn failed(self) -> Option<u16> {
        self.recipient.filter(|_| self.action_failed)
    }
}

fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

/// The number in an address that a load made: 3 in `r3@d17.example`.
pub(crate) fn recipient_number(address: &[u8]) -> Option<u16> {
    let address = address.trim_ascii();
    let digits = address[..memchr(b'@', address)?].strip_prefix(b"r")?;
    if digits.is_empty() || digits.len() > 5 {
        return None;
    }
    let mut number = 0u32;
    for digit in digits {
        number = number * 10 + u32::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
    }
    u16::try_from(number).ok()
}

fn read_hashes(rest: &[u8]) -> Option<(u64, u64)> {
    let text = rest.strip_suffix(b"\r\n").filter(|text| text.len() == HASH_TEXT_BYTES && text[16] == b'-')?;
    Some((unhex(&text[..16])?, unhex(&text[17..])?))
}

fn hex(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

fn unhex(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |value, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(stamp: Stamp) -> Vec<u8> {
        let mut stamp_text = [0; STAMP_TEXT_BYTES];
        stamp.write(&mut stamp_text);
        let headers = [b"Subject: hello\r\n", STAMP_HEADER, &stamp_text, b"\r\n"].concat();
        let body = b"Good morning\r\n";
        let mut hashes = [0; HASH_TEXT_BYTES];
        write_hashes(&mut hashes, hash(&headers), hash(body));
        [HASH_HEADER, &hashes, b"\r\n", &headers, b"\r\n", body].concat()
    }

    const STAMP: Stamp = Stamp { run: 0xfeed, sequence: 77, recipients: 3, time: 0x1234_5678_9abc };

    #[test]
    fn headers_around_the_block_are_no_alteration() {
        let plain = message(STAMP);
        assert_eq!(examine(&plain), Arrival::Intact(STAMP));
        let traced = [b"Received: from a\r\n\tby b\r\n".as_slice(), &plain].concat();
        assert_eq!(examine(&traced), Arrival::Intact(STAMP));
        let text = String::from_utf8(traced).unwrap();
        let appended = text.replace("\r\n\r\n", "\r\nX-Later: 1\r\n\r\n");
        assert_eq!(examine(appended.as_bytes()), Arrival::Intact(STAMP));
    }

    #[test]
    fn every_changed_byte_is_seen() {
        let plain = message(STAMP);
        for index in 0..plain.len() {
            let mut changed = plain.clone();
            changed[index] ^= 1;
            assert!(!matches!(examine(&changed), Arrival::Intact(_)), "byte {index}");
            let mut shorter = plain.clone();
            shorter.remove(index);
            assert!(!matches!(examine(&shorter), Arrival::Intact(_)), "without byte {index}");
        }
    }

    #[test]
    fn a_report_names_its_failed_recipients() {
        let report = "From: <>\r\nContent-Type: multipart/report;\r\n\tboundary=x\r\n\r\n--x\r\n\r\nSorry.\r\n--x\r\n\
             Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; m.example\r\n\r\n\
             Final-Recipient: rfc822; r2@d9.example\r\nAction: failed\r\n\r\n\
             Final-Recipient: rfc822; r1@d9.example\r\nAction: delayed\r\n\r\n--x\r\n";
        let report = [report.as_bytes(), &message(STAMP), b"--x--\r\n"].concat();
        assert_eq!(examine(&report), Arrival::Report(STAMP, vec![2]));
    }

    #[test]
    fn strangers_are_foreign() {
        for message in ["", "\r\n", "Subject: x\r\n\r\nbody\r\n", "no headers"] {
            assert_eq!(examine(message.as_bytes()), Arrival::Foreign);
        }
        for address in ["r@d", "rx@d", "r999999@d", "r70000@d", "q1@d", "r1"] {
            assert_eq!(recipient_number(address.as_bytes()), None, "{address}");
        }
        assert_eq!(recipient_number(b" r17@d0.example"), Some(17));
    }
}
