//! Mail comes in: the drivers of receiving sessions. All decisions about SMTP are in `smtp::receive`; here are the
//! questions that it asks, and the input and output.

use crate::config::Listen;
use crate::shard::Shard;
use crate::signal::{First, Place, contain, first};
use host::{Conn, Host, Listener};
use mail::{Address, MessageId, Reply, Time, WallTime};
use smtp::receive::{Profile, Question, Session, Step};
use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// Wait after accept failed, so that running out of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Wait before the shard tries again to listen.
const LISTEN_PAUSE: Duration = Duration::from_secs(1);
/// A content of up to this many bytes is never refused for want of memory: few large ones cannot shut out the rest.
const HELD_FREE: usize = 64 << 10;
/// Wait for a peer to take our replies.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// What reception takes at the moment.
#[derive(Debug, Default)]
pub struct Load {
    sessions: Cell<usize>,
    held: Cell<usize>,
}

impl Load {
    /// Sessions open.
    pub fn sessions(&self) -> usize {
        self.sessions.get()
    }

    /// Bytes of content held by sessions.
    pub fn held(&self) -> usize {
        self.held.get()
    }
}

/// One session's part of the load; given back when it is dropped, however the session ends.
struct Share<'a> {
    load: &'a Load,
    held: usize,
}

impl Share<'_> {
    fn new(load: &Load) -> Share<'_> {
        load.sessions.set(load.sessions.get() + 1);
        Share { load, held: 0 }
    }

    fn hold(&mut self, bytes: usize) {
        self.load.held.set(self.load.held.get() - self.held + bytes);
        self.held = bytes;
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.hold(0);
        self.load.sessions.set(self.load.sessions.get() - 1);
    }
}

/// Accepts connections until the shard drains. While the shard does not listen, its socket is closed, so that the
/// kernel hands connections to other shards.
pub async fn accept<H: Host>(shard: Rc<Shard<H>>, listener: H::Listener, listen: Rc<Listen>) {
    let profile = Rc::new(profile(&shard, &listen));
    let at = listener.local();
    let mut listener = Some(listener);
    while !shard.draining.is_raised() {
        if let Some(listener) = listener.take() {
            tracing::debug!(shard = shard.number, %at, "listening");
            accept_while_open(&shard, listener, &profile, &listen).await;
        }
        let draining = shard.draining.place();
        if let First::Two(()) = first(shard.health.gate.until(true), draining.wait()).await {
            return;
        }
        match shard.host.listen(at) {
            Ok(again) => listener = Some(again),
            Err(error) => {
                tracing::warn!(shard = shard.number, %at, %error, "cannot listen again");
                shard.host.sleep_until(shard.host.now() + LISTEN_PAUSE).await;
            }
        }
    }
}

/// Accepts until the shard drains or is no longer to listen; then once more what the kernel has handed over already.
async fn accept_while_open<H: Host>(
    shard: &Rc<Shard<H>>,
    mut listener: H::Listener,
    profile: &Rc<Profile>,
    listen: &Rc<Listen>,
) {
    let draining = shard.draining.place();
    loop {
        let is_open = shard.health.gate.is_open();
        let shut = async {
            if is_open {
                first(shard.health.gate.until(false), draining.wait()).await;
            }
        };
        match first(listener.accept(), shut).await {
            First::One(Ok(conn)) => {
                shard.metrics.count.connections_accepted.bump();
                shard.host.spawn(serve(shard.clone(), conn, profile.clone(), listen.clone()));
            }
            First::One(Err(_)) if !is_open => return,
            First::One(Err(error)) => {
                tracing::warn!(shard = shard.number, %error, "accept failed");
                shard.host.sleep_until(shard.host.now() + ACCEPT_PAUSE).await;
            }
            First::Two(()) if is_open && !shard.draining.is_raised() => {}
            First::Two(()) => return,
        }
    }
}

