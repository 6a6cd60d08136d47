//! Scenarios by name: what is sent, where it goes, and what is of interest.

mod backlog;
mod mail;
mod neighbour;
mod source;
mod stage;
mod table;

use std::io;

use crate::load;
use crate::sink::Behaviour;
use crate::suite::Round;
pub(crate) use stage::Stage;
pub use table::all;

/// One scenario. The load's target and its number of messages belong to the round.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The word for the command line.
    pub name: &'static str,
    /// A paragraph on what it shows.
    pub shows: &'static str,
    /// What is sent.
    pub load: load::Config,
    /// Next hops, among which the domains are divided.
    pub hops: u32,
    /// Connections that the relay may open to one next hop.
    pub connections: u32,
    /// What next hops do to the relay.
    pub behaviour: Behaviour,
    /// Seconds from a temporary failure to the next attempt; 0 leaves it to the relay.
    pub retry: u32,
    /// How a round goes.
    pub kind: Kind,
    /// The figures that matter, where the kind has none of its own.
    pub figures: &'static [&'static str],
}

/// How a round goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Warm up, send, await everything.
    Mail,
    /// Half of the mail is for somebody else, who answers at once in one run and slowly in another.
    Tarpit,
    /// Next hops are stuck while the mail comes in.
    DeepQueue,
    /// The same, and the relay is killed and started again.
    Restart,
    /// Connections that do nothing.
    Idle,
    /// Connections that hardly do anything, beside ordinary mail.
    Drip,
    /// smtp-source and smtp-sink at both ends.
    SmtpSource,
}

impl Scenario {
    /// Plays one round.
    pub(crate) fn play(&self, stage: &Stage) -> io::Result<Round> {
        match self.kind {
            Kind::Mail => mail::play(stage),
            Kind::Tarpit => neighbour::tarpit(stage),
            Kind::Drip => neighbour::drip(stage),
            Kind::DeepQueue => backlog::deep_queue(stage),
            Kind::Restart => backlog::restart(stage),
            Kind::Idle => mail::idle(stage),
            Kind::SmtpSource => source::play(stage),
        }
    }
}
