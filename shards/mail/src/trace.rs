//! Trace fields: the `Received` field that each relay puts in front of a message (RFC 5321 section 4.4), and
//! their number, which shows a loop (RFC 5321 section 6.3).

use crate::{Address, MessageId, WallTime};
use alloc::string::String;
use core::fmt::Write as _;
use core::net::IpAddr;

/// Most bytes of a client's EHLO or HELO argument that are shown; the rest is cut off. A domain needs no more
/// (RFC 5321 section 4.5.3.1.2).
pub const HELO_BYTES_MAX: usize = 255;

/// What a `Received` field tells.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The client's EHLO or HELO argument, as it came: it may hold anything.
    pub helo: &'a str,
    /// Where the connection came from.
    pub client: IpAddr,
    /// Our name.
    pub hostname: &'a str,
    /// `SMTP`, `ESMTP` or `UTF8SMTP` (RFC 3848, RFC 6531 section 4.3). Only a name that begins with `UTF8`
    /// lets UTF-8 into the field.
    pub protocol: &'a str,
    /// The message's identity here.
    pub id: MessageId,
    /// The recipient when there is just one; with several it would tell one of another.
    pub recipient: Option<&'a Address>,
    /// When the message was accepted.
    pub at: WallTime,
}

/// The trace field, folded, ended by CRLF. No argument can end the field or begin another; every line stays
/// below the 998 bytes of RFC 5322 section 2.1.1 as long as the hostname is a domain.
pub fn received(field: &Received<'_>) -> String {
    let utf8 = field.protocol.starts_with("UTF8");
    let mut text = String::with_capacity(256);
    text.push_str("Received: from ");
    push_name(&mut text, field.helo, utf8);
    // Clients that reach an IPv6 socket over IPv4 are shown by the address that they have themselves.
    // Writing to a string cannot fail.
    let _ = match field.client.to_canonical() {
        IpAddr::V4(client) => write!(text, " ([{client}])"),
        IpAddr::V6(client) => write!(text, " ([IPv6:{client}])"),
    };
    text.push_str("\r\n\tby ");
    push_name(&mut text, field.hostname, utf8);
    let _ = write!(text, " with {} id {}", field.protocol, field.id);
    match field.recipient.filter(|recipient| utf8 || !recipient.is_utf8()) {
        Some(recipient) => {
            let _ = write!(text, "\r\n\tfor <{recipient}>; ");
        }
        None => text.push_str(";\r\n\t"),
    }
    text.push_str(&field.at.rfc5322());
    text.push_str("\r\n");
    text
}

/// The number of `Received` fields in the header block of `content`, which ends at the empty line.
pub fn hops(content: &[u8]) -> usize {
    header_lines(content).filter(|line| is_received(line)).count()
}

/// The lines of the header block with their ends, up to the empty line.
pub(crate) fn header_lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines(content).take_while(|line| *line != b"\r\n" && *line != b"\n")
}

/// The lines of `content` with their ends. A line ends at LF, so that any bytes will do.
pub(crate) fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = content;
    core::iter::from_fn(move || {
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, after) = rest.split_at(end);
        rest = after;
        (!line.is_empty()).then_some(line)
    })
}

fn is_received(line: &[u8]) -> bool {
    const NAME: &[u8] = b"received";
    let Some((name, after)) = line.split_at_checked(NAME.len()) else { return false };
    // RFC 5322 section 4.5.8: old mail may have white space in front of the colon.
    name.eq_ignore_ascii_case(NAME) && after.iter().find(|byte| !matches!(byte, b' ' | b'\t')) == Some(&b':')
}

