//! What a receiving session is told once: names and bounds.

use alloc::string::String;
use core::time::Duration;

use crate::extension::Extensions;
use auth::{Mechanism, Terms};

/// Settings that sessions share.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Our name in the greeting, in `Received` fields, and the domain of the plain `<postmaster>`.
    pub hostname: String,
    /// Largest content, in bytes as RFC 1870 counts them (25 MiB). Beyond it: 552 5.3.4, at MAIL when the size
    /// was declared, otherwise after the end; what comes in between is not kept.
    pub message_bytes_max: u64,
    /// Most recipients of a transaction (1,000; RFC 5321 section 4.5.3.1.8 wants at least 100). Beyond: 452 4.5.3.
    pub recipients_max: usize,
    /// Most `Received` fields that a message may come with (50). Beyond: 554 5.4.6.
    pub hops_max: usize,
    /// Longest command line in bytes, CRLF included (2,048; RFC 5321 section 4.5.3.1.4 wants at least 512).
    /// Beyond: 500 5.5.2 after its end; what comes in between is not kept.
    pub line_bytes_max: usize,
    /// Most 5yz replies between two stored messages (20). In place of one more: 421 4.7.0, and the end.
    pub errors_max: u32,
    /// Most commands between two stored messages that bring none forward, such as NOOP, RSET, a recipient given
    /// twice, or a command out of order (2,000). In place of one more answer: 421 4.7.0, and the end.
    pub idle_commands_max: u32,
    /// Most transactions of a connection (10,000). Beyond: 421 4.7.0, and the end.
    pub transactions_max: u32,
    /// On which terms clients log in; `None` when they cannot.
    pub auth: Option<Terms>,
    /// Most failed attempts to log in (3). In place of one more refusal: 421 4.7.0, and the end.
    pub login_failures_max: u32,
    /// How long a command line may take, from the last reply to its end (300 s; RFC 5321 section 4.5.3.2.7).
    pub command_timeout: Duration,
    /// How long content may take to go on (180 s; RFC 5321 section 4.5.3.2.5 is the sender's side of it).
    pub data_timeout: Duration,
    /// Slowest rate of content on the whole, in bytes per second (1,024): it must not be more than `data_timeout`
    /// behind. Zero is no bound.
    pub content_rate_min: u32,
}

impl Profile {
    /// The defaults, under the name of `hostname`.
    pub fn new(hostname: impl Into<String>) -> Profile {
        Profile {
            hostname: hostname.into(),
            message_bytes_max: 25 * 1024 * 1024,
            recipients_max: 1000,
            hops_max: 50,
            line_bytes_max: 2048,
            errors_max: 20,
            idle_commands_max: 2000,
            transactions_max: 10_000,
            auth: None,
            login_failures_max: 3,
            command_timeout: Duration::from_secs(300),
            data_timeout: Duration::from_secs(180),
            content_rate_min: 1024,
        }
    }

    /// What the reply to EHLO tells.
    pub(super) fn extensions<'a>(&self, mechanisms: &'a [Mechanism]) -> Extensions<'a> {
        let &Profile { message_bytes_max, recipients_max, transactions_max, .. } = self;
        Extensions { mechanisms, message_bytes_max, recipients_max, transactions_max }
    }
}
