//! Clients log in: what their sessions ask is answered here. Proofs are checked on the shard, for they cost
//! microseconds; passwords on worker threads, for they cost tens of milliseconds, but for those that were right a
//! moment ago.
//!
//! Failures are counted by this shard alone: a guesser whose connections the kernel spreads over N shards has up to N
//! times as many guesses before it is shut out everywhere.

use crate::config;
use crate::shard::Shard;
use auth::{Answer, Guard, Question, Secret, Standing, User, Users, Verified};
use host::{Host, WorkError};
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a password may take to be checked, its wait for a worker thread included. Beyond, 454.
const CHECK_MAX: Duration = Duration::from_secs(10);

/// What a shard knows of those who log in.
#[derive(Debug)]
pub struct Logins {
    users: RefCell<Arc<Users>>,
    guard: RefCell<Guard>,
    verified: RefCell<Verified>,
    /// Attempts so far; no two nonces are made from the same number.
    attempts: Cell<u64>,
}

impl Logins {
    /// No users yet: they come by [`crate::message::Control::Users`].
    pub fn new(config: &config::Auth) -> Logins {
        Logins {
            users: RefCell::default(),
            guard: RefCell::new(Guard::new(config.guard)),
            verified: RefCell::new(Verified::new(config.verified_for, config.verified_max)),
            attempts: Cell::new(0),
        }
    }

    /// From now on these are the users.
    pub fn replace(&self, users: Arc<Users>) {
        self.users.replace(users);
    }

    /// All users.
    pub fn users(&self) -> Arc<Users> {
        self.users.borrow().clone()
    }

    /// Networks and users with failures, and passwords that are known to be right.
    pub fn remembered(&self) -> (usize, usize, usize) {
        let (clients, users) = self.guard.borrow().len();
        (clients, users, self.verified.borrow().len())
    }
}

impl<H: Host> Shard<H> {
    /// Answers what a session asks about a `client` that logs in. A failure takes its delay.
    pub(crate) async fn answer_login(&self, question: Question<'_>, client: IpAddr) -> Answer {
        let user = question.user();
        let standing = self.logins.guard.borrow().standing(client, user, self.host.now());
        match (standing, question) {
            (Standing::ClientLocked, _) => self.locked_out().await,
            // A password that was right a moment ago is still right: a guesser must not shut out a client at work.
            (_, Question::Password { user, password }) if self.was_right(user, password) => {
                self.grant(user, client)
            }
            (Standing::UserLocked, _) => self.locked_out().await,
            (Standing::Free, Question::Password { user, password }) => {
                self.check_password(user, password, client).await
            }
            (Standing::Free, Question::Credentials { user }) => {
                Answer::Credentials(self.logins.users().credentials(user, &self.unique()))
            }
            (Standing::Free, Question::Proven { user }) => self.grant(user, client),
            (Standing::Free, Question::Disproven { user }) => self.deny(user, client).await,
        }
    }

    /// Bytes that are different for each attempt on each shard.
    fn unique(&self) -> [u8; 24] {
        let number = self.logins.attempts.get();
        self.logins.attempts.set(number + 1);
        let mut unique = [0; 24];
        let words = [self.number as u64, number, self.host.random()];
        unique.chunks_mut(8).zip(words).for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_be_bytes()));
        unique
    }

    fn was_right(&self, user: &str, password: &Secret) -> bool {
        let Some(fingerprint) = self.logins.users().fingerprint(user, password) else { return false };
        let was_right = self.logins.verified.borrow_mut().contains(&fingerprint, self.host.now());
        self.metrics.count.logins_remembered.add(u64::from(was_right));
        was_right
    }

    async fn check_password(&self, user: &str, password: &Secret, client: IpAddr) -> Answer {
        let users = self.logins.users();
        let (name, secret, known) = (Box::<str>::from(user), password.clone(), users.clone());
        let work = move || known.check(&name, &secret).is_some();
        match self.host.work(work, self.host.now() + CHECK_MAX).await {
            Ok(true) => {
                if let Some(fingerprint) = users.fingerprint(user, password) {
                    self.logins.verified.borrow_mut().insert(fingerprint, self.host.now());
                }
                self.grant(user, client)
            }
            Ok(false) => self.deny(user, client).await,
            Err(error) => {
                self.metrics.count.logins_unavailable.bump();
                let why = match error {
                    WorkError::Busy => "too many passwords are being checked",
                    WorkError::Late => "checking the password took too long",
                    WorkError::Panicked => "checking the password panicked",
                };
                tracing::warn!(target: "mtad::login", shard = self.number, %client, user, why, "login not checked");
                Answer::Unavailable
            }
        }
    }

    /// Lets a user in who has proved to be it, if it may come in at all.
    fn grant(&self, user: &str, client: IpAddr) -> Answer {
        let Some(user) = self.logins.users().active(user).cloned() else {
            return Answer::Denied;
        };
        self.logins.guard.borrow_mut().succeeded(&user.name);
        self.metrics.count.logins.bump();
        tracing::debug!(target: "mtad::login", %client, user = &*user.name, "logged in");
        Answer::Granted(user)
    }

    async fn deny(&self, user: &str, client: IpAddr) -> Answer {
        self.metrics.count.logins_failed.bump();
        let failed = self.logins.guard.borrow_mut().failed(client, user, self.host.now());
        tracing::info!(target: "mtad::login", %client, user, "login failed");
        if failed.locks_client {
            tracing::warn!(target: "mtad::login", shard = self.number, %client, "too many failed logins: client locked out");
        }
        if failed.locks_user {
            tracing::warn!(target: "mtad::login", shard = self.number, %client, user, "too many failed logins: user locked out");
        }
        self.host.sleep_until(self.host.now() + failed.delay).await;
        Answer::Denied
    }

    /// Takes as long as a first failure, so that who is shut out gains nothing by trying faster.
    async fn locked_out(&self) -> Answer {
        self.metrics.count.logins_locked_out.bump();
        self.host.sleep_until(self.host.now() + self.config.auth.guard.delay).await;
        Answer::Unavailable
    }

    /// As whom a user may send who logged in some time ago: what it may do can have changed, or it can be gone.
    pub(crate) fn still_active(&self, user: &User) -> Option<Arc<User>> {
        self.logins.users().active(&user.name).cloned()
    }
}