/// A name as a client gave it: what no domain or address literal can hold becomes `?`.
fn push_name(text: &mut String, name: &str, utf8: bool) {
    if name.is_empty() {
        text.push_str("unknown");
    }
    let shown = name.char_indices().take_while(|(at, c)| at + c.len_utf8() <= HELO_BYTES_MAX);
    text.extend(shown.map(|(_, c)| match c {
        c if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']') => c,
        c if utf8 && !c.is_ascii() && !c.is_control() => c,
        _ => '?',
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use core::net::{Ipv4Addr, Ipv6Addr};

    fn field<'a>(helo: &'a str, recipient: Option<&'a Address>) -> Received<'a> {
        Received {
            helo,
            client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            hostname: "mx.example.org",
            protocol: "ESMTP",
            id: MessageId(1),
            recipient,
            at: WallTime(1_795_566_960_000_000),
        }
    }

    #[test]
    fn a_field_is_folded_and_names_a_lone_recipient() {
        let one = Address::parse("a@b.example", false).expect("mailbox");
        assert_eq!(
            received(&field("client.example.com", Some(&one))),
            "Received: from client.example.com ([192.0.2.1])\r\n\
             \tby mx.example.org with ESMTP id 0000000000001\r\n\
             \tfor <a@b.example>; Wed, 25 Nov 2026 00:36:00 +0000\r\n"
        );
        assert_eq!(
            received(&field("[192.0.2.1]", None)),
            "Received: from [192.0.2.1] ([192.0.2.1])\r\n\
             \tby mx.example.org with ESMTP id 0000000000001;\r\n\
             \tWed, 25 Nov 2026 00:36:00 +0000\r\n"
        );
    }

    #[test]
    fn ipv6_clients_are_tagged_and_mapped_ones_shown_as_ipv4() {
        let mut six = field("x", None);
        six.client = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
        assert!(received(&six).contains("from x ([IPv6:2001:db8::1])\r\n"));
        six.client = IpAddr::V6(Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped());
        assert!(received(&six).contains("from x ([192.0.2.7])\r\n"));
    }

    #[test]
    fn a_hostile_helo_cannot_leave_its_place() {
        let hostile = "a\r\nBcc: x\r\n\r\nbody (comment) \"q\" \\ ; <x>\0\u{7f}\u{85}\u{2028}é";
        for protocol in ["ESMTP", "UTF8SMTP"] {
            let text = received(&Received { protocol, ..field(hostile, None) });
            let lines: Vec<&str> = text.split("\r\n").collect();
            assert_eq!(lines.len(), 4, "{text}");
            assert!(lines[1].starts_with('\t') && lines[2].starts_with('\t') && lines[3].is_empty());
            assert!(!text.replace("\r\n", "").contains(['\r', '\n', '\0', '\u{7f}', '\u{85}']));
            assert_eq!(text.contains('é'), protocol == "UTF8SMTP");
            assert!(lines[0].starts_with("Received: from a??Bcc:?x????body??comment?"));
        }
        assert!(received(&field("", None)).starts_with("Received: from unknown ("));
    }

    #[test]
    fn a_long_helo_is_cut_between_characters() {
        for pad in 0..4 {
            let helo = "x".repeat(pad) + &"é€".repeat(5000);
            for protocol in ["SMTP", "UTF8SMTP"] {
                let text = received(&Received { protocol, ..field(&helo, None) });
                assert!(text.split("\r\n").all(|line| line.len() < 300));
            }
        }
    }

    #[test]
    fn a_utf8_recipient_is_shown_only_in_utf8_mail() {
        let one = Address::parse("jörg@x.example", true).expect("mailbox");
        assert!(!received(&field("x", Some(&one))).contains("for <"));
        let utf8 = Received { protocol: "UTF8SMTP", ..field("x", Some(&one)) };
        assert!(
            received(&utf8).contains("with UTF8SMTP id")
                && received(&utf8).contains("for <jörg@x.example>; ")
        );
    }

    #[test]
    fn hops_are_counted_in_the_header_block_only() {
        for (content, count) in [
            (&b""[..], 0),
            (b"Received: a\r\n", 1),
            (b"Received: a", 1),
            (b"received:a\r\nRECEIVED : b\r\nReceived\t: c\r\n", 3),
            (b"X: Received: a\r\n Received: b\r\n\tReceived: c\r\n", 0),
            (b"Received-SPF: pass\r\nReceived\r\nReceived \r\n:\r\n", 0),
            (b"Received: a\r\n\r\nReceived: b\r\n", 1),
            (b"Received: a\n\nReceived: b\n", 1),
            (b"\r\nReceived: b\r\n", 0),
            (b"\nReceived: b\r\n", 0),
            (b"Received: a\r\n\rReceived: b\r\n", 1),
            (b"Received: a\r\nReceived: \xff\0\r\n\xff", 2),
            (b"Receive", 0),
        ] {
            assert_eq!(hops(content), count, "{:?}", String::from_utf8_lossy(content));
        }
        assert_eq!(hops(&b"Received: x\r\n\tby y\r\n".repeat(1000)), 1000);
    }

    #[test]
    fn what_received_writes_counts_as_one_hop() {
        assert_eq!(hops(received(&field("\r\nReceived: x\r\n", None)).as_bytes()), 1);
    }

    #[test]
    fn any_short_content_is_judged_without_panic() {
        let alphabet = [b'\r', b'\n', b':', b' ', b'r', 0xff];
        let mut contents = alloc::vec![Vec::new()];
        for _ in 0..6 {
            contents = contents
                .iter()
                .flat_map(|c: &Vec<u8>| alphabet.iter().map(move |b| [&c[..], &[*b]].concat()))
                .collect();
            for content in &contents {
                assert_eq!(hops(content), 0);
                let lines: Vec<&[u8]> = header_lines(content).collect();
                assert!(content.starts_with(&lines.concat()));
            }
        }
    }
}
