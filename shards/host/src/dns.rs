//! What the shard asks of the domain name system, whoever answers.

use mail::Time;
use std::net::IpAddr;

/// One mail exchanger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mx {
    /// Lower is tried first (RFC 5321 section 5.1).
    pub preference: u16,
    /// Host name without the last dot; empty for the root, which alone and with preference 0 says that the domain
    /// takes no mail (null MX, RFC 7505).
    pub name: String,
}

/// The MX records of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MxAnswer {
    /// Sorted by preference; empty when the domain exists without MX records.
    pub records: Vec<Mx>,
    /// Not to be used any more after this.
    pub expires: Time,
}

/// The addresses of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressAnswer {
    /// Empty when the name exists without addresses.
    pub addresses: Vec<IpAddr>,
    /// Not to be used any more after this.
    pub expires: Time,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsError {
    /// The name does not exist (NXDOMAIN); holds for this long.
    NoSuchDomain(Time),
    /// No usable answer just now: time-out, SERVFAIL, refused, nonsense. The text says which.
    Transient(String),
}
