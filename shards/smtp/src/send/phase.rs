//! What a session waits for, and how long.

use super::Profile;
use core::fmt;
use core::time::Duration;

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The 220.
    Greeting,
    /// The reply to EHLO.
    Ehlo,
    /// The reply to HELO.
    Helo,
    /// Nothing: no transaction is open.
    Idle,
    /// The reply to RSET.
    Reset,
    /// The reply to MAIL.
    Mail,
    /// The reply to a RCPT.
    Recipient,
    /// The reply to DATA.
    Data,
    /// The next hop taking the content: its size in bytes.
    Content(u64),
    /// The reply to the final dot.
    Final,
    /// The reply to QUIT.
    Quit,
}

impl Phase {
    /// How long it may last; `None` when nothing is awaited.
    pub(super) fn timeout(self, profile: &Profile) -> Option<Duration> {
        Some(match self {
            Phase::Idle => return None,
            Phase::Greeting => profile.greeting_timeout,
            Phase::Ehlo | Phase::Helo => profile.ehlo_timeout,
            Phase::Reset | Phase::Mail => profile.mail_timeout,
            Phase::Recipient => profile.recipient_timeout,
            Phase::Data => profile.data_timeout,
            Phase::Content(size) => {
                let allowed = Duration::from_secs(size / profile.content_rate_min.max(1));
                profile.content_timeout.saturating_add(allowed)
            }
            Phase::Final => profile.final_timeout,
            Phase::Quit => profile.quit_timeout,
        })
    }
}

impl fmt::Display for Phase {
    /// Fits after "waiting for".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Greeting => "the greeting",
            Phase::Ehlo => "the reply to EHLO",
            Phase::Helo => "the reply to HELO",
            Phase::Idle => "nothing",
            Phase::Reset => "the reply to RSET",
            Phase::Mail => "the reply to MAIL",
            Phase::Recipient => "the reply to RCPT",
            Phase::Data => "the reply to DATA",
            Phase::Content(_) => "the content to be taken",
            Phase::Final => "the reply to the final dot",
            Phase::Quit => "the reply to QUIT",
        })
    }
}
