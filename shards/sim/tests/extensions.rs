//! What clients ask for beside the delivery itself, against next hops with and without the extension: each test is a
//! small world with one point.

use host::Host;
use shard::config::{
    Bounce, Chunking, Config, Delivery, DomainPattern, Listen, NextHop as Hop, Retry, Route, Spool,
};
use sim::Delivery as Arrived;
use sim::relay::{address, boot};
use sim::{Chance, Crash, Journal, Lines, MachineId, NextHop, Options, Profile, World, run};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

fn ip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 1, 0, last))
}

/// A relay that sends reports to `senders` and everything else to `there`.
fn config() -> Config {
    let to = |last| vec![Hop::Address(SocketAddr::new(ip(last), 25))];
    Config {
        hostname: "relay.example".into(),
        spool: Spool { path: "/spool".into(), segment_bytes: 1 << 20, ..Spool::default() },
        listen: vec![Listen {
            address: address(),
            relay_from: vec!["0.0.0.0/0".parse().expect("a network")],
            relay_to: Vec::new(),
            auth: None,
        }],
        routes: vec![
            Route { domain: DomainPattern::Exact("senders.example".into()), to: to(1) },
            Route { domain: DomainPattern::Any, to: to(2) },
        ],
        retry: Retry {
            intervals: vec![Duration::from_secs(10)],
            max_age: Duration::from_secs(300),
            jitter_percent: 0,
        },
        bounce: Bounce { delay_after: Duration::from_secs(25), ..Bounce::default() },
        ..Config::default()
    }
}

fn offering(extensions: &[&'static str]) -> Profile {
    Profile { extensions: extensions.to_vec(), ..Profile::kind() }
}

/// Runs a world with such a relay and a next hop like `profile`.
fn in_world<F: Future<Output = ()> + 'static>(
    config: Config,
    profile: Profile,
    program: impl FnOnce(World, Journal, NextHop, MachineId) -> F + 'static,
) {
    let report = run(Options::calm(7), move |world| async move {
        let (journal, machine) = (Journal::new(), world.add_machine());
        NextHop::new("senders", SocketAddr::new(ip(1), 25), offering(&["CHUNKING"])).start(&world, &journal);
        let there = NextHop::new("there", SocketAddr::new(ip(2), 25), profile);
        there.start(&world, &journal);
        boot(&world, machine, 2, &config, 64);
        world.sleep(SECOND).await;
        program(world, journal, there, machine).await;
    });
    report.result.expect("the world comes to its end");
}

/// A client that says these commands, each with CRLF, and takes any reply to each; gives the codes.
async fn talk(world: &World, commands: &[&str]) -> Vec<u16> {
    let deadline = world.now() + PATIENCE;
    let conn = world.outside().connect(address(), None, deadline).await.expect("the relay listens");
    let mut lines = Lines::new(conn);
    lines.reply(deadline).await.expect("a greeting");
    let mut codes = Vec::new();
    for command in ["EHLO client.example"].iter().chain(commands).chain(&["QUIT"]) {
        lines.send(format!("{command}\r\n").as_bytes(), deadline).await.expect("the relay reads");
        codes.push(lines.reply(deadline).await.expect("a reply").0);
    }
    codes
}

/// Sends a small message with these parameters of MAIL and RCPT.
async fn send(world: &World, mail: &str, recipients: &[&str]) {
    let mut commands = vec![format!("MAIL FROM:<s@senders.example>{mail}")];
    commands.extend(recipients.iter().map(|recipient| format!("RCPT TO:{recipient}")));
    commands.extend(["DATA".to_owned(), "Subject: hello\r\n\r\nthe body\r\n.".to_owned()]);
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let codes = talk(world, &commands).await;
    assert!(codes.iter().all(|code| *code < 400), "{codes:?}");
}

/// What came to this next hop.
fn came(journal: &Journal, next_hop: &str) -> Vec<Arrived> {
    let records = journal.records();
    records.deliveries.iter().filter(|delivery| delivery.next_hop == next_hop).cloned().collect()
}

