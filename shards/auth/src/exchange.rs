//! One attempt of a client to say who it is.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use crate::plain::{self, may_act_as};
use crate::prepare::{self, Secret};
use crate::scram::{FirstMessage, Proof};
use crate::{Channel, Credentials, Mechanism, User};

/// One attempt of a client to say who it is, whatever the mechanism.
///
/// Feed it with [`Exchange::begin`] and [`Exchange::respond`], do what [`Next`] says, until it is [`Next::End`].
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The first message of the client is to come, with what the channel gives to the mechanism.
    First(Binding),
    /// `LOGIN`: the password of this user is to come.
    LoginPassword(Box<str>),
    /// Is this the password of this user?
    PasswordAsked(Box<str>, Secret),
    /// What is known of the user that this message names?
    CredentialsAsked(FirstMessage),
    /// The proof that goes with this is to come.
    ProofExpected(Proof),
    /// The client has proved to be this user; `SCRAM` has something to say once it is let in.
    Proven(Box<str>, Option<String>),
    /// It claimed to be this user and could not prove it.
    Disproven(Box<str>),
    /// The client has to say that our own proof is right.
    Acknowledged(Arc<User>),
    /// Nothing more is to come.
    Over,
}

#[derive(Debug)]
struct Binding {
    exporter: Option<[u8; 32]>,
    certificate: Option<Box<str>>,
}

/// What comes next.
#[derive(Debug, PartialEq)]
#[must_use = "an exchange goes on only when this is done"]
pub enum Next {
    /// Send this, not encoded yet, and hand the client's response to [`Exchange::respond`].
    Challenge(Vec<u8>),
    /// Look at [`Exchange::question`] and give [`Exchange::answer`].
    Ask,
    /// It is over.
    End(End),
}

/// How an exchange ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The client is this user.
    Granted(Arc<User>),
    /// It is not who it says it is, or may not be it.
    Denied,
    /// Nobody can tell at the moment.
    Unavailable,
    /// What it sent is not what the mechanism wants.
    Malformed,
}

/// What an exchange asks. Names are in the form of [`crate::name`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Question<'a> {
    /// Is this the password of `user`?
    Password {
        /// Whom the client claims to be.
        user: &'a str,
        /// The password in the form of [`crate::password`].
        password: &'a Secret,
    },
    /// What is needed to check a proof by `user`? To be answered alike whether there is such a user or not.
    Credentials {
        /// Whom the client claims to be.
        user: &'a str,
    },
    /// The client has proved to be `user`: may that user in?
    Proven {
        /// Who it is.
        user: &'a str,
    },
    /// The proof was wrong: whoever counts failures counts one. The answer is a refusal whatever it says.
    Disproven {
        /// Whom the client claimed to be.
        user: &'a str,
    },
}

impl Question<'_> {
    /// Whom the client claims to be, or has proved to be.
    pub fn user(&self) -> &str {
        match self {
            Question::Password { user, .. }
            | Question::Credentials { user }
            | Question::Proven { user }
            | Question::Disproven { user } => user,
        }
    }
}

/// What the driver answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Yes: it is this user.
    Granted(Arc<User>),
    /// No.
    Denied,
    /// Nobody can tell at the moment.
    Unavailable,
    /// To [`Question::Credentials`] only.
    Credentials(Credentials),
}

impl Exchange {
    /// An attempt by `mechanism`, which is offered on `channel`.
    pub fn new(mechanism: Mechanism, channel: &Channel) -> Exchange {
        let binding = match channel {
            Channel::Plain => Binding { exporter: None, certificate: None },
            Channel::Tls { exporter, certificate } => {
                Binding { exporter: *exporter, certificate: certificate.clone() }
            }
        };
        Exchange { mechanism, state: State::First(binding) }
    }

    /// The mechanism.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The first step, with the response that the client gave at once, if it did.
    pub fn begin(&mut self, initial: Option<&[u8]>) -> Next {
        match initial {
            Some(response) => self.respond(response),
            None if self.mechanism == Mechanism::Login => Next::Challenge(b"Username:".to_vec()),
            None => Next::Challenge(Vec::new()),
        }
    }

