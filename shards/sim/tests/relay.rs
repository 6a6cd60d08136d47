//! A relay small enough to be seen through, so that clients, next hops, swarm and oracle are tried on something
//! known: right as it stands, it must pass every world, and with a fault planted it must be found out.
//!
//! Each message is a file of its own: a length, the envelope and the content. A file is removed once no recipient
//! of it waits. Which recipients are done is kept in memory only, so a crash may repeat any delivery.

use host::buffer::BLOCK;
use host::{AlignedBuf, Conn, File, Host, Listener, Planted};
use sim::oracle::{self, Complaint, Waiting};
use sim::{Journal, Lines, MachineId, Options, SimConn, SimHost, Swarm, World, run};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

const SPOOL: &str = "/spool";
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(20);
const CONNECTIONS_MAX: usize = 3;

fn address() -> SocketAddr {
    "10.3.0.1:25".parse().expect("an address")
}

#[derive(Clone, Debug)]
struct Stored {
    sender: String,
    recipients: Vec<String>,
    content: Vec<u8>,
}

impl Stored {
    fn encode(&self) -> AlignedBuf {
        let envelope = format!("{}\n{}\n\n", self.sender, self.recipients.join(","));
        let mut buffer = AlignedBuf::with_capacity(BLOCK);
        buffer.extend_from_slice(&((envelope.len() + self.content.len()) as u64).to_le_bytes());
        buffer.extend_from_slice(envelope.as_bytes());
        buffer.extend_from_slice(&self.content);
        buffer.pad_to_block();
        buffer
    }

    /// `None` for a file that was never finished.
    fn decode(bytes: &[u8]) -> Option<Stored> {
        let (len, rest) = bytes.split_first_chunk()?;
        let whole = rest.get(..u64::from_le_bytes(*len) as usize)?;
        let end = whole.windows(2).position(|pair| pair == b"\n\n")?;
        let (sender, recipients) = std::str::from_utf8(&whole[..end]).ok()?.split_once('\n')?;
        let recipients = recipients.split(',').map(str::to_owned).collect();
        Some(Stored { sender: sender.to_owned(), recipients, content: whole[end + 2..].to_vec() })
    }
}

/// All that the relay has in memory.
struct Relay {
    host: SimHost,
    /// By file name: what still waits.
    waiting: RefCell<BTreeMap<String, Stored>>,
    connections: RefCell<BTreeMap<String, usize>>,
}

impl Relay {
    async fn run(host: SimHost) -> io::Result<()> {
        let spool = Path::new(SPOOL);
        host.create_dir(spool).await?;
        let relay = Rc::new(Relay {
            host: host.clone(),
            waiting: RefCell::default(),
            connections: RefCell::default(),
        });
        for name in host.list_dir(spool).await? {
            let file = host.open_read(&spool.join(&name)).await?;
            let bytes = file.read_at(0, file.size() as usize).await?;
            match Stored::decode(&bytes).filter(|_| name.ends_with(".msg")) {
                Some(stored) => relay.start(name, stored),
                None => host.remove(&spool.join(&name)).await?,
            }
        }
        host.sync_dir(spool).await?;
        let mut listener = host.listen(address())?;
        loop {
            if let Ok(conn) = listener.accept().await {
                let relay = relay.clone();
                host.spawn(async move { drop(relay.receive(Lines::new(conn)).await) });
            }
        }
    }

