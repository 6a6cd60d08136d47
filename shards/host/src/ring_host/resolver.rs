//! Names, asked through hickory, whose sockets are the shard's own.
//!
//! hickory keeps no answers: the shard does, for as long as each is good. `runtime` is the adapter.

mod runtime;

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::{DnsError as ServerError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use mail::Time;

use self::runtime::ShardRuntime;
use super::core::Shared;
use crate::{AddressAnswer, DnsError, Mx, MxAnswer};

/// Longest time that an answer is good, in seconds, whatever its TTL says.
const TTL_SECONDS_MAX: u32 = 86_400;
/// Shortest; with less, an answer could be stale when it arrives.
const TTL_SECONDS_MIN: u32 = 1;
/// Longest time that a missing name or record is believed to be missing, in seconds.
const NEGATIVE_SECONDS_MAX: u32 = 3600;
/// The same when the answer does not say (it has no SOA record).
const NEGATIVE_SECONDS_DEFAULT: u32 = 60;

/// Who answers questions about names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DnsServers {
    /// The servers, time-outs and attempts of /etc/resolv.conf, and the names of /etc/hosts, read when the shard
    /// starts. Its search list does not count: all names are absolute.
    #[default]
    System,
    /// These, and no hosts file.
    List {
        /// Addresses and ports, each asked over UDP, and over TCP when an answer was cut off.
        servers: Vec<SocketAddr>,
        /// How long one attempt may take.
        timeout: Duration,
        /// Attempts after the first.
        retries: usize,
    },
}

/// Asks for one shard.
pub(super) struct Resolver {
    shared: Rc<Shared>,
    /// Or why there is none.
    hickory: Result<hickory_resolver::Resolver<ShardRuntime>, String>,
}

impl Resolver {
    /// A resolver that cannot be made answers every question with the reason.
    pub(super) fn new(shared: &Rc<Shared>, servers: &DnsServers) -> Resolver {
        let hickory = build(shared, servers).map_err(|error| format!("no resolver: {error}"));
        if let Err(error) = &hickory {
            tracing::error!(error, "names cannot be looked up");
        }
        Resolver { shared: shared.clone(), hickory }
    }

    /// The mail exchangers of a domain.
    pub(super) async fn mx(&self, domain: &str) -> Result<MxAnswer, DnsError> {
        let found = self.ask(domain, RecordType::MX).await?;
        let mut records: Vec<Mx> = found.data.iter().filter_map(mail_exchanger).collect();
        records.sort();
        Ok(MxAnswer { records, expires: found.expires })
    }

