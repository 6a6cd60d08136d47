//! The receiving session's contract with its driver.

mod play;

use std::rc::Rc;
use std::time::Duration;

use mail::{MessageId, Reply, Time};
use play::{ACCEPTED, CLIENT, Play, Rules};
use smtp::receive::{CloseReason, Profile, Question, Session, Step};

fn rules() -> Rc<Rules> {
    let mut rules = Rules::new();
    rules.relay.push("example.com".to_string());
    Rc::new(rules)
}

/// A session that was fed `bytes`, and its first step that is no wait.
fn session_at(bytes: &[u8]) -> (Session, Step, Vec<u8>) {
    let mut out = vec![];
    let mut session = Session::new(Rc::new(Profile::new("mx.example")), CLIENT, Time(0));
    assert!(matches!(session.step(Time(0), &mut out), Step::NeedBytes));
    session.feed(bytes, Time(0));
    out.clear();
    let step = session.step(Time(0), &mut out);
    (session, step, out)
}

#[test]
fn the_received_field_tells_where_the_message_came_from() {
    for (hello, parameter, recipients, protocol, recipient) in [
        ("EHLO c.example", "", &["b@example.com"][..], "ESMTP", Some("b@example.com")),
        ("HELO c.example", "", &["b@example.com"], "SMTP", Some("b@example.com")),
        ("EHLO c.example", " SMTPUTF8", &["b@example.com"], "UTF8SMTP", Some("b@example.com")),
        ("EHLO c.example", "", &["b@example.com", "c@example.com"], "ESMTP", None),
    ] {
        let mut play = Play::new(&rules());
        play.feed(format!("{hello}\r\nMAIL FROM:<a@b>{parameter}\r\n").as_bytes());
        for recipient in recipients {
            play.feed(format!("RCPT TO:<{recipient}>\r\n").as_bytes());
        }
        play.feed(b"DATA\r\nx\r\n.\r\n");
        let recipient = recipient.map(|text| mail::Address::parse(text, false).expect("an address"));
        let expected = mail::trace::received(&mail::trace::Received {
            helo: "c.example",
            client: CLIENT,
            hostname: "mx.example",
            protocol,
            id: MessageId(1),
            recipient: recipient.as_ref(),
            at: ACCEPTED,
        });
        let content = std::str::from_utf8(&play.stored[0].content).expect("text");
        assert_eq!(content, format!("{expected}x\r\n"));
        assert_eq!((play.stored[0].id, play.stored[0].accepted), (MessageId(1), ACCEPTED));
    }
}

#[test]
fn no_reply_to_a_message_before_its_ticket_is_answered() {
    let mut out = vec![];
    let (mut session, step, _) =
        session_at(b"HELO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\nNOOP\r\n");
    let Step::Ask(ticket) = step else { panic!("{step:?}") };
    assert!(matches!(session.question(), Some(Question::Sender { sender: Some(_), size: None, .. })));
    assert_eq!((session.helo(), session.deadline()), (Some("c"), Time::FAR));
    ticket.answer(&mut session, Ok(()), &mut out);
    let Step::Ask(ticket) = session.step(Time(0), &mut out) else { panic!() };
    assert!(
        matches!(session.question(), Some(Question::Recipient { recipient }) if recipient.as_str() == "c@d")
    );
    assert!(matches!(session.sender(), Some(Some(sender)) if sender.as_str() == "a@b"));
    assert!(session.recipients().is_empty());
    ticket.answer(&mut session, Ok(()), &mut out);
    let Step::Begin(ticket) = session.step(Time(0), &mut out) else { panic!() };
    assert_eq!((session.question(), session.recipients().len()), (None, 1));
    ticket.answer(&mut session, Ok((MessageId(7), ACCEPTED)), &mut out);
    out.clear();
    let Step::Store(ticket, incoming) = session.step(Time(0), &mut out) else { panic!() };
    assert!(incoming.content.ends_with(b"\r\nx\r\n"));
    assert!(out.is_empty(), "neither the message nor what follows it is answered yet");
    ticket.answer(&mut session, Ok(()), &mut out);
    assert!(matches!(session.step(Time(0), &mut out), Step::NeedBytes));
    let text = String::from_utf8_lossy(&out).into_owned();
    assert_eq!(text, format!("250 2.0.0 Ok: queued as {}\r\n250 2.0.0 Ok\r\n", MessageId(7)));
}

#[test]
#[should_panic(expected = "a ticket is out")]
fn a_step_while_a_ticket_is_out_is_our_bug() {
    let (mut session, step, mut out) = session_at(b"HELO c\r\nMAIL FROM:<a@b>\r\n");
    assert!(matches!(step, Step::Ask(_)));
    let _ = session.step(Time(0), &mut out);
}

#[test]
#[should_panic(expected = "is no refusal")]
fn success_is_no_refusal() {
    let (mut session, step, mut out) = session_at(b"HELO c\r\nMAIL FROM:<a@b>\r\n");
    let Step::Ask(ticket) = step else { panic!("{step:?}") };
    ticket.answer(&mut session, Err(Reply::new(250, (2, 0, 0), "Ok")), &mut out);
}

