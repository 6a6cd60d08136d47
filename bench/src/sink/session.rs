//! One SMTP connection of the sink: commands and contents in, replies out.

use std::time::Duration;

use memchr::{memchr, memmem, memrchr};

use super::driver::Desk;
use crate::clock;
use crate::engine::Flow;
use crate::identity::recipient_number;

/// Longest command line (RFC 5321 4.5.3.1.4 asks for 512 and its extensions add to it).
const LINE_BYTES_MAX: usize = 4096;
/// Recipients per message; further ones are refused with 452.
const RECIPIENTS_MAX: usize = 10_000;

/// A connection from the greeting to its end.
pub(super) struct Session {
    /// Which listener it came in on.
    pub(super) listener: usize,
    state: State,
    /// Pause before the next reply: the listener's, or the longest among the domains of the envelope.
    delay: Duration,
    /// The reply that a delay holds back.
    held: Option<Reply>,
}

enum State {
    /// No MAIL yet.
    Idle,
    Envelope(Vec<Recipient>),
    Content(Vec<Recipient>, Scan),
}

/// A recipient that was accepted.
#[derive(Clone, Copy)]
pub(super) struct Recipient {
    /// The number in its address, if a load made it.
    pub(super) number: Option<u16>,
    /// Its domain's place in the desk's list.
    pub(super) domain: usize,
    /// Whose behaviour applies: the domain's or else the listener's.
    pub(super) lane: usize,
}

/// How far the end of a content was looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Scan {
    bytes: usize,
    /// A doubled dot was seen.
    stuffed: bool,
}

/// What to say and what to do then.
#[derive(Clone, Copy)]
struct Reply {
    text: Text,
    then: Flow,
}

#[derive(Clone, Copy)]
enum Text {
    Fixed(&'static str),
    /// The answer to EHLO, which depends on the configuration.
    Offers,
}

const fn say(text: &'static str) -> Reply {
    Reply { text: Text::Fixed(text), then: Flow::Read }
}

const fn leave(text: &'static str) -> Reply {
    Reply { text: Text::Fixed(text), then: Flow::Finish }
}

const GREETING: Reply = say("220 sink.example ESMTP\r\n");
const FULL: Reply = leave("421 4.3.2 Too many connections\r\n");
const OFFERS: Reply = Reply { text: Text::Offers, then: Flow::Read };
const OK: Reply = say("250 2.0.0 Ok\r\n");
const BYE: Reply = leave("221 2.0.0 Bye\r\n");
const GO_ON: Reply = say("354 End data with <CR><LF>.<CR><LF>\r\n");
const TEMPORARY: Reply = say("451 4.3.0 Refused for now, as configured\r\n");
const PERMANENT: Reply = say("550 5.1.1 Refused, as configured\r\n");
const CROWD: Reply = say("452 4.5.3 Too many recipients\r\n");
const DISORDER: Reply = say("503 5.5.1 Not in this order\r\n");
const UNKNOWN: Reply = say("500 5.5.2 Unknown command\r\n");
const SYNTAX: Reply = say("501 5.5.4 An address in angle brackets is needed\r\n");
const BIG: Reply = say("552 5.3.4 Too big\r\n");
const ENDLESS_CONTENT: Reply = leave("552 5.3.4 Too big\r\n");
const ENDLESS_LINE: Reply = leave("500 5.5.6 Line too long\r\n");
const DROPPED: Reply = Reply { text: Text::Fixed(""), then: Flow::Abort };

impl Session {
    pub(super) fn new(listener: usize, full: bool, desk: &Desk, out: &mut Vec<u8>) -> (Self, Flow) {
        let delay = desk.behaviour(listener).delay;
        let mut session = Self { listener, state: State::Idle, delay, held: None };
        let flow = session.answer(if full { FULL } else { GREETING }, desk, out);
        (session, flow)
    }

    /// A session that gets its greeting when it is woken.
    pub(super) fn waiting(listener: usize, desk: &Desk) -> Self {
        let delay = desk.behaviour(listener).delay;
        Self { listener, state: State::Idle, delay, held: Some(GREETING) }
    }

