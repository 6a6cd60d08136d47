//! The network between machines: addresses, listeners, and what connections are like.

use crate::conn::SimConn;
use crate::executor::{Event, MachineId};
use crate::link::{Fate, Link, Quality, Side, Step};
use crate::listener::Backlog;
use crate::random::{Chance, Span, Stream};
use crate::world::{Core, Life};
use mail::Time;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

/// Connections that wait for one listener before others are not even refused.
const BACKLOG_MAX: usize = 128;
/// The first of the ports from which connections are made.
const EPHEMERAL_PORT_MIN: u16 = 32_768;

/// What new connections are like. Each chance is drawn once for a connection.
#[derive(Clone, Copy, Debug)]
pub struct NetworkFaults {
    /// One way.
    pub latency: Span,
    /// Carries few bytes per second.
    pub slow: Chance,
    /// How long a byte takes on a slow connection.
    pub slow_byte: Span,
    /// Is reset once it has carried up to `fatal_bytes`.
    pub reset: Chance,
    /// Falls silent for good once it has carried up to `fatal_bytes`.
    pub silence: Chance,
    /// See `reset` and `silence`; at least 1.
    pub fatal_bytes: u64,
    /// Is refused although somebody listens.
    pub refused: Chance,
    /// Gets no answer to its first packet.
    pub unreachable: Chance,
    /// Is cut into pieces at any byte, on its way and when read.
    pub choppy: Chance,
    /// Bytes on their way in one direction before the sender waits; at least 1.
    pub room: usize,
    /// Accepting fails with an error that passes. Drawn for each accept.
    pub accept_error: Chance,
}

impl NetworkFaults {
    /// A network that works.
    pub const NONE: NetworkFaults = NetworkFaults {
        latency: Span::micros(20, 400),
        slow: Chance::NEVER,
        slow_byte: Span::micros(20, 2_000),
        reset: Chance::NEVER,
        silence: Chance::NEVER,
        fatal_bytes: 4_000,
        refused: Chance::NEVER,
        unreachable: Chance::NEVER,
        choppy: Chance::NEVER,
        room: 65_536,
        accept_error: Chance::NEVER,
    };

    fn quality(&self, random: &Stream) -> Quality {
        let slow = random.hits(self.slow);
        let byte_nanos = random.span(self.slow_byte).as_nanos() as u64;
        let fatal = random.between(1, self.fatal_bytes);
        let (resets, falls_silent) = (random.hits(self.reset), random.hits(self.silence));
        Quality {
            latency: random.span(self.latency),
            byte_nanos: if slow { byte_nanos } else { 0 },
            room: self.room,
            choppy: random.hits(self.choppy),
            fate: match (resets, falls_silent) {
                (true, _) => Fate::ResetAfter(fatal),
                (false, true) => Fate::SilentAfter(fatal),
                (false, false) => Fate::Whole,
            },
        }
    }
}

/// Counts the connections that are open to a group of addresses, as seen by those who opened them.
#[derive(Debug, Default)]
pub struct Meter {
    open: Cell<usize>,
    most: Cell<usize>,
}

impl Meter {
    /// How many are open or being opened.
    pub fn open(&self) -> usize {
        self.open.get()
    }

    /// The most that ever were at once.
    pub fn most(&self) -> usize {
        self.most.get()
    }
}

/// One connection, counted while this lives.
#[derive(Debug)]
pub(crate) struct Counted(Rc<Meter>);

impl Counted {
    fn new(meter: &Rc<Meter>) -> Counted {
        meter.open.set(meter.open.get() + 1);
        meter.most.set(meter.most.get().max(meter.open.get()));
        Counted(meter.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

/// The network of a world.
pub struct Network {
    faults: Cell<NetworkFaults>,
    cut_off: RefCell<BTreeSet<IpAddr>>,
    listeners: RefCell<BTreeMap<SocketAddr, Vec<Rc<Backlog>>>>,
    meters: RefCell<BTreeMap<IpAddr, Rc<Meter>>>,
    connections: Cell<u64>,
}

enum Offer {
    Accepted(SimConn),
    Refused,
    Dropped,
}

impl Network {
    pub(crate) fn new(faults: NetworkFaults) -> Network {
        Network {
            faults: Cell::new(faults),
            cut_off: RefCell::default(),
            listeners: RefCell::default(),
            meters: RefCell::default(),
            connections: Cell::new(0),
        }
    }

    /// What connections made from now on are like.
    pub fn faults(&self) -> NetworkFaults {
        self.faults.get()
    }

    /// Changes it.
    pub fn set_faults(&self, faults: NetworkFaults) {
        self.faults.set(faults);
    }

    /// Cuts an address off from new connections, or lets them pass again.
    pub fn cut_off(&self, address: IpAddr, is_cut_off: bool) {
        let mut cut_off = self.cut_off.borrow_mut();
        match is_cut_off {
            true => cut_off.insert(address),
            false => cut_off.remove(&address),
        };
    }

    /// Counts the connections to these addresses together.
    pub fn meter(&self, addresses: &[IpAddr]) -> Rc<Meter> {
        let meter = Rc::new(Meter::default());
        self.meters.borrow_mut().extend(addresses.iter().map(|address| (*address, meter.clone())));
        meter
    }

    /// The address from which a machine connects when it names none.
    pub fn address_of(machine: MachineId) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 255, (machine.0 >> 8) as u8, machine.0 as u8))
    }

