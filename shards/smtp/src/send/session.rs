//! One connection to a next hop, from its greeting to its end.
//!
//! ```text
//! Greeting -> Ehlo -> [Helo] -> Ready -> Open -> Settled -> Ready ... -> Quitting -> Closed
//!                                        Open -> Settled -> Open (the transaction that follows)
//!     any of them -> Closed (through Settled when a transaction is open)
//! ```

use super::exchange::{Exchange, Form, PIPELINE_COMMANDS_MAX, Slate, Turn, bounded};
use super::phase::Phase;
use super::reply::Replies;
use super::{Capabilities, Profile, Step, Transaction};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::mem;
use mail::{Class, Outcome, Reply, Time};

/// The client's side of one connection.
#[derive(Debug)]
pub struct Session {
    profile: Rc<Profile>,
    replies: Replies,
    capabilities: Capabilities,
    state: State,
    /// When the wait under way began.
    since: Time,
}

#[derive(Debug)]
enum State {
    Greeting,
    Ehlo,
    Helo,
    Ready(Slate),
    Open {
        exchange: Exchange,
        /// The transaction whose commands are on their way behind the content of this one.
        follower: Option<Exchange>,
    },
    /// Outcomes that the driver has not got yet.
    Settled {
        outcomes: Vec<Outcome>,
        then: Then,
    },
    Quitting,
    Closed(Option<Reply>),
}

/// How the connection goes on after a transaction.
#[derive(Debug)]
enum Then {
    Ready(Slate),
    Follow(Exchange),
    Closed(Reply),
}

impl Session {
    /// A session on a connection made at `now`. The next hop speaks first.
    pub fn new(profile: Rc<Profile>, now: Time) -> Session {
        Session {
            profile,
            replies: Replies::default(),
            capabilities: Capabilities::default(),
            state: State::Greeting,
            since: now,
        }
    }