    pub(super) fn input(&mut self, input: &[u8], desk: &mut Desk, out: &mut Vec<u8>) -> (usize, Flow) {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            let done = match &self.state {
                State::Content(..) => self.content(rest, desk),
                _ => self.command(rest, desk),
            };
            let Some((taken, reply)) = done else { return (used, Flow::Read) };
            used += taken;
            let flow = self.answer(reply, desk, out);
            if flow != Flow::Read {
                return (used, flow);
            }
        }
    }

    pub(super) fn woken(&mut self, desk: &Desk, out: &mut Vec<u8>) -> Flow {
        self.held.take().map_or(Flow::Read, |reply| reply.write(desk, out))
    }

    fn answer(&mut self, reply: Reply, desk: &Desk, out: &mut Vec<u8>) -> Flow {
        let delay = self.delay;
        if matches!(self.state, State::Idle) {
            self.delay = desk.behaviour(self.listener).delay;
        }
        if delay.is_zero() || reply.then == Flow::Abort {
            return reply.write(desk, out);
        }
        self.held = Some(reply);
        Flow::Wait(clock::now() + clock::nanoseconds(delay))
    }

    /// Takes one command line, if it is complete, and answers it.
    fn command(&mut self, input: &[u8], desk: &mut Desk) -> Option<(usize, Reply)> {
        let Some(length) = memchr(b'\n', input) else {
            return (input.len() > LINE_BYTES_MAX).then_some((input.len(), ENDLESS_LINE));
        };
        let line = input[..length].trim_ascii_end();
        let verb = memchr(b' ', line).map_or(line, |end| &line[..end]);
        let is = |name: &str| verb.eq_ignore_ascii_case(name.as_bytes());
        let reply = if is("MAIL") {
            self.mail(line, desk)
        } else if is("RCPT") {
            self.recipient(line, desk)
        } else if is("DATA") {
            self.data()
        } else if is("EHLO") || is("HELO") || is("RSET") {
            self.state = State::Idle;
            if is("EHLO") { OFFERS } else { OK }
        } else if is("NOOP") || is("VRFY") {
            OK
        } else if is("QUIT") {
            BYE
        } else {
            UNKNOWN
        };
        Some((length + 1, reply))
    }

    fn mail(&mut self, line: &[u8], desk: &Desk) -> Reply {
        if !matches!(self.state, State::Idle) {
            return DISORDER;
        }
        if address(line).is_none() {
            return SYNTAX;
        }
        if declared_size(line).is_some_and(|bytes| bytes > desk.message_bytes_max()) {
            return BIG;
        }
        self.state = State::Envelope(Vec::new());
        OK
    }

    fn recipient(&mut self, line: &[u8], desk: &mut Desk) -> Reply {
        let State::Envelope(recipients) = &mut self.state else { return DISORDER };
        let Some(address) = address(line) else { return SYNTAX };
        if recipients.len() >= RECIPIENTS_MAX {
            return CROWD;
        }
        let at = memrchr(b'@', address);
        let domain = desk.domain(at.map_or(&b""[..], |at| &address[at + 1..]));
        let lane = desk.lane(domain).unwrap_or(self.listener);
        let behaviour = desk.behaviour(lane);
        let (temporary, permanent) = (behaviour.temporary_percent, behaviour.permanent_percent);
        self.delay = self.delay.max(behaviour.delay);
        if desk.chance(temporary) {
            TEMPORARY
        } else if desk.chance(permanent) {
            PERMANENT
        } else {
            recipients.push(Recipient { number: recipient_number(address), domain, lane });
            OK
        }
    }

    fn data(&mut self) -> Reply {
        match &mut self.state {
            State::Envelope(recipients) if !recipients.is_empty() => {
                self.state = State::Content(std::mem::take(recipients), Scan::default());
                GO_ON
            }
            _ => DISORDER,
        }
    }

