//! What a session does in one situation after another.

use super::*;
use alloc::string::ToString;
use mail::BodyType;

#[test]
fn a_pipelined_transaction_goes_out_in_one_write() {
    let script =
        ["220 mx", PIPELINED, "250 a", "250 b", "550 5.1.1 no", "354 go", "250 2.0.0 queued as 7", "221 bye"];
    let mut peer = Peer::new(&script, Arrival::Burst);
    assert_eq!(peer.run(), End::Ready);
    assert_eq!(peer.take_heard(), "EHLO me.example\r\n");
    assert!(peer.session.capabilities().pipelining);
    let mut out = Vec::new();
    peer.session.begin(transaction(2), peer.now, &mut out);
    let group = "MAIL FROM:<s@x.example>\r\nRCPT TO:<r0@y.example>\r\nRCPT TO:<r1@y.example>\r\nDATA\r\n";
    assert_eq!(out, group.as_bytes());
    peer.hear(&out);
    assert_eq!(peer.run(), End::Ready);
    assert_eq!(
        peer.outcomes.take(),
        Some(vec![
            Outcome::Delivered(Reply::new(250, (2, 0, 0), "queued as 7")),
            Outcome::Failed(Reply::new(550, (5, 1, 1), "no")),
        ])
    );
    assert_eq!(peer.take_heard(), format!("{group}[content]\r\n"));
    peer.session.quit(peer.now, &mut out);
    peer.hear(b"QUIT\r\n");
    assert_eq!(peer.run(), End::Closed(None));
}

#[test]
fn without_pipelining_each_command_waits_for_its_reply() {
    let mut peer =
        Peer::new(&["220 mx", PLAIN, "250 a", "250 b", "250 c", "354 go", "250 ok"], Arrival::Burst);
    assert_eq!(peer.run(), End::Ready);
    let mut out = Vec::new();
    peer.session.begin(transaction(2), peer.now, &mut out);
    assert_eq!(out, b"MAIL FROM:<s@x.example>\r\n");
    for (reply, command) in [
        ("250 a\r\n", "RCPT TO:<r0@y.example>\r\n"),
        ("250 b\r\n", "RCPT TO:<r1@y.example>\r\n"),
        ("250 c\r\n", "DATA\r\n"),
    ] {
        out.clear();
        peer.session.feed(reply.as_bytes());
        assert_eq!(peer.session.step(peer.now, &mut out), Step::NeedBytes);
        assert_eq!(out, command.as_bytes());
    }
    peer.session.feed(b"354\r\n");
    assert_eq!(peer.session.step(peer.now, &mut out), Step::Content);
    assert_eq!(peer.session.step(peer.now, &mut out), Step::Content);
}

#[test]
fn greeting_and_hello_are_judged_by_class() {
    for (script, end, heard) in [
        (&["220 mx", "250 mx"][..], End::Ready, "EHLO me.example\r\n"),
        (&["220-mx\n220 more", "502 what", "250 mx"], End::Ready, "EHLO me.example\r\nHELO me.example\r\n"),
        (
            &["220 mx", "550 no", "554 no"],
            End::Closed(Some(554)),
            "EHLO me.example\r\nHELO me.example\r\nQUIT\r\n",
        ),
        (
            &["220 mx", "550 no", "450 no"],
            End::Closed(Some(450)),
            "EHLO me.example\r\nHELO me.example\r\nQUIT\r\n",
        ),
        (&["220 mx", "550 no", "354 no"], End::Closed(Some(451)), "EHLO me.example\r\nHELO me.example\r\n"),
        (&["220 mx", "450 later"], End::Closed(Some(450)), "EHLO me.example\r\nQUIT\r\n"),
        (&["220 mx", "421 later"], End::Closed(Some(421)), "EHLO me.example\r\n"),
        (&["220 mx", "354 what"], End::Closed(Some(451)), "EHLO me.example\r\n"),
        (&["554 no"], End::Closed(Some(554)), "QUIT\r\n"),
        (&["450 no"], End::Closed(Some(450)), "QUIT\r\n"),
        (&["421 no"], End::Closed(Some(421)), ""),
        (&["354 what"], End::Closed(Some(451)), ""),
        (&["HTTP/1.1 400 Bad Request"], End::Closed(Some(451)), ""),
        (&["220-mx\n250 mx"], End::Closed(Some(451)), ""),
        (&[], End::Lost, ""),
        (&["220 mx"], End::Lost, "EHLO me.example\r\n"),
    ] {
        for arrival in ARRIVALS {
            let mut peer = Peer::new(script, arrival);
            assert_eq!((peer.run(), peer.take_heard().as_str()), (end.clone(), heard), "{script:?}");
            assert_eq!(peer.lost(), None);
        }
    }
}

