//! The dialogs of `shards/smtp/dialogs` over TCP, against the program as it is configured by default but for whom it
//! relays for: the client's side turn by turn, and once more all at once. What they say is stored must arrive at the
//! next hop. Their format is told in `shards/smtp/tests/dialogs.rs`.

use crate::client::Client;
use crate::next_hop::{Arrived, NextHop};
use crate::process::{Home, await_true};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

#[derive(Debug)]
enum Line {
    Client(Vec<u8>),
    Server(String),
    /// The client closes its half.
    End,
    /// The relay has closed.
    Closed,
}

struct Dialog {
    name: String,
    relay: Vec<String>,
    lines: Vec<Line>,
    stored: Vec<Arrived>,
}

#[test]
fn dialogs_are_the_same_over_the_network() {
    let dialogs = read_all();
    assert!(dialogs.len() >= 20, "only {} dialogs can be played", dialogs.len());
    let domains: Vec<&String> = dialogs.iter().flat_map(|dialog| &dialog.relay).collect();
    let hop = NextHop::start();
    let home = Home::new("dialogs")
        .listen(&format!("relay_from = [\"192.0.2.0/24\"]\nrelay_to = {domains:?}\n"))
        .route("*", hop.address);
    let relay = home.start(2);
    let mut expected = Vec::new();
    for dialog in &dialogs {
        play_in_turns(dialog, home.smtp());
        play_at_once(dialog, home.smtp());
        expected.extend(dialog.stored.iter().chain(&dialog.stored).cloned());
    }
    expected.sort();
    await_true("all stored messages", || hop.arrived().len() >= expected.len());
    let strip = |arrived: Arrived| Arrived { content: arrived.original().to_vec(), ..arrived };
    let mut arrived: Vec<Arrived> = hop.arrived().into_iter().map(strip).collect();
    arrived.sort();
    assert_eq!(arrived, expected);
    relay.await_rest();
    relay.stop();
}

/// The client waits for each reply.
fn play_in_turns(dialog: &Dialog, address: SocketAddr) {
    let mut client = Client::connect(address);
    for line in &dialog.lines {
        match line {
            Line::Client(bytes) => client.send(bytes).unwrap(),
            Line::End => client.end(),
            Line::Server(expected) => assert_said(dialog, &client.line().unwrap_or_default(), expected),
            Line::Closed => assert_eq!(client.rest().unwrap(), "", "{}", dialog.name),
        }
    }
}

/// The client sends everything and only then reads.
fn play_at_once(dialog: &Dialog, address: SocketAddr) {
    let mut client = Client::connect(address);
    let said = dialog
        .lines
        .iter()
        .filter_map(|line| if let Line::Client(bytes) = line { Some(&bytes[..]) } else { None });
    client.send(&said.collect::<Vec<_>>().concat()).unwrap();
    if dialog.lines.iter().any(|line| matches!(line, Line::End)) {
        client.end();
    }
    for line in &dialog.lines {
        if let Line::Server(expected) = line {
            assert_said(dialog, &client.line().unwrap_or_default(), expected);
        }
    }
    assert_eq!(client.rest().unwrap(), "", "{}", dialog.name);
}

fn assert_said(dialog: &Dialog, said: &str, expected: &str) {
    let matches = match expected.strip_suffix('*') {
        Some(start) => said.starts_with(start),
        None => said == expected,
    };
    assert!(matches, "{}: {said:?}, not {expected:?}", dialog.name);
}

/// All dialogs that need nothing but the defaults, in the order of their names.
fn read_all() -> Vec<Dialog> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shards/smtp/dialogs");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .iter()
        .filter_map(|path| read(&path.file_stem()?.to_string_lossy(), &fs::read_to_string(path).unwrap()))
        .collect()
}

/// `None` for a dialog of other bounds, of refusals that the relay has no rule for, of time that passes, or of a stop.
fn read(name: &str, text: &str) -> Option<Dialog> {
    let mut dialog = Dialog { name: name.into(), relay: Vec::new(), lines: Vec::new(), stored: Vec::new() };
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("##")) {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            "#" => dialog.relay.push(rest.strip_prefix("relay ")?.to_string()),
            "C:" => dialog.lines.push(Line::Client([bytes(rest), b"\r\n".to_vec()].concat())),
            "C|" => dialog.lines.push(Line::Client(bytes(rest))),
            "C*" => {
                let (count, text) = rest.split_once(' ').unwrap();
                let repeated = bytes(text).repeat(count.parse().unwrap());
                dialog.lines.push(Line::Client([repeated, b"\r\n".to_vec()].concat()));
            }
            "S:" => dialog.lines.push(Line::Server(rest.to_string())),
            // The next hop here offers nothing of what can be asked, so that reports come back.
            "=" if rest.starts_with("asked ") => return None,
            "=" => match rest.strip_prefix("stored ") {
                Some(envelope) => dialog.stored.push(stored(envelope)),
                None => dialog.lines.push(Line::Closed),
            },
            "|" => {
                let message = dialog.stored.last_mut().unwrap();
                message.content.extend([bytes(rest), b"\r\n".to_vec()].concat());
            }
            "+" if rest == "end" => dialog.lines.push(Line::End),
            "+" => return None,
            _ => panic!("{name}: {line}"),
        }
    }
    Some(dialog)
}

/// What a next hop with all extensions sees of `<SENDER> <RCPT>... [8bit|binary] [utf8] [dotted]`, still without content.
fn stored(envelope: &str) -> Arrived {
    let mut words = envelope.split(' ');
    let mut arrived =
        Arrived { mail: words.next().unwrap().to_string(), recipients: Vec::new(), content: Vec::new() };
    for word in words {
        match word {
            "8bit" => arrived.mail += " BODY=8BITMIME",
            "binary" => arrived.mail += " BODY=BINARYMIME",
            "utf8" => arrived.mail += " SMTPUTF8",
            "dotted" => {}
            recipient => arrived.recipients.push(recipient[1..recipient.len() - 1].to_string()),
        }
    }
    arrived.recipients.sort();
    arrived
}

fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let (byte, length) = match escaped.as_bytes()[0] {
            b'r' => (b'\r', 1),
            b'n' => (b'\n', 1),
            b'0' => (0, 1),
            b'\\' => (b'\\', 1),
            b'x' => (u8::from_str_radix(&escaped[1..3], 16).unwrap(), 3),
            _ => panic!("no such escape: {text}"),
        };
        bytes.push(byte);
        rest = &escaped[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
