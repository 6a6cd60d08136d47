//! Sessions against a scripted next hop.

mod behaviour;
mod chunks;
mod combinations;

use super::*;
use alloc::format;
use alloc::rc::Rc;
use alloc::vec;
use mail::Time;

/// The code in the place of a missing reply.
const LOST: u16 = 499;

/// How the next hop's bytes arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    /// One reply at a time.
    Single,
    /// As many replies as there are unanswered commands.
    Burst,
    /// One byte at a time.
    Bytes,
}

const ARRIVALS: [Arrival; 3] = [Arrival::Single, Arrival::Burst, Arrival::Bytes];

/// How a dialog went on.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Ready,
    Closed(Option<u16>),
    /// The script ended while a reply was awaited.
    Lost,
}

/// A next hop that plays a list of replies, one for the greeting, each command and each final dot. It panics
/// when the session waits although every command is answered, which would be a wait for ever.
struct Peer {
    session: Session,
    script: Vec<String>,
    played: usize,
    owed: usize,
    arrival: Arrival,
    /// All that was written, `[content]` in the place of the content.
    heard: String,
    now: Time,
    outcomes: Option<Vec<Outcome>>,
    /// To follow the next content.
    follower: Option<Transaction>,
    /// Whether the one that follows may have outcomes too, and those of the one before.
    followed: Option<Vec<Outcome>>,
}

impl Peer {
    fn new(script: &[&str], arrival: Arrival) -> Peer {
        Peer {
            session: Session::new(Rc::new(Profile::new("me.example")), Time(0)),
            script: script.iter().map(|reply| format!("{}\r\n", reply.replace('\n', "\r\n"))).collect(),
            played: 0,
            owed: 1,
            arrival,
            heard: String::new(),
            now: Time(0),
            outcomes: None,
            follower: None,
            followed: None,
        }
    }

    /// Runs until a transaction may begin, the connection ends, or the script does.
    fn run(&mut self) -> End {
        for _ in 0..100_000 {
            let mut out = Vec::new();
            self.now = self.now + Duration::from_millis(1);
            let step = self.session.step(self.now, &mut out);
            self.hear(&out);
            match step {
                Step::NeedBytes if self.played == self.script.len() => return End::Lost,
                Step::NeedBytes => self.play(),
                Step::Ready => return End::Ready,
                Step::Content => {
                    self.heard.push_str("[content]\r\n");
                    self.owed += 1;
                    if let Some(next) = self.follower.take() {
                        assert!(self.session.follow(next, &mut out), "it may follow");
                        self.hear(&out);
                        self.followed = Some(Vec::new());
                    }
                    self.session.content_sent(self.now);
                }
                Step::Chunk => {
                    // The command and its chunk have one reply.
                    self.heard.push_str("[chunk]\r\n");
                    self.session.content_sent(self.now);
                }
                Step::Done(outcomes) if self.followed.as_ref().is_some_and(Vec::is_empty) => {
                    self.followed = Some(outcomes);
                }
                Step::Done(outcomes) => {
                    assert!(self.outcomes.is_none(), "one Done for one transaction");
                    self.outcomes = Some(outcomes);
                }
                Step::Close(why) => return End::Closed(why.map(|reply| reply.code)),
            }
        }
        panic!("the session does not end");
    }

    fn hear(&mut self, out: &[u8]) {
        self.owed += out.iter().filter(|byte| **byte == b'\n').count();
        self.heard.push_str(core::str::from_utf8(out).expect("commands are text"));
    }

    fn play(&mut self) {
        assert!(self.owed > 0, "the session waits for a reply to nothing, after {}", self.heard);
        let most = if self.arrival == Arrival::Burst { self.owed } else { 1 };
        let some = most.min(self.script.len() - self.played);
        let bytes = self.script[self.played..self.played + some].concat().into_bytes();
        self.played += some;
        self.owed -= some;
        if self.arrival != Arrival::Bytes {
            return self.session.feed(&bytes);
        }
        let (last, most) = bytes.split_last().expect("no reply is empty");
        for byte in most {
            self.session.feed(&[*byte]);
            let mut out = Vec::new();
            assert_eq!(self.session.step(self.now, &mut out), Step::NeedBytes);
            assert!(out.is_empty());
        }
        self.session.feed(&[*last]);
    }

    fn begin(&mut self, transaction: Transaction) -> End {
        let mut out = Vec::new();
        self.session.begin(transaction, self.now, &mut out);
        self.hear(&out);
        self.run()
    }

    fn lost(&mut self) -> Option<Vec<Outcome>> {
        self.session.lost(Reply::new(LOST, (4, 4, 2), "lost"))
    }

    /// What was written since the last call.
    fn take_heard(&mut self) -> String {
        core::mem::take(&mut self.heard)
    }
}

fn address(text: &str) -> Address {
    Address::parse(text, true).expect("mailbox")
}

fn transaction(recipients: usize) -> Transaction {
    of(Envelope {
        sender: Some(address("s@x.example")),
        recipients: (0..recipients).map(|n| address(&format!("r{n}@y.example"))).collect(),
        ..Envelope::default()
    })
}

/// A transaction for all recipients.
fn of(envelope: Envelope) -> Transaction {
    let recipients = (0..envelope.recipients.len() as u16).collect();
    Transaction { envelope: Arc::new(envelope), recipients, size: 1000, time_left: None }
}

const PIPELINED: &str = "250-mx\n250 PIPELINING";
const PLAIN: &str = "250 mx";

/// `D`elivered, de`f`erred or `F`ailed, and the code of the reply.
fn brief(outcomes: &[Outcome]) -> Vec<(char, u16)> {
    let one = |outcome: &Outcome| match outcome {
        Outcome::Delivered(reply) => ('D', reply.code),
        Outcome::Deferred(reply) => ('f', reply.code),
        Outcome::Failed(reply) => ('F', reply.code),
    };
    outcomes.iter().map(one).collect()
}