#[test]
fn replies_of_the_wrong_class_are_protocol_errors() {
    for (replies, expected) in [
        (&["354 what"][..], [('f', 451), ('f', 451)]),
        (&["250 m", "354 what"], [('f', 451), ('f', 451)]),
        (&["250 m", "550 no", "354 what"], [('F', 550), ('f', 451)]),
        (&["250 m", "550 no", "250 r", "250 what"], [('F', 550), ('f', 451)]),
        (&["250 m", "250 r", "250 r", "354 d", "354 what"], [('f', 451), ('f', 451)]),
        (&["250 m", "450 r", "550 r", "250 what"], [('f', 450), ('F', 550)]),
        (&["250 m", "450 r", "550 r", "354 d", "354 what"], [('f', 450), ('F', 550)]),
        (&["550 m", "354 what"], [('F', 550), ('F', 550)]),
        (&["250 m", "550 no", "hello"], [('F', 550), ('f', 451)]),
        (&["250 m", "250 r", "250 r", "354 d", "250-a\n251 b"], [('f', 451), ('f', 451)]),
    ] {
        let script = [&["220 mx", PIPELINED], replies].concat();
        for arrival in [Arrival::Single, Arrival::Bytes] {
            let mut peer = Peer::new(&script, arrival);
            assert_eq!(peer.run(), End::Ready);
            assert_eq!(peer.begin(transaction(2)), End::Closed(Some(451)), "{replies:?}");
            let outcomes = peer.outcomes.take().expect("outcomes before the end");
            assert_eq!(brief(&outcomes), expected, "{replies:?}");
        }
    }
}

#[test]
fn bytes_that_answer_nothing_end_the_session() {
    let ready = |script: &[&str]| {
        let mut peer = Peer::new(script, Arrival::Single);
        assert_eq!(peer.run(), End::Ready);
        peer
    };
    let mut early = Peer::new(&["220 mx\n250 mx"], Arrival::Single);
    assert_eq!((early.run(), early.take_heard().as_str()), (End::Closed(Some(451)), ""));
    for (bytes, code) in [("250 hm\r\n", 451), ("2", 451), ("?\r\n", 451), ("421 idle too long\r\n", 421)] {
        let mut peer = ready(&["220 mx", PLAIN]);
        peer.session.feed(bytes.as_bytes());
        assert_eq!(peer.run(), End::Closed(Some(code)), "{bytes}");
    }
    // After the final reply: the outcomes stand.
    let mut peer = ready(&["220 mx", PIPELINED, "250 m", "250 r", "354 d", "250 ok\n250 ok"]);
    assert_eq!(peer.begin(transaction(1)), End::Closed(Some(451)));
    assert_eq!(peer.outcomes.as_deref().map(brief), Some(vec![('D', 250)]));
    // Between two commands it is not known what an extra reply answers.
    let mut peer = ready(&["220 mx", PLAIN, "250 m\n250 r"]);
    assert_eq!(peer.begin(transaction(1)), End::Closed(Some(451)));
    assert_eq!(peer.outcomes.as_deref().map(brief), Some(vec![('f', 451)]));
    let mut peer = ready(&["220 mx", PLAIN, "250 m\n421 bye"]);
    assert_eq!(peer.begin(transaction(1)), End::Closed(Some(421)));
    assert_eq!(peer.outcomes.as_deref().map(brief), Some(vec![('f', 421)]));
}

#[test]
fn the_last_word_of_a_next_hop_that_hangs_up_during_the_content_counts() {
    for (word, expected, code) in [
        ("554 5.7.1 spam\r\n", ('F', 554), 554),
        ("451 busy\r\n", ('f', 451), 451),
        ("421 bye\r\n", ('f', 421), 421),
        ("250 ok\r\n", ('f', 451), 451),
        ("354 go\r\n", ('f', 451), 451),
        ("nonsense\r\n", ('f', 451), 451),
    ] {
        let mut peer = Peer::new(&["220 mx", PIPELINED, "250 m", "250 r", "550 r"], Arrival::Single);
        assert_eq!(peer.run(), End::Ready);
        assert_eq!(peer.begin(transaction(2)), End::Lost);
        let mut out = Vec::new();
        peer.session.feed(b"354 go\r\n");
        assert_eq!(peer.session.step(peer.now, &mut out), Step::Content);
        let (most, last) = word.split_at(4);
        peer.session.feed(most.as_bytes());
        assert_eq!(peer.session.step(peer.now, &mut out), Step::Content);
        peer.session.feed(last.as_bytes());
        assert_eq!(peer.run(), End::Closed(Some(code)), "{word}");
        assert_eq!(peer.outcomes.as_deref().map(brief), Some(vec![expected, ('F', 550)]), "{word}");
    }
}

