//! One SMTP connection of the load: replies in, commands and contents out.

use std::collections::VecDeque;

use super::books::{Books, Job, put};
use super::opening::{Offers, Opening};
use super::{LatencyFrom, Phase, Pipelining};
use crate::engine::Tls;
use crate::engine::{Ending, Flow};
use crate::{Transfer, clock};

/// Longest reply line that is still taken for one.
const LINE_BYTES_MAX: usize = 8192;

/// A connection from the attempt to connect to its end.
pub(super) struct Client {
    /// What the outstanding replies answer, oldest first.
    expected: VecDeque<Phase>,
    offers: Offers,
    secured: bool,
    authenticated: bool,
    /// Lines said in the exchange of AUTH.
    said: usize,
    /// Messages begun on this connection.
    begun: u32,
    opened: u64,
    step: Step,
    /// The message whose content is sent and not yet answered.
    awaiting: Option<Transaction>,
}

/// What the connection does apart from awaiting the reply to a content.
enum Step {
    /// Nothing is begun.
    Idle,
    /// A message waits for its time.
    Parked(Job),
    /// Envelope under way.
    Envelope(Transaction),
}

/// A message between MAIL and the reply to its final dot.
struct Transaction {
    job: Job,
    started: u64,
    /// Replies to RCPT so far.
    answered: u16,
    /// Recipients that the server refused, ascending.
    rejected: Vec<u16>,
    /// With BDAT: the chunks sent so far.
    chunks: usize,
    /// With BDAT: all of the content was sent, though replies to the envelope may be outstanding.
    sent: bool,
    /// The code that ended it, if it is over before its content.
    refused: Option<u16>,
}

impl Client {
    pub(super) fn new(books: &Books) -> Self {
        let mut expected = VecDeque::from([Phase::Greeting]);
        if books.shared.config.tls == Tls::Implicit {
            expected.push_front(Phase::Tls);
        }
        Self {
            expected,
            offers: Offers::default(),
            secured: false,
            authenticated: false,
            said: 0,
            begun: 0,
            opened: clock::now(),
            step: Step::Idle,
            awaiting: None,
        }
    }

    pub(super) fn input(&mut self, input: &[u8], books: &mut Books, out: &mut Vec<u8>) -> (usize, Flow) {
        let mut used = 0;
        while let Some(length) = memchr::memchr(b'\n', &input[used..]) {
            let line = input[used..used + length].trim_ascii_end();
            used += length + 1;
            let flow = self.line(line, books, out);
            if flow != Flow::Read {
                return (used, flow);
            }
        }
        let flow = if input.len() - used > LINE_BYTES_MAX { Flow::Abort } else { Flow::Read };
        (used, flow)
    }

    pub(super) fn woken(&mut self, books: &mut Books, out: &mut Vec<u8>) -> Flow {
        if let Step::Parked(job) = self.step {
            self.begin(job, books, out);
        }
        Flow::Read
    }

    /// The TLS handshake is over. What the server offered before it counts no more.
    pub(super) fn secured(&mut self, books: &Books, out: &mut Vec<u8>) {
        self.secured = true;
        self.offers = Offers::default();
        self.expected.pop_front();
        if self.expected.is_empty() {
            self.hello(books, out);
        }
    }

    /// Settles what the end of the connection leaves open. True if it was the orderly one.
    pub(super) fn closed(self, ending: Ending, books: &mut Books) -> bool {
        match self.step {
            Step::Idle => {}
            Step::Envelope(transaction) if transaction.sent && transaction.refused.is_none() => {
                books.in_doubt(transaction.job, &transaction.rejected);
            }
            Step::Parked(job) | Step::Envelope(Transaction { job, .. }) => books.give_back(job),
        }
        if let Some(transaction) = self.awaiting {
            books.in_doubt(transaction.job, &transaction.rejected);
        }
        match (ending, self.expected.front()) {
            (Ending::Ours, _) => self.expected.is_empty(),
            (Ending::Theirs, None | Some(Phase::Quit)) | (Ending::Stopped, _) => true,
            (Ending::NotConnected, _) => {
                books.failure(Phase::Connect, 0);
                false
            }
            (_, Some(&phase)) => {
                books.failure(phase, 0);
                false
            }
        }
    }

    fn line(&mut self, line: &[u8], books: &mut Books, out: &mut Vec<u8>) -> Flow {
        let code = code(line);
        if self.expected.front() == Some(&Phase::Ehlo) && code == 250 {
            self.offers.learn(&line[line.len().min(4)..]);
        }
        if line.get(3) == Some(&b'-') {
            return Flow::Read;
        }
        // A reply to nothing is the server's notice that it closes.
        let Some(phase) = self.expected.pop_front() else {
            books.failure(Phase::Idle, code);
            return self.abandon();
        };
        self.reply(phase, code, books, out)
    }

