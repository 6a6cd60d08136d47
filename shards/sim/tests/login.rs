//! Clients log in to a whole shard, in virtual time: who may send what, how long a guesser waits, when nobody can tell.

use auth::{Cost, Key, PasswordHash, Sender, User, Users};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use host::Host;
use shard::Links;
use shard::config::{Config, Listen, Spool};
use shard::message::{Control, ShardMessage};
use sim::relay::address;
use sim::{Chance, Lines, Options, SimBell, World, run};
use std::future::Future;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(600);

fn users(names: &[&str]) -> Arc<Users> {
    let secret = auth::password("pencil").expect("a password");
    let hash = PasswordHash::new(&secret, b"saltsalt", Cost { memory_kib: 8, passes: 1 });
    let user = |name: &&str| User {
        name: (*name).into(),
        password: hash.clone(),
        scram: None,
        senders: vec![Sender::parse("from.example").expect("a domain")],
        tenant: None,
        messages: None,
        recipients: None,
        disabled: false,
    };
    Arc::new(Users::new(names.iter().map(user), Key([1; 32]), Key([2; 32])))
}

fn config() -> Config {
    let terms = auth::Terms { required: false, without_tls: true };
    Config {
        spool: Spool { path: "/spool".into(), segment_bytes: 1 << 20, ..Spool::default() },
        listen: vec![Listen {
            address: address(),
            relay_from: Vec::new(),
            relay_to: Vec::new(),
            auth: Some(terms),
        }],
        ..Config::default()
    }
}

/// Runs one shard with the user `user`.
fn with_relay<F: Future<Output = ()> + 'static>(
    options: Options,
    program: impl FnOnce(World, Arc<Links<SimBell>>) -> F + 'static,
) {
    let report = run(options, move |world| async move {
        let machine = world.add_machine();
        let hosts = world.boot(machine, 1);
        let links = Links::new(hosts.iter().map(Host::bell).collect());
        for host in hosts {
            tell(&links, users(&["user"]));
            let links = links.clone();
            host.clone().spawn(async move {
                shard::run(host, Rc::new(config()), links, 0).await.expect("the disk is whole");
            });
        }
        world.sleep(Duration::from_secs(1)).await;
        program(world, links).await;
    });
    report.result.expect("the world comes to its end");
}

fn tell(links: &Links<SimBell>, users: Arc<Users>) {
    links.try_send(0, ShardMessage::Control(Control::Users(users))).expect("there is room");
}

struct Client<'w>(&'w World, Lines);

impl Client<'_> {
    async fn connect<'w>(world: &'w World, from: &str) -> Client<'w> {
        let from: IpAddr = from.parse().expect("an address");
        let deadline = world.now() + PATIENCE;
        let conn = world.outside().connect(address(), Some(from), deadline).await.expect("it listens");
        let mut client = Client(world, Lines::new(conn));
        assert_eq!(client.reply().await, "220");
        assert_eq!(client.say("EHLO client.example").await, "250");
        client
    }

    /// The code and, of refusals, the enhanced code.
    async fn reply(&mut self) -> String {
        let (code, texts) = self.1.reply(self.0.now() + PATIENCE).await.expect("a reply");
        let enhanced = texts[0].split(' ').next().unwrap_or_default();
        if code < 400 { code.to_string() } else { format!("{code} {enhanced}") }
    }

    async fn say(&mut self, line: &str) -> String {
        let deadline = self.0.now() + PATIENCE;
        self.1.send(format!("{line}\r\n").as_bytes(), deadline).await.expect("it listens");
        self.reply().await
    }

    async fn log_in(&mut self, user: &str, password: &str) -> String {
        let message = BASE64.encode(format!("\0{user}\0{password}"));
        self.say(&format!("AUTH PLAIN {message}")).await
    }
}

/// A reply and the whole seconds that it took.
async fn timed(world: &World, reply: impl Future<Output = String>) -> (String, u64) {
    let begun = world.now();
    let reply = reply.await;
    (reply, world.now().since(begun).as_secs())
}