#[test]
fn parameters_are_sent_only_when_offered_and_needed() {
    let everything = "250-mx\n250-SIZE 5000\n250-8BITMIME\n250 SMTPUTF8";
    let plain = transaction(1);
    let simple = Envelope::clone(&plain.envelope);
    let eight = Envelope { body: BodyType::EightBit, ..simple.clone() };
    let utf8 = of(Envelope { recipients: vec![address("é@y.example")], ..eight.clone() });
    let (eight, null) = (of(eight), of(Envelope { sender: None, ..simple }));
    for (hello, transaction, line) in [
        (PLAIN, &plain, "MAIL FROM:<s@x.example>\r\n"),
        (PLAIN, &null, "MAIL FROM:<>\r\n"),
        (everything, &plain, "MAIL FROM:<s@x.example> SIZE=1000\r\n"),
        (everything, &eight, "MAIL FROM:<s@x.example> SIZE=1000 BODY=8BITMIME\r\n"),
        (everything, &utf8, "MAIL FROM:<s@x.example> SIZE=1000 BODY=8BITMIME SMTPUTF8\r\n"),
    ] {
        let mut peer = Peer::new(&["220 mx", hello], Arrival::Single);
        assert_eq!(peer.run(), End::Ready);
        peer.take_heard();
        assert_eq!(peer.begin(transaction.clone()), End::Lost);
        assert_eq!(peer.take_heard(), line);
    }
    for transaction in [eight, utf8, Transaction { size: 5001, ..plain.clone() }] {
        let hello = if transaction.size > 5000 { everything } else { PLAIN };
        let mut peer = Peer::new(&["220 mx", hello, "250 m", "250 r", "354 d", "250 ok"], Arrival::Single);
        assert_eq!(peer.run(), End::Ready);
        peer.take_heard();
        assert_eq!(peer.begin(transaction), End::Ready);
        assert_eq!(peer.take_heard(), "", "nothing is said to a next hop that cannot take the message");
        assert!(matches!(peer.outcomes.take().as_deref(), Some([Outcome::Failed(_)])));
        assert_eq!(peer.begin(plain.clone()), End::Ready);
        assert_eq!(peer.outcomes.as_deref().map(brief), Some(vec![('D', 250)]));
    }
}

#[test]
fn what_was_asked_is_passed_on_to_who_does_it() {
    let notify = Some(mail::Notify { failure: true, delay: true, ..mail::Notify::default() });
    let original = Some("rfc822;o+2Bld@z.example".into());
    let asked = mail::Parameters {
        returns: Some(mail::Return::Headers),
        envelope_id: Some("QQ+20x".into()),
        by: Some(mail::By { until: mail::WallTime(0), mode: ByMode::Notify, trace: true }),
        priority: Some(-3),
        recipients: vec![(1, mail::RecipientParameters { notify, original })],
    };
    let envelope = Envelope { parameters: Some(asked.into()), ..Envelope::clone(&transaction(2).envelope) };
    for (hello, said) in [
        (
            PIPELINED,
            "MAIL FROM:<s@x.example>\r\nRCPT TO:<r0@y.example>\r\nRCPT TO:<r1@y.example>\r\nDATA\r\n",
        ),
        (
            "250-mx\n250-DSN\n250 PIPELINING",
            "MAIL FROM:<s@x.example> RET=HDRS ENVID=QQ+20x\r\nRCPT TO:<r0@y.example>\r\n\
             RCPT TO:<r1@y.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;o+2Bld@z.example\r\nDATA\r\n",
        ),
        (
            "250-mx\n250-DELIVERBY 60\n250-MT-PRIORITY\n250 PIPELINING",
            "MAIL FROM:<s@x.example> MT-PRIORITY=-3 BY=-5;NT\r\nRCPT TO:<r0@y.example>\r\nRCPT TO:<r1@y.example>\r\n\
             DATA\r\n",
        ),
    ] {
        let mut peer = Peer::new(&["220 mx", hello], Arrival::Single);
        assert_eq!(peer.run(), End::Ready);
        peer.take_heard();
        let transaction = Transaction { time_left: Some((ByMode::Notify, -5)), ..of(envelope.clone()) };
        assert_eq!(peer.begin(transaction), End::Lost);
        assert_eq!(peer.take_heard(), said);
    }
}

