//! The dialog of one transaction: which command goes out next, which command a reply answers, and what it
//! means for each recipient.

use super::phase::Phase;
use super::{Capabilities, Transaction};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use mail::{BodyType, ByMode, Class, Outcome, Parameters, Reply, Return};

/// Most commands that are sent before their replies have come. Replies to so few fit into the buffers of any
/// connection, so that both sides never wait for the other to read (RFC 2920 section 3.1). A transaction with
/// more recipients sends the next group when the replies to the last are in.
pub const PIPELINE_COMMANDS_MAX: usize = 100;
/// Most bytes of text that an outcome keeps of a reply; the rest is cut off.
pub const OUTCOME_TEXT_BYTES_MAX: usize = 1024;

/// Longest time that `BY` can say, in seconds (RFC 2852 section 4).
const BY_MAX: i64 = 999_999_999;

/// Whether the next hop may still have a transaction open that RSET must end before the next MAIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slate {
    Clean,
    Dirty,
}

/// What follows from a reply.
#[derive(Debug)]
pub(super) enum Turn {
    /// Replies to commands already sent are still to come.
    Wait,
    /// All commands sent are answered: send the next ones.
    Send,
    /// Send the content.
    Content,
    /// Send the content in a chunk, after its command.
    Chunk,
    /// The next hop waits for content, but has accepted nobody: send the final dot alone.
    EmptyContent,
    /// Nothing is left to do. Each recipient has its outcome.
    Over,
    /// The reply ended the connection, but counts.
    HungUp(Reply),
    /// The reply makes no sense here.
    Unexpected(Reply),
}

/// A transaction under way.
#[derive(Debug)]
pub(super) struct Exchange {
    transaction: Transaction,
    /// One for each recipient.
    verdicts: Vec<Verdict>,
    slate: Slate,
    form: Form,
    /// The next command to send; `None` once DATA has been sent, or with BDAT the last RCPT.
    unsent: Option<Command>,
    stage: Stage,
}

/// How the content is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// With DATA, once it is answered with 354.
    Data,
    /// With BDAT, once somebody is accepted.
    Chunk,
}

#[derive(Clone, Debug)]
enum Verdict {
    /// Not answered yet.
    Open,
    /// RCPT was accepted.
    Accepted,
    Settled(Outcome),
}

/// In the order in which they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Reset,
    Mail,
    Recipient(usize),
    Data,
}

/// What the next reply answers.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Commands(Command),
    /// Nothing: the content is being sent. A reply can only be the last word of a next hop that hangs up.
    Content,
    /// The final dot after the content.
    Final,
    /// The final dot alone.
    EmptyFinal,
}

impl Exchange {
    pub(super) fn new(transaction: Transaction, slate: Slate, form: Form) -> Exchange {
        let first = match slate {
            Slate::Clean => Command::Mail,
            Slate::Dirty => Command::Reset,
        };
        let verdicts = vec![Verdict::Open; transaction.recipients.len()];
        Exchange { transaction, verdicts, slate, form, unsent: Some(first), stage: Stage::Commands(first) }
    }

    /// What is waited for.
    pub(super) fn phase(&self) -> Phase {
        match self.stage {
            Stage::Commands(Command::Reset) => Phase::Reset,
            Stage::Commands(Command::Mail) => Phase::Mail,
            Stage::Commands(Command::Recipient(_)) => Phase::Recipient,
            Stage::Commands(Command::Data) => Phase::Data,
            Stage::Content => Phase::Content(self.transaction.size),
            Stage::Final | Stage::EmptyFinal => Phase::Final,
        }
    }

    /// How the content is sent.
    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Whether RSET must come before the next transaction.
    pub(super) fn slate(&self) -> Slate {
        self.slate
    }

    /// Writes the next group of commands: one without PIPELINING.
    pub(super) fn send(&mut self, offered: &Capabilities, out: &mut Vec<u8>) {
        let most = if offered.pipelining { PIPELINE_COMMANDS_MAX } else { 1 };
        for _ in 0..most {
            let Some(command) = self.unsent else { return };
            self.write(command, offered, out);
            self.unsent = self.after(command);
        }
    }

