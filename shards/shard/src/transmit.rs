//! One connection to a next hop: the driver of a sending session. All decisions about SMTP are in `smtp::send`.

use crate::content::Content;
use crate::message::Order;
use crate::metrics::Stage;
use crate::plan::Endpoint;
use crate::shard::Shard;
use crate::site::{Held, Site};
use host::{Conn, Host};
use mail::{Outcome, Reply, WallTime};
use smtp::send::{Phase, Profile, Session, Step, Transaction};
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// Wait for a peer to take commands, which are small.
const COMMAND_SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// Up to so many bytes of content leave together with the commands that follow them: copying them costs less than a
/// write of its own for the commands.
const JOINED_BYTES_MAX: usize = 16 << 10;
/// Most buffer for commands that a connection keeps.
const OUT_BYTES_KEPT: usize = 1 << 10;

/// A connection to a next hop, greeted and ready.
pub struct Link<H: Host> {
    conn: H::Conn,
    session: Session,
    /// Commands that wait to leave in one write.
    out: Vec<u8>,
    /// The order whose commands have left behind the content of the one under way.
    follower: Option<Held<H>>,
    /// Whether the order under way followed another.
    follows: bool,
}

/// A connection that was lost in the middle of a transaction.
pub struct Lost {
    /// One per recipient, or of the first ones.
    pub outcomes: Vec<Outcome>,
    /// Why.
    pub reply: Reply,
    /// Whether some recipient has a final outcome, or the next hop may have taken the message although we did not
    /// hear so: then no other next hop may try it in the same attempt.
    pub at_risk: bool,
}

impl<H: Host> Link<H> {
    /// Connects, and waits until a transaction may begin.
    pub async fn open(shard: &Shard<H>, endpoint: &Endpoint) -> Result<Link<H>, Reply> {
        let deadline = shard.host.now() + shard.config.delivery.connect_timeout;
        let connected = shard.host.connect(endpoint.address, None, deadline).await;
        let conn = connected.map_err(|error| unreachable(endpoint, &error))?;
        shard.metrics.count.connections_opened.bump();
        let session = Session::new(Rc::new(profile(shard)), shard.host.now());
        let mut link = Link { conn, session, out: Vec::new(), follower: None, follows: false };
        link.until_ready(shard).await?;
        Ok(link)
    }

    async fn until_ready(&mut self, shard: &Shard<H>) -> Result<(), Reply> {
        loop {
            match self.session.step(shard.host.now(), &mut self.out) {
                Step::Ready => return Ok(()),
                Step::NeedBytes => self.exchange(shard).await?,
                Step::Close(reply) => {
                    let reply = reply.unwrap_or_else(closed_early);
                    self.flush(shard).await.ok();
                    return Err(reply);
                }
                Step::Content | Step::Chunk | Step::Done(_) => unreachable!("no transaction has begun"),
            }
        }
    }

    /// Delivers an order: one outcome per recipient, as far as the next hop takes so many at once. If another one of the `site` may follow it and does,
    /// [`Link::take_follower`] gives it, to be delivered next, or to be put back after an error.
    pub async fn deliver(
        &mut self,
        shard: &Shard<H>,
        order: &Order,
        site: &Site<H>,
        may_follow: bool,
    ) -> Result<Vec<Outcome>, Lost> {
        let deferred = |reply| vec![Outcome::Deferred(reply); order.recipients.len()];
        if self.is_between() && self.conn.is_stale() {
            return Err(Lost { outcomes: deferred(closed_early()), reply: closed_early(), at_risk: false });
        }
        let content = match content(shard, order).await {
            Ok(content) => content,
            Err(reply) => return Ok(deferred(reply)),
        };
        let begun = shard.host.now();
        let outcomes = self.transact(shard, order, &content, (site, may_follow)).await;
        shard.metrics.record(Stage::Transaction, shard.host.now().since(begun));
        outcomes
    }

    /// The order whose commands the next hop has got already.
    pub fn take_follower(&mut self) -> Option<Held<H>> {
        self.follower.take()
    }

    /// Whether the next hop makes the reports that were asked for.
    pub fn makes_reports(&self) -> bool {
        self.session.capabilities().dsn
    }