#[test]
fn many_recipients_go_out_in_groups() {
    let count = 3 * PIPELINE_COMMANDS_MAX;
    let mut script = vec!["220 mx", PIPELINED, "250 m"];
    script.extend((0..count).map(|n| if n % 3 == 0 { "550 no" } else { "250 r" }));
    script.extend(["354 d", "250 ok"]);
    for arrival in ARRIVALS {
        let mut peer = Peer::new(&script, arrival);
        assert_eq!(peer.run(), End::Ready);
        let mut out = Vec::new();
        peer.session.begin(transaction(count), peer.now, &mut out);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), PIPELINE_COMMANDS_MAX);
        peer.hear(&out);
        assert_eq!(peer.run(), End::Ready);
        let outcomes = peer.outcomes.take().expect("outcomes");
        let expected: Vec<_> = (0..count).map(|n| if n % 3 == 0 { ('F', 550) } else { ('D', 250) }).collect();
        assert_eq!(brief(&outcomes), expected);
    }
    // All of the first group is refused with MAIL: the rest is never sent.
    let mut script = vec!["220 mx", PIPELINED, "450 m"];
    script.extend((1..PIPELINE_COMMANDS_MAX).map(|_| "503 no MAIL"));
    let mut peer = Peer::new(&script, Arrival::Single);
    assert_eq!(peer.run(), End::Ready);
    assert_eq!(peer.begin(transaction(count)), End::Ready);
    assert_eq!(peer.outcomes.as_deref().map(brief), Some(vec![('f', 450); count]));
    assert!(!peer.take_heard().contains("DATA"));
}

#[test]
fn each_phase_has_its_deadline_and_its_words() {
    let profile = Rc::new(Profile::new("me.example"));
    let mut session = Session::new(profile, Time(0));
    let mut out = Vec::new();
    let mut now = Time(0);
    let check = |session: &Session, now: Time, seconds: u64, words: &str| {
        assert_eq!(session.deadline(), now + Duration::from_secs(seconds), "{words}");
        assert!(session.timeout_reply().to_string().contains(words), "{}", session.timeout_reply());
    };
    check(&session, now, 300, "451 4.4.2 timed out waiting for the greeting");
    for (reply, seconds, words) in [("220 mx\r\n", 300, "EHLO"), ("502 what\r\n", 300, "HELO")] {
        now = now + Duration::from_secs(7);
        session.feed(reply.as_bytes());
        assert_eq!(session.step(now, &mut out), Step::NeedBytes);
        check(&session, now, seconds, words);
    }
    session.feed(b"250 mx\r\n");
    assert_eq!(session.step(now, &mut out), Step::Ready);
    assert_eq!(session.deadline(), Time::FAR);
    now = now + Duration::from_secs(1000);
    session.begin(Transaction { size: 10 * 16 * 1024, ..transaction(1) }, now, &mut out);
    check(&session, now, 300, "MAIL");
    for (reply, seconds, words) in [("250 m\r\n", 300, "RCPT"), ("250 r\r\n", 120, "DATA")] {
        // A part of a reply wins no time.
        let (some, rest) = reply.split_at(2);
        session.feed(some.as_bytes());
        let before = session.deadline();
        assert_eq!(session.step(now + Duration::from_secs(5), &mut out), Step::NeedBytes);
        assert_eq!(session.deadline(), before);
        now = now + Duration::from_secs(7);
        session.feed(rest.as_bytes());
        assert_eq!(session.step(now, &mut out), Step::NeedBytes);
        check(&session, now, seconds, words);
    }
    session.feed(b"354 go\r\n");
    assert_eq!(session.step(now, &mut out), Step::Content);
    check(&session, now, 180 + 10, "the content");
    now = now + Duration::from_secs(100);
    session.content_sent(now);
    check(&session, now, 600, "the final dot");
    session.feed(b"451 no\r\n");
    assert!(matches!(session.step(now, &mut out), Step::Done(_)));
    assert_eq!(session.step(now, &mut out), Step::Ready);
    session.quit(now, &mut out);
    check(&session, now, 10, "QUIT");
}

#[test]
fn a_loss_takes_back_neither_outcomes_nor_the_first_reason() {
    let mut peer = Peer::new(&["220 mx", PLAIN], Arrival::Single);
    assert_eq!(peer.run(), End::Ready);
    peer.session.begin(
        of(Envelope { utf8: true, ..Envelope::clone(&transaction(2).envelope) }),
        peer.now,
        &mut Vec::new(),
    );
    assert_eq!(peer.lost().as_deref().map(brief), Some(vec![('F', 550), ('F', 550)]));
    assert_eq!((peer.lost(), peer.run()), (None, End::Closed(Some(LOST))));
    let mut peer = Peer::new(&["220 mx", "421 bye"], Arrival::Single);
    assert_eq!(peer.run(), End::Closed(Some(421)));
    assert_eq!((peer.lost(), peer.run()), (None, End::Closed(Some(421))));
}