#[test]
fn who_logs_in_may_relay_as_its_senders() {
    with_relay(Options::calm(1), |world, links| async move {
        let mut client = Client::connect(&world, "10.9.0.1").await;
        assert_eq!(client.say("MAIL FROM:<a@from.example>").await, "250");
        assert_eq!(client.say("RCPT TO:<b@to.example>").await, "550 5.7.1");
        assert_eq!(client.say("RSET").await, "250");
        assert_eq!(client.log_in("user", "pencil").await, "235");
        assert_eq!(client.say("MAIL FROM:<a@other.example>").await, "553 5.7.1");
        for sender in ["<>", "<a@from.example>"] {
            assert_eq!(client.say(&format!("MAIL FROM:{sender}")).await, "250");
            assert_eq!(client.say("RCPT TO:<b@to.example>").await, "250");
            assert_eq!(client.say("RSET").await, "250");
        }
        // What changes counts at once, also for who is in.
        tell(&links, users(&["other"]));
        world.sleep(Duration::from_secs(1)).await;
        assert_eq!(client.say("MAIL FROM:<a@from.example>").await, "421 4.7.0");
        let mut client = Client::connect(&world, "10.9.0.1").await;
        assert_eq!(client.log_in("user", "pencil").await, "535 5.7.8");
        assert_eq!(client.log_in("other", "pencil").await, "235");
    });
}

#[test]
fn a_guesser_waits_longer_each_time_until_it_is_shut_out() {
    with_relay(Options::calm(2), |world, _| async move {
        let mut waits = Vec::new();
        for guess in 0..10 {
            // A connection has three guesses.
            let mut client = Client::connect(&world, "10.9.0.1").await;
            let (reply, waited) = timed(&world, client.log_in("user", &format!("guess {guess}"))).await;
            assert_eq!(reply, "535 5.7.8");
            waits.push(waited);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 16, 16, 16, 16, 16]);
        let mut client = Client::connect(&world, "10.9.0.1").await;
        assert_eq!(client.log_in("user", "pencil").await, "454 4.7.0");
        assert_eq!(client.log_in("other", "pencil").await, "454 4.7.0");
        // The user is shut out from everywhere, too.
        let mut elsewhere = Client::connect(&world, "10.9.0.2").await;
        assert_eq!(elsewhere.log_in("user", "pencil").await, "454 4.7.0");
        world.sleep(Duration::from_secs(900)).await;
        let mut client = Client::connect(&world, "10.9.0.1").await;
        assert_eq!(client.log_in("user", "pencil").await, "235");
    });
}

#[test]
fn a_client_at_work_is_not_shut_out_by_a_guesser_elsewhere() {
    with_relay(Options::calm(3), |world, _| async move {
        let mut at_work = Client::connect(&world, "10.9.0.1").await;
        assert_eq!(at_work.log_in("user", "pencil").await, "235");
        for guess in 0..10 {
            let mut guesser = Client::connect(&world, &format!("10.9.1.{guess}")).await;
            assert_eq!(guesser.log_in("user", "wrong").await, "535 5.7.8");
        }
        let mut guesser = Client::connect(&world, "10.9.1.99").await;
        assert_eq!(guesser.log_in("user", "wrong").await, "454 4.7.0");
        let mut at_work = Client::connect(&world, "10.9.0.1").await;
        assert_eq!(at_work.log_in("user", "pencil").await, "235");
    });
}

#[test]
fn while_all_workers_are_busy_nobody_can_tell() {
    let options = Options { workers_busy: Chance::ALWAYS, ..Options::calm(4) };
    with_relay(options, |world, _| async move {
        let mut client = Client::connect(&world, "10.9.0.1").await;
        for _ in 0..20 {
            // It is no failure of the client's, and does not shut it out.
            let (reply, waited) = timed(&world, client.log_in("user", "pencil")).await;
            assert_eq!((&*reply, waited), ("454 4.7.0", 0));
        }
        assert_eq!(client.say("NOOP").await, "250");
    });
}

#[test]
fn a_guesser_that_goes_away_leaves_nothing_behind() {
    with_relay(Options::calm(5), |world, links| async move {
        for number in 0..50 {
            let mut client = Client::connect(&world, &format!("10.9.2.{number}")).await;
            let message = BASE64.encode("\0user\0wrong");
            let deadline = world.now() + PATIENCE;
            client
                .1
                .send(format!("AUTH PLAIN {message}\r\n").as_bytes(), deadline)
                .await
                .expect("it listens");
            drop(client);
        }
        world.sleep(Duration::from_secs(60)).await;
        let answers = Arc::new(crossbeam_queue::ArrayQueue::new(1));
        let control = Control::Snapshot(answers.clone());
        links.try_send(0, ShardMessage::Control(control)).expect("there is room");
        world.sleep(Duration::from_secs(1)).await;
        let snapshot = answers.pop().expect("a snapshot");
        let gauge =
            |name: &str| snapshot.gauges.iter().find(|(known, ..)| *known == name).map(|(.., value)| *value);
        assert_eq!(gauge("connections_in"), Some(0));
    });
}