    /// The addresses of a host: IPv6 first, both asked at once.
    pub(super) async fn addresses(&self, name: &str) -> Result<AddressAnswer, DnsError> {
        let (six, four) = both(self.ask(name, RecordType::AAAA), self.ask(name, RecordType::A)).await;
        merge(six.map(Found::addresses), four.map(Found::addresses), self.shared.now())
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Result<Found, DnsError> {
        let hickory = self.hickory.as_ref().map_err(|error| DnsError::Transient(error.clone()))?;
        let Ok(mut absolute) = Name::from_ascii(name) else {
            return Err(DnsError::NoSuchDomain(self.shared.now() + seconds(NEGATIVE_SECONDS_MAX)));
        };
        absolute.set_fqdn(true);
        match hickory.lookup(absolute, kind).await {
            Ok(lookup) => {
                let shortest =
                    lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(TTL_SECONDS_MIN);
                let expires = self.shared.now() + seconds(shortest.clamp(TTL_SECONDS_MIN, TTL_SECONDS_MAX));
                Ok(Found {
                    data: lookup.answers().iter().map(|record| record.data.clone()).collect(),
                    expires,
                })
            }
            Err(NetError::Dns(ServerError::NoRecordsFound(missing))) => nothing(&missing, self.shared.now()),
            Err(error) => Err(DnsError::Transient(format!("{name} {kind}: {error}"))),
        }
    }
}

/// Records, and how long they are good.
struct Found {
    data: Vec<RData>,
    expires: Time,
}

impl Found {
    fn addresses(self) -> AddressAnswer {
        let addresses = self.data.iter().filter_map(RData::ip_addr).collect();
        AddressAnswer { addresses, expires: self.expires }
    }
}

fn build(
    shared: &Rc<Shared>,
    servers: &DnsServers,
) -> Result<hickory_resolver::Resolver<ShardRuntime>, NetError> {
    let runtime = ShardRuntime::new(shared.clone());
    let mut builder = match servers {
        DnsServers::System => hickory_resolver::Resolver::builder(runtime)?,
        DnsServers::List { servers, timeout, retries } => {
            let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
            let mut options = ResolverOpts::default();
            options.timeout = *timeout;
            options.attempts = *retries;
            options.use_hosts_file = ResolveHosts::Never;
            hickory_resolver::Resolver::builder_with_config(config, runtime).with_options(options)
        }
    };
    let options = builder.options_mut();
    options.cache_size = 0;
    // Keeps the TTL of each alias in the answer, which bounds how long the whole is good.
    options.preserve_intermediates = true;
    builder.build()
}

fn server(at: &SocketAddr) -> NameServerConfig {
    let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
    (udp.port, tcp.port) = (at.port(), at.port());
    NameServerConfig::new(at.ip(), true, vec![udp, tcp])
}

fn mail_exchanger(data: &RData) -> Option<Mx> {
    let RData::MX(mx) = data else { return None };
    let name = mx.exchange.to_ascii();
    Some(Mx { preference: mx.preference, name: name.trim_end_matches('.').to_owned() })
}

/// The answer to a question that has no records: empty when the name exists.
fn nothing(missing: &NoRecords, now: Time) -> Result<Found, DnsError> {
    let ttl = missing.negative_ttl.unwrap_or(NEGATIVE_SECONDS_DEFAULT);
    let expires = now + seconds(ttl.clamp(TTL_SECONDS_MIN, NEGATIVE_SECONDS_MAX));
    match missing.response_code {
        ResponseCode::NXDomain => Err(DnsError::NoSuchDomain(expires)),
        ResponseCode::NoError => Ok(Found { data: Vec::new(), expires }),
        code => Err(DnsError::Transient(format!("{}: {code}", missing.query.name()))),
    }
}

/// One answer out of two: addresses of either kind count even when the other question failed; without any, a failure
/// leaves it open whether there are some.
fn merge(
    six: Result<AddressAnswer, DnsError>,
    four: Result<AddressAnswer, DnsError>,
    now: Time,
) -> Result<AddressAnswer, DnsError> {
    match (six, four) {
        (Ok(mut six), Ok(four)) => {
            six.addresses.extend(four.addresses);
            Ok(AddressAnswer { expires: six.expires.min(four.expires), ..six })
        }
        (Ok(some), Err(_)) | (Err(_), Ok(some)) if !some.addresses.is_empty() => {
            Ok(AddressAnswer { expires: some.expires.min(now + seconds(NEGATIVE_SECONDS_DEFAULT)), ..some })
        }
        (Err(DnsError::Transient(text)), _) | (_, Err(DnsError::Transient(text))) => {
            Err(DnsError::Transient(text))
        }
        (Err(DnsError::NoSuchDomain(one)), Err(DnsError::NoSuchDomain(other))) => {
            Err(DnsError::NoSuchDomain(one.min(other)))
        }
        (missing @ Err(_), Ok(_)) | (Ok(_), missing) => missing,
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

/// Runs two futures to their ends at once.
async fn both<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut one, mut other) = (None, None);
    poll_fn(|cx| {
        if one.is_none()
            && let Poll::Ready(output) = first.as_mut().poll(cx)
        {
            one = Some(output);
        }
        if other.is_none()
            && let Poll::Ready(output) = second.as_mut().poll(cx)
        {
            other = Some(output);
        }
        match (one.take(), other.take()) {
            (Some(one), Some(other)) => Poll::Ready((one, other)),
            (left, right) => {
                (one, other) = (left, right);
                Poll::Pending
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    /// Both answers merged at the beginning of time.
    fn merge(
        six: Result<AddressAnswer, DnsError>,
        four: Result<AddressAnswer, DnsError>,
    ) -> Result<AddressAnswer, DnsError> {
        super::merge(six, four, Time(0))
    }

    fn found(addresses: &[&str], expires: u64) -> Result<AddressAnswer, DnsError> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Ok(AddressAnswer { addresses, expires: Time(expires) })
    }

    fn transient() -> Result<AddressAnswer, DnsError> {
        Err(DnsError::Transient("SERVFAIL".to_owned()))
    }

    fn missing(until: u64) -> Result<AddressAnswer, DnsError> {
        Err(DnsError::NoSuchDomain(Time(until)))
    }

    #[test]
    fn addresses_of_both_kinds_are_one_answer_that_is_good_while_both_are() {
        assert_eq!(merge(found(&["::1"], 9), found(&["127.0.0.1"], 5)), found(&["::1", "127.0.0.1"], 5));
        assert_eq!(merge(found(&[], 9), found(&[], 5)), found(&[], 5));
    }

    #[test]
    fn some_addresses_are_better_than_a_failure_and_none_are_not() {
        assert_eq!(merge(transient(), found(&["127.0.0.1"], 5)), found(&["127.0.0.1"], 5));
        assert_eq!(merge(found(&["::1"], 5), transient()), found(&["::1"], 5));
        assert_eq!(merge(transient(), found(&[], 5)), transient());
        assert_eq!(merge(missing(5), transient()), transient());
    }

    #[test]
    fn a_name_that_does_not_exist_for_one_kind_exists_for_none() {
        assert_eq!(merge(missing(5), missing(4)), missing(4));
        assert_eq!(merge(missing(5), found(&[], 4)), missing(5));
        assert_eq!(merge(found(&[], 4), missing(5)), missing(5));
    }
}