#[test]
fn every_line_of_one_and_two_bytes_is_answered_once() {
    for line in (0..=255u8).map(|a| vec![a]).chain((0..=u16::MAX).map(|pair| pair.to_be_bytes().to_vec())) {
        let (_, step, out) = session_at(&[&line[..], b"\r\n"].concat());
        assert!(matches!(step, Step::NeedBytes));
        let text = std::str::from_utf8(&out).expect("text");
        // CRLF CRLF is two lines.
        let lines = if line == b"\r\n" { 2 } else { 1 };
        assert_eq!(
            (text.matches("\r\n").count(), text.matches("500 5.5.").count()),
            (lines, lines),
            "{line:?}"
        );
    }
}

#[test]
fn an_idle_session_holds_no_input_and_little_else() {
    let mut play = Play::new(&rules());
    play.feed(b"EHLO c\r\nNOOP\r\n");
    assert_eq!((play.session.input_held(), play.session.held()), (0, 0));
    assert!(size_of::<Session>() <= 512, "{}", size_of::<Session>());
}

#[test]
fn an_endless_line_takes_no_more_memory_than_the_bound() {
    let mut play = Play::new(&rules());
    for _ in 0..10_000 {
        play.feed(&[b'x'; 1000]);
        assert!(play.session.input_held() <= 4 * 2048);
    }
    play.feed(b"\r\nNOOP\r\n");
    assert!(play.text().ends_with("500 5.5.2 Line too long\r\n250 2.0.0 Ok\r\n"));
}

#[test]
fn a_refused_body_is_freed_at_once_and_answered_at_its_end() {
    let mut play = Play::new(&rules());
    play.feed(b"HELO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n");
    play.session.refuse_body(play::reply("452 4.3.1 No room"));
    let said = play.out.len();
    for _ in 0..100 {
        play.feed(b"some content\r\n..\r\n");
        assert_eq!(play.session.held(), 0);
    }
    assert_eq!(play.out.len(), said);
    play.feed(b".\r\nNOOP\r\n");
    assert_eq!(&play.text()[said..], "452 4.3.1 No room\r\n250 2.0.0 Ok\r\n");
    // Without a message there is nothing to refuse.
    play.session.refuse_body(play::reply("452 4.3.1 No room"));
    play.feed(b"NOOP\r\n");
    assert!(play.text().ends_with("\r\n250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n"));
}

#[test]
fn a_message_over_the_limit_is_freed_while_it_still_comes() {
    let mut rules = Rules::new();
    rules.relay.push("example.com".to_string());
    rules.profile.message_bytes_max = 10_000;
    let mut play = Play::new(&Rc::new(rules));
    play.feed(b"HELO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n");
    let mut most = 0;
    for _ in 0..1000 {
        play.feed(&[b'x'; 1000]);
        most = most.max(play.session.held());
    }
    assert!((10_000..30_000).contains(&most), "{most}");
    assert_eq!(play.session.held(), 0);
    play.feed(b"\r\n.\r\n");
    assert!(play.text().ends_with("552 5.3.4 Message too large\r\n"));
}

#[test]
fn a_stop_before_the_greeting_takes_its_place() {
    let mut out = vec![];
    let mut session = Session::new(Rc::new(Profile::new("mx.example")), CLIENT, Time(0));
    session.stop();
    assert!(matches!(session.step(Time(0), &mut out), Step::Close(CloseReason::Stopped)));
    assert_eq!(out, b"421 4.3.2 Shutting down\r\n");
    // Closed it stays, whatever comes.
    session.feed(b"NOOP\r\n", Time(0));
    session.timed_out(&mut out);
    assert!(matches!(session.step(Time(0), &mut out), Step::Close(CloseReason::Stopped)));
    assert_eq!((out.len(), session.deadline()), (25, Time::FAR));
}

#[test]
fn a_deadline_moves_with_commands_and_not_with_their_bytes() {
    let mut play = Play::new(&rules());
    let first = play.session.deadline();
    for _ in 0..10 {
        assert!(!play.pass(Duration::from_secs(20)));
        play.feed(b"x");
        assert_eq!(play.session.deadline(), first);
    }
    play.feed(b"\r\n");
    assert_eq!(play.session.deadline(), play.now + Duration::from_secs(300));
}

#[test]
fn the_deadline_of_content_moves_with_its_bytes_but_not_for_ever() {
    let mut play = Play::new(&rules());
    play.feed(b"HELO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n");
    let begun = play.now;
    assert_eq!(play.session.deadline(), begun + Duration::from_secs(180));
    assert!(!play.pass(Duration::from_secs(100)));
    play.feed(&[b'x'; 200 * 1024]);
    assert_eq!(play.session.deadline(), play.now + Duration::from_secs(180));
    let late = (0..1000).find(|_| {
        play.feed(b"x");
        play.pass(Duration::from_secs(100))
    });
    assert_eq!(late, Some(2));
    assert_eq!(play.closed, Some(CloseReason::TimedOut));
    assert!(play.now >= begun + Duration::from_secs(380));
}