fn profile<H: Host>(shard: &Shard<H>, listen: &Listen) -> Profile {
    let bounds = &shard.config.reception;
    Profile {
        message_bytes_max: bounds.message_bytes_max,
        recipients_max: bounds.recipients_max,
        hops_max: bounds.hops_max,
        errors_max: bounds.errors_max,
        command_timeout: bounds.command_timeout,
        data_timeout: bounds.data_timeout,
        auth: listen.auth,
        ..Profile::new(shard.config.hostname.clone())
    }
}

async fn serve<H: Host>(shard: Rc<Shard<H>>, mut conn: H::Conn, profile: Rc<Profile>, listen: Rc<Listen>) {
    let share = Share::new(&shard.reception);
    if shard.reception.sessions() > shard.config.reception.connections_max {
        shard.metrics.count.connections_refused.bump();
        return refuse(&shard, conn, "421 4.3.2 Too many connections, try again later\r\n").await;
    }
    let draining = Some(shard.draining.place());
    let driver = Driver { shard: &shard, listen, draining, out: Vec::new(), share };
    match contain(driver.run(&mut conn, profile)).await {
        Ok(End::Orderly) => conn.close().await,
        Ok(End::Lost) => {}
        Err(_) => {
            shard.metrics.count.sessions_panicked.bump();
            refuse(&shard, conn, "421 4.3.0 Internal error, closing the connection\r\n").await;
        }
    }
}

async fn refuse<H: Host>(shard: &Shard<H>, mut conn: H::Conn, reply: &str) {
    let deadline = shard.host.now() + SEND_TIMEOUT;
    if conn.send(&mut reply.as_bytes().to_vec(), deadline).await.is_ok() {
        conn.close().await;
    }
}

/// How a session ended.
enum End {
    /// Our last reply is sent: close in order.
    Orderly,
    /// The connection is of no use any more.
    Lost,
}

/// What came while a session waited.
enum Heard<C> {
    Bytes(C),
    EndOfInput,
    Nothing,
    /// The shard comes to rest; said once.
    Draining,
    Lost,
}

/// Drives one session.
struct Driver<'a, H: Host> {
    shard: &'a Rc<Shard<H>>,
    listen: Rc<Listen>,
    /// Where the session hears that the shard comes to rest, until it has.
    draining: Option<Place<'a>>,
    /// Replies that wait to leave in one write.
    out: Vec<u8>,
    share: Share<'a>,
}

