//! A scripted next hop: takes messages and writes them down, as well or badly as its profile says.

use crate::conn::SimConn;
use crate::journal::{Delivery, Journal};
use crate::lines::Lines;
use crate::random::{Chance, Span};
use crate::world::World;
use host::Host;
use mail::Time;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

/// How long it waits for the next command.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a silent one holds the connection.
const SILENCE: Duration = Duration::from_secs(24 * 3600);

/// How a next hop misbehaves.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Answers 4yz at a step.
    pub transient: Chance,
    /// Answers 5yz at a step.
    pub permanent: Chance,
    /// Answers 421 at a step, and closes.
    pub says_421: Chance,
    /// Waits before it answers a step.
    pub tarpits: Chance,
    /// How long.
    pub tarpit: Span,
    /// Sends a reply in two pieces, some time apart.
    pub splits: Chance,
    /// Closes in the middle of the content.
    pub closes_in_data: Chance,
    /// Takes the message, and resets the connection before it answers.
    pub resets_after_dot: Chance,
    /// Takes the message, and never answers.
    pub silent_after_dot: Chance,
    /// Offers PIPELINING.
    pub pipelines: bool,
    /// Loses what came together with the end of a content.
    pub forgets: bool,
    /// Offers 8BITMIME.
    pub eight_bit: bool,
    /// What it offers besides, as lines of the reply to EHLO. CHUNKING and BINARYMIME it can do.
    pub extensions: Vec<&'static str>,
    /// When it does not listen.
    pub outages: Vec<Range<Time>>,
}

impl Profile {
    /// One that works.
    pub fn kind() -> Profile {
        Profile {
            transient: Chance::NEVER,
            permanent: Chance::NEVER,
            says_421: Chance::NEVER,
            tarpits: Chance::NEVER,
            tarpit: Span::millis(1, 5_000),
            splits: Chance::NEVER,
            closes_in_data: Chance::NEVER,
            resets_after_dot: Chance::NEVER,
            silent_after_dot: Chance::NEVER,
            pipelines: true,
            forgets: false,
            eight_bit: true,
            extensions: Vec::new(),
            outages: Vec::new(),
        }
    }
}

/// A receiving server outside.
#[derive(Clone)]
pub struct NextHop {
    /// For the journal.
    pub name: String,
    /// Where it listens.
    pub at: SocketAddr,
    /// How it behaves; shared, so that the world can change it.
    pub profile: Rc<std::cell::RefCell<Profile>>,
}

impl NextHop {
    /// A next hop.
    pub fn new(name: &str, at: SocketAddr, profile: Profile) -> NextHop {
        NextHop { name: name.to_owned(), at, profile: Rc::new(std::cell::RefCell::new(profile)) }
    }

    /// Starts serving, for as long as the world lasts.
    pub fn start(&self, world: &World, journal: &Journal) {
        let (next_hop, world, journal) = (self.clone(), world.clone(), journal.clone());
        world.outside().clone().spawn(async move { next_hop.serve(&world, &journal).await });
    }

    async fn serve(&self, world: &World, journal: &Journal) {
        loop {
            let outage = self.next_outage(world.now());
            if outage.start > world.now() {
                self.serve_until(outage.start, world, journal).await;
            }
            world.outside().sleep_until(outage.end).await;
        }
    }

    /// The outage that is on or comes next.
    fn next_outage(&self, now: Time) -> Range<Time> {
        let profile = self.profile.borrow();
        let coming = profile.outages.iter().filter(|outage| outage.end > now);
        coming.min_by_key(|outage| outage.start).cloned().unwrap_or(Time::FAR..Time::FAR)
    }

    async fn serve_until(&self, end: Time, world: &World, journal: &Journal) {
        let mut listener = world.outside().listen(self.at).expect("each next hop has its own address");
        while world.now() < end {
            if let Ok(conn) = listener.accept_until(end).await {
                let (next_hop, world, journal) = (self.clone(), world.clone(), journal.clone());
                world.outside().clone().spawn(async move { next_hop.talk(&world, &journal, conn).await });
            }
        }
    }

    async fn talk(&self, world: &World, journal: &Journal, conn: SimConn) {
        let lines = Lines::new(conn);
        let mut talk = Talk { next_hop: self, world, journal, lines, transaction: None, unconfirmed: None };
        let how = talk.run().await;
        let conn = talk.lines.into_conn();
        match how {
            Ok(Leave::Close) => host::Conn::close(conn).await,
            Ok(Leave::Reset) => conn.reset(),
            Err(_) => drop(conn),
        }
    }
}