    /// Takes the reply to the oldest command that has none.
    pub(super) fn answer(&mut self, reply: Reply) -> Turn {
        match self.stage {
            Stage::Commands(Command::Data) => self.data_answered(reply),
            Stage::Commands(command) => self.command_answered(command, reply),
            Stage::Content => match reply.class() {
                Class::Transient | Class::Permanent => {
                    self.settle_accepted(&reply);
                    Turn::HungUp(reply)
                }
                Class::Success | Class::Intermediate => Turn::Unexpected(reply),
            },
            Stage::Final | Stage::EmptyFinal if reply.class() == Class::Intermediate => {
                Turn::Unexpected(reply)
            }
            Stage::Final | Stage::EmptyFinal => {
                // RFC 5321 section 4.1.1.4: the end of data clears the buffers whatever the reply. RFC 3030 section 2
                // says so of a chunk that was taken only.
                if self.form == Form::Data || reply.class() == Class::Success {
                    self.slate = Slate::Clean;
                }
                self.settle_accepted(&reply);
                Turn::Over
            }
        }
    }

    /// The content and the final dot are sent.
    pub(super) fn content_sent(&mut self) {
        assert!(matches!(self.stage, Stage::Content), "content sent that was not asked for");
        self.stage = Stage::Final;
    }

    /// Whoever has no outcome yet is deferred with `why`.
    pub(super) fn defer_rest(&mut self, why: &Reply) {
        for verdict in &mut self.verdicts {
            if !matches!(verdict, Verdict::Settled(_)) {
                *verdict = Verdict::Settled(Outcome::Deferred(why.clone()));
            }
        }
    }

    /// One outcome for each recipient, in their order, once all are settled.
    pub(super) fn outcomes(self) -> Vec<Outcome> {
        let outcome = |verdict| match verdict {
            Verdict::Settled(outcome) => outcome,
            Verdict::Open | Verdict::Accepted => unreachable!("outcomes asked for before all are settled"),
        };
        self.verdicts.into_iter().map(outcome).collect()
    }

    fn command_answered(&mut self, command: Command, reply: Reply) -> Turn {
        let class = reply.class();
        match (command, class) {
            (_, Class::Intermediate) => return Turn::Unexpected(reply),
            (Command::Reset, Class::Success) => self.slate = Slate::Clean,
            (Command::Reset, _) => return Turn::Unexpected(reply),
            (Command::Mail, Class::Success) => self.slate = Slate::Dirty,
            // The replies to a group's RCPT and DATA say then no more than that there was no MAIL.
            (Command::Mail, _) => self.verdicts.fill(Verdict::Settled(refusal(reply))),
            (Command::Recipient(index), _) => {
                let verdict = &mut self.verdicts[index];
                if matches!(verdict, Verdict::Open) {
                    *verdict = match class {
                        Class::Success => Verdict::Accepted,
                        _ => Verdict::Settled(refusal(reply)),
                    };
                }
            }
            (Command::Data, _) => {}
        }
        let next = self.after(command);
        if let Some(next) = next {
            self.stage = Stage::Commands(next);
        }
        if next != self.unsent {
            Turn::Wait
        } else if self.verdicts.iter().all(|verdict| matches!(verdict, Verdict::Settled(_))) {
            Turn::Over
        } else if next.is_none() {
            self.stage = Stage::Content;
            Turn::Chunk
        } else {
            Turn::Send
        }
    }

    fn data_answered(&mut self, reply: Reply) -> Turn {
        match reply.class() {
            Class::Success => Turn::Unexpected(reply),
            Class::Intermediate
                if self.verdicts.iter().any(|verdict| matches!(verdict, Verdict::Accepted)) =>
            {
                self.stage = Stage::Content;
                Turn::Content
            }
            Class::Intermediate => {
                self.stage = Stage::EmptyFinal;
                Turn::EmptyContent
            }
            Class::Transient | Class::Permanent => {
                self.settle_accepted(&reply);
                Turn::Over
            }
        }
    }

    fn settle_accepted(&mut self, reply: &Reply) {
        for verdict in &mut self.verdicts {
            if matches!(verdict, Verdict::Accepted) {
                *verdict = Verdict::Settled(match reply.class() {
                    Class::Success => Outcome::Delivered(reply.clone()),
                    _ => refusal(reply.clone()),
                });
            }
        }
    }

    fn after(&self, command: Command) -> Option<Command> {
        let last = self.transaction.recipients.len() - 1;
        match command {
            Command::Reset => Some(Command::Mail),
            Command::Mail => Some(Command::Recipient(0)),
            Command::Recipient(index) if index < last => Some(Command::Recipient(index + 1)),
            Command::Recipient(_) if self.form == Form::Data => Some(Command::Data),
            Command::Recipient(_) | Command::Data => None,
        }
    }