/// What a report says, read by its own simple rules: the message's fields, then each recipient's.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    envelope_id: Option<String>,
    /// Final recipient, original recipient, action and status.
    recipients: Vec<(String, Option<String>, String, String)>,
    has_body: bool,
}

fn read(report: &Arrived) -> Read {
    assert_eq!((report.sender.as_str(), &report.recipients[..]), ("", &["s@senders.example".to_owned()][..]));
    let text = String::from_utf8(report.content.clone()).expect("text");
    let (_, status) = text.split_once("Content-Type: message/delivery-status\r\n").expect("a status part");
    let (status, returned) = status.split_once("\r\n--").expect("an end of the part");
    assert!(returned.contains("Subject: hello\r\n"), "the original's header comes back");
    let groups: Vec<Vec<(&str, &str)>> = status
        .trim_start()
        .split("\r\n\r\n")
        .map(|group| group.lines().filter_map(|line| line.split_once(": ")).collect())
        .collect();
    let field = |group: &[(&str, &str)], name: &str| {
        group.iter().find(|(field, _)| *field == name).map(|(_, value)| (*value).to_owned())
    };
    assert_eq!(field(&groups[0], "Reporting-MTA").as_deref(), Some("dns; relay.example"));
    assert!(field(&groups[0], "Arrival-Date").is_some());
    let recipient = |group: &Vec<(&str, &str)>| {
        (
            field(group, "Final-Recipient").expect("a final recipient"),
            field(group, "Original-Recipient"),
            field(group, "Action").expect("an action"),
            field(group, "Status").expect("a status"),
        )
    };
    Read {
        envelope_id: field(&groups[0], "Original-Envelope-Id"),
        recipients: groups[1..].iter().map(recipient).collect(),
        has_body: returned.contains("the body\r\n"),
    }
}

fn reports(journal: &Journal) -> Vec<Read> {
    came(journal, "senders").iter().map(read).collect()
}

fn line(
    recipient: &str,
    original: Option<&str>,
    action: &str,
    status: &str,
) -> (String, Option<String>, String, String) {
    (format!("rfc822; {recipient}"), original.map(str::to_owned), action.to_owned(), status.to_owned())
}

#[test]
fn a_next_hop_that_makes_reports_is_told_what_was_asked() {
    in_world(config(), offering(&["DSN"]), |world, journal, _, _| async move {
        let asked = "<a@there.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o+2Bld@x.example";
        send(&world, " RET=HDRS ENVID=QQ+20314", &[asked, "<b@there.example>"]).await;
        world.sleep(SECOND).await;
        let [arrived] = &came(&journal, "there")[..] else { panic!("one message") };
        let mail = "MAIL FROM:<s@senders.example> SIZE=";
        assert!(arrived.commands[0].starts_with(mail), "{:?}", arrived.commands);
        assert!(arrived.commands[0].ends_with(" RET=HDRS ENVID=QQ+20314"), "{:?}", arrived.commands);
        assert_eq!(
            arrived.commands[1..],
            [
                format!("RCPT TO:{asked}").replace("SUCCESS,DELAY", "SUCCESS,DELAY"),
                "RCPT TO:<b@there.example>".to_owned()
            ]
        );
        assert_eq!(reports(&journal), [], "the next hop reports");
    });
}

#[test]
fn success_is_reported_for_a_next_hop_that_makes_no_reports() {
    in_world(config(), offering(&[]), |world, journal, _, _| async move {
        let asked = "<a@there.example> NOTIFY=SUCCESS ORCPT=rfc822;o+2Bld@x.example";
        send(
            &world,
            " ENVID=QQ+20314 RET=FULL",
            &[asked, "<b@there.example>", "<c@there.example> NOTIFY=FAILURE"],
        )
        .await;
        world.sleep(SECOND).await;
        let [arrived] = &came(&journal, "there")[..] else { panic!("one message") };
        assert!(
            !arrived.commands.concat().contains("ENVID") && !arrived.commands.concat().contains("NOTIFY")
        );
        let told = line("a@there.example", Some("rfc822; o+ld@x.example"), "relayed", "2.0.0");
        let expected = Read { envelope_id: Some("QQ 314".into()), recipients: vec![told], has_body: false };
        assert_eq!(reports(&journal), [expected]);
    });
}