/// How a connection ends.
enum Leave {
    Close,
    Reset,
}

/// What is known of a message before its content.
struct Transaction {
    sender: String,
    recipients: Vec<String>,
    /// MAIL, and each RCPT that was accepted, as they came.
    commands: Vec<String>,
}

/// One connection.
struct Talk<'n> {
    next_hop: &'n NextHop,
    world: &'n World,
    journal: &'n Journal,
    lines: Lines,
    transaction: Option<Transaction>,
    /// The delivery whose 250 was the last reply.
    unconfirmed: Option<usize>,
}

/// What comes after a command.
enum Next {
    Command,
    Leave(Leave),
}

impl Talk<'_> {
    fn hits(&self, chance: impl Fn(&Profile) -> Chance) -> bool {
        let chance = chance(&self.next_hop.profile.borrow());
        self.world.workload().hits(chance)
    }

    async fn run(&mut self) -> io::Result<Leave> {
        if !self.step("220 next-hop.example ESMTP").await? {
            return Ok(Leave::Close);
        }
        loop {
            let Some(line) = self.lines.line(self.world.now() + PATIENCE).await? else {
                return Ok(Leave::Close);
            };
            // Commands of a transaction may have left before the client heard the 250 (RFC 2920 section 3.1).
            if !["MAIL", "RCPT", "DATA"].iter().any(|verb| line.starts_with(verb.as_bytes())) {
                self.confirm();
            }
            if let Next::Leave(how) = self.command(&String::from_utf8_lossy(&line)).await? {
                return Ok(how);
            }
        }
    }

    /// The client has heard our last 250: what it just sent could not have come before.
    fn confirm(&mut self) {
        if let Some(number) = self.unconfirmed.take() {
            self.journal.confirm(number, self.world.now());
        }
    }

    async fn command(&mut self, line: &str) -> io::Result<Next> {
        let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        match (verb.as_str(), &mut self.transaction) {
            ("EHLO", _) => {
                let text = self.extensions();
                self.step(&text).await?;
            }
            ("HELO", _) => {
                self.step("250 next-hop.example").await?;
            }
            ("MAIL", None) => {
                if self.step("250 2.1.0 sender ok").await? {
                    let commands = vec![line.to_owned()];
                    self.transaction =
                        Some(Transaction { sender: path(line), recipients: Vec::new(), commands });
                }
            }
            ("RCPT", Some(_)) => self.recipient(line).await?,
            ("DATA", Some(transaction)) if !transaction.recipients.is_empty() => return self.data().await,
            ("BDAT", Some(transaction)) if !transaction.recipients.is_empty() => {
                return self.chunk(line).await;
            }
            ("RSET", _) => {
                self.transaction = None;
                self.reply("250 2.0.0 forgotten").await?;
            }
            ("NOOP", _) => self.reply("250 2.0.0 ok").await?,
            ("QUIT", _) => {
                self.reply("221 2.0.0 bye").await?;
                return Ok(Next::Leave(Leave::Close));
            }
            ("MAIL" | "RCPT" | "DATA", _) => self.reply("503 5.5.1 not now").await?,
            _ => self.reply("500 5.5.2 what?").await?,
        }
        Ok(Next::Command)
    }

    fn extensions(&self) -> String {
        let profile = self.next_hop.profile.borrow();
        let mut lines = vec!["250-next-hop.example", "250-SIZE 100000000", "250-ENHANCEDSTATUSCODES"];
        lines.extend(profile.pipelines.then_some("250-PIPELINING"));
        lines.extend(profile.eight_bit.then_some("250-8BITMIME"));
        let others = profile.extensions.iter().map(|extension| format!("250-{extension}"));
        let mut lines: Vec<String> = lines.into_iter().map(str::to_owned).chain(others).collect();
        lines.push("250 HELP".to_owned());
        lines.join("\r\n")
    }

    async fn recipient(&mut self, line: &str) -> io::Result<()> {
        if self.step("250 2.1.5 recipient ok").await?
            && let Some(transaction) = &mut self.transaction
        {
            transaction.recipients.push(path(line));
            transaction.commands.push(line.to_owned());
        }
        Ok(())
    }

    async fn data(&mut self) -> io::Result<Next> {
        if !self.step("354 go on").await? {
            return Ok(Next::Command);
        }
        let closes = self.hits(|profile| profile.closes_in_data);
        let lines_left = if closes { self.world.workload().below(20) } else { usize::MAX };
        let Some(content) = self.content(lines_left).await? else { return Ok(Next::Leave(Leave::Close)) };
        self.take(content).await
    }

    /// The only chunk of a message.
    async fn chunk(&mut self, line: &str) -> io::Result<Next> {
        let size = line.strip_prefix("BDAT ").and_then(|rest| rest.strip_suffix(" LAST"));
        let size = size.and_then(|size| size.parse().ok()).ok_or(ErrorKind::InvalidData)?;
        match self.lines.bytes(size, self.world.now() + PATIENCE).await? {
            Some(content) => self.take(content).await,
            None => Ok(Next::Leave(Leave::Close)),
        }
    }

    /// All of a message has come.
    async fn take(&mut self, content: Vec<u8>) -> io::Result<Next> {
        let transaction = self.transaction.take();
        if self.next_hop.profile.borrow().forgets {
            self.lines.forget();
        }
        if let Some(refusal) = self.refusal().await? {
            self.reply(&refusal).await?;
            return Ok(Next::Command);
        }
        let Transaction { sender, recipients, commands } = transaction.ok_or(ErrorKind::InvalidData)?;
        let (next_hop, at) = (self.next_hop.name.clone(), self.world.now());
        let delivery = Delivery { next_hop, sender, recipients, commands, content, at, confirmed: None };
        let number = self.journal.deliver(delivery);
        if self.hits(|profile| profile.resets_after_dot) {
            return Ok(Next::Leave(Leave::Reset));
        }
        if self.hits(|profile| profile.silent_after_dot) {
            self.lines.drain(self.world.now() + SILENCE).await;
            return Ok(Next::Leave(Leave::Reset));
        }
        self.reply("250 2.0.0 taken").await?;
        self.unconfirmed = Some(number);
        Ok(Next::Command)
    }

    /// The content up to its end; `None` when the connection ends first or after so many lines.
    async fn content(&mut self, mut lines_left: usize) -> io::Result<Option<Vec<u8>>> {
        let mut content = Vec::new();
        loop {
            let Some(line) = self.lines.line(self.world.now() + PATIENCE).await? else { return Ok(None) };
            self.confirm();
            if line == b"." {
                return Ok(Some(content));
            }
            content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            content.extend_from_slice(b"\r\n");
            if lines_left == 0 {
                return Ok(None);
            }
            lines_left -= 1;
        }
    }

    /// Answers a step, perhaps with a refusal; whether it went well.
    async fn step(&mut self, success: &str) -> io::Result<bool> {
        let refusal = self.refusal().await?;
        self.reply(refusal.as_deref().unwrap_or(success)).await?;
        Ok(refusal.is_none())
    }

    /// Draws what goes wrong at a step.
    async fn refusal(&mut self) -> io::Result<Option<String>> {
        if self.hits(|profile| profile.tarpits) {
            let tarpit = self.next_hop.profile.borrow().tarpit;
            self.world.sleep(self.world.workload().span(tarpit)).await;
        }
        if self.hits(|profile| profile.says_421) {
            self.reply("421 4.3.2 closing").await?;
            return Err(ErrorKind::ConnectionAborted.into());
        }
        let (transient, permanent) = (self.hits(|p| p.transient), self.hits(|p| p.permanent));
        Ok(match (transient, permanent) {
            (true, _) => Some(format!("4{}1 4.3.0 not now", 2 + self.world.workload().below(4))),
            (false, true) => Some(format!("55{} 5.7.1 never", self.world.workload().below(5))),
            (false, false) => None,
        })
    }

    async fn reply(&mut self, text: &str) -> io::Result<()> {
        let bytes = format!("{text}\r\n").into_bytes();
        let deadline = self.world.now() + PATIENCE;
        let random = self.world.workload();
        let cut = if self.hits(|profile| profile.splits) { random.below(bytes.len()) } else { 0 };
        if cut > 0 {
            self.lines.send(&bytes[..cut], deadline).await?;
            self.world.sleep(random.span(Span::millis(0, 500))).await;
        }
        self.lines.send(&bytes[cut..], deadline).await
    }
}

/// What stands between the angle brackets of MAIL or RCPT.
fn path(line: &str) -> String {
    let inside = line.split_once('<').and_then(|(_, rest)| rest.rsplit_once('>'));
    inside.map_or_else(String::new, |(path, _)| path.to_owned())
}