    /// How many listen at an address.
    pub fn listeners_at(&self, at: SocketAddr) -> usize {
        self.listeners.borrow().get(&at).map_or(0, Vec::len)
    }

    /// Adds a listener; several of one machine may share an address.
    pub(crate) fn listen(&self, at: SocketAddr, life: Life) -> io::Result<Rc<Backlog>> {
        let mut listeners = self.listeners.borrow_mut();
        let at = match at.port() {
            0 => SocketAddr::new(at.ip(), self.ephemeral_port()),
            _ => at,
        };
        let sharing = listeners.entry(at).or_default();
        if sharing.iter().any(|other| other.life != life) {
            return Err(ErrorKind::AddrInUse.into());
        }
        let backlog = Rc::new(Backlog::new(at, life));
        sharing.push(backlog.clone());
        Ok(backlog)
    }

    pub(crate) fn close_listener(&self, backlog: &Rc<Backlog>) {
        let mut listeners = self.listeners.borrow_mut();
        if let Some(sharing) = listeners.get_mut(&backlog.at) {
            sharing.retain(|other| !Rc::ptr_eq(other, backlog));
            if sharing.is_empty() {
                listeners.remove(&backlog.at);
            }
        }
    }

    fn ephemeral_port(&self) -> u16 {
        let count = self.connections.get();
        self.connections.set(count + 1);
        EPHEMERAL_PORT_MIN + (count % u64::from(u16::MAX - EPHEMERAL_PORT_MIN)) as u16
    }

    /// Connects from a machine; `deadline` is in the time of the world.
    pub(crate) async fn connect(
        core: &Rc<Core>,
        life: Life,
        to: SocketAddr,
        from: Option<IpAddr>,
        deadline: Time,
    ) -> io::Result<SimConn> {
        let (network, random, timers) = (&core.network, &core.streams.network, &core.timers);
        let counted = network.meters.borrow().get(&to.ip()).map(Counted::new);
        let faults = network.faults.get();
        let quality = faults.quality(random);
        let (refused, unreachable) = (random.hits(faults.refused), random.hits(faults.unreachable));
        let arrives = timers.now() + quality.latency;
        timers.sleep_until(arrives.min(deadline)).await;
        let offer = match () {
            () if unreachable || arrives >= deadline || network.cut_off.borrow().contains(&to.ip()) => {
                Offer::Dropped
            }
            () if refused => Offer::Refused,
            () => {
                let local = from.unwrap_or_else(|| Network::address_of(life.machine));
                let local = SocketAddr::new(local, network.ephemeral_port());
                network.offer(core, life, local, to, quality, counted)
            }
        };
        let answered = timers.now() + quality.latency;
        timers
            .sleep_until(if matches!(offer, Offer::Dropped) { deadline } else { answered.min(deadline) })
            .await;
        match offer {
            Offer::Accepted(conn) if answered < deadline => Ok(conn),
            Offer::Refused if answered < deadline => Err(ErrorKind::ConnectionRefused.into()),
            _ => Err(ErrorKind::TimedOut.into()),
        }
    }

    /// Hands a new connection to one of the listeners.
    fn offer(
        &self,
        core: &Rc<Core>,
        life: Life,
        local: SocketAddr,
        to: SocketAddr,
        quality: Quality,
        counted: Option<Counted>,
    ) -> Offer {
        let listeners = self.listeners.borrow();
        let Some(sharing) = listeners.get(&to) else { return Offer::Refused };
        let backlog = core.streams.network.one_of(sharing).clone();
        if backlog.len() >= BACKLOG_MAX {
            return Offer::Dropped;
        }
        core.executor.note(Event::Connect, u64::from(local.port()), core.timers.now().0);
        let link = Rc::new(RefCell::new(Link::new(quality)));
        let client = SimConn::new(core, life, &link, Side::Client, (local, to), counted);
        let server = SimConn::new(core, backlog.life, &link, Side::Server, (to, local), None);
        backlog.push(server);
        Offer::Accepted(client)
    }

    /// Waits until `attempt` is done, at most until `deadline`; `register` says whom to wake for.
    pub(crate) async fn wait<T>(
        core: &Core,
        deadline: Time,
        mut attempt: impl FnMut(Time) -> Step<io::Result<T>>,
        register: impl Fn(&std::task::Waker),
    ) -> io::Result<T> {
        loop {
            let until = match attempt(core.timers.now()) {
                Step::Done(result) => return result,
                Step::Wait(until) => until,
            };
            if core.timers.now() >= deadline {
                return Err(ErrorKind::TimedOut.into());
            }
            core.timers.park(until.min(deadline), &register).await;
        }
    }
}