    async fn receive(self: Rc<Relay>, mut lines: Lines) -> io::Result<()> {
        let deadline = || self.host.now() + PATIENCE;
        lines.send(b"220 relay.example\r\n", deadline()).await?;
        let (mut sender, mut recipients) = (String::new(), Vec::new());
        while let Some(line) = lines.line(deadline()).await? {
            let line = String::from_utf8_lossy(&line).into_owned();
            let path = line.split_once('<').and_then(|(_, rest)| Some(rest.split_once('>')?.0.to_owned()));
            let reply = match (&line[..4], path) {
                ("EHLO", _) => "250-relay.example\r\n250-PIPELINING\r\n250 8BITMIME",
                ("MAIL", Some(path)) => {
                    (sender, recipients) = (path, Vec::new());
                    "250 ok"
                }
                ("RCPT", Some(path)) => {
                    recipients.push(path);
                    "250 ok"
                }
                ("DATA", _) => {
                    lines.send(b"354 go on\r\n", deadline()).await?;
                    let content = content(&mut lines, deadline()).await?;
                    let stored = Stored { sender: sender.clone(), recipients: recipients.clone(), content };
                    match self.clone().store(stored).await {
                        Ok(()) => "250 stored",
                        Err(_) => "451 not stored",
                    }
                }
                ("QUIT", _) => {
                    lines.send(b"221 bye\r\n", deadline()).await?;
                    lines.into_conn().close().await;
                    return Ok(());
                }
                _ => "250 ok",
            };
            lines.send(format!("{reply}\r\n").as_bytes(), deadline()).await?;
        }
        Ok(())
    }

    async fn store(self: Rc<Relay>, stored: Stored) -> io::Result<()> {
        let name = format!("{:016x}.msg", self.host.random());
        let (relay, writing, written) = (self.clone(), name.clone(), stored.clone());
        let write = async move {
            let buffer = written.encode();
            let path = PathBuf::from(SPOOL).join(&writing);
            let file = relay.host.create_zeroed(&path, buffer.len() as u64).await?;
            file.write_synced(buffer, 0).await.0?;
            relay.start(writing, written);
            io::Result::Ok(())
        };
        match self.host.planted(Planted::AckBeforeSync) {
            true => {
                self.host.spawn(async move { drop(write.await) });
                Ok(())
            }
            false => write.await,
        }
    }

    /// Delivers to each domain of a message until all is done.
    fn start(self: &Rc<Relay>, name: String, stored: Stored) {
        let mut domains: Vec<String> = stored.recipients.iter().map(|who| domain(who).to_owned()).collect();
        domains.sort();
        domains.dedup();
        self.waiting.borrow_mut().insert(name.clone(), stored);
        for domain in domains {
            let (relay, name) = (self.clone(), name.clone());
            self.host.spawn(async move {
                while relay.attempt(&name, &domain).await.is_err() {
                    relay.host.sleep_until(relay.host.now() + RETRY).await;
                }
                relay.retire(&name).await;
            });
        }
    }

    /// One attempt for one domain; an error when some recipient still waits.
    async fn attempt(self: &Rc<Relay>, name: &str, domain: &str) -> io::Result<()> {
        let _lease = self.lease(domain)?;
        let Some(mut order) = self.waiting.borrow().get(name).cloned() else { return Ok(()) };
        order.recipients.retain(|who| crate::domain(who) == domain);
        let failed = self.send(name, domain, &order).await?;
        for recipient in failed {
            self.report(&order, &recipient).await?;
            self.done(name, &[recipient]);
        }
        let waiting = self.waiting.borrow();
        let mut left = waiting.get(name).into_iter().flat_map(|stored| &stored.recipients);
        match left.any(|who| crate::domain(who) == domain) {
            true => Err(ErrorKind::WouldBlock.into()),
            false => Ok(()),
        }
    }

