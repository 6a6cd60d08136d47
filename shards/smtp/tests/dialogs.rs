//! Plays every file in `dialogs/` against the receiving session: turn by turn, all at once, byte by byte, and cut
//! in two at every point. Lines of a dialog:
//!
//! ```text
//! ## a comment
//! # relay DOMAIN                        recipients of this domain are accepted, all others refused
//! # refuse sender ADDRESS REPLY         also: recipient ADDRESS, data, store
//! # profile FIELD NUMBER                a bound that is not at its default
//! # auth [required] [without_tls]        clients may log in, or must; also without TLS
//! # channel tls [exporter] [NAME]        TLS, with channel binding, with a client certificate of this name
//! # user NAME PASSWORD                   a user; there is one more, away, of whom nobody can tell
//! C: text                               the client sends a line; \r \n \0 \xHH and \\ are bytes
//! C* COUNT text                         the same text COUNT times, then CRLF
//! C| text                               the client sends this without CRLF
//! S: text                               the server says a line; a last * stands for anything
//! = stored <SENDER> <RCPT>... [8bit|binary] [utf8] [dotted]    a message was stored; its content follows
//! = asked PARAMETER...                  what was asked of it; N:PARAMETER of the recipient with that index
//! | text                                a line of the content, after the Received field
//! = closed REASON                       the session was closed
//! + SECONDS s                           time passes
//! + stop                                the server shuts down
//! + end                                 the client closes its half
//! ```

mod play;

use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use auth::{Channel, Terms};
use mail::{BodyType, ByMode, Envelope, Parameters, Return};
use play::{Play, Rules};
use smtp::receive::{Incoming, Profile};

#[derive(Debug)]
enum Line {
    Client(Vec<u8>),
    Server(String),
    Passes(Duration),
    Stop,
    End,
    Stored { envelope: String, asked: String, content: Vec<u8> },
    Closed(String),
}

struct Dialog {
    name: String,
    rules: Rc<Rules>,
    lines: Vec<Line>,
}

#[test]
fn every_dialog_is_played_to_its_end() {
    let mut paths: Vec<_> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("dialogs"))
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 30, "dialogs are missing");
    for path in paths {
        let text = fs::read_to_string(&path).expect("a dialog is text");
        let dialog = read(&path.file_stem().unwrap_or_default().to_string_lossy(), &text);
        in_turns(&dialog);
        in_pieces(&dialog, usize::MAX, usize::MAX);
        in_pieces(&dialog, usize::MAX, 1);
        let length = dialog
            .lines
            .iter()
            .map(|line| if let Line::Client(bytes) = line { bytes.len() } else { 0 })
            .sum();
        for cut in 1..length {
            in_pieces(&dialog, cut, usize::MAX);
        }
    }
}

/// The client waits for each reply.
fn in_turns(dialog: &Dialog) {
    let mut play = Play::new(&dialog.rules);
    let (mut said, mut stored, mut closed) = (0, 0, false);
    let mut sent: Vec<u8> = vec![];
    for line in &dialog.lines {
        match line {
            Line::Client(_) | Line::Passes(_) | Line::Stop | Line::End if sent.is_empty() => {
                assert_eq!(&play.text()[said..], "", "{}: said without being asked", dialog.name);
            }
            Line::Client(_) => {}
            _ => play.feed(&std::mem::take(&mut sent)),
        }
        match line {
            Line::Client(bytes) => {
                assert!(play.closed.is_none(), "{}: the client speaks to a closed session", dialog.name);
                sent.extend_from_slice(bytes);
            }
            Line::Server(expected) => {
                let rest = &play.text()[said..];
                let length =
                    rest.find("\r\n").unwrap_or_else(|| panic!("{}: silence, not {expected}", dialog.name));
                assert_said(dialog, &rest[..length], expected);
                said += length + 2;
            }
            Line::Stored { envelope, asked, content } => {
                assert_stored(dialog, &play.stored[stored], (envelope, asked), content);
                stored += 1;
            }
            Line::Closed(reason) => {
                assert_eq!(format!("{:?}", play.closed.expect("closed")), *reason, "{}", dialog.name);
                closed = true;
            }
            event => happen(&mut play, event),
        }
    }
    assert!(sent.is_empty(), "{}: the last word is the server's", dialog.name);
    assert_eq!(
        (play.text().len(), play.stored.len(), play.closed.is_some()),
        (said, stored, closed),
        "{}",
        dialog.name
    );
    play::count_replies(&play.out);
}

