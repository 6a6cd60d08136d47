//! Drives a receiving session in memory, and answers its tickets by simple rules.

#![allow(dead_code, reason = "each test uses its own part")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use auth::{Answer, Channel, Credentials, ScramVerifier, User};
use mail::{Address, Enhanced, MessageId, Reply, Time, WallTime};
use smtp::receive::{CloseReason, Incoming, Profile, Question, Session, Step};

/// The wall time of every message.
pub const ACCEPTED: WallTime = WallTime(1_795_566_960_000_000);
pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// How tickets are answered.
#[derive(Clone, Debug)]
pub struct Rules {
    pub profile: Profile,
    /// Domains that recipients may have; all others get 550.
    pub relay: Vec<String>,
    /// What is refused, and how: `sender ADDRESS`, `recipient ADDRESS`, `data`, `store`.
    pub refusals: Vec<(String, Reply)>,
    pub channel: Channel,
    /// Names and passwords.
    pub users: Vec<(String, String)>,
}

impl Rules {
    pub fn new() -> Rules {
        Rules {
            profile: Profile::new("mx.example"),
            relay: vec![],
            refusals: vec![],
            channel: Channel::Plain,
            users: vec![],
        }
    }

    /// As the exchange of RFC 7677 section 3 has it.
    fn answer(&self, question: auth::Question<'_>) -> Answer {
        let known = |name: &str| self.users.iter().find(|(user, _)| user == name);
        let granted = |(name, password): &(String, String)| Answer::Granted(user(name, password));
        match question {
            auth::Question::Password { user: "away", .. } => Answer::Unavailable,
            auth::Question::Password { user, password } => match known(user) {
                Some(known) if known.1.as_bytes() == password.bytes() => granted(known),
                _ => Answer::Denied,
            },
            auth::Question::Credentials { user: name } => Answer::Credentials(Credentials {
                verifier: known(name)
                    .map_or_else(|| user("", "nobody has this"), |known| user(name, &known.1))
                    .scram
                    .clone()
                    .expect("made with one"),
                nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_string(),
            }),
            auth::Question::Proven { user } => known(user).map_or(Answer::Denied, granted),
            auth::Question::Disproven { .. } => Answer::Denied,
        }
    }

    fn refusal(&self, what: &str) -> Result<(), Reply> {
        match self.refusals.iter().find(|(refused, _)| refused == what) {
            Some((_, reply)) => Err(reply.clone()),
            None => Ok(()),
        }
    }

    fn judge(&self, question: Question<'_>) -> Result<(), Reply> {
        match question {
            Question::Sender { sender, .. } => {
                self.refusal(&format!("sender {}", sender.map_or("", Address::as_str)))
            }
            Question::Recipient { recipient } => {
                self.refusal(&format!("recipient {recipient}"))?;
                match self.relay.iter().any(|domain| domain == recipient.domain()) {
                    true => Ok(()),
                    false => Err(Reply::new(550, (5, 7, 1), "Relaying denied")),
                }
            }
        }
    }
}

fn verifier(password: &str) -> ScramVerifier {
    // The salt of RFC 7677.
    let salt = b"[m\x99h\x9d\x125\x8e\xec\xa0K\x14\x126\xfa\x81".to_vec();
    ScramVerifier::new(
        &auth::password(password).expect("a password"),
        salt,
        4096.try_into().expect("above 0"),
    )
}

/// Made once each, since that is a lot of work.
fn user(name: &str, password: &str) -> Arc<User> {
    thread_local!(static USERS: RefCell<BTreeMap<(String, String), Arc<User>>> = RefCell::default());
    let key = (name.to_string(), password.to_string());
    USERS.with(|users| {
        users.borrow_mut().entry(key).or_insert_with(|| Arc::new(new_user(name, password))).clone()
    })
}

fn new_user(name: &str, password: &str) -> User {
    let scram = Some(verifier(password));
    let (senders, tenant, messages, recipients) = (vec![], None, None, None);
    User { name: name.into(), password: None, scram, senders, tenant, messages, recipients, disabled: false }
}