    /// Takes the content, if it is complete, and answers it.
    fn content(&mut self, input: &[u8], desk: &mut Desk) -> Option<(usize, Reply)> {
        let State::Content(recipients, scan) = &mut self.state else { return None };
        let Some(end) = find_end(input, scan) else {
            return (input.len() > desk.message_bytes_max()).then_some((input.len(), ENDLESS_CONTENT));
        };
        let lanes = recipients.iter().map(|recipient| recipient.lane).chain([self.listener]);
        let drop_percent = lanes.map(|lane| desk.behaviour(lane).drop_percent).fold(0.0, f64::max);
        let reply = if desk.chance(drop_percent) {
            DROPPED
        } else {
            desk.take(&input[..end], scan.stuffed, recipients);
            OK
        };
        self.state = State::Idle;
        Some((end + END_MARK.len(), reply))
    }
}

impl Reply {
    fn write(self, desk: &Desk, out: &mut Vec<u8>) -> Flow {
        out.extend_from_slice(match self.text {
            Text::Fixed(text) => text.as_bytes(),
            Text::Offers => desk.offers(),
        });
        self.then
    }
}

/// RFC 5321 4.1.1.4: a line with a single dot; the CRLF in front of it belongs to the message.
const END_MARK: &[u8] = b".\r\n";

/// Length of the content if its end has come. Looks at every byte once, however many pieces it comes in.
fn find_end(input: &[u8], scan: &mut Scan) -> Option<usize> {
    if scan.bytes == 0 && input.first() == Some(&b'.') {
        if input.len() < END_MARK.len() && END_MARK.starts_with(input) {
            return None;
        }
        if input.starts_with(END_MARK) {
            return Some(0);
        }
        scan.stuffed = true;
    }
    while let Some(found) = memmem::find(&input[scan.bytes..], b"\r\n.") {
        let dot = scan.bytes + found + 2;
        let rest = &input[dot..];
        if rest.starts_with(END_MARK) {
            return Some(dot);
        }
        if END_MARK.starts_with(rest) {
            scan.bytes += found;
            return None;
        }
        scan.stuffed = true;
        scan.bytes = dot;
    }
    scan.bytes = scan.bytes.max(input.len().saturating_sub(2));
    None
}

/// What stands in angle brackets.
fn address(line: &[u8]) -> Option<&[u8]> {
    let start = memchr(b'<', line)? + 1;
    let end = start + memchr(b'>', &line[start..])?;
    Some(&line[start..end])
}

/// RFC 1870: the SIZE parameter of MAIL.
fn declared_size(line: &[u8]) -> Option<usize> {
    let at = memmem::find(line, b" SIZE=")?;
    let digits = line[at + 6..].split(|&byte| byte == b' ').next()?;
    str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_at_every_cut() {
        let cases: [(&[u8], usize, bool); 5] = [
            (b".\r\nQUIT\r\n", 0, false),
            (b"a\r\n.\r\n", 3, false),
            (b"a\r\n..\r\n.b\r\n.\r\n", 11, true),
            (b"..\r\n.\r\n", 4, true),
            (b"a\n.\n\r.\r\r\n.\r\nMAIL", 9, false),
        ];
        for (input, end, stuffed) in cases {
            for cut in 0..input.len() {
                let mut scan = Scan::default();
                let found = find_end(&input[..cut], &mut scan).or_else(|| find_end(input, &mut scan));
                assert_eq!((found, scan.stuffed), (Some(end), stuffed), "{input:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn parameters_are_read() {
        assert_eq!(address(b"RCPT TO:<a@b> NOTIFY=NEVER"), Some(&b"a@b"[..]));
        assert_eq!(address(b"MAIL FROM:<>"), Some(&b""[..]));
        assert_eq!(address(b"MAIL FROM:a@b"), None);
        assert_eq!(declared_size(b"MAIL FROM:<a@b> SIZE=123 BODY=8BITMIME"), Some(123));
        assert_eq!(declared_size(b"MAIL FROM:<a@b> SIZE=x"), None);
    }
}
