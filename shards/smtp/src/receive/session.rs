//! The state of one connection that receives mail.

mod chunks;
mod commands;
mod login;

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;
use core::net::IpAddr;

use auth::{Channel, Exchange};
use mail::trace::{self, Received};
use mail::{Address, Class, MessageId, Reply, Time, WallTime};

use self::login::Login;
use super::content::Content;
use super::input::Input;
use super::skip::{Refusal, Skip};
use super::transaction::{Recipient, Transaction};
use super::{CloseReason, Profile, Question, Step, StoreTicket, replies};
use crate::command::Chunk;

/// One connection that receives mail.
#[derive(Debug)]
pub struct Session {
    profile: Rc<Profile>,
    client: IpAddr,
    input: Input,
    hello: Option<Hello>,
    channel: Channel,
    login: Login,
    state: State,
    service: Service,
    /// [`Time::FAR`] while nothing is waited for that the client has to do.
    deadline: Time,
    /// 5yz replies since the last stored message.
    errors: u32,
    /// Commands since then that brought no message forward.
    idle_commands: u32,
    transactions: u32,
}

/// Where the session is. A ticket is out in the states with `?`.
///
/// ```text
///   Start ──► Idle ──MAIL──► SenderAsked? ──► Open ──DATA──► Beginning? ──► Content ──► Storing? ──► Idle
///                                             │  ▲
///                                         RCPT▼  │
///                                      RecipientAsked?
/// ```
/// AUTH leads from `Idle` to `LoginAsked?` and `Responding` in turns, and back.
///
/// With BDAT in the place of DATA, `Content` leads to `Between` after each chunk but the last, and BDAT back. A chunk
/// that is refused is read in `Skipping`.
///
/// RSET, EHLO, HELO and whatever refuses a message lead to `Idle`; `Closed` can be reached from everywhere.
#[derive(Debug)]
enum State {
    /// The greeting has not been given.
    Start,
    /// No transaction.
    Idle,
    /// An attempt to log in: the client's response is to come.
    Responding(Box<Exchange>),
    /// Something about it is in question.
    LoginAsked(Box<Exchange>),
    /// The sender of this transaction is in question.
    SenderAsked(Transaction),
    /// The sender is known, and recipients may come.
    Open(Transaction),
    /// Another recipient is in question.
    RecipientAsked(Transaction, Recipient),
    /// Whether a message may come is in question; with BDAT its first chunk waits for the answer.
    Beginning(Transaction, Option<Chunk>),
    /// A message comes, or a chunk of one.
    Content(Content),
    /// A chunk has come, and the next may.
    Between(Content),
    /// A chunk comes that is not wanted.
    Skipping(Skip),
    /// A message is being made durable.
    Storing(MessageId),
    /// Nothing more is read or said.
    Closed(CloseReason),
}

#[derive(Debug, PartialEq, Eq)]
enum Service {
    Open,
    Stopping,
}

#[derive(Debug)]
struct Hello {
    name: Box<str>,
    protocol: Protocol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Smtp,
    Esmtp,
}

impl Session {
    /// A session with `client`; its first step writes the greeting.
    pub fn new(profile: Rc<Profile>, client: IpAddr, now: Time) -> Session {
        Session {
            deadline: now + profile.command_timeout,
            profile,
            client,
            input: Input::default(),
            hello: None,
            channel: Channel::Plain,
            login: Login::default(),
            state: State::Start,
            service: Service::Open,
            errors: 0,
            idle_commands: 0,
            transactions: 0,
        }
    }

    /// Takes bytes in; only after a step said [`Step::NeedBytes`], so that no more is held than one chunk of the
    /// driver's and one line. Content goes straight to its place. Ignored once the session is closed.
    pub fn feed(&mut self, bytes: &[u8], now: Time) {
        self.assert_no_ticket();
        let mut rest = bytes;
        match &mut self.state {
            State::Closed(_) => return,
            State::Content(content) if self.input.rest().is_empty() => {
                rest = &bytes[content.take(bytes, self.profile.message_bytes_max)..];
                self.deadline = content.deadline(now, &self.profile);
            }
            State::Skipping(skip) if self.input.rest().is_empty() => {
                rest = &bytes[skip.take(bytes)..];
                self.deadline = skip.deadline(now, &self.profile);
            }
            _ => {}
        }
        self.input.push(rest);
    }