    fn reply(&mut self, phase: Phase, code: u16, books: &mut Books, out: &mut Vec<u8>) -> Flow {
        let good = match phase {
            Phase::Data => (200..300).contains(&code) || code == 354,
            Phase::Auth => (200..300).contains(&code) || code == 334,
            _ => (200..300).contains(&code),
        };
        if !good && self.counts(phase) {
            books.failure(phase, code);
        }
        if phase == Phase::Dot && self.answered_content(good, code, books, out) {
            return Flow::Read;
        }
        match phase {
            Phase::Dot => {}
            _ if code == 421 => self.turned_away(),
            Phase::Mail | Phase::Rcpt | Phase::Data | Phase::Chunk => {
                return self.answered_envelope(phase, code, books, out);
            }
            Phase::Greeting if good => {
                self.hello(books, out);
                return Flow::Read;
            }
            Phase::Ehlo if good => return self.open(books, out),
            Phase::StartTls if good => {
                self.expected.push_back(Phase::Tls);
                return Flow::Secure;
            }
            Phase::Auth => return self.authenticate(code, books, out),
            Phase::Quit => return Flow::Abort,
            _ => {}
        }
        match phase {
            _ if code == 421 => self.abandon(),
            // With the next message under way already there is nothing to start.
            Phase::Dot if !self.expected.is_empty() => Flow::Read,
            Phase::Greeting | Phase::Ehlo | Phase::StartTls | Phase::Tls => self.abandon(),
            _ => self.next(books, out),
        }
    }

    fn hello(&mut self, books: &Books, out: &mut Vec<u8>) {
        put(out, format_args!("EHLO {}\r\n", books.shared.config.helo));
        self.expected.push_back(Phase::Ehlo);
    }

    /// After EHLO: whatever is needed before messages, or the first of them.
    fn open(&mut self, books: &mut Books, out: &mut Vec<u8>) -> Flow {
        match self.offers.opening(&books.shared.config, self.secured, self.authenticated) {
            Opening::StartTls => {
                put(out, format_args!("STARTTLS\r\n"));
                self.expected.push_back(Phase::StartTls);
                Flow::Read
            }
            Opening::Auth => self.authenticate(334, books, out),
            Opening::Messages => self.next(books, out),
            Opening::Lacks(extension) => {
                books.shared.give_up(format!("the server does not offer {extension}"));
                self.abandon()
            }
        }
    }

    /// The next line of the exchange if the server asks for it, or what its verdict leads to.
    fn authenticate(&mut self, code: u16, books: &mut Books, out: &mut Vec<u8>) -> Flow {
        let auth = books.shared.config.auth.as_ref();
        if code == 334
            && let Some(line) = auth.and_then(|auth| auth.line(self.said))
        {
            put(out, format_args!("{line}\r\n"));
            self.said += 1;
            self.expected.push_back(Phase::Auth);
            return Flow::Read;
        }
        match code {
            200..300 => {
                self.authenticated = true;
                return self.next(books, out);
            }
            400..500 => {}
            _ => books.shared.give_up(format!("the server refuses the user and password: reply {code}")),
        }
        self.abandon()
    }

    /// The server closes instead of going on: of a message sent ahead it has taken nothing.
    fn turned_away(&mut self) {
        if let Step::Envelope(transaction) = &mut self.step {
            transaction.sent = false;
        }
    }

    /// Closes with a reply outstanding, so that the end counts as disorderly and the next attempt waits a
    /// little.
    fn abandon(&mut self) -> Flow {
        self.expected.push_front(Phase::Quit);
        Flow::Abort
    }

    /// Whether a bad reply is news: behind a refused MAIL all others are refused too.
    fn counts(&self, phase: Phase) -> bool {
        match (&self.step, phase) {
            (Step::Envelope(transaction), Phase::Rcpt | Phase::Data | Phase::Chunk) => {
                transaction.refused.is_none()
            }
            // A chunk sent ahead, not the content of the message before.
            (Step::Envelope(transaction), Phase::Dot) if self.awaiting.is_none() => {
                transaction.refused.is_none()
            }
            _ => true,
        }
    }

    /// True if there is more to do before the next message.
    fn answered_content(&mut self, good: bool, code: u16, books: &mut Books, out: &mut Vec<u8>) -> bool {
        let transaction = match self.awaiting.take() {
            Some(transaction) => transaction,
            None => match std::mem::replace(&mut self.step, Step::Idle) {
                Step::Envelope(transaction) => transaction,
                _ => return false,
            },
        };
        let Transaction { job, started, rejected, refused, sent, .. } = transaction;
        match refused {
            // A content was sent for form's sake.
            Some(code) => books.refused(job, code),
            None if good => books.acknowledged(job, &rejected, started),
            None => books.refused(job, code),
        }
        // RFC 3030 3: a transaction whose chunks were refused stays open.
        let reset = sent && !good && code != 421;
        if reset {
            put(out, format_args!("RSET\r\n"));
            self.expected.push_back(Phase::Rset);
        }
        reset
    }