/// Reads `550 5.7.1 text`.
pub fn reply(text: &str) -> Reply {
    let mut words = text.splitn(3, ' ');
    let code = words.next().and_then(|code| code.parse().ok()).expect("a code");
    let enhanced: Vec<u16> =
        words.next().expect("an enhanced code").split('.').map(|n| n.parse().expect("a number")).collect();
    let enhanced = Enhanced(enhanced[0] as u8, enhanced[1], enhanced[2]);
    Reply { code, enhanced: Some(enhanced), text: words.next().expect("a text").to_string().into() }
}

/// A session at work.
pub struct Play {
    pub session: Session,
    pub rules: Rc<Rules>,
    pub now: Time,
    /// Everything that was said.
    pub out: Vec<u8>,
    pub stored: Vec<Incoming>,
    pub closed: Option<CloseReason>,
}

impl Play {
    /// A session that has said its greeting.
    pub fn new(rules: &Rc<Rules>) -> Play {
        let now = Time(1_000_000_000);
        let mut session = Session::new(Rc::new(rules.profile.clone()), CLIENT, now);
        session.set_channel(rules.channel.clone());
        let mut play = Play { session, rules: rules.clone(), now, out: vec![], stored: vec![], closed: None };
        play.run();
        play
    }

    /// Hands bytes in, unless the session is closed, and runs on to the next wait.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.closed.is_none() && !bytes.is_empty() {
            self.session.feed(bytes, self.now);
            self.run();
        }
    }

    /// Lets time pass; says whether that was too long.
    pub fn pass(&mut self, time: Duration) -> bool {
        self.now = self.now + time;
        let is_late = self.session.deadline() <= self.now;
        if is_late {
            self.session.timed_out(&mut self.out);
            self.run();
        }
        is_late
    }

    pub fn end_of_input(&mut self) {
        self.session.end_of_input();
        self.run();
    }

    pub fn stop(&mut self) {
        self.session.stop();
        self.run();
    }

    /// Everything that was said, as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("replies are text")
    }

    fn run(&mut self) {
        loop {
            match self.session.step(self.now, &mut self.out) {
                Step::NeedBytes => {
                    assert!(self.session.deadline() < Time::FAR, "whoever waits must have a deadline");
                    return;
                }
                Step::Close(reason) => {
                    assert_eq!((self.session.held(), self.session.input_held()), (0, 0));
                    self.closed = Some(reason);
                    return;
                }
                Step::Ask(ticket) => {
                    let answer = self.rules.judge(self.session.question().expect("a question"));
                    ticket.answer(&mut self.session, answer, &mut self.out);
                }
                Step::Login(ticket) => {
                    let answer = self.rules.answer(self.session.login_question().expect("a question"));
                    ticket.answer(&mut self.session, answer, &mut self.out);
                }
                Step::Begin(ticket) => {
                    let id = MessageId(self.stored.len() as u64 + 1);
                    let answer = self.rules.refusal("data").map(|()| (id, ACCEPTED));
                    ticket.answer(&mut self.session, answer, &mut self.out);
                }
                Step::Store(ticket, incoming) => {
                    let answer = self.rules.refusal("store");
                    if answer.is_ok() {
                        self.stored.push(incoming);
                    }
                    ticket.answer(&mut self.session, answer, &mut self.out);
                }
            }
        }
    }
}

/// Panics unless `out` is a sequence of complete replies (RFC 5321 section 4.2); returns how many.
pub fn count_replies(out: &[u8]) -> usize {
    let text = std::str::from_utf8(out).expect("replies are text");
    let mut replies = 0;
    let mut open: Option<&str> = None;
    for line in text.split_inclusive("\r\n") {
        let line = line.strip_suffix("\r\n").expect("a line ends with CRLF");
        assert!(!line.contains(['\r', '\n', '\0']) && line.len() <= 510, "{line:?}");
        let (code, rest) = line.split_at(3);
        assert!(
            code.bytes().all(|b| b.is_ascii_digit())
                && ('2'..='5').contains(&line.chars().next().unwrap_or('0'))
        );
        assert!(open.is_none_or(|before| before == code), "{text}");
        open = match rest.as_bytes()[0] {
            b'-' => Some(code),
            b' ' => None,
            _ => panic!("{line:?} is no reply"),
        };
        replies += usize::from(open.is_none());
    }
    assert_eq!(open, None, "{text}");
    replies
}
