//! Reports of failure to a message's sender (RFC 3464), so that nothing is dropped in silence.
//!
//! A report is a message of three parts: a text for people, a status for programs, and the header block of
//! the original. What comes from outside (replies, names, the original) leaves neither its line nor its part.
//!
//! UTF-8: a plain report is ASCII throughout, and any next hop can take it; other characters of replies and
//! of the original become `?`. When an address or the original needs UTF-8 ([`Report::is_utf8`]), the types
//! are `message/global-delivery-status` and `message/global-headers` (RFC 6533), all parts are UTF-8, and the
//! report's envelope must say SMTPUTF8 and 8BITMIME. Addresses are not converted between the forms.

use crate::trace::header_lines;
use crate::{Address, Class, Enhanced, MessageId, Reply, WallTime};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use memchr::{memmem, memrchr};

/// Most bytes of the original's header block that are returned; lines beyond are left out.
pub const HEADERS_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of a reply's text, or of a next hop's name, that are shown; the rest is cut off.
pub const TEXT_BYTES_MAX: usize = 1024;
/// Longest line that is written; RFC 5322 section 2.1.1 allows 998. Longer ones are split.
const LINE_BYTES_MAX: usize = 900;
/// Where lines are folded when there is a space to do so.
const FOLD_COLUMN: usize = 76;

/// A message that could not be delivered to some of its recipients.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Our name.
    pub hostname: &'a str,
    /// The identity of the report, which is a new message.
    pub id: MessageId,
    /// When the report is made.
    pub at: WallTime,
    /// The original's sender, to whom the report goes.
    pub sender: &'a Address,
    /// The original's identity here.
    pub original: MessageId,
    /// When the original was accepted.
    pub arrived: WallTime,
    /// The recipients who will not get it; at least one.
    pub failures: &'a [Failure],
    /// The original, or its header block; only the header block is returned.
    pub headers: &'a [u8],
    /// The original was given to us with SMTPUTF8.
    pub utf8: bool,
}

/// Why a recipient will not get the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The recipient.
    pub recipient: Address,
    /// The last reply. One that is not permanent means that the time for trying again is over.
    pub reply: Reply,
    /// The next hop that gave the reply, when there was one.
    pub next_hop: Option<String>,
}

impl Report<'_> {
    /// Whether the report holds UTF-8, so that its envelope must say SMTPUTF8 and 8BITMIME.
    pub fn is_utf8(&self) -> bool {
        self.utf8 || self.sender.is_utf8() || self.failures.iter().any(|failure| failure.recipient.is_utf8())
    }
}

/// The header block of `content`, without the empty line that ends it.
pub fn headers(content: &[u8]) -> &[u8] {
    &content[..header_lines(content).map(<[u8]>::len).sum()]
}