    /// The client has closed its half: what it sent is still answered.
    pub fn end_of_input(&mut self) {
        self.input.end();
    }

    /// What is to be done next. Replies are appended to `out`. Panics while a ticket is out.
    pub fn step(&mut self, now: Time, out: &mut Vec<u8>) -> Step {
        self.assert_no_ticket();
        // Lines are borrowed from the input while the rest of the session changes.
        let mut input = mem::take(&mut self.input);
        let step = self.advance(&mut input, now, out);
        match step {
            Step::Close(_) => input.clear(),
            Step::NeedBytes => input.settle(),
            Step::Ask(_) | Step::Login(_) | Step::Begin(_) | Step::Store(..) => {}
        }
        self.input = input;
        step
    }

    /// When [`Session::timed_out`] is to be called unless bytes were fed and the session stepped before.
    ///
    /// A command line must be complete [`Profile::command_timeout`] after the reply before it, however its bytes
    /// trickle in. Content must go on within [`Profile::data_timeout`], and must on the whole not be later than
    /// that behind [`Profile::content_rate_min`]. [`Time::FAR`] while a ticket is out.
    pub fn deadline(&self) -> Time {
        self.deadline
    }

    /// The deadline has passed: says 421 4.4.2; the next step is [`Step::Close`]. Panics while a ticket is out.
    pub fn timed_out(&mut self, out: &mut Vec<u8>) {
        self.assert_no_ticket();
        self.hang_up(&replies::TIMED_OUT, CloseReason::TimedOut, out);
    }

    /// The server shuts down: 421 4.3.2 instead of reading another command, as soon as there is no transaction,
    /// which is at the next step when there is none now.
    pub fn stop(&mut self) {
        self.service = Service::Stopping;
    }

    /// Bytes of memory that the message being received takes.
    pub fn held(&self) -> usize {
        match &self.state {
            State::Content(content) | State::Between(content) => content.held(),
            _ => 0,
        }
    }

    /// Bytes of memory for input that is not used yet.
    pub fn input_held(&self) -> usize {
        self.input.held()
    }

    /// Frees what [`Session::held`] counts; the message is skipped to its end and then refused with `reply` (4yz
    /// or 5yz), unless it deserves a refusal for what it is. Nothing happens when no message is being received.
    pub fn refuse_body(&mut self, reply: Reply) {
        assert_refusal(&reply);
        if let State::Content(content) | State::Between(content) = &mut self.state {
            content.refuse(reply);
        }
    }

