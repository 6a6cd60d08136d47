//! One SMTP connection of the sink: commands and contents in, replies out.

mod auth;
mod chunk;

use std::net::IpAddr;

use memchr::{memchr, memmem, memrchr};

use super::driver::Desk;
use super::fate::Blow;
use super::pace::Pace;
use crate::clock;
use crate::engine::Flow;
use crate::identity::recipient_number;
pub use auth::Credentials;
use auth::Exchange;
use chunk::Chunk;

/// Longest command line (RFC 5321 4.5.3.1.4 asks for 512 and its extensions add to it).
const LINE_BYTES_MAX: usize = 4096;
/// Recipients per message; further ones are refused with 452.
const RECIPIENTS_MAX: usize = 10_000;

/// A connection from the greeting to its end.
pub(super) struct Session {
    /// Which listener it came in on.
    pub(super) listener: usize,
    client: IpAddr,
    state: State,
    /// TLS protects it.
    secured: bool,
    /// The client proved who it is.
    authenticated: bool,
    /// The listener's, slowed by the domains of the envelope.
    pace: Pace,
    /// The reply that a pause holds back, and how much of it is said.
    held: Option<(Reply, usize)>,
    /// Client network and sender of the envelope, for the greylist.
    origin: u64,
    /// The size that MAIL announced.
    announced: usize,
    /// Bytes of the content whose time to be read is over.
    paid: usize,
    /// It is settled that the content is not cut.
    uncut: bool,
    /// Messages whose end was seen on this connection.
    messages: u64,
}

enum State {
    /// No MAIL yet.
    Idle,
    Envelope(Vec<Recipient>),
    Content(Vec<Recipient>, Scan),
    /// A message in chunks: what came so far, and what is still to come of the present chunk, if there is one.
    Chunks(Vec<Recipient>, Vec<u8>, Option<Chunk>),
    Auth(Exchange),
}

impl State {
    /// Leaves [`State::Idle`] behind.
    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Idle)
    }
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
    /// The answer to EHLO, which depends on the configuration and on whether TLS is there already.
    Offers {
        secured: bool,
    },
}

const fn say(text: &'static str) -> Reply {
    Reply { text: Text::Fixed(text), then: Flow::Read }
}

const fn leave(text: &'static str) -> Reply {
    Reply { text: Text::Fixed(text), then: Flow::Finish }
}

const GREETING: Reply = say("220 sink.example ESMTP\r\n");
const FULL: Reply = leave("421 4.3.2 Too many connections\r\n");
const START_TLS: Reply = Reply { text: Text::Fixed("220 2.0.0 Go ahead\r\n"), then: Flow::Secure };
const AUTH_NEEDED: Reply = say("530 5.7.0 Authentication required\r\n");
const OK: Reply = say("250 2.0.0 Ok\r\n");
const BYE: Reply = leave("221 2.0.0 Bye\r\n");
const GO_ON: Reply = say("354 End data with <CR><LF>.<CR><LF>\r\n");
const TEMPORARY: Reply = say("451 4.3.0 Refused for now, as configured\r\n");
const GREY: Reply = say("451 4.7.1 Greylisted, as configured\r\n");
const PERMANENT: Reply = say("550 5.1.1 Refused, as configured\r\n");
const CROWD: Reply = say("452 4.5.3 Too many recipients\r\n");
const DISORDER: Reply = say("503 5.5.1 Not in this order\r\n");
const UNKNOWN: Reply = say("500 5.5.2 Unknown command\r\n");
const SYNTAX: Reply = say("501 5.5.4 An address in angle brackets is needed\r\n");
const BIG: Reply = say("552 5.3.4 Too big\r\n");
const ENDLESS_CONTENT: Reply = leave("552 5.3.4 Too big\r\n");
const ENDLESS_LINE: Reply = leave("500 5.5.6 Line too long\r\n");
const SHUT: Reply = leave("421 4.7.0 Enough messages on this connection\r\n");
const RESET: Reply = Reply { text: Text::Fixed(""), then: Flow::Reset };
const DROPPED: Reply = Reply { text: Text::Fixed(""), then: Flow::Abort };