#[test]
fn failure_is_reported_to_who_wants_to_know_and_as_much_as_asked_for() {
    for (mail, envelope_id, has_body) in
        [("", None, false), (" RET=HDRS ENVID=x", Some("x"), false), (" RET=FULL", None, true)]
    {
        in_world(config(), offering(&["DSN", "SIZE 100"]), move |world, journal, _, _| async move {
            let recipients = [
                "<a@there.example> ORCPT=rfc822;A@x",
                "<b@there.example> NOTIFY=NEVER",
                "<c@there.example> NOTIFY=SUCCESS,DELAY",
                "<d@there.example> NOTIFY=FAILURE",
            ];
            send(&world, mail, &recipients).await;
            world.sleep(SECOND).await;
            let [report] = &reports(&journal)[..] else { panic!("{:?}", reports(&journal)) };
            let told: Vec<(&str, Option<&str>, &str)> = report
                .recipients
                .iter()
                .map(|(who, original, action, _)| (who.as_str(), original.as_deref(), action.as_str()))
                .collect();
            assert_eq!(
                told,
                [
                    ("rfc822; a@there.example", Some("rfc822; A@x"), "failed"),
                    ("rfc822; d@there.example", None, "failed")
                ]
            );
            assert_eq!((report.envelope_id.as_deref(), report.has_body), (envelope_id, has_body), "{mail}");
        });
    }
}

#[test]
fn a_message_that_expires_comes_back_whole_when_that_was_asked() {
    let down = Profile { outages: vec![mail::Time(0)..mail::Time::FAR], ..Profile::kind() };
    in_world(config(), down, |world, journal, _, _| async move {
        send(&world, " RET=FULL", &["<a@there.example>"]).await;
        world.sleep(Duration::from_secs(400)).await;
        let told = line("a@there.example", None, "failed", "5.4.7");
        assert_eq!(reports(&journal), [Read { envelope_id: None, recipients: vec![told], has_body: true }]);
    });
}

#[test]
fn a_delay_is_told_once_to_who_wants_to_know_also_after_a_restart() {
    for (delay_reports, crashes) in [(false, false), (true, false), (false, true)] {
        let mut config = config();
        config.bounce.delay_reports = delay_reports;
        let profile = Profile { transient: Chance(1_000_000), ..Profile::kind() };
        let again = config.clone();
        in_world(config, profile, move |world, journal, _, machine| async move {
            let recipients =
                ["<a@there.example> NOTIFY=DELAY", "<b@there.example>", "<c@there.example> NOTIFY=FAILURE"];
            send(&world, "", &recipients).await;
            world.sleep(Duration::from_secs(20)).await;
            assert_eq!(reports(&journal), [], "it is not yet late");
            world.sleep(Duration::from_secs(40)).await;
            if crashes {
                world.crash(machine, Crash::Power);
                boot(&world, machine, 2, &again, 64);
            }
            world.sleep(Duration::from_secs(60)).await;
            let told: Vec<Vec<(String, String)>> = reports(&journal)
                .into_iter()
                .map(|report| {
                    report.recipients.into_iter().map(|(who, _, action, _)| (who, action)).collect()
                })
                .collect();
            let delayed = |who: &str| (format!("rfc822; {who}@there.example"), "delayed".to_owned());
            let expected = if delay_reports { vec![delayed("a"), delayed("b")] } else { vec![delayed("a")] };
            assert_eq!(told, [expected]);
        });
    }
}

/// BDAT with the last chunk behind it.
fn chunk(content: &str) -> String {
    format!("BDAT {} LAST\r\n{content}", content.len())
}