/// The client does not wait: its bytes between two events come in pieces of `size`, and also cut after `cut`.
fn in_pieces(dialog: &Dialog, cut: usize, size: usize) {
    let mut play = Play::new(&dialog.rules);
    let mut fed = 0;
    let mut sent: Vec<u8> = vec![];
    for line in &dialog.lines {
        match line {
            Line::Client(bytes) => sent.extend_from_slice(bytes),
            Line::Passes(_) | Line::Stop | Line::End => {
                feed(&mut play, &std::mem::take(&mut sent), &mut fed, cut, size);
                happen(&mut play, line);
            }
            Line::Server(_) | Line::Stored { .. } | Line::Closed(_) => {}
        }
    }
    feed(&mut play, &sent, &mut fed, cut, size);
    compare(dialog, &play);
}

fn feed(play: &mut Play, bytes: &[u8], fed: &mut usize, cut: usize, size: usize) {
    let (first, second) = bytes.split_at(cut.saturating_sub(*fed).min(bytes.len()));
    for piece in first.chunks(size).chain(second.chunks(size)) {
        play.feed(piece);
    }
    *fed += bytes.len();
}

fn compare(dialog: &Dialog, play: &Play) {
    let mut said = play.text().split_terminator("\r\n");
    let mut stored = play.stored.iter();
    for line in &dialog.lines {
        match line {
            Line::Server(expected) => assert_said(dialog, said.next().unwrap_or("silence"), expected),
            Line::Stored { envelope, asked, content } => {
                let incoming = stored.next().expect("a stored message");
                assert_stored(dialog, incoming, (envelope, asked), content);
            }
            _ => {}
        }
    }
    assert_eq!((said.next(), stored.next()), (None, None), "{}", dialog.name);
}

fn happen(play: &mut Play, event: &Line) {
    match event {
        Line::Passes(time) => _ = play.pass(*time),
        Line::Stop => play.stop(),
        Line::End => play.end_of_input(),
        line => unreachable!("{line:?} is no event"),
    }
}

fn assert_said(dialog: &Dialog, said: &str, expected: &str) {
    let matches = match expected.strip_suffix('*') {
        Some(start) => said.starts_with(start),
        None => said == expected,
    };
    assert!(matches, "{}: {said:?}, not {expected:?}", dialog.name);
}

fn assert_stored(dialog: &Dialog, incoming: &Incoming, (envelope, asked): (&str, &str), content: &[u8]) {
    let Envelope { sender, recipients, body, utf8, parameters } = &incoming.envelope;
    let mut words = vec![sender.as_ref().map_or("<>".to_string(), |sender| format!("<{sender}>"))];
    words.extend(recipients.iter().map(|recipient| format!("<{recipient}>")));
    words.extend((*body == BodyType::EightBit).then(|| "8bit".to_string()));
    words.extend((*body == BodyType::Binary).then(|| "binary".to_string()));
    words.extend(utf8.then(|| "utf8".to_string()));
    words.extend(incoming.dotted.then(|| "dotted".to_string()));
    assert_eq!(words.join(" "), envelope, "{}", dialog.name);
    let parameters = parameters.as_ref().map_or(String::new(), |parameters| asked_text(parameters));
    assert_eq!(parameters, asked, "{}", dialog.name);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let length = mail::trace::hops(&incoming.content);
    assert!(length >= 1 && incoming.content.starts_with(b"Received: from "), "{}", dialog.name);
    assert_eq!(text(after_first_field(&incoming.content)), text(content), "{}", dialog.name);
}

/// What was asked, as the dialogs write it.
fn asked_text(parameters: &Parameters) -> String {
    let mut words = vec![];
    words.extend(parameters.returns.map(|returns| match returns {
        Return::Full => "RET=FULL".to_string(),
        Return::Headers => "RET=HDRS".to_string(),
    }));
    words.extend(parameters.envelope_id.as_ref().map(|id| format!("ENVID={id}")));
    words.extend(parameters.by.map(|by| {
        let seconds = by.until.since(play::ACCEPTED).as_secs();
        let (mode, trace) =
            (if by.mode == ByMode::Return { "R" } else { "N" }, if by.trace { "T" } else { "" });
        format!("BY={seconds}s;{mode}{trace}")
    }));
    words.extend(parameters.priority.map(|priority| format!("MT-PRIORITY={priority}")));
    for (index, asked) in &parameters.recipients {
        words.extend(asked.notify.map(|notify| format!("{index}:NOTIFY={}", notify.value())));
        words.extend(asked.original.as_ref().map(|original| format!("{index}:ORCPT={original}")));
    }
    words.join(" ")
}

/// What follows the first header field with its folded lines.
fn after_first_field(content: &[u8]) -> &[u8] {
    let end = content.windows(3).position(|w| w.starts_with(b"\r\n") && w[2] != b'\t');
    end.map_or(&[], |end| &content[end + 2..])
}