    fn lease(&self, domain: &str) -> io::Result<impl Drop + use<'_>> {
        struct Lease<'r>(&'r Relay, String);
        impl Drop for Lease<'_> {
            fn drop(&mut self) {
                *self.0.connections.borrow_mut().entry(self.1.clone()).or_default() -= 1;
            }
        }
        let mut connections = self.connections.borrow_mut();
        let open = connections.entry(domain.to_owned()).or_default();
        if *open >= CONNECTIONS_MAX {
            return Err(ErrorKind::WouldBlock.into());
        }
        *open += 1;
        Ok(Lease(self, domain.to_owned()))
    }

    /// Sends a message; gives the recipients that failed for good.
    async fn send(&self, name: &str, domain: &str, order: &Stored) -> io::Result<Vec<String>> {
        let mut lines = Lines::new(self.connect(domain).await?);
        let deadline = || self.host.now() + PATIENCE;
        let (mut failed, mut accepted) = (Vec::new(), Vec::new());
        let code = lines.reply(deadline()).await?.0;
        ok(code)?;
        ask(&mut lines, "EHLO relay.example\r\n", deadline()).await.and_then(ok)?;
        match ask(&mut lines, &format!("MAIL FROM:<{}>\r\n", order.sender), deadline()).await? {
            code if code / 100 == 5 => return Ok(order.recipients.clone()),
            code => ok(code)?,
        }
        for recipient in &order.recipients {
            match ask(&mut lines, &format!("RCPT TO:<{recipient}>\r\n"), deadline()).await? / 100 {
                2 => accepted.push(recipient.clone()),
                5 => failed.push(recipient.clone()),
                _ => {}
            }
        }
        if accepted.is_empty() {
            return Ok(failed);
        }
        let code = ask(&mut lines, "DATA\r\n", deadline()).await?;
        if code / 100 == 5 {
            return Ok([failed, accepted].concat());
        }
        if code != 354 {
            return Ok(failed);
        }
        lines.send(&wire(&order.content), deadline()).await?;
        match lines.reply(deadline()).await?.0 / 100 {
            2 => self.done(name, &accepted),
            5 => failed.extend(accepted),
            _ => {}
        }
        let _ = ask(&mut lines, "QUIT\r\n", deadline()).await;
        Ok(failed)
    }

    async fn connect(&self, domain: &str) -> io::Result<SimConn> {
        let unknown = |_| io::Error::from(ErrorKind::NotFound);
        let exchangers = self.host.lookup_mx(domain).await.map_err(unknown)?.records;
        let exchanger = exchangers.first().ok_or(ErrorKind::NotFound)?;
        let addresses = self.host.lookup_addresses(&exchanger.name).await.map_err(unknown)?.addresses;
        let address = *addresses
            .get(self.host.random() as usize % addresses.len().max(1))
            .ok_or(ErrorKind::NotFound)?;
        self.host.connect(SocketAddr::new(address, 25), None, self.host.now() + PATIENCE).await
    }

    /// Stores a report to the sender. Reports on reports are nobody's business.
    async fn report(self: &Rc<Relay>, order: &Stored, recipient: &str) -> io::Result<()> {
        let token = oracle::token_of(&order.content).unwrap_or_default();
        let content = format!(
            "Subject: failed\r\n\r\nFinal-Recipient: rfc822; {recipient}\r\nAction: failed\r\n\r\nX-Token: {token:x}\r\n"
        );
        let stored =
            Stored { sender: String::new(), recipients: vec![order.sender.clone()], content: content.into() };
        match order.sender.is_empty() {
            true => Ok(()),
            false => self.clone().store(stored).await,
        }
    }

    fn done(&self, name: &str, recipients: &[String]) {
        if let Some(stored) = self.waiting.borrow_mut().get_mut(name) {
            stored.recipients.retain(|who| !recipients.contains(who));
        }
    }

    /// Removes a message of which nothing waits.
    async fn retire(&self, name: &str) {
        let is_done = self.waiting.borrow().get(name).is_some_and(|stored| stored.recipients.is_empty());
        if is_done {
            let path = PathBuf::from(SPOOL).join(name);
            if self.host.remove(&path).await.is_ok() && self.host.sync_dir(Path::new(SPOOL)).await.is_ok() {
                self.waiting.borrow_mut().remove(name);
            }
        }
    }
}

async fn ask(lines: &mut Lines, command: &str, deadline: mail::Time) -> io::Result<u16> {
    lines.send(command.as_bytes(), deadline).await?;
    Ok(lines.reply(deadline).await?.0)
}

