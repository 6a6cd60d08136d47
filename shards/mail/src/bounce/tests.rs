use super::*;
use alloc::string::ToString;
use alloc::vec;

const AT: WallTime = WallTime(1_795_566_960_000_000);

fn failure(recipient: &str, reply: Reply, next_hop: Option<&str>) -> Told {
    let recipient = Address::parse(recipient, true).expect("mailbox");
    Told { recipient, original: None, reply, next_hop: next_hop.map(String::from) }
}

fn make(sender: &str, failures: &[Told], headers: &[u8], utf8: bool) -> String {
    let sender = Address::parse(sender, true).expect("mailbox");
    let bytes = report(&Report {
        hostname: "mx.example.org",
        id: MessageId(2),
        at: AT,
        sender: &sender,
        original: MessageId(1),
        arrived: WallTime(AT.0 - 60_000_000),
        envelope_id: None,
        action: Action::Failed,
        recipients: failures,
        message: headers,
        full: None,
        utf8,
    });
    String::from_utf8(bytes).expect("a report is UTF-8")
}

/// What holds for every report.
fn assert_sound(text: &str, utf8: bool) {
    assert!(text.ends_with("--\r\n"));
    assert!(text.split("\r\n").all(|line| line.len() < 998 && !line.contains(['\r', '\n'])));
    assert!(!text.chars().any(|c| c.is_control() && !matches!(c, '\r' | '\n' | '\t')));
    assert!(utf8 || text.is_ascii());
    let boundary =
        text.split("boundary=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("boundary");
    assert_eq!(text.matches(boundary).count(), 5, "its declaration, three parts and the end");
    assert_eq!(text.matches(&alloc::format!("\r\n--{boundary}")).count(), 4);
    let front = &text[..text.find("\r\n\r\n").expect("empty line")];
    assert_eq!(front.matches("\r\n").count(), if utf8 { 9 } else { 8 }, "{front}");
}

#[test]
fn a_report_is_written_as_rfc_3464_wants_it() {
    let failures = [
        failure("a@b.example", Reply::new(550, (5, 1, 1), "no such\nuser"), Some("mx.b.example")),
        failure("c@d.example", Reply::bare(421, "busy"), None),
    ];
    let text =
        make("s@x.example", &failures, b"From: <s@x.example>\r\nSubject: hello\r\n\r\nbody\r\n", false);
    assert_sound(&text, false);
    assert_eq!(
        text,
        "From: Mail delivery <MAILER-DAEMON@mx.example.org>\r\n\
         To: <s@x.example>\r\n\
         Subject: Your message could not be delivered\r\n\
         Date: Wed, 25 Nov 2026 00:36:00 +0000\r\n\
         Message-ID: <0000000000002@mx.example.org>\r\n\
         Auto-Submitted: auto-replied\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status;\r\n\
         \tboundary=\"0000000000002-0000000000001\"\r\n\
         \r\n\
         --0000000000002-0000000000001\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\
         \r\n\
         Your message, accepted by mx.example.org on Wed, 25 Nov 2026 00:35:00 +0000\r\n  \
         as 0000000000001, could not be delivered to the following recipients. No\r\n  \
         further attempt will be made.\r\n\
         \r\n\
         <a@b.example>\r\n  \
         mx.b.example said: 550 5.1.1 no such user\r\n\
         \r\n\
         <c@d.example>\r\n  \
         The time for trying again is over. The last reply was:\r\n  \
         421 busy\r\n\
         \r\n\
         --0000000000002-0000000000001\r\n\
         Content-Type: message/delivery-status\r\n\
         \r\n\
         Reporting-MTA: dns; mx.example.org\r\n\
         Arrival-Date: Wed, 25 Nov 2026 00:35:00 +0000\r\n\
         \r\n\
         Final-Recipient: rfc822; a@b.example\r\n\
         Action: failed\r\n\
         Status: 5.1.1\r\n\
         Remote-MTA: dns; mx.b.example\r\n\
         Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n\
         \r\n\
         Final-Recipient: rfc822; c@d.example\r\n\
         Action: failed\r\n\
         Status: 4.4.7\r\n\
         Diagnostic-Code: smtp; 421 busy\r\n\
         \r\n\
         --0000000000002-0000000000001\r\n\
         Content-Type: text/rfc822-headers\r\n\
         \r\n\
         From: <s@x.example>\r\n\
         Subject: hello\r\n\
         \r\n\
         --0000000000002-0000000000001--\r\n"
    );
}

#[test]
fn the_status_comes_from_the_reply() {
    for (reply, status) in [
        (Reply::new(550, (5, 7, 26), ""), "5.7.26"),
        (Reply::bare(550, "x"), "5.0.0"),
        (Reply::new(450, (4, 2, 2), ""), "4.2.2"),
        (Reply::bare(450, ""), "4.4.7"),
        (Reply::new(550, (2, 0, 0), ""), "5.0.0"),
        (Reply::new(450, (2, 0, 0), ""), "4.4.7"),
    ] {
        assert_eq!(status_code(Action::Failed, &reply).to_string(), status);
    }
}

#[test]
fn utf8_takes_the_global_types() {
    let reply = Reply::new(550, (5, 1, 1), "unbekannt: jörg");
    let headers = "Subject: grüße\r\nX: \u{85}\r\n".as_bytes();
    let ascii = make("s@x.example", &[failure("a@b", reply.clone(), None)], headers, false);
    assert_sound(&ascii, false);
    assert!(ascii.contains("unbekannt: j?rg") && ascii.contains("Subject: gr??e\r\nX: ?\r\n"));
    let one = [failure("jörg@b", reply.clone(), None)];
    for text in [
        make("é@x.example", &one, headers, false),
        make("s@x.example", &one, headers, false),
        make("s@x.example", &[failure("a@b", reply, None), one[0].clone()], headers, true),
    ] {
        assert_sound(&text, true);
        for held in [
            "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n",
            "Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n",
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n",
            "Final-Recipient: utf-8; jörg@b\r\n",
            "550 5.1.1 unbekannt: jörg\r\n",
            "Subject: grüße\r\nX: ?\r\n",
        ] {
            assert!(text.contains(held), "{held}");
        }
    }
}

#[test]
fn nothing_from_outside_leaves_its_place() {
    let nasty = "x\r\nBcc: y\r\n\r\n--0000000000002-0000000000001\r\nz\0\u{7f}\u{1b}[0m\té\u{2028}\n.\n";
    for utf8 in [false, true] {
        let reply = Reply::new(550, (5, 0, 0), nasty);
        let failures = [failure("\"a  b\"@c.example", reply, Some(nasty))];
        let headers = b"A: \rB\r\n--0000000000002-0000000000001--\r\nC\0: \xff\x80\n\r\r\n \r\nD: e";
        let text = make("s@x.example", &failures, headers, utf8);
        assert_sound(&text, utf8);
        assert!(!text.contains("\r\nBcc") && !text.contains("\r\n."));
        assert!(text.contains("Final-Recipient: rfc822; \"a  b\"@c.example\r\n"));
        assert!(text.contains("\r\n--0000000000002-0000000000001--\r\nC?: "), "the original's line is kept");
        assert!(text.contains("\r\n?\r\n \r\nD: e\r\n"));
    }
}

#[test]
fn boundaries_give_way_as_often_as_they_must() {
    let mut headers = b"X: 0000000000002-0000000000001\r\n".to_vec();
    for round in 0..50 {
        headers.extend_from_slice(alloc::format!("X: 0000000000002-0000000000001-{round}\r\n").as_bytes());
    }
    let text = make("s@x.example", &[failure("a@b", Reply::bare(550, ""), None)], &headers, false);
    assert_sound(&text, false);
    assert!(text.contains("boundary=\"0000000000002-0000000000001-50\""));
}

#[test]
fn long_texts_are_folded_split_and_cut() {
    for (text, utf8) in
        [("word ".repeat(5000), false), ("x".repeat(50_000), false), ("é€".repeat(20_000), true)]
    {
        let failures = [failure("a@b", Reply::new(550, (5, 1, 1), text.clone()), Some(text.as_str()))];
        let headers = alloc::format!("Subject: {text}\r\nTo: a@b\r\n");
        let report = make("s@x.example", &failures, headers.as_bytes(), utf8);
        assert_sound(&report, utf8);
        assert!(report.len() < 2 * headers.len() + 16 * TEXT_BYTES_MAX);
        assert!(report.contains("To: a@b\r\n") || headers.len() > HEADERS_BYTES_MAX);
    }
}

#[test]
fn the_original_is_bounded_at_a_line_end() {
    let one = [failure("a@b", Reply::bare(550, ""), None)];
    let headers = b"X-Field: 0123456789\r\n".repeat(10_000);
    let text = make("s@x.example", &one, &headers, false);
    assert_sound(&text, false);
    assert_eq!(text.matches("X-Field: 0123456789\r\n").count(), HEADERS_BYTES_MAX / 21);
    assert_eq!(text.matches("X-Field").count(), HEADERS_BYTES_MAX / 21);
    let endless = make("s@x.example", &one, &vec![b'x'; 1_000_000], false);
    assert_sound(&endless, false);
    assert!(endless.len() < HEADERS_BYTES_MAX + 4096);
}

#[test]
fn header_blocks_end_at_the_empty_line() {
    for (content, block) in [
        (&b"A: b\r\n\r\nbody\r\n"[..], &b"A: b\r\n"[..]),
        (b"A: b\n\nbody", b"A: b\n"),
        (b"A: b\r\n c\r\n", b"A: b\r\n c\r\n"),
        (b"\r\nbody", b""),
        (b"", b""),
        (b"A", b"A"),
    ] {
        assert_eq!(headers(content), block);
    }
}

#[test]
fn any_headers_and_replies_make_a_sound_report() {
    let alphabet: &[&[u8]] = &[b"\r", b"\n", b"\r\n", b"-", b"\xff", "é".as_bytes(), b"\0", b" ", b"a: b"];
    for number in 0..alphabet.len().pow(3) {
        let mut rest = number;
        let mut bytes = Vec::new();
        for _ in 0..3 {
            bytes.extend_from_slice(alphabet[rest % alphabet.len()]);
            rest /= alphabet.len();
        }
        let reply = Reply::bare(550, String::from_utf8_lossy(&bytes).into_owned());
        let utf8 = number % 2 == 0;
        assert_sound(&make("s@x.example", &[failure("a@b", reply, None)], &bytes, utf8), utf8);
    }
}

/// A report on one recipient, with all that can be asked for.
fn make_asked(action: Action, reply: Reply, message: &[u8], full: Option<BodyType>) -> String {
    let sender = Address::parse("s@x.example", true).expect("mailbox");
    let told = Told { original: Some("rfc822;o+2Bld@b".into()), ..failure("a@b.example", reply, Some("mx")) };
    let bytes = report(&Report {
        hostname: "mx.example.org",
        id: MessageId(2),
        at: AT,
        sender: &sender,
        original: MessageId(1),
        envelope_id: Some("an+20id"),
        arrived: WallTime(AT.0 - 60_000_000),
        action,
        recipients: &[told],
        message,
        full,
        utf8: false,
    });
    String::from_utf8(bytes).expect("a report is UTF-8")
}

#[test]
fn what_identified_the_message_comes_back() {
    let until = WallTime(AT.0 + 60_000_000);
    for (action, reply, subject, fields) in [
        (
            Action::Failed,
            Reply::new(550, (5, 1, 1), "no"),
            "Your message could not be delivered",
            "Action: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx\r\nDiagnostic-Code: smtp; 550 5.1.1 no\r\n\r\n",
        ),
        (
            Action::Delayed(until),
            Reply::new(451, (4, 2, 2), "busy"),
            "Your message is delayed",
            "Action: delayed\r\nStatus: 4.2.2\r\nRemote-MTA: dns; mx\r\nDiagnostic-Code: smtp; 451 4.2.2 busy\r\n\
             Will-Retry-Until: Wed, 25 Nov 2026 00:37:00 +0000\r\n\r\n",
        ),
        (
            Action::Relayed,
            Reply::new(250, (2, 6, 0), "ok"),
            "Your message was handed on",
            "Action: relayed\r\nStatus: 2.6.0\r\nRemote-MTA: dns; mx\r\nDiagnostic-Code: smtp; 250 2.6.0 ok\r\n\r\n",
        ),
    ] {
        let text = make_asked(action, reply, b"Subject: hello\r\n\r\nbody\r\n", None);
        assert_sound(&text, false);
        assert!(text.contains(&alloc::format!("\r\nSubject: {subject}\r\n")), "{text}");
        let expected = alloc::format!(
            "\r\n\r\nOriginal-Envelope-Id: an id\r\nReporting-MTA: dns; mx.example.org\r\n\
             Arrival-Date: Wed, 25 Nov 2026 00:35:00 +0000\r\n\r\n\
             Original-Recipient: rfc822; o+ld@b\r\nFinal-Recipient: rfc822; a@b.example\r\n{fields}"
        );
        assert!(text.contains(&expected), "{text}");
        assert!(!text.contains("body\r\n"));
    }
}

#[test]
fn the_whole_message_comes_back_when_it_is_wanted() {
    let reply = Reply::new(550, (5, 1, 1), "no");
    let message = "Subject: hello\r\n\r\nbody \u{e9}\r\n--0000000000002-0000000000001--\r\n";
    let text = make_asked(Action::Failed, reply.clone(), message.as_bytes(), Some(BodyType::EightBit));
    assert!(
        text.contains("\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject")
    );
    assert!(text.contains(message) && text.contains("boundary=\"0000000000002-0000000000001-0\""), "{text}");
    let text = make_asked(Action::Failed, reply, b"Subject: x\r\n\r\nbody\r\n", Some(BodyType::SevenBit));
    assert_sound(&text, false);
    assert!(text.contains("\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nbody\r\n\r\n--"));
}

#[test]
fn a_report_of_success_or_delay_has_a_status_of_its_class() {
    let delayed = Action::Delayed(AT);
    for (action, reply, status) in [
        (delayed, Reply::bare(550, ""), Enhanced(4, 0, 0)),
        (delayed, Reply::new(550, (5, 7, 1), ""), Enhanced(4, 0, 0)),
        (Action::Relayed, Reply::bare(250, ""), Enhanced(2, 0, 0)),
        (Action::Relayed, Reply::new(250, (5, 0, 0), ""), Enhanced(2, 0, 0)),
    ] {
        assert_eq!(status_code(action, &reply), status);
    }
}