#[test]
fn binary_content_goes_where_it_can_and_comes_back_otherwise() {
    for (offers, chunking, arrives) in [
        (&["CHUNKING", "BINARYMIME"][..], Chunking::Auto, true),
        (&["CHUNKING", "BINARYMIME"], Chunking::Never, false),
        (&["CHUNKING"], Chunking::Always, false),
        (&[], Chunking::Auto, false),
    ] {
        let delivery = Delivery { chunking, ..Delivery::default() };
        let config = Config { delivery, ..config() };
        in_world(config, offering(offers), move |world, journal, _, _| async move {
            let content = "Subject: hello\r\n\r\na\0b\n.\n\r.\rc";
            let mail = "MAIL FROM:<s@senders.example> BODY=BINARYMIME RET=FULL";
            // The command after a chunk begins with the CRLF of the line before: the chunk has none.
            let last = format!("{}NOOP", chunk(content));
            let codes = talk_raw(&world, &[mail, "RCPT TO:<a@there.example>"], last.as_bytes(), 2).await;
            assert_eq!(codes, [250, 250, 250, 250]);
            world.sleep(SECOND).await;
            match arrives {
                true => {
                    let [arrived] = &came(&journal, "there")[..] else { panic!("one message") };
                    assert!(arrived.content.ends_with(format!("\r\n{content}").as_bytes()));
                    assert!(arrived.commands[0].contains(" BODY=BINARYMIME"));
                    assert_eq!(reports(&journal), []);
                }
                false => {
                    let told = line("a@there.example", None, "failed", "5.6.3");
                    assert_eq!(
                        reports(&journal),
                        [Read { envelope_id: None, recipients: vec![told], has_body: false }]
                    );
                }
            }
        });
    }
}

/// As [`talk`], with `last` sent behind the commands as it is, which has so many replies.
async fn talk_raw(world: &World, commands: &[&str], last: &[u8], replies: usize) -> Vec<u16> {
    let deadline = world.now() + PATIENCE;
    let conn = world.outside().connect(address(), None, deadline).await.expect("the relay listens");
    let mut lines = Lines::new(conn);
    lines.reply(deadline).await.expect("a greeting");
    let mut codes = Vec::new();
    for command in ["EHLO client.example"].iter().chain(commands) {
        lines.send(format!("{command}\r\n").as_bytes(), deadline).await.expect("the relay reads");
        codes.push(lines.reply(deadline).await.expect("a reply").0);
    }
    lines.send(&[last, b"\r\n"].concat(), deadline).await.expect("the relay reads");
    for _ in 0..replies {
        codes.push(lines.reply(deadline).await.expect("a reply").0);
    }
    codes.split_off(1)
}

#[test]
fn texts_go_in_chunks_where_that_is_wanted() {
    let delivery = Delivery { chunking: Chunking::Always, ..Delivery::default() };
    in_world(Config { delivery, ..config() }, offering(&["CHUNKING"]), |world, journal, _, _| async move {
        // Without CRLF at its end, which it gets for the sake of next hops with DATA.
        let last = format!("{}NOOP", chunk("Subject: x\r\n\r\n.dot"));
        talk_raw(&world, &["MAIL FROM:<s@senders.example>", "RCPT TO:<a@there.example>"], last.as_bytes(), 2)
            .await;
        world.sleep(SECOND).await;
        let [arrived] = &came(&journal, "there")[..] else { panic!("one message") };
        assert!(arrived.content.ends_with(b"\r\nSubject: x\r\n\r\n.dot\r\n"));
    });
}