    fn answered_envelope(&mut self, phase: Phase, code: u16, books: &mut Books, out: &mut Vec<u8>) -> Flow {
        let recipients = books.shared.config.recipients;
        let Step::Envelope(transaction) = &mut self.step else { return Flow::Abort };
        let good = code / 100 == 2;
        match phase {
            Phase::Mail if !good => transaction.refused = Some(code),
            Phase::Rcpt => {
                if !good {
                    transaction.rejected.push(transaction.answered);
                }
                transaction.answered += 1;
                if transaction.rejected.len() == usize::from(recipients) {
                    transaction.refused.get_or_insert(code);
                }
            }
            Phase::Data if code == 354 => return self.send_content(books, out),
            Phase::Chunk if good => {}
            Phase::Data | Phase::Chunk => {
                transaction.refused.get_or_insert(code);
            }
            _ => {}
        }
        if !self.expected.is_empty() {
            return Flow::Read;
        }
        match transaction.refused {
            Some(code)
                if phase == Phase::Data || transaction.answered == recipients || phase == Phase::Mail =>
            {
                let job = transaction.job;
                self.step = Step::Idle;
                books.refused(job, code);
                put(out, format_args!("RSET\r\n"));
                self.expected.push_back(Phase::Rset);
            }
            _ => self.send_envelope(books, out),
        }
        Flow::Read
    }

    /// Without pipelining: the command after those that are answered.
    fn send_envelope(&mut self, books: &mut Books, out: &mut Vec<u8>) {
        let Step::Envelope(Transaction { job, answered, .. }) = self.step else { return };
        if answered < books.shared.config.recipients {
            books.write_recipient(job, answered, out);
            self.expected.push_back(Phase::Rcpt);
        } else if books.shared.config.transfer == Transfer::Data {
            put(out, format_args!("DATA\r\n"));
            self.expected.push_back(Phase::Data);
        } else {
            self.send_chunk(books, out);
        }
    }

    /// The next chunk of the message under way. True if there is another.
    fn send_chunk(&mut self, books: &mut Books, out: &mut Vec<u8>) -> bool {
        let Step::Envelope(transaction) = &mut self.step else { return false };
        transaction.sent = books.write_chunk(transaction.job, transaction.started, transaction.chunks, out);
        transaction.chunks += 1;
        self.expected.push_back(if transaction.sent { Phase::Dot } else { Phase::Chunk });
        !transaction.sent
    }

    fn send_content(&mut self, books: &mut Books, out: &mut Vec<u8>) -> Flow {
        let Step::Envelope(transaction) = std::mem::replace(&mut self.step, Step::Idle) else {
            return Flow::Abort;
        };
        if transaction.refused.is_some() {
            // RFC 2920 3.1: DATA was accepted although no recipient was, so a content must follow.
            put(out, format_args!(".\r\n"));
        } else {
            books.write_content(transaction.job, transaction.started, out);
        }
        self.awaiting = Some(transaction);
        self.expected.push_back(Phase::Dot);
        let config = &books.shared.config;
        // On a schedule, waiting for the next message's time would hold up the reply to this one.
        let ahead =
            config.pipelining == Pipelining::Messages && self.offers.pipelining && config.rate.is_none();
        if ahead { self.next(books, out) } else { Flow::Read }
    }

    /// Begins the next message, now or at its time, or takes leave.
    fn next(&mut self, books: &mut Books, out: &mut Vec<u8>) -> Flow {
        let quota = books.shared.config.messages_per_session;
        let spent = quota != 0 && self.begun >= quota;
        let Some(job) = (!spent).then(|| books.take()).flatten() else {
            put(out, format_args!("QUIT\r\n"));
            self.expected.push_back(Phase::Quit);
            return Flow::Read;
        };
        if let Some(due) = books.due(job)
            && due > clock::now()
        {
            self.step = Step::Parked(job);
            return Flow::Wait(due);
        }
        self.begin(job, books, out);
        Flow::Read
    }

    fn begin(&mut self, job: Job, books: &mut Books, out: &mut Vec<u8>) {
        let config = &books.shared.config;
        let (recipients, transfer) = (config.recipients, config.transfer);
        let pipelined = config.pipelining != Pipelining::Off && self.offers.pipelining;
        let from_connection = config.latency_from == LatencyFrom::Connection && self.begun == 0;
        let started = match books.due(job) {
            Some(due) => due,
            None if from_connection => self.opened,
            None => clock::now(),
        };
        self.begun += 1;
        self.step = Step::Envelope(Transaction {
            job,
            started,
            answered: 0,
            rejected: Vec::new(),
            chunks: 0,
            sent: false,
            refused: None,
        });
        books.write_mail(job, self.offers.size, self.offers.eight_bit, out);
        self.expected.push_back(Phase::Mail);
        if pipelined {
            for recipient in 0..recipients {
                books.write_recipient(job, recipient, out);
                self.expected.push_back(Phase::Rcpt);
            }
            match transfer {
                Transfer::Data => {
                    put(out, format_args!("DATA\r\n"));
                    self.expected.push_back(Phase::Data);
                }
                Transfer::Bdat(_) => while self.send_chunk(books, out) {},
            }
        }
    }
}

/// The code of a reply line, 0 if it has none.
fn code(line: &[u8]) -> u16 {
    let digits = line.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit));
    digits.map_or(0, |digits| digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0')))
}