    /// Transactions that the next hop takes on one connection.
    pub fn transactions_max(&self) -> u32 {
        self.session.capabilities().transactions_max.unwrap_or(u32::MAX)
    }

    /// The transaction for an order: for no more recipients than the next hop takes.
    fn transaction(&self, order: &Order, content: &Content, wall: WallTime) -> Transaction {
        let most = self.session.capabilities().recipients_max.unwrap_or(usize::MAX);
        let mut recipients = order.recipients.clone();
        recipients.truncate(most);
        let by = order.envelope.parameters.as_ref().and_then(|asked| asked.by);
        let time_left = by.map(|by| (by.mode, by.until.0.wrapping_sub(wall.0).cast_signed() / 1_000_000));
        Transaction { envelope: order.envelope.clone(), recipients, size: content.len() as u64, time_left }
    }

    /// Whether no transaction is under way, and none follows.
    fn is_between(&self) -> bool {
        self.session.phase() == Phase::Idle
    }

    /// Whether the next hop has said that it ends the connection, when no transaction follows.
    pub fn has_hung_up(&mut self, shard: &Shard<H>) -> bool {
        matches!(self.session.step(shard.host.now(), &mut self.out), Step::Close(_))
    }

    async fn transact(
        &mut self,
        shard: &Shard<H>,
        order: &Order,
        content: &Content,
        (site, may_follow): (&Site<H>, bool),
    ) -> Result<Vec<Outcome>, Lost> {
        self.follows = !self.is_between();
        if !self.follows {
            if let Err(reply) = self.until_ready(shard).await {
                let outcomes = vec![Outcome::Deferred(reply.clone()); order.recipients.len()];
                return Err(Lost { outcomes, reply, at_risk: false });
            }
            let transaction = self.transaction(order, content, shard.host.wall());
            self.session.begin(transaction, shard.host.now(), &mut self.out);
        }
        let mut content_sent = false;
        loop {
            let failed = match self.session.step(shard.host.now(), &mut self.out) {
                // What the session still has to say or to hear (RSET, a 421) waits for the next use.
                Step::Done(outcomes) => return Ok(outcomes),
                Step::NeedBytes => self.exchange(shard).await.err(),
                Step::Content => {
                    content_sent = true;
                    let commands = if may_follow { self.follow(shard, site) } else { None };
                    let sent = self.send_content(shard, content, commands).await;
                    self.session.content_sent(shard.host.now());
                    sent.err()
                }
                Step::Chunk => {
                    content_sent = true;
                    let sent = self.send_chunk(content).await;
                    self.session.content_sent(shard.host.now());
                    sent.err()
                }
                Step::Close(reply) => Some(reply.unwrap_or_else(closed_early)),
                Step::Ready => unreachable!("a transaction is open"),
            };
            if let Some(reply) = failed {
                if self.follows && self.session.phase() == Phase::Mail {
                    site.follows_not.set(true);
                }
                let outcomes = self.session.lost(reply.clone()).unwrap_or_default();
                let decided = outcomes.iter().any(Outcome::is_final);
                return Err(Lost { outcomes, reply, at_risk: content_sent || decided });
            }
        }
    }

    /// Sends the content, and behind it the commands of an order that follows.
    async fn send_content(
        &mut self,
        shard: &Shard<H>,
        content: &Content,
        commands: Option<Vec<u8>>,
    ) -> Result<(), Reply> {
        self.flush(shard).await?;
        let deadline = self.session.deadline();
        let wire = content.wire();
        let sent = match commands {
            None => self.conn.send_bytes(wire, deadline).await,
            Some(commands) if wire.len() <= JOINED_BYTES_MAX => {
                self.out.reserve_exact(wire.len() + commands.len());
                self.out.extend_from_slice(&wire);
                self.out.extend_from_slice(&commands);
                self.conn.send(&mut self.out, deadline).await
            }
            Some(mut commands) => match self.conn.send_bytes(wire, deadline).await {
                Ok(()) => self.conn.send(&mut commands, deadline).await,
                failed => failed,
            },
        };
        self.out.shrink_to(OUT_BYTES_KEPT);
        sent.map_err(|error| lost(&error))
    }