fn read(name: &str, text: &str) -> Dialog {
    let mut rules = Rules::new();
    let mut lines: Vec<Line> = vec![];
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("##")) {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            "#" => set_rule(&mut rules, rest),
            "C:" => lines.push(Line::Client([bytes(rest), b"\r\n".to_vec()].concat())),
            "C|" => lines.push(Line::Client(bytes(rest))),
            "C*" => {
                let (count, text) = rest.split_once(' ').expect("a count");
                let repeated = bytes(text).repeat(count.parse().expect("a number"));
                lines.push(Line::Client([repeated, b"\r\n".to_vec()].concat()));
            }
            "S:" => lines.push(Line::Server(rest.to_string())),
            "=" if rest.starts_with("asked ") => match lines.last_mut() {
                Some(Line::Stored { asked, .. }) => *asked = rest["asked ".len()..].to_string(),
                _ => panic!("{name}: asked without a message"),
            },
            "=" => lines.push(match rest.split_once(' ') {
                Some(("stored", envelope)) => {
                    let envelope = envelope.to_string();
                    Line::Stored { envelope, asked: String::new(), content: vec![] }
                }
                Some(("closed", reason)) => Line::Closed(reason.to_string()),
                _ => panic!("{name}: {line}"),
            }),
            "|" => match lines.last_mut() {
                Some(Line::Stored { content, .. }) => {
                    content.extend([bytes(rest), b"\r\n".to_vec()].concat())
                }
                _ => panic!("{name}: content without a message"),
            },
            "+" => lines.push(match rest.split_once(' ') {
                Some((seconds, "s")) => Line::Passes(Duration::from_secs(seconds.parse().expect("seconds"))),
                None if rest == "stop" => Line::Stop,
                None if rest == "end" => Line::End,
                _ => panic!("{name}: {line}"),
            }),
            _ => panic!("{name}: {line}"),
        }
    }
    Dialog { name: name.to_string(), rules: Rc::new(rules), lines }
}

fn set_rule(rules: &mut Rules, rule: &str) {
    let words: Vec<&str> = rule.split(' ').collect();
    match words[..] {
        ["relay", domain] => rules.relay.push(domain.to_string()),
        ["refuse", what @ ("data" | "store"), ..] => {
            rules.refusals.push((what.to_string(), play::reply(&words[2..].join(" "))));
        }
        ["refuse", what @ ("sender" | "recipient"), address, ..] => {
            rules.refusals.push((format!("{what} {address}"), play::reply(&words[3..].join(" "))));
        }
        ["auth", ref terms @ ..] => {
            let (required, without_tls) = (terms.contains(&"required"), terms.contains(&"without_tls"));
            rules.profile.auth = Some(Terms { required, without_tls });
        }
        ["channel", "tls", ref given @ ..] => {
            let exporter = given.contains(&"exporter").then_some(*b"0123456789abcdef0123456789abcdef");
            let certificate = given.iter().find(|word| **word != "exporter").map(|name| (*name).into());
            rules.channel = Channel::Tls { exporter, certificate };
        }
        ["user", name, password] => rules.users.push((name.to_string(), password.to_string())),
        ["profile", field, number] => {
            set_profile(&mut rules.profile, field, number.parse().expect("a number"))
        }
        _ => panic!("no such rule: {rule}"),
    }
}

fn set_profile(profile: &mut Profile, field: &str, number: u32) {
    match field {
        "message_bytes_max" => profile.message_bytes_max = number.into(),
        "recipients_max" => profile.recipients_max = number as usize,
        "hops_max" => profile.hops_max = number as usize,
        "line_bytes_max" => profile.line_bytes_max = number as usize,
        "errors_max" => profile.errors_max = number,
        "idle_commands_max" => profile.idle_commands_max = number,
        "transactions_max" => profile.transactions_max = number,
        "login_failures_max" => profile.login_failures_max = number,
        "content_rate_min" => profile.content_rate_min = number,
        _ => panic!("no such bound: {field}"),
    }
}

fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = vec![];
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let (byte, length) = match escaped.as_bytes().first() {
            Some(b'r') => (b'\r', 1),
            Some(b'n') => (b'\n', 1),
            Some(b'0') => (0, 1),
            Some(b'\\') => (b'\\', 1),
            Some(b'x') => (u8::from_str_radix(&escaped[1..3], 16).expect("two hexadecimal digits"), 3),
            _ => panic!("no such escape: {text}"),
        };
        bytes.push(byte);
        rest = &escaped[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