#[test]
fn quit_closes_whatever_comes_back() {
    for word in ["221 bye", "421 bye", "500 what", "nonsense", "354 go"] {
        let mut peer = Peer::new(&["220 mx", PLAIN, word], Arrival::Single);
        assert_eq!(peer.run(), End::Ready);
        peer.session.quit(peer.now, &mut Vec::new());
        peer.owed = 1;
        assert_eq!(peer.run(), End::Closed(None), "{word}");
    }
}

#[test]
fn a_reset_that_is_refused_ends_the_session() {
    for (reply, expected) in [("500 what", 451), ("354 what", 451), ("421 bye", 421)] {
        let script = ["220 mx", PIPELINED, "250 m", "550 r", "554 d", reply];
        let mut peer = Peer::new(&script, Arrival::Single);
        assert_eq!(peer.run(), End::Ready);
        assert_eq!(peer.begin(transaction(1)), End::Ready);
        peer.outcomes = None;
        assert_eq!(peer.begin(transaction(1)), End::Closed(Some(expected)));
        assert_eq!(peer.outcomes.as_deref().map(brief), Some(vec![('f', expected)]));
    }
}

#[test]
fn outcomes_keep_a_bounded_text() {
    let long = vec![format!("550-{}", "é".repeat(500)); 20].join("\n") + "\n550 end";
    let mut peer = Peer::new(&["220 mx", PIPELINED, "250 m", &long, "554 d"], Arrival::Single);
    assert_eq!(peer.run(), End::Ready);
    assert_eq!(peer.begin(transaction(1)), End::Ready);
    let outcomes = peer.outcomes.take().expect("outcomes");
    let text = &outcomes[0].reply().text;
    assert!(text.len() <= OUTCOME_TEXT_BYTES_MAX && text.len() > OUTCOME_TEXT_BYTES_MAX - 4);
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
fn any_bytes_at_any_time_leave_every_recipient_with_an_outcome() {
    let words: &[&[u8]] = &[
        b"250 ok\r\n",
        b"250-mx\r\n250 PIPELINING\r\n",
        b"220 mx\r\n",
        b"354 go\r\n",
        b"550 no\r\n",
        b"450 no\r\n",
        b"421 bye\r\n",
        b"250",
        b"-",
        b"\r\n",
        b"\n",
        b"\xff\0",
        b"2",
        b" 5.1.1 x",
        b"250-SIZE 5\r\n",
        b"nonsense",
        b"250-mx\r\n250-CHUNKING\r\n250 PIPELINING\r\n",
    ];
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let (mut done, mut lost, mut delivered) = (0, 0, 0);
    for _ in 0..20_000 {
        let chunking = if random.below(2) == 0 { Chunking::Always } else { Chunking::Auto };
        let profile = Profile { chunking, ..Profile::new("me.example") };
        let mut session = Session::new(Rc::new(profile), Time(0));
        let mut out = Vec::new();
        let mut open = 0;
        for turn in 0..1 + random.below(40) as u64 {
            match session.step(Time(turn), &mut out) {
                Step::NeedBytes => {
                    // Mostly the replies of a good next hop, or no dialog would get anywhere.
                    let most = if random.below(8) > 0 { 4 } else { words.len() };
                    session.feed(words[random.below(most)]);
                }
                Step::Ready if random.below(8) == 0 => session.quit(Time(turn), &mut out),
                Step::Ready => {
                    assert_eq!(open, 0);
                    open = 1 + random.below(3);
                    session.begin(transaction(open), Time(turn), &mut out);
                }
                Step::Content | Step::Chunk if random.below(2) == 0 => {
                    session.feed(words[random.below(words.len())])
                }
                Step::Content | Step::Chunk => session.content_sent(Time(turn)),
                Step::Done(outcomes) => {
                    assert_eq!(outcomes.len(), open);
                    delivered +=
                        outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Delivered(_))).count();
                    open = 0;
                    done += 1;
                }
                Step::Close(_) => break,
            }
        }
        let rest = session.lost(session.timeout_reply());
        assert_eq!(rest.map_or(0, |outcomes| outcomes.len()), open);
        lost += usize::from(open > 0);
        assert!(matches!(session.step(Time(99), &mut out), Step::Close(_)));
    }
    // The test means something only when all ways out are taken.
    assert!(done > 1000 && lost > 100 && delivered > 100, "{done} {lost} {delivered}");
}