    /// Sends the content behind its BDAT command, which waits.
    async fn send_chunk(&mut self, content: &Content) -> Result<(), Reply> {
        let (chunk, deadline) = (content.chunk(), self.session.deadline());
        let sent = if chunk.len() <= JOINED_BYTES_MAX {
            self.out.extend_from_slice(&chunk);
            self.conn.send(&mut self.out, deadline).await
        } else {
            match self.conn.send(&mut self.out, deadline).await {
                Ok(()) => self.conn.send_bytes(chunk, deadline).await,
                failed => failed,
            }
        };
        self.out.shrink_to(OUT_BYTES_KEPT);
        sent.map_err(|error| lost(&error))
    }

    /// Lets an order follow the one under way, if one waits that may, and gives its commands.
    fn follow(&mut self, shard: &Shard<H>, site: &Site<H>) -> Option<Vec<u8>> {
        if !self.session.capabilities().pipelining {
            return None;
        }
        let mut held = site.pop_follower()?;
        let mut commands = Vec::new();
        let order = held.order();
        let follows = order
            .content
            .as_ref()
            .map(|content| self.transaction(order, content, shard.host.wall()))
            .is_some_and(|transaction| self.session.follow(transaction, &mut commands));
        if !follows {
            site.put_back(held);
            return None;
        }
        held.begin();
        shard.metrics.count.followers.bump();
        self.follower = Some(held);
        Some(commands)
    }

    /// Sends what waits, and feeds the session with what comes.
    async fn exchange(&mut self, shard: &Shard<H>) -> Result<(), Reply> {
        self.flush(shard).await?;
        match self.conn.recv(self.session.deadline()).await {
            Ok(Some(chunk)) => {
                self.session.feed(&chunk);
                Ok(())
            }
            Ok(None) => Err(closed_early()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(self.session.timeout_reply()),
            Err(error) => Err(lost(&error)),
        }
    }

    async fn flush(&mut self, shard: &Shard<H>) -> Result<(), Reply> {
        if self.out.is_empty() {
            return Ok(());
        }
        let deadline = shard.host.now() + COMMAND_SEND_TIMEOUT;
        self.conn.send(&mut self.out, deadline).await.map_err(|error| lost(&error))
    }

    /// Says goodbye and closes; the next hop's answer is awaited only as long as closing waits anyway.
    pub async fn quit(mut self, shard: &Shard<H>) {
        if self.until_ready(shard).await.is_err() {
            return;
        }
        self.session.quit(shard.host.now(), &mut self.out);
        if self.flush(shard).await.is_ok() {
            self.conn.close().await;
        }
    }
}

fn profile<H: Host>(shard: &Shard<H>) -> Profile {
    let delivery = &shard.config.delivery;
    Profile {
        chunking: delivery.chunking,
        eight_bit: delivery.eight_bit,
        greeting_timeout: delivery.reply_timeout,
        ehlo_timeout: delivery.reply_timeout,
        mail_timeout: delivery.reply_timeout,
        recipient_timeout: delivery.reply_timeout,
        data_timeout: delivery.data_timeout,
        final_timeout: delivery.final_timeout,
        ..Profile::new(shard.config.hostname.clone())
    }
}

/// The order's content: from memory, else from the spool.
async fn content<H: Host>(shard: &Shard<H>, order: &Order) -> Result<Content, Reply> {
    if let Some(content) = &order.content {
        return Ok(content.clone());
    }
    match shard.reader.read(order.place).await {
        Ok(stored) => {
            shard.metrics.count.contents_read.bump();
            Ok(Content::new(stored.content))
        }
        Err(error) => {
            shard.metrics.count.reads_failed.bump();
            // The shard that accepted it reads it again before the next attempt, and tells the operator.
            tracing::debug!(id = %order.id, %error, "content cannot be read back from the spool");
            Err(Reply::new(451, (4, 3, 0), "the content cannot be read from the spool just now"))
        }
    }
}

fn unreachable(endpoint: &Endpoint, error: &io::Error) -> Reply {
    Reply::new(451, (4, 4, 1), format!("no connection to {} ({}): {error}", endpoint.host, endpoint.address))
}

fn lost(error: &io::Error) -> Reply {
    Reply::new(451, (4, 4, 2), format!("connection lost: {error}"))
}

fn closed_early() -> Reply {
    Reply::new(451, (4, 4, 2), "connection closed by the next hop")
}