/// The report as a whole message, lines ended by CRLF, to be sent with the null reverse-path (RFC 3464).
pub fn report(report: &Report<'_>) -> Vec<u8> {
    let utf8 = report.is_utf8();
    let parts = [
        (if utf8 { "text/plain; charset=utf-8" } else { "text/plain; charset=us-ascii" }, human(report)),
        (if utf8 { "message/global-delivery-status" } else { "message/delivery-status" }, status(report)),
        (if utf8 { "message/global-headers" } else { "text/rfc822-headers" }, original(report)),
    ];
    let encoding = if utf8 { "Content-Transfer-Encoding: 8bit\r\n" } else { "" };
    let boundary = boundary(report, &parts.each_ref().map(|(_, text)| text.as_bytes()));
    let mut out = front(report, &boundary);
    out.push_str(encoding);
    for (kind, text) in &parts {
        out.push_str(&format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\n{encoding}\r\n{text}"));
    }
    out.push_str(&format!("\r\n--{boundary}--\r\n"));
    out.into_bytes()
}

/// The report's own header fields.
fn front(report: &Report<'_>, boundary: &str) -> String {
    let host = shown(report.hostname, report.is_utf8());
    format!(
        "From: Mail delivery <MAILER-DAEMON@{host}>\r\n\
         To: <{to}>\r\n\
         Subject: Your message could not be delivered\r\n\
         Date: {date}\r\n\
         Message-ID: <{id}@{host}>\r\n\
         Auto-Submitted: auto-replied\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status;\r\n\
         \tboundary=\"{boundary}\"\r\n",
        to = report.sender,
        date = report.at.rfc5322(),
        id = report.id,
    )
}

/// A boundary that no part holds: whoever writes the original might guess the identities.
fn boundary(report: &Report<'_>, parts: &[&[u8]]) -> String {
    let mut boundary = format!("{}-{}", report.id, report.original);
    // Each round rules out a text that is really there, and the parts hold only so many.
    for round in 0u32.. {
        if parts.iter().all(|part| memmem::find(part, boundary.as_bytes()).is_none()) {
            break;
        }
        boundary = format!("{}-{}-{round}", report.id, report.original);
    }
    boundary
}

/// The part for people.
fn human(report: &Report<'_>) -> String {
    let utf8 = report.is_utf8();
    let mut out = String::new();
    let host = shown(report.hostname, utf8);
    push_folded(
        &mut out,
        "",
        &format!(
            "Your message, accepted by {host} on {} as {}, could not be delivered to the following \
             recipients. No further attempt will be made.",
            report.arrived.rfc5322(),
            report.original
        ),
    );
    for failure in report.failures {
        out.push_str(&format!("\r\n<{}>\r\n", failure.recipient));
        if failure.reply.class() != Class::Permanent {
            out.push_str("  The time for trying again is over. The last reply was:\r\n");
        }
        let said = match &failure.next_hop {
            Some(next_hop) => format!("{} said: {}", shown(next_hop, utf8), diagnostic(&failure.reply, utf8)),
            None => diagnostic(&failure.reply, utf8),
        };
        push_folded(&mut out, "  ", &said);
    }
    out
}

/// The part for programs (RFC 3464 section 2.1): fields for the message, then a group for each recipient.
fn status(report: &Report<'_>) -> String {
    let utf8 = report.is_utf8();
    let mut out = String::new();
    push_folded(&mut out, "Reporting-MTA: ", &format!("dns; {}", shown(report.hostname, utf8)));
    out.push_str(&format!("Arrival-Date: {}\r\n", report.arrived.rfc5322()));
    for failure in report.failures {
        // RFC 6533 section 3: the address type says whether it is UTF-8. Not folded: spaces in quotes matter.
        let kind = if failure.recipient.is_utf8() { "utf-8" } else { "rfc822" };
        out.push_str(&format!("\r\nFinal-Recipient: {kind}; {}\r\n", failure.recipient));
        out.push_str(&format!("Action: failed\r\nStatus: {}\r\n", status_code(&failure.reply)));
        if let Some(next_hop) = &failure.next_hop {
            push_folded(&mut out, "Remote-MTA: ", &format!("dns; {}", shown(next_hop, utf8)));
        }
        push_folded(&mut out, "Diagnostic-Code: ", &format!("smtp; {}", diagnostic(&failure.reply, utf8)));
    }
    out
}

/// RFC 3463: 5.0.0 is a permanent failure of an unknown kind, 4.4.7 says that the time for delivery is over.
fn status_code(reply: &Reply) -> Enhanced {
    match (reply.enhanced, reply.class()) {
        (Some(Enhanced(class @ 4..=5, subject, detail)), _) => Enhanced(class, subject, detail),
        (_, Class::Permanent) => Enhanced(5, 0, 0),
        _ => Enhanced(4, 4, 7),
    }
}

/// The original's header block, its lines made fit to be sent.
fn original(report: &Report<'_>) -> String {
    let utf8 = report.is_utf8();
    let block = headers(report.headers);
    let most = block.len().min(HEADERS_BYTES_MAX);
    let whole_lines = match memrchr(b'\n', &block[..most]) {
        Some(end) if most < block.len() => end + 1,
        _ => most,
    };
    let mut out = String::new();
    for line in header_lines(&block[..whole_lines]) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text: String = String::from_utf8_lossy(line).chars().map(|c| harmless(c, utf8)).collect();
        let mut rest = text.as_str();
        while rest.len() > LINE_BYTES_MAX {
            let (first, after) = split_near(rest, LINE_BYTES_MAX);
            out.push_str(first);
            out.push_str("\r\n ");
            rest = after;
        }
        out.push_str(rest);
        out.push_str("\r\n");
    }
    out
}