    /// What the next hop offers; nothing until `step` has said [`Step::Ready`].
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Takes received bytes. Call it only after [`Step::NeedBytes`] (which keeps memory bounded), or after
    /// [`Step::Content`] when sending failed, or after [`Step::Ready`] when an idle connection has something
    /// to say; then call `step`.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.replies.feed(bytes);
    }

    /// Goes on as far as it can, appending commands to `out`.
    pub fn step(&mut self, now: Time, out: &mut Vec<u8>) -> Step {
        loop {
            match &mut self.state {
                State::Closed(why) => return Step::Close(why.clone()),
                State::Settled { .. } => return Step::Done(self.go_on()),
                State::Ready(_) if self.replies.is_empty() => return Step::Ready,
                State::Ready(_) => self.unsolicited(),
                _ => match self.replies.pop() {
                    Ok(Some(reply)) => self.answer(reply, now, out),
                    Ok(None) if matches!(self.phase(), Phase::Content(_)) => return self.content(),
                    Ok(None) => return Step::NeedBytes,
                    Err(malformed) => self.hang_up(protocol_error(malformed.as_str())),
                },
            }
        }
    }

    fn content(&self) -> Step {
        match &self.state {
            State::Open { exchange, .. } if exchange.form() == Form::Chunk => Step::Chunk,
            _ => Step::Content,
        }
    }

    /// When the wait under way has lasted too long; [`Time::FAR`] when there is none. Only whole replies move
    /// it, so that a next hop gains nothing by sending a byte now and then.
    pub fn deadline(&self) -> Time {
        self.phase().timeout(&self.profile).map_or(Time::FAR, |timeout| self.since + timeout)
    }

    /// What the session waits for.
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Greeting => Phase::Greeting,
            State::Ehlo => Phase::Ehlo,
            State::Helo => Phase::Helo,
            State::Open { exchange, .. } => exchange.phase(),
            State::Quitting => Phase::Quit,
            State::Ready(_) | State::Settled { .. } | State::Closed(_) => Phase::Idle,
        }
    }

    /// The reply in place of the one that did not come before the deadline, for [`Session::lost`].
    pub fn timeout_reply(&self) -> Reply {
        Reply::new(451, (4, 4, 2), format!("timed out waiting for {}", self.phase()))
    }

    /// Begins a transaction, after [`Step::Ready`] only. One that the next hop cannot take fails without a
    /// word to it.
    pub fn begin(&mut self, transaction: Transaction, now: Time, out: &mut Vec<u8>) {
        let State::Ready(slate) = self.state else { panic!("begin without Step::Ready") };
        assert!(!transaction.recipients.is_empty(), "a transaction without recipients");
        self.since = now;
        if let Some(obstacle) = self.capabilities.obstacle(&transaction, &self.profile) {
            let outcomes = vec![Outcome::Failed(obstacle); transaction.recipients.len()];
            self.state = State::Settled { outcomes, then: Then::Ready(slate) };
            return;
        }
        let form = match self.capabilities.takes_chunk(&transaction, &self.profile) {
            true => Form::Chunk,
            false => Form::Data,
        };
        let mut exchange = Exchange::new(transaction, slate, form);
        exchange.send(&self.capabilities, out);
        self.state = State::Open { exchange, follower: None };
    }

    /// Lets a transaction follow the one under way, after [`Step::Content`] only: its commands, written to `out`, are
    /// to leave right behind the content (RFC 2920 section 3.1 lets content be the first of a group). False, with
    /// nothing written, when this next hop cannot take it so.
    ///
    /// After the [`Step::Done`] of the one under way the session goes on with the follower, which is not begun again.
    /// When the connection ends before, the follower is forgotten: nothing of it was at risk.
    pub fn follow(&mut self, transaction: Transaction, out: &mut Vec<u8>) -> bool {
        let State::Open { follower, .. } = &mut self.state else { panic!("follow without Step::Content") };
        let offered = &self.capabilities;
        // MAIL and DATA beside the recipients: one group, so that nothing is left to send before the replies.
        let is_one_group = transaction.recipients.len() + 2 <= PIPELINE_COMMANDS_MAX;
        if follower.is_some()
            || !offered.pipelining
            || !is_one_group
            || offered.takes_chunk(&transaction, &self.profile)
            || offered.obstacle(&transaction, &self.profile).is_some()
        {
            return false;
        }
        // RFC 5321 section 4.1.1.4: the end of data leaves a clean slate, whatever its reply.
        let mut exchange = Exchange::new(transaction, Slate::Clean, Form::Data);
        exchange.send(offered, out);
        *follower = Some(exchange);
        true
    }

    /// The content is sent, with its final dot if it needs one, after [`Step::Content`] or [`Step::Chunk`] only.
    pub fn content_sent(&mut self, now: Time) {
        let State::Open { exchange, .. } = &mut self.state else {
            panic!("content sent without Step::Content")
        };
        exchange.content_sent();
        self.since = now;
    }

    /// Says QUIT, after [`Step::Ready`] only. Whatever the next hop answers, [`Step::Close`] follows.
    pub fn quit(&mut self, now: Time, out: &mut Vec<u8>) {
        assert!(matches!(self.state, State::Ready(_)), "quit without Step::Ready");
        out.extend_from_slice(b"QUIT\r\n");
        self.since = now;
        self.state = State::Quitting;
    }

    /// The connection broke or timed out. Gives the outcomes of the transaction if one is open: who has none
    /// yet is deferred with `why`, also when only the reply to the final dot is missing. Such a recipient may
    /// get the message twice, which is better than not at all.
    pub fn lost(&mut self, why: Reply) -> Option<Vec<Outcome>> {
        self.hang_up(why);
        matches!(self.state, State::Settled { .. }).then(|| self.go_on())
    }

    /// Leaves [`State::Settled`] with its outcomes.
    fn go_on(&mut self) -> Vec<Outcome> {
        let State::Settled { outcomes, then } = mem::replace(&mut self.state, State::Closed(None)) else {
            panic!("no outcomes are there");
        };
        self.state = match then {
            Then::Ready(slate) => State::Ready(slate),
            Then::Follow(exchange) => State::Open { exchange, follower: None },
            Then::Closed(why) => State::Closed(Some(why)),
        };
        outcomes
    }

    fn answer(&mut self, reply: Reply, now: Time, out: &mut Vec<u8>) {
        self.since = now;
        // RFC 5321 section 3.8: 421 may answer any command, and the connection is over.
        if reply.code == 421 && !matches!(self.state, State::Quitting) {
            return self.hang_up(bounded(reply));
        }
        let class = reply.class();
        match (&mut self.state, class) {
            (State::Quitting, _) => self.state = State::Closed(None),
            (State::Open { exchange, .. }, _) => {
                let turn = exchange.answer(bounded(reply));
                self.turn(turn, out);
            }
            (_, Class::Intermediate) => self.unexpected(&reply),
            (State::Greeting, Class::Success) => self.hello("EHLO", State::Ehlo, out),
            (State::Ehlo, Class::Success) => {
                self.capabilities = Capabilities::of(&reply);
                self.state = State::Ready(Slate::Clean);
            }
            // RFC 5321 section 3.2: a server without EHLO may know HELO.
            (State::Ehlo, Class::Permanent) => self.hello("HELO", State::Helo, out),
            (State::Helo, Class::Success) => self.state = State::Ready(Slate::Clean),
            _ => {
                out.extend_from_slice(b"QUIT\r\n");
                self.hang_up(bounded(reply));
            }
        }
    }

    fn turn(&mut self, turn: Turn, out: &mut Vec<u8>) {
        match turn {
            Turn::Wait | Turn::Content => {}
            Turn::Chunk => {
                if let State::Open { exchange, .. } = &self.state {
                    exchange.write_chunk(out);
                }
            }
            Turn::EmptyContent => out.extend_from_slice(b".\r\n"),
            Turn::Send if !self.replies.is_empty() => self.unsolicited(),
            Turn::Send => {
                if let State::Open { exchange, .. } = &mut self.state {
                    exchange.send(&self.capabilities, out);
                }
            }
            Turn::Over => {
                let state = mem::replace(&mut self.state, State::Closed(None));
                if let State::Open { exchange, follower } = state {
                    let then = follower.map_or(Then::Ready(exchange.slate()), Then::Follow);
                    self.state = State::Settled { outcomes: exchange.outcomes(), then };
                }
            }
            Turn::HungUp(reply) => self.hang_up(reply),
            Turn::Unexpected(reply) => self.unexpected(&reply),
        }
    }

    fn hello(&mut self, verb: &str, next: State, out: &mut Vec<u8>) {
        if !self.replies.is_empty() {
            return self.unsolicited();
        }
        out.extend_from_slice(format!("{verb} {}\r\n", self.profile.hostname).as_bytes());
        self.state = next;
    }

    /// Bytes came although every command has its reply: only 421 makes sense there.
    fn unsolicited(&mut self) {
        let why = match self.replies.pop() {
            Ok(Some(reply)) if reply.code == 421 => bounded(reply),
            _ => protocol_error("a reply to no command"),
        };
        self.hang_up(why);
    }

    fn unexpected(&mut self, reply: &Reply) {
        let why = protocol_error(format!("not {}: {reply}", self.phase()));
        self.hang_up(why);
    }

    /// Ends the connection; the outcomes of an open transaction are kept for the driver.
    fn hang_up(&mut self, why: Reply) {
        self.state = match mem::replace(&mut self.state, State::Closed(None)) {
            State::Open { mut exchange, .. } => {
                exchange.defer_rest(&why);
                State::Settled { outcomes: exchange.outcomes(), then: Then::Closed(why) }
            }
            State::Settled { outcomes, .. } => State::Settled { outcomes, then: Then::Closed(why) },
            State::Quitting => State::Closed(None),
            State::Closed(first) => State::Closed(first),
            _ => State::Closed(Some(why)),
        };
    }
}

/// The reply in place of what the next hop should have said.
fn protocol_error(what: impl Into<String>) -> Reply {
    bounded(Reply::new(451, (4, 5, 0), format!("protocol error: {}", what.into())))
}