#[test]
fn a_next_hop_gets_no_more_recipients_and_messages_than_it_says() {
    in_world(config(), offering(&["LIMITS RCPTMAX=3 MAILMAX=2"]), |world, journal, _, _| async move {
        let recipients: Vec<String> = (0..10).map(|number| format!("<r{number}@there.example>")).collect();
        let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
        let begun = world.now();
        send(&world, "", &recipients).await;
        world.sleep(Duration::from_secs(5)).await;
        let arrived = came(&journal, "there");
        let counts: Vec<usize> = arrived.iter().map(|delivery| delivery.recipients.len()).collect();
        assert_eq!(counts, [3, 3, 3, 1]);
        assert!(arrived.iter().all(|delivery| delivery.at.since(begun) < Duration::from_secs(5)));
        let mut all: Vec<String> = arrived.into_iter().flat_map(|delivery| delivery.recipients).collect();
        all.sort();
        assert_eq!(all.len(), 10);
        all.dedup();
        assert_eq!(all.len(), 10, "each recipient once");
    });
}

#[test]
fn what_is_larger_than_the_next_hop_takes_is_not_sent() {
    in_world(config(), offering(&["SIZE 100"]), |world, journal, _, _| async move {
        send(&world, "", &["<a@there.example>"]).await;
        world.sleep(SECOND).await;
        assert_eq!(came(&journal, "there").len(), 0);
        let told = line("a@there.example", None, "failed", "5.3.4");
        assert_eq!(reports(&journal), [Read { envelope_id: None, recipients: vec![told], has_body: false }]);
    });
}

#[test]
fn a_time_for_delivery_is_passed_on_or_comes_back_at_once() {
    for (offers, by, code) in [
        (&["DELIVERBY"][..], "BY=100;R", None),
        (&["DELIVERBY 10"], "BY=100;RT", None),
        (&["DELIVERBY 200"], "BY=100;R", Some("5.4.7")),
        (&[], "BY=100;R", Some("5.4.7")),
    ] {
        in_world(config(), offering(offers), move |world, journal, _, _| async move {
            send(&world, &format!(" {by}"), &["<a@there.example>"]).await;
            world.sleep(SECOND).await;
            let (arrived, reports) = (came(&journal, "there"), reports(&journal));
            let told: Vec<(&str, &str)> = reports
                .iter()
                .flat_map(|report| &report.recipients)
                .map(|(_, _, action, status)| (action.as_str(), status.as_str()))
                .collect();
            match code {
                None => {
                    let line = &arrived[0].commands[0];
                    assert!(line.contains(" BY=99;R") || line.contains(" BY=100;R"), "{line}");
                    let expected = if by.ends_with('T') { vec![("relayed", "2.0.0")] } else { vec![] };
                    assert_eq!(told, expected);
                }
                Some(status) => assert_eq!((arrived.len(), told), (0, vec![("failed", status)])),
            }
        });
    }
}

#[test]
fn when_the_time_is_over_the_sender_is_told_or_has_it_back() {
    for (by, action, status) in [("BY=45;R", "failed", "5.4.7"), ("BY=15;N", "delayed", "4.4.1")] {
        let down = Profile { outages: vec![mail::Time(0)..mail::Time::FAR], ..Profile::kind() };
        in_world(config(), down, move |world, journal, _, _| async move {
            let recipients = ["<a@there.example>", "<b@there.example> NOTIFY=NEVER"];
            send(&world, &format!(" {by}"), &recipients).await;
            world.sleep(Duration::from_secs(10)).await;
            assert_eq!(reports(&journal), [], "there is time");
            world.sleep(Duration::from_secs(60)).await;
            let told = line("a@there.example", None, action, status);
            let expected = Read { envelope_id: None, recipients: vec![told], has_body: false };
            assert_eq!(reports(&journal), [expected]);
        });
    }
}

#[test]
fn a_priority_is_passed_on() {
    for (offers, passes) in [(&["MT-PRIORITY"][..], true), (&[], false)] {
        in_world(config(), offering(offers), move |world, journal, _, _| async move {
            send(&world, " MT-PRIORITY=-3", &["<a@there.example>"]).await;
            world.sleep(SECOND).await;
            assert_eq!(came(&journal, "there")[0].commands[0].ends_with(" MT-PRIORITY=-3"), passes);
        });
    }
}