    fn write(&self, command: Command, offered: &Capabilities, out: &mut Vec<u8>) {
        match command {
            Command::Reset => out.extend_from_slice(b"RSET"),
            Command::Mail => self.write_mail(offered, out),
            Command::Recipient(turn) => self.write_recipient(turn, offered, out),
            Command::Data => out.extend_from_slice(b"DATA"),
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Writes the command that the content follows: all of it in one chunk.
    pub(super) fn write_chunk(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"BDAT ");
        out.extend_from_slice(itoa::Buffer::new().format(self.transaction.size).as_bytes());
        out.extend_from_slice(b" LAST\r\n");
    }

    fn write_recipient(&self, turn: usize, offered: &Capabilities, out: &mut Vec<u8>) {
        out.extend_from_slice(b"RCPT TO:<");
        out.extend_from_slice(self.transaction.recipient(turn).as_str().as_bytes());
        out.push(b'>');
        let asked = self.transaction.envelope.asked(self.transaction.recipients[turn]);
        if let Some(asked) = asked.filter(|_| offered.dsn) {
            if let Some(notify) = asked.notify {
                out.extend_from_slice(b" NOTIFY=");
                out.extend_from_slice(notify.value().as_bytes());
            }
            if let Some(original) = &asked.original {
                out.extend_from_slice(b" ORCPT=");
                out.extend_from_slice(original.as_bytes());
            }
        }
    }

    fn write_mail(&self, offered: &Capabilities, out: &mut Vec<u8>) {
        out.extend_from_slice(b"MAIL FROM:<");
        if let Some(sender) = &self.transaction.envelope.sender {
            out.extend_from_slice(sender.as_str().as_bytes());
        }
        out.push(b'>');
        if offered.size.is_some() {
            out.extend_from_slice(b" SIZE=");
            out.extend_from_slice(itoa::Buffer::new().format(self.transaction.size).as_bytes());
        }
        if offered.eight_bit && self.transaction.envelope.body == BodyType::EightBit {
            out.extend_from_slice(b" BODY=8BITMIME");
        }
        if offered.binary && self.transaction.envelope.body == BodyType::Binary {
            out.extend_from_slice(b" BODY=BINARYMIME");
        }
        if offered.utf8 && self.transaction.needs_utf8() {
            out.extend_from_slice(b" SMTPUTF8");
        }
        if let Some(asked) = &self.transaction.envelope.parameters {
            write_parameters(asked, offered, out);
            if let (Some((mode, left)), Some(_)) = (self.transaction.time_left, offered.by) {
                out.extend_from_slice(b" BY=");
                out.extend_from_slice(itoa::Buffer::new().format(left.clamp(-BY_MAX, BY_MAX)).as_bytes());
                out.extend_from_slice(if mode == ByMode::Return { b";R" } else { b";N" });
                out.extend_from_slice(if asked.by.is_some_and(|by| by.trace) { b"T" } else { b"" });
            }
        }
    }
}

/// What was asked of the message, as far as this next hop does it.
fn write_parameters(asked: &Parameters, offered: &Capabilities, out: &mut Vec<u8>) {
    if offered.dsn {
        match asked.returns {
            Some(Return::Full) => out.extend_from_slice(b" RET=FULL"),
            Some(Return::Headers) => out.extend_from_slice(b" RET=HDRS"),
            None => {}
        }
        if let Some(id) = &asked.envelope_id {
            out.extend_from_slice(b" ENVID=");
            out.extend_from_slice(id.as_bytes());
        }
    }
    if let Some(priority) = asked.priority.filter(|_| offered.priority) {
        out.extend_from_slice(b" MT-PRIORITY=");
        out.extend_from_slice(itoa::Buffer::new().format(priority).as_bytes());
    }
}

/// What a reply that is no success means for a recipient.
fn refusal(reply: Reply) -> Outcome {
    match reply.class() {
        Class::Permanent => Outcome::Failed(reply),
        _ => Outcome::Deferred(reply),
    }
}

/// `reply` with no more text than an outcome keeps.
pub(super) fn bounded(mut reply: Reply) -> Reply {
    if reply.text.len() > OUTCOME_TEXT_BYTES_MAX {
        let mut end = OUTCOME_TEXT_BYTES_MAX;
        while !reply.text.is_char_boundary(end) {
            end -= 1;
        }
        reply.text = String::from(reply.text[..end].trim_end()).into();
    }
    reply
}