/// The reply on one line.
fn diagnostic(reply: &Reply, utf8: bool) -> String {
    let (text, _) = split_near(&reply.text, TEXT_BYTES_MAX);
    let bounded = Reply { code: reply.code, enhanced: reply.enhanced, text: Cow::Owned(text.into()) };
    shown(&format!("{bounded}"), utf8)
}

/// A text from outside on one line, cut at [`TEXT_BYTES_MAX`] (and some more for the code of a reply).
fn shown(text: &str, utf8: bool) -> String {
    let (text, _) = split_near(text, TEXT_BYTES_MAX + 32);
    text.chars().map(|c| if c == '\t' { ' ' } else { harmless(c, utf8) }).collect()
}

fn harmless(c: char, utf8: bool) -> char {
    let fits = c == '\t' || (!c.is_control() && (utf8 || c.is_ascii()));
    if fits { c } else { '?' }
}

/// Splits `text` at `at` bytes, or before the character there; all of a shorter text comes first.
fn split_near(text: &str, at: usize) -> (&str, &str) {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    text.split_at(at)
}

/// Appends `start` and the words of `text`, folded: continued lines begin with two spaces.
fn push_folded(out: &mut String, start: &str, text: &str) {
    out.push_str(start);
    let mut column = start.len();
    let mut is_first = true;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut rest = word;
        while !rest.is_empty() {
            let (piece, after) = split_near(rest, LINE_BYTES_MAX);
            if !is_first && (column + 1 + piece.len() > FOLD_COLUMN) {
                out.push_str("\r\n  ");
                column = 2;
            } else if !is_first {
                out.push(' ');
                column += 1;
            }
            out.push_str(piece);
            column += piece.len();
            is_first = false;
            rest = after;
        }
    }
    out.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    const AT: WallTime = WallTime(1_795_566_960_000_000);

    fn failure(recipient: &str, reply: Reply, next_hop: Option<&str>) -> Failure {
        let recipient = Address::parse(recipient, true).expect("mailbox");
        Failure { recipient, reply, next_hop: next_hop.map(String::from) }
    }

    fn make(sender: &str, failures: &[Failure], headers: &[u8], utf8: bool) -> String {
        let sender = Address::parse(sender, true).expect("mailbox");
        let bytes = report(&Report {
            hostname: "mx.example.org",
            id: MessageId(2),
            at: AT,
            sender: &sender,
            original: MessageId(1),
            arrived: WallTime(AT.0 - 60_000_000),
            failures,
            headers,
            utf8,
        });
        String::from_utf8(bytes).expect("a report is UTF-8")
    }

    /// What holds for every report.
    fn assert_sound(text: &str, utf8: bool) {
        assert!(text.ends_with("--\r\n"));
        assert!(text.split("\r\n").all(|line| line.len() < 998 && !line.contains(['\r', '\n'])));
        assert!(!text.chars().any(|c| c.is_control() && !matches!(c, '\r' | '\n' | '\t')));
        assert!(utf8 || text.is_ascii());
        let boundary =
            text.split("boundary=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("boundary");
        assert_eq!(text.matches(boundary).count(), 5, "its declaration, three parts and the end");
        assert_eq!(text.matches(&alloc::format!("\r\n--{boundary}")).count(), 4);
        let front = &text[..text.find("\r\n\r\n").expect("empty line")];
        assert_eq!(front.matches("\r\n").count(), if utf8 { 9 } else { 8 }, "{front}");
    }

    #[test]
    fn a_report_is_written_as_rfc_3464_wants_it() {
        let failures = [
            failure("a@b.example", Reply::new(550, (5, 1, 1), "no such\nuser"), Some("mx.b.example")),
            failure("c@d.example", Reply::bare(421, "busy"), None),
        ];
        let text =
            make("s@x.example", &failures, b"From: <s@x.example>\r\nSubject: hello\r\n\r\nbody\r\n", false);
        assert_sound(&text, false);
        assert_eq!(
            text,
            "From: Mail delivery <MAILER-DAEMON@mx.example.org>\r\n\
             To: <s@x.example>\r\n\
             Subject: Your message could not be delivered\r\n\
             Date: Wed, 25 Nov 2026 00:36:00 +0000\r\n\
             Message-ID: <0000000000002@mx.example.org>\r\n\
             Auto-Submitted: auto-replied\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n\
             \tboundary=\"0000000000002-0000000000001\"\r\n\
             \r\n\
             --0000000000002-0000000000001\r\n\
             Content-Type: text/plain; charset=us-ascii\r\n\
             \r\n\
             Your message, accepted by mx.example.org on Wed, 25 Nov 2026 00:35:00 +0000\r\n  \
             as 0000000000001, could not be delivered to the following recipients. No\r\n  \
             further attempt will be made.\r\n\
             \r\n\
             <a@b.example>\r\n  \
             mx.b.example said: 550 5.1.1 no such user\r\n\
             \r\n\
             <c@d.example>\r\n  \
             The time for trying again is over. The last reply was:\r\n  \
             421 busy\r\n\
             \r\n\
             --0000000000002-0000000000001\r\n\
             Content-Type: message/delivery-status\r\n\
             \r\n\
             Reporting-MTA: dns; mx.example.org\r\n\
             Arrival-Date: Wed, 25 Nov 2026 00:35:00 +0000\r\n\
             \r\n\
             Final-Recipient: rfc822; a@b.example\r\n\
             Action: failed\r\n\
             Status: 5.1.1\r\n\
             Remote-MTA: dns; mx.b.example\r\n\
             Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n\
             \r\n\
             Final-Recipient: rfc822; c@d.example\r\n\
             Action: failed\r\n\
             Status: 4.4.7\r\n\
             Diagnostic-Code: smtp; 421 busy\r\n\
             \r\n\
             --0000000000002-0000000000001\r\n\
             Content-Type: text/rfc822-headers\r\n\
             \r\n\
             From: <s@x.example>\r\n\
             Subject: hello\r\n\
             \r\n\
             --0000000000002-0000000000001--\r\n"
        );
    }

    #[test]
    fn the_status_comes_from_the_reply() {
        for (reply, status) in [
            (Reply::new(550, (5, 7, 26), ""), "5.7.26"),
            (Reply::bare(550, "x"), "5.0.0"),
            (Reply::new(450, (4, 2, 2), ""), "4.2.2"),
            (Reply::bare(450, ""), "4.4.7"),
            (Reply::new(550, (2, 0, 0), ""), "5.0.0"),
            (Reply::new(450, (2, 0, 0), ""), "4.4.7"),
        ] {
            assert_eq!(status_code(&reply).to_string(), status);
        }
    }

    #[test]
    fn utf8_takes_the_global_types() {
        let reply = Reply::new(550, (5, 1, 1), "unbekannt: jörg");
        let headers = "Subject: grüße\r\nX: \u{85}\r\n".as_bytes();
        let ascii = make("s@x.example", &[failure("a@b", reply.clone(), None)], headers, false);
        assert_sound(&ascii, false);
        assert!(ascii.contains("unbekannt: j?rg") && ascii.contains("Subject: gr??e\r\nX: ?\r\n"));
        let one = [failure("jörg@b", reply.clone(), None)];
        for text in [
            make("é@x.example", &one, headers, false),
            make("s@x.example", &one, headers, false),
            make("s@x.example", &[failure("a@b", reply, None), one[0].clone()], headers, true),
        ] {
            assert_sound(&text, true);
            for held in [
                "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n",
                "Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n",
                "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n",
                "Final-Recipient: utf-8; jörg@b\r\n",
                "550 5.1.1 unbekannt: jörg\r\n",
                "Subject: grüße\r\nX: ?\r\n",
            ] {
                assert!(text.contains(held), "{held}");
            }
        }
    }

    #[test]
    fn nothing_from_outside_leaves_its_place() {
        let nasty = "x\r\nBcc: y\r\n\r\n--0000000000002-0000000000001\r\nz\0\u{7f}\u{1b}[0m\té\u{2028}\n.\n";
        for utf8 in [false, true] {
            let reply = Reply::new(550, (5, 0, 0), nasty);
            let failures = [failure("\"a  b\"@c.example", reply, Some(nasty))];
            let headers = b"A: \rB\r\n--0000000000002-0000000000001--\r\nC\0: \xff\x80\n\r\r\n \r\nD: e";
            let text = make("s@x.example", &failures, headers, utf8);
            assert_sound(&text, utf8);
            assert!(!text.contains("\r\nBcc") && !text.contains("\r\n."));
            assert!(text.contains("Final-Recipient: rfc822; \"a  b\"@c.example\r\n"));
            assert!(
                text.contains("\r\n--0000000000002-0000000000001--\r\nC?: "),
                "the original's line is kept"
            );
            assert!(text.contains("\r\n?\r\n \r\nD: e\r\n"));
        }
    }

    #[test]
    fn boundaries_give_way_as_often_as_they_must() {
        let mut headers = b"X: 0000000000002-0000000000001\r\n".to_vec();
        for round in 0..50 {
            headers
                .extend_from_slice(alloc::format!("X: 0000000000002-0000000000001-{round}\r\n").as_bytes());
        }
        let text = make("s@x.example", &[failure("a@b", Reply::bare(550, ""), None)], &headers, false);
        assert_sound(&text, false);
        assert!(text.contains("boundary=\"0000000000002-0000000000001-50\""));
    }

    #[test]
    fn long_texts_are_folded_split_and_cut() {
        for (text, utf8) in
            [("word ".repeat(5000), false), ("x".repeat(50_000), false), ("é€".repeat(20_000), true)]
        {
            let failures = [failure("a@b", Reply::new(550, (5, 1, 1), text.clone()), Some(text.as_str()))];
            let headers = alloc::format!("Subject: {text}\r\nTo: a@b\r\n");
            let report = make("s@x.example", &failures, headers.as_bytes(), utf8);
            assert_sound(&report, utf8);
            assert!(report.len() < 2 * headers.len() + 16 * TEXT_BYTES_MAX);
            assert!(report.contains("To: a@b\r\n") || headers.len() > HEADERS_BYTES_MAX);
        }
    }

    #[test]
    fn the_original_is_bounded_at_a_line_end() {
        let one = [failure("a@b", Reply::bare(550, ""), None)];
        let headers = b"X-Field: 0123456789\r\n".repeat(10_000);
        let text = make("s@x.example", &one, &headers, false);
        assert_sound(&text, false);
        assert_eq!(text.matches("X-Field: 0123456789\r\n").count(), HEADERS_BYTES_MAX / 21);
        assert_eq!(text.matches("X-Field").count(), HEADERS_BYTES_MAX / 21);
        let endless = make("s@x.example", &one, &vec![b'x'; 1_000_000], false);
        assert_sound(&endless, false);
        assert!(endless.len() < HEADERS_BYTES_MAX + 4096);
    }

    #[test]
    fn header_blocks_end_at_the_empty_line() {
        for (content, block) in [
            (&b"A: b\r\n\r\nbody\r\n"[..], &b"A: b\r\n"[..]),
            (b"A: b\n\nbody", b"A: b\n"),
            (b"A: b\r\n c\r\n", b"A: b\r\n c\r\n"),
            (b"\r\nbody", b""),
            (b"", b""),
            (b"A", b"A"),
        ] {
            assert_eq!(headers(content), block);
        }
    }

    #[test]
    fn any_headers_and_replies_make_a_sound_report() {
        let alphabet: &[&[u8]] =
            &[b"\r", b"\n", b"\r\n", b"-", b"\xff", "é".as_bytes(), b"\0", b" ", b"a: b"];
        for number in 0..alphabet.len().pow(3) {
            let mut rest = number;
            let mut bytes = Vec::new();
            for _ in 0..3 {
                bytes.extend_from_slice(alphabet[rest % alphabet.len()]);
                rest /= alphabet.len();
            }
            let reply = Reply::bare(550, String::from_utf8_lossy(&bytes).into_owned());
            let utf8 = number % 2 == 0;
            assert_sound(&make("s@x.example", &[failure("a@b", reply, None)], &bytes, utf8), utf8);
        }
    }
}