    /// Takes the client's next response, decoded.
    pub fn respond(&mut self, response: &[u8]) -> Next {
        let next = match mem::replace(&mut self.state, State::Over) {
            State::First(binding) => self.first(response, binding),
            State::LoginPassword(user) => match text(response).map(prepare::password) {
                Ok(Ok(password)) => Ok(self.ask(State::PasswordAsked(user, password))),
                Ok(Err(_)) => Err(End::Denied),
                Err(end) => Err(end),
            },
            State::ProofExpected(proof) => {
                let user = proof.user.clone();
                match proof.check(response) {
                    Ok(Some(ours)) => Ok(self.ask(State::Proven(user, Some(ours)))),
                    Ok(None) => Ok(self.ask(State::Disproven(user))),
                    Err(end) => Err(end),
                }
            }
            State::Acknowledged(user) if response.is_empty() => Err(End::Granted(user)),
            _ => Err(End::Malformed),
        };
        next.unwrap_or_else(Next::End)
    }

    fn first(&mut self, response: &[u8], binding: Binding) -> Result<Next, End> {
        match self.mechanism {
            Mechanism::Plain => {
                let (user, password) = plain::read(response)?;
                Ok(self.ask(State::PasswordAsked(user, password)))
            }
            Mechanism::Login => {
                let user = prepare::name(text(response)?).map_err(|_| End::Denied)?;
                self.state = State::LoginPassword(user);
                Ok(Next::Challenge(b"Password:".to_vec()))
            }
            Mechanism::ScramSha256 | Mechanism::ScramSha256Plus => {
                let is_bound = self.mechanism == Mechanism::ScramSha256Plus;
                let message = FirstMessage::read(text(response)?, is_bound, binding.exporter)?;
                Ok(self.ask(State::CredentialsAsked(message)))
            }
            Mechanism::External => {
                let user = binding.certificate.ok_or(End::Denied)?;
                let user = prepare::name(&user).map_err(|_| End::Denied)?;
                if !may_act_as(&user, text(response)?) {
                    return Err(End::Denied);
                }
                Ok(self.ask(State::Proven(user, None)))
            }
        }
    }

    fn ask(&mut self, state: State) -> Next {
        self.state = state;
        Next::Ask
    }

    /// What is asked; `None` unless the last step was [`Next::Ask`].
    pub fn question(&self) -> Option<Question<'_>> {
        match &self.state {
            State::PasswordAsked(user, password) => Some(Question::Password { user, password }),
            State::CredentialsAsked(message) => Some(Question::Credentials { user: &message.user }),
            State::Proven(user, _) => Some(Question::Proven { user }),
            State::Disproven(user) => Some(Question::Disproven { user }),
            _ => None,
        }
    }

    /// Takes the answer. Panics when nothing was asked, or when credentials are given to another question: both are
    /// bugs of the caller's.
    pub fn answer(&mut self, answer: Answer) -> Next {
        let state = mem::replace(&mut self.state, State::Over);
        match (state, answer) {
            (State::CredentialsAsked(message), Answer::Credentials(credentials)) => {
                let (challenge, proof) = message.challenge(credentials);
                self.state = State::ProofExpected(proof);
                Next::Challenge(challenge.into_bytes())
            }
            (_, Answer::Credentials(_)) => panic!("no credentials were asked for"),
            (State::Disproven(_), Answer::Granted(_)) => Next::End(End::Denied),
            (State::Proven(_, Some(ours)), Answer::Granted(user)) => {
                self.state = State::Acknowledged(user);
                Next::Challenge(ours.into_bytes())
            }
            (State::PasswordAsked(..) | State::Proven(_, None), Answer::Granted(user)) => {
                Next::End(End::Granted(user))
            }
            (State::PasswordAsked(..) | State::CredentialsAsked(_), Answer::Denied)
            | (State::Proven(..) | State::Disproven(_), Answer::Denied) => Next::End(End::Denied),
            (State::PasswordAsked(..) | State::CredentialsAsked(_), Answer::Unavailable)
            | (State::Proven(..) | State::Disproven(_), Answer::Unavailable) => Next::End(End::Unavailable),
            _ => panic!("no such question is open"),
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, End> {
    core::str::from_utf8(bytes).map_err(|_| End::Malformed)
}

#[cfg(test)]
mod tests;