    /// What an [`AskTicket`](super::AskTicket) is about; `None` when none is out.
    pub fn question(&self) -> Option<Question<'_>> {
        match &self.state {
            State::SenderAsked(transaction) => Some(Question::Sender {
                sender: transaction.sender.as_ref(),
                size: transaction.size,
                body: transaction.body,
            }),
            State::RecipientAsked(_, recipient) => {
                Some(Question::Recipient { recipient: &recipient.address })
            }
            _ => None,
        }
    }

    /// The other end.
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// The name in the client's EHLO or HELO.
    pub fn helo(&self) -> Option<&str> {
        self.hello.as_ref().map(|hello| &*hello.name)
    }

    /// The sender of the transaction; the inner `None` is the null reverse-path.
    pub fn sender(&self) -> Option<&Option<Address>> {
        match &self.state {
            State::Content(content) | State::Between(content) => Some(&content.envelope().sender),
            state => state.transaction().map(|transaction| &transaction.sender),
        }
    }

    /// The recipients that have been accepted in the transaction; empty when there is none.
    pub fn recipients(&self) -> &[Address] {
        match &self.state {
            State::Content(content) | State::Between(content) => &content.envelope().recipients,
            state => state.transaction().map_or(&[], |transaction| transaction.recipients.list()),
        }
    }

    fn advance(&mut self, input: &mut Input, now: Time, out: &mut Vec<u8>) -> Step {
        loop {
            let step = match &mut self.state {
                State::Start | State::Idle | State::Responding(_) if self.service == Service::Stopping => {
                    self.hang_up(&replies::STOPPING, CloseReason::Stopped, out);
                    None
                }
                State::Start => {
                    replies::greeting(&self.profile.hostname, out);
                    self.state = State::Idle;
                    None
                }
                State::Content(content) if content.is_complete() => self.end_content(out),
                State::Content(content) if content.is_chunk_complete() => {
                    self.end_chunk(out);
                    None
                }
                State::Skipping(skip) if skip.is_complete() => {
                    self.end_skip(out);
                    None
                }
                State::Skipping(skip) if !input.rest().is_empty() => {
                    let used = skip.take(input.rest());
                    input.consume(used);
                    None
                }
                State::Content(content) if !input.rest().is_empty() => {
                    let used = content.take(input.rest(), self.profile.message_bytes_max);
                    input.consume(used);
                    None
                }
                State::Idle | State::Open(_) | State::Between(_) => {
                    match input.line(self.line_bytes_max(input)) {
                        Some(line) => {
                            self.deadline = Time::FAR;
                            self.obey(line, out)
                        }
                        None => Some(self.wait(input, now)),
                    }
                }
                State::Responding(_) => match input.line(login::LINE_BYTES_MAX) {
                    Some(line) => {
                        self.deadline = Time::FAR;
                        self.respond(line, out)
                    }
                    None => Some(self.wait(input, now)),
                },
                State::Content(_) | State::Skipping(_) => Some(self.wait(input, now)),
                State::Closed(reason) => Some(Step::Close(*reason)),
                State::LoginAsked(_)
                | State::SenderAsked(_)
                | State::RecipientAsked(..)
                | State::Beginning(..)
                | State::Storing(_) => unreachable!("a step that gives out a ticket ends the loop"),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// Everything that has come is used up, but for a part of a line.
    fn wait(&mut self, input: &Input, now: Time) -> Step {
        if input.has_ended() {
            self.close(CloseReason::EndOfInput);
            return Step::Close(CloseReason::EndOfInput);
        }
        // A clock that runs is left alone: only a complete command, or content, is progress.
        if self.deadline == Time::FAR {
            self.deadline = match &mut self.state {
                State::Content(content) | State::Between(content) => content.deadline(now, &self.profile),
                State::Skipping(skip) => skip.deadline(now, &self.profile),
                _ => now + self.profile.command_timeout,
            };
        }
        Step::NeedBytes
    }

    fn end_content(&mut self, out: &mut Vec<u8>) -> Option<Step> {
        self.deadline = Time::FAR;
        let State::Content(content) = mem::replace(&mut self.state, State::Idle) else {
            return None;
        };
        match content.finish(&self.profile) {
            Ok(incoming) => {
                self.state = State::Storing(incoming.id);
                Some(Step::Store(StoreTicket(()), incoming))
            }
            Err(reply) => {
                self.refuse(&reply, out);
                None
            }
        }
    }

    pub(super) fn asked(&mut self, answer: Result<(), Reply>, out: &mut Vec<u8>) {
        let (transaction, accepted) = match mem::replace(&mut self.state, State::Idle) {
            State::SenderAsked(transaction) => (answer.is_ok().then_some(transaction), replies::SENDER_OK),
            State::RecipientAsked(mut transaction, recipient) => {
                if answer.is_ok() {
                    transaction.add(recipient);
                }
                (Some(transaction), replies::RECIPIENT_OK)
            }
            _ => panic!("no such question is open"),
        };
        if let Some(transaction) = transaction {
            self.state = State::Open(transaction);
        }
        match answer {
            Ok(()) => out.extend_from_slice(accepted),
            Err(reply) => self.refuse(&reply, out),
        }
    }

    pub(super) fn begun(&mut self, answer: Result<(MessageId, WallTime), Reply>, out: &mut Vec<u8>) {
        let State::Beginning(transaction, chunk) = mem::replace(&mut self.state, State::Idle) else {
            panic!("no message is about to begin");
        };
        match (answer, chunk) {
            (Ok((id, accepted)), chunk) => {
                let trace = self.trace(&transaction, id, accepted);
                let content = Content::new(id, accepted, transaction.into_envelope(accepted), trace, chunk);
                self.state = State::Content(content);
                if chunk.is_none() {
                    out.extend_from_slice(replies::START_CONTENT);
                }
            }
            (Err(reply), Some(chunk)) => {
                self.state = State::Skipping(Skip::new(chunk, Refusal::Refused(reply)));
            }
            (Err(reply), None) => self.refuse(&reply, out),
        }
    }

    pub(super) fn stored(&mut self, answer: Result<(), Reply>, out: &mut Vec<u8>) {
        let State::Storing(id) = mem::replace(&mut self.state, State::Idle) else {
            panic!("no message is being stored");
        };
        match answer {
            Ok(()) => {
                self.errors = 0;
                self.idle_commands = 0;
                replies::queued(id, out);
            }
            Err(reply) => self.refuse(&reply, out),
        }
    }

    fn trace(&self, transaction: &Transaction, id: MessageId, at: WallTime) -> String {
        let protocol = self.protocol(transaction.utf8);
        let recipient = match transaction.recipients.list() {
            [recipient] => Some(recipient),
            _ => None,
        };
        let (helo, hostname) = (self.helo().unwrap_or_default(), &*self.profile.hostname);
        trace::received(&Received { helo, client: self.client, hostname, protocol, id, recipient, at })
    }

    /// The keyword of RFC 3848 and RFC 6531 section 4.3.
    fn protocol(&self, utf8: bool) -> &'static str {
        let by_security = match self.hello.as_ref().map(|hello| hello.protocol) {
            _ if utf8 => [["UTF8SMTPSA", "UTF8SMTPS"], ["UTF8SMTPA", "UTF8SMTP"]],
            Some(Protocol::Esmtp) => [["ESMTPSA", "ESMTPS"], ["ESMTPA", "ESMTP"]],
            // Only extended SMTP has names for the others.
            Some(Protocol::Smtp) | None => [["SMTP"; 2]; 2],
        };
        let by_login = by_security[usize::from(self.channel == Channel::Plain)];
        by_login[usize::from(self.login.user().is_none())]
    }

    fn refuse(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        assert_refusal(reply);
        if reply.code == 421 {
            // RFC 5321 section 3.8: who says 421 closes the connection.
            return self.hang_up(reply, CloseReason::Refused, out);
        }
        let goes_on = match reply.class() {
            Class::Permanent => self.count_error(out),
            _ => self.count_idle(out),
        };
        if goes_on {
            reply.encode(out);
        }
    }

    /// Answers what came out of order.
    fn misplace(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        if self.count_idle(out) {
            reply.encode(out);
        }
    }

    /// Whether the session goes on; if not, it has said so.
    fn count_error(&mut self, out: &mut Vec<u8>) -> bool {
        self.errors += 1;
        let goes_on = self.errors <= self.profile.errors_max;
        if !goes_on {
            self.hang_up(&replies::TOO_MANY_ERRORS, CloseReason::TooManyErrors, out);
        }
        goes_on
    }

    /// As [`Session::count_error`].
    fn count_idle(&mut self, out: &mut Vec<u8>) -> bool {
        self.idle_commands += 1;
        let goes_on = self.idle_commands <= self.profile.idle_commands_max;
        if !goes_on {
            self.hang_up(&replies::TOO_MANY_IDLE_COMMANDS, CloseReason::TooManyIdleCommands, out);
        }
        goes_on
    }

    fn hang_up(&mut self, reply: &Reply, reason: CloseReason, out: &mut Vec<u8>) {
        if !matches!(self.state, State::Closed(_)) {
            reply.encode(out);
            self.close(reason);
        }
    }

    fn close(&mut self, reason: CloseReason) {
        self.state = State::Closed(reason);
        self.deadline = Time::FAR;
    }

    fn assert_no_ticket(&self) {
        let is_out = matches!(
            self.state,
            State::LoginAsked(_)
                | State::SenderAsked(_)
                | State::RecipientAsked(..)
                | State::Beginning(..)
                | State::Storing(_)
        );
        assert!(!is_out, "a ticket is out: {:?}", self.state);
    }
}

impl State {
    fn transaction(&self) -> Option<&Transaction> {
        match self {
            State::SenderAsked(transaction)
            | State::Open(transaction)
            | State::RecipientAsked(transaction, _)
            | State::Beginning(transaction, _) => Some(transaction),
            State::Start
            | State::Idle
            | State::Responding(_)
            | State::LoginAsked(_)
            | State::Content(_)
            | State::Between(_)
            | State::Skipping(_)
            | State::Storing(_)
            | State::Closed(_) => None,
        }
    }
}

fn assert_refusal(reply: &Reply) {
    assert!((400..=599).contains(&reply.code), "{reply} is no refusal");
}