impl Session {
    /// A session whose greeting is due.
    pub(super) fn new(listener: usize, client: IpAddr, full: bool, desk: &Desk) -> Self {
        Self {
            listener,
            client,
            state: State::Idle,
            secured: false,
            authenticated: false,
            pace: Pace::of(desk.behaviour(listener)),
            held: Some((if full { FULL } else { GREETING }, 0)),
            origin: 0,
            announced: 0,
            paid: 0,
            uncut: false,
            messages: 0,
        }
    }

    /// Says what is due as if it had just become so.
    pub(super) fn greet(&mut self, desk: &Desk, out: &mut Vec<u8>) -> Flow {
        self.held.take().map_or(Flow::Read, |(greeting, _)| self.answer(greeting, desk, out))
    }

    /// How much to read at once if not all that there is. Commands count too, because a content may come right
    /// behind them.
    pub(super) fn piece(&self) -> Option<usize> {
        self.pace.piece()
    }

    pub(super) fn input(&mut self, input: &[u8], desk: &mut Desk, out: &mut Vec<u8>) -> (usize, Flow) {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            if let Some(until) = self.rest(rest.len()) {
                return (used, Flow::Wait(until));
            }
            let done = match &self.state {
                State::Content(..) => self.content(rest, desk),
                State::Chunks(_, _, Some(_)) => self.chunk(rest, desk),
                _ => self.command(rest, desk),
            };
            let Some((taken, reply)) = done else { return (used, Flow::Read) };
            used += taken;
            let flow = reply.map_or(Flow::Read, |reply| self.answer(reply, desk, out));
            if flow != Flow::Read {
                return (used, flow);
            }
        }
    }

    /// Until when a content has to rest, with `bytes` of input that are not taken yet.
    fn rest(&mut self, bytes: usize) -> Option<u64> {
        let come = match &self.state {
            State::Content(..) => bytes,
            State::Chunks(_, message, Some(chunk)) => message.len() + bytes.min(chunk.left),
            _ => return None,
        };
        self.pace.rest(come, &mut self.paid)
    }

    pub(super) fn woken(&mut self, desk: &Desk, out: &mut Vec<u8>) -> Flow {
        self.held.take().map_or(Flow::Read, |(reply, said)| self.say(reply, said, desk, out))
    }

    /// The TLS handshake is over, and nothing from before it counts.
    pub(super) fn secured(&mut self) {
        self.state = State::Idle;
        (self.secured, self.authenticated) = (true, false);
    }

    fn answer(&mut self, reply: Reply, desk: &Desk, out: &mut Vec<u8>) -> Flow {
        let delay = self.pace.delay;
        if delay.is_zero() || matches!(reply.then, Flow::Abort | Flow::Reset) {
            return self.say(reply, 0, desk, out);
        }
        self.held = Some((reply, 0));
        Flow::Wait(clock::now() + clock::nanoseconds(delay))
    }

    /// Says what is left of a reply, at once or its next byte, and does then what the reply demands.
    fn say(&mut self, reply: Reply, said: usize, desk: &Desk, out: &mut Vec<u8>) -> Flow {
        let left = &reply.bytes(desk)[said..];
        let trickle = self.pace.trickle;
        if !trickle.is_zero() && left.len() > 1 {
            out.push(left[0]);
            self.held = Some((reply, said + 1));
            return Flow::Wait(clock::now() + clock::nanoseconds(trickle));
        }
        out.extend_from_slice(left);
        // What an envelope made slower ends with the last reply to it.
        if matches!(self.state, State::Idle) {
            self.pace = Pace::of(desk.behaviour(self.listener));
        }
        reply.then
    }

    /// Takes one command line, if it is complete, and answers it, unless a chunk follows.
    fn command(&mut self, input: &[u8], desk: &mut Desk) -> Option<(usize, Option<Reply>)> {
        let Some(length) = memchr(b'\n', input) else {
            return (input.len() > LINE_BYTES_MAX).then_some((input.len(), Some(ENDLESS_LINE)));
        };
        let line = input[..length].trim_ascii_end();
        if matches!(self.state, State::Auth(_)) {
            return Some((length + 1, Some(self.respond(line, desk))));
        }
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
            let offers = Reply { text: Text::Offers { secured: self.secured }, then: Flow::Read };
            if is("EHLO") { offers } else { OK }
        } else if is("BDAT") && desk.offers_chunking() {
            return Some((length + 1, self.begin_chunk(line, desk)));
        } else if is("AUTH") {
            self.auth(line, desk)
        } else if is("STARTTLS") && desk.offers_tls() {
            if self.secured || !matches!(self.state, State::Idle) { DISORDER } else { START_TLS }
        } else if is("NOOP") || is("VRFY") {
            OK
        } else if is("QUIT") {
            BYE
        } else {
            UNKNOWN
        };
        Some((length + 1, Some(reply)))
    }

    fn mail(&mut self, line: &[u8], desk: &Desk) -> Reply {
        if !matches!(self.state, State::Idle) {
            return DISORDER;
        }
        if desk.credentials().is_some() && !self.authenticated {
            return AUTH_NEEDED;
        }
        let messages_max = desk.behaviour(self.listener).messages_max;
        if messages_max != 0 && self.messages >= messages_max {
            desk.count_refusal();
            return SHUT;
        }
        let Some(sender) = address(line) else { return SYNTAX };
        self.announced = declared_size(line).unwrap_or(0);
        if self.announced > desk.message_bytes_max() {
            return BIG;
        }
        self.origin = desk.origin(self.client, sender);
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
        self.pace = self.pace.slowed(desk.behaviour(lane));
        if desk.is_grey(self.origin, address, [lane, self.listener]) {
            GREY
        } else if desk.strikes_next(Blow::Temporary, lane) {
            TEMPORARY
        } else if desk.strikes_next(Blow::Permanent, lane) {
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
                (self.paid, self.uncut) = (0, false);
                GO_ON
            }
            _ => DISORDER,
        }
    }

    /// Takes the content, if it is complete, and answers it.
    fn content(&mut self, input: &[u8], desk: &mut Desk) -> Option<(usize, Option<Reply>)> {
        let State::Content(recipients, mut scan) = self.state.take() else { return None };
        let end = find_end(input, &mut scan);
        let content = &input[..end.unwrap_or(input.len())];
        if self.cuts(content, end.is_some(), &recipients, desk) {
            return Some((input.len(), Some(DROPPED)));
        }
        let Some(end) = end else {
            self.state = State::Content(recipients, scan);
            return (input.len() > desk.message_bytes_max()).then_some((input.len(), Some(ENDLESS_CONTENT)));
        };
        let reply = self.receive(content, scan.stuffed, &recipients, desk);
        Some((end + END_MARK.len(), Some(reply)))
    }

    /// Whether the connection is to be cut in this content, of which more may come. What was spared once is
    /// spared to its end.
    fn cuts(&mut self, content: &[u8], whole: bool, recipients: &[Recipient], desk: &Desk) -> bool {
        if self.uncut || (!whole && content.len() <= self.announced / 2) {
            return false;
        }
        let verdict = desk.strikes_content(Blow::Cut, content, whole, recipients, self.listener);
        self.uncut = verdict == Some(false);
        verdict == Some(true)
    }

    /// Takes a message, or does with it what was configured.
    fn receive(&mut self, content: &[u8], stuffed: bool, recipients: &[Recipient], desk: &mut Desk) -> Reply {
        self.messages += 1;
        let strikes =
            |blow| desk.strikes_content(blow, content, true, recipients, self.listener) == Some(true);
        if strikes(Blow::Drop) {
            DROPPED
        } else if strikes(Blow::Reset) {
            RESET
        } else {
            desk.take(content, stuffed, recipients);
            OK
        }
    }
}

impl Reply {
    fn bytes(self, desk: &Desk) -> &[u8] {
        match self.text {
            Text::Fixed(text) => text.as_bytes(),
            Text::Offers { secured } => desk.offers(secured),
        }
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