impl<H: Host> Driver<'_, H> {
    async fn run(mut self, conn: &mut H::Conn, profile: Rc<Profile>) -> End {
        let client = conn.peer().ip();
        let mut session = Session::new(profile, client, self.now());
        loop {
            match session.step(self.now(), &mut self.out) {
                Step::NeedBytes => {
                    self.bound_memory(&mut session);
                    if self.flush(conn).await.is_err() {
                        return End::Lost;
                    }
                    match self.hear(conn, session.deadline()).await {
                        Heard::Bytes(chunk) => session.feed(&chunk, self.now()),
                        Heard::EndOfInput => session.end_of_input(),
                        Heard::Nothing => session.timed_out(&mut self.out),
                        Heard::Draining => session.stop(),
                        Heard::Lost => return End::Lost,
                    }
                }
                Step::Ask(ticket) => {
                    let verdict = self.judge(&session, client);
                    ticket.answer(&mut session, verdict, &mut self.out);
                }
                Step::Login(ticket) => {
                    let answer = match session.login_question() {
                        Some(question) => self.shard.answer_login(question, client).await,
                        None => auth::Answer::Unavailable,
                    };
                    ticket.answer(&mut session, answer, &mut self.out);
                }
                Step::Begin(ticket) => {
                    let verdict = self.begin();
                    ticket.answer(&mut session, verdict, &mut self.out);
                }
                Step::Store(ticket, incoming) => {
                    self.share.hold(incoming.content.capacity());
                    if self.flush(conn).await.is_err() {
                        return End::Lost;
                    }
                    let user = session.user().map(|user| &*user.name);
                    let stored = self.shard.store(incoming, client, user).await;
                    self.share.hold(0);
                    ticket.answer(&mut session, stored, &mut self.out);
                }
                Step::Close(_) => {
                    return if self.flush(conn).await.is_ok() { End::Orderly } else { End::Lost };
                }
            }
        }
    }

    fn now(&self) -> Time {
        self.shard.host.now()
    }

    async fn hear(&mut self, conn: &mut H::Conn, deadline: Time) -> Heard<<H::Conn as Conn>::Chunk> {
        let received = match &self.draining {
            None => conn.recv(deadline).await,
            Some(place) => match first(conn.recv(deadline), place.wait()).await {
                First::One(received) => received,
                First::Two(()) => {
                    self.draining = None;
                    return Heard::Draining;
                }
            },
        };
        match received {
            Ok(Some(chunk)) => Heard::Bytes(chunk),
            Ok(None) => Heard::EndOfInput,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Heard::Nothing,
            Err(_) => Heard::Lost,
        }
    }

    async fn flush(&mut self, conn: &mut H::Conn) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let deadline = self.now() + SEND_TIMEOUT;
        conn.send(&mut self.out, deadline).await
    }

    /// Gives up the content under way when all contents together take too much memory.
    fn bound_memory(&mut self, session: &mut Session) {
        self.share.hold(session.held());
        if self.share.held > HELD_FREE
            && self.shard.reception.held() > self.shard.config.reception.body_memory
        {
            self.shard.metrics.count.bodies_refused.bump();
            session.refuse_body(Reply::new(452, (4, 3, 1), "Too many messages under way, try again later"));
            self.share.hold(session.held());
        }
    }

    /// May this sender, this recipient?
    fn judge(&self, session: &Session, client: IpAddr) -> Result<(), Reply> {
        match session.question() {
            Some(Question::Sender { sender, size, .. }) => match self.shard.refusal(size.unwrap_or(0)) {
                Some(reply) => Err(reply),
                None => self.may_send(session, sender),
            },
            // Who has logged in may send to anyone.
            Some(Question::Recipient { recipient })
                if session.user().is_none() && !self.may_relay(client, recipient) =>
            {
                self.shard.metrics.count.relay_refused.bump();
                Err(Reply::new(550, (5, 7, 1), "Relaying denied"))
            }
            _ => Ok(()),
        }
    }

    /// A user sends only as whom it may (RFC 6409 section 6.1); others as anyone.
    fn may_send(&self, session: &Session, sender: Option<&Address>) -> Result<(), Reply> {
        let Some(user) = session.user() else { return Ok(()) };
        match self.shard.still_active(user) {
            Some(user) if user.may_send_as(sender) => Ok(()),
            Some(_) => {
                self.shard.metrics.count.senders_refused.bump();
                Err(Reply::new(553, (5, 7, 1), "You may not send as this address"))
            }
            None => Err(Reply::new(421, (4, 7, 0), "Your account has changed, authenticate again")),
        }
    }

    /// Closed unless the client is trusted, or the domain is open to all (RFC 5321 section 7.8).
    fn may_relay(&self, client: IpAddr, recipient: &Address) -> bool {
        let client = client.to_canonical();
        self.listen.relay_from.iter().any(|network| network.contains(&client))
            || self.listen.relay_to.iter().any(|pattern| pattern.rank(recipient.domain()).is_some())
    }

    /// May content come in now, and under which identity?
    fn begin(&self) -> Result<(MessageId, WallTime), Reply> {
        if self.shard.queue.borrow().deliveries() >= self.shard.config.spool.deliveries_max {
            self.shard.metrics.count.queue_refused.bump();
            return Err(Reply::new(452, (4, 3, 1), "The queue is full, try again later"));
        }
        if let Some(reply) = self.shard.refusal(0) {
            return Err(reply);
        }
        let wall = self.shard.host.wall();
        Ok((self.shard.ids.borrow_mut().next(wall), wall))
    }
}