/// The content up to its end, dots removed.
async fn content(lines: &mut Lines, deadline: mail::Time) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let line = lines.line(deadline).await?.ok_or(ErrorKind::UnexpectedEof)?;
        if line == b"." {
            return Ok(content);
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        content.extend_from_slice(b"\r\n");
    }
}

fn ok(code: u16) -> io::Result<()> {
    if code / 100 == 2 { Ok(()) } else { Err(ErrorKind::ConnectionAborted.into()) }
}

fn domain(address: &str) -> &str {
    address.rsplit('@').next().unwrap_or_default()
}

fn wire(content: &[u8]) -> Vec<u8> {
    let text = [b"Received: by relay.example\r\n", content].concat();
    let mut wire = Vec::new();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        wire.extend_from_slice(if line.starts_with(b".") { b"." } else { b"" });
        wire.extend_from_slice(line);
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

fn boot(world: &World, machine: MachineId) {
    let host = world.boot(machine, 1).remove(0);
    host.clone().spawn(async move { Relay::run(host).await.expect("these worlds have whole disks") });
}

/// What waits in the spool.
fn waiting(world: &World, machine: MachineId) -> Vec<Waiting> {
    let disk = world.disk(machine);
    let files = disk.names_in(Path::new(SPOOL));
    let stored = files.iter().filter_map(|name| Stored::decode(&disk.peek(&Path::new(SPOOL).join(name))?));
    stored
        .filter_map(|stored| Some((oracle::token_of(&stored.content)?, stored.recipients)))
        .flat_map(|(token, recipients)| recipients.into_iter().map(move |who| (token, who)))
        .collect()
}

/// One whole world: clients send while the relay crashes, then everything becomes calm and must come to its end.
fn complaints(seed: u64, planted: Vec<Planted>) -> (Vec<Complaint>, usize, u64) {
    let swarm = Swarm::draw(seed, address());
    let options = Options { planted, ..swarm.options.clone() };
    let report = run(options, move |world| async move {
        let (journal, machine) = (Journal::new(), world.add_machine());
        let meters = swarm.start_next_hops(&world, &journal);
        boot(&world, machine);
        // The relay keeps outcomes in memory until all recipients of a message are done.
        swarm.start_trouble(&world, &journal, machine, Duration::MAX, move |world| boot(world, machine));
        swarm.run_clients(&world, &journal).await;
        world.sleep(Duration::from_secs(200)).await;
        swarm.calm(&world);
        world.sleep(Duration::from_secs(2_000)).await;
        let mut complaints = oracle::check(&journal.records(), &waiting(&world, machine));
        for (domain, meter) in swarm.domains.iter().zip(meters) {
            complaints.extend(oracle::check_limit(&domain.name, &meter, CONNECTIONS_MAX));
        }
        let deliveries = journal.records().deliveries.len();
        (complaints, deliveries)
    });
    let (complaints, deliveries) = report.result.unwrap_or_else(|failure| panic!("seed {seed}: {failure:?}"));
    (complaints, deliveries, report.trace)
}

#[test]
fn a_right_relay_passes_every_world() {
    let mut deliveries = 0;
    for seed in 0..200 {
        let (complaints, delivered, _) = complaints(seed, vec![]);
        assert_eq!(complaints, [], "seed {seed}");
        deliveries += delivered;
    }
    assert!(deliveries > 2_000, "{deliveries}");
}

#[test]
fn an_early_acknowledgement_is_found() {
    let found = (0..100).find(|seed| {
        let (complaints, ..) = complaints(*seed, vec![Planted::AckBeforeSync]);
        complaints.iter().any(|complaint| matches!(complaint, Complaint::Lost { .. }))
    });
    assert!(found.is_some());
}

#[test]
fn worlds_replay() {
    for seed in 0..20 {
        assert_eq!(complaints(seed, vec![]).2, complaints(seed, vec![]).2, "seed {seed}");
    }
}
