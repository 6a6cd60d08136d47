//! Clients that mean no good, or know no better: whatever they do, the relay serves the next one.

use crate::client::Client;
use crate::next_hop::NextHop;
use crate::process::Home;
use std::net::SocketAddr;

const RESETS: usize = 200;
const BAD_LINE: &str = "500 5.5.2 Lines end with CR LF and hold UTF-8 without NUL, CR or LF";
const ENVELOPE: &[u8] = b"EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n";

#[test]
fn hostile_clients_leave_no_trace() {
    let hop = NextHop::start();
    let home = Home::new("hostile").route("*", hop.address);
    let relay = home.start(2);
    let attacks = [nuls, noise, endless_line, endless_command_in_pieces, half_closed, resets, flood_unread];
    for attack in attacks {
        attack(home.smtp());
        good_session(home.smtp());
    }
    one_byte_at_a_time(home.smtp());
    // The good sessions, and the two whole messages of `nuls` and of `one_byte_at_a_time`.
    let whole = attacks.len() + 2;
    relay.await_metric("recipients_delivered_total", whole as u64);
    assert_eq!(hop.arrived().len(), whole, "a message came of what was cut short");
    relay.await_rest();
    relay.await_metric("body_bytes_held", 0);
    assert!(relay.metric("connections_accepted_total") >= RESETS as u64);
    relay.stop();
}

fn good_session(address: SocketAddr) {
    let mut client = Client::greeted(address);
    client.deliver("<a@b.example>", &["good@d.example"], b"Subject: good\r\n\r\n..\r\n");
    client.quit();
}

fn nuls(address: SocketAddr) {
    let mut client = Client::greeted(address);
    assert_eq!(client.ask("NOOP \0"), BAD_LINE);
    assert_eq!(client.ask(&"\0".repeat(1000)), BAD_LINE);
    client.send(&ENVELOPE[8..]).unwrap();
    let replies = [(); 3].map(|()| client.reply());
    assert!(replies[2].starts_with("354 "), "{replies:?}");
    client.send(b"a\0b\r\n.\r\n").unwrap();
    // In content a NUL is a byte like any other, for what is signed must not change.
    let reply = client.reply();
    assert!(reply.starts_with("250 2.0.0 Ok: queued as "), "{reply}");
    client.quit();
}

/// Every byte there is, in no order that means anything; and nobody listens to the answers.
fn noise(address: SocketAddr) {
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    for _ in 0..50 {
        let mut client = Client::connect(address);
        let bytes: Vec<u8> = (0..2000).map(|_| noise()).collect();
        // The relay may well hang up first.
        let _ = client.send(&bytes);
    }
}

/// A megabyte without the end of a line: skipped, and answered once the line ends.
fn endless_line(address: SocketAddr) {
    let mut client = Client::greeted(address);
    client.send(&vec![b'x'; 1 << 20]).unwrap();
    assert_eq!(client.ask(""), "500 5.5.2 Line too long");
    client.send(&vec![b'\r'; 1 << 20]).unwrap();
    drop(client);
    let mut client = Client::greeted(address);
    client.send(ENVELOPE).unwrap();
    client.send(&vec![b'y'; 1 << 20]).unwrap();
}

fn endless_command_in_pieces(address: SocketAddr) {
    let mut client = Client::greeted(address);
    for _ in 0..100 {
        client.send(b"MAIL FROM:<").unwrap();
    }
    assert_eq!(client.ask(">"), "501 5.1.7 Bad sender address");
}

/// The relay answers what it has and closes its half, too.
fn half_closed(address: SocketAddr) {
    for (sent, last) in [
        (&b""[..], "220 "),
        (b"NOO", "220 "),
        (b"NOOP\r\n", "250 2.0.0 "),
        (&ENVELOPE[..30], "250 "),
        (ENVELOPE, "354 "),
        (&[ENVELOPE, b"half a message\r\n."].concat(), "354 "),
    ] {
        let mut client = Client::connect(address);
        client.send(sent).unwrap();
        client.end();
        let said = client.rest().unwrap();
        assert!(said.ends_with("\r\n"), "{said}");
        assert!(said.lines().last().unwrap().starts_with(last), "{said}");
    }
}

/// A close with replies unread resets the connection, at every point of a session.
fn resets(address: SocketAddr) {
    let session = [ENVELOPE, b"content that does not end\r\n"].concat();
    let mut open = Vec::new();
    for number in 0..RESETS {
        let mut client = Client::connect(address);
        client.send(&session[..number % (session.len() + 1)]).unwrap();
        open.push(client);
        // Some at once, some together with others.
        if number % 8 == 7 {
            open.iter_mut().for_each(Client::await_unread);
            open.clear();
        }
    }
}

/// Commands without end whose replies are not read: the relay stops reading rather than hoard replies.
fn flood_unread(address: SocketAddr) {
    let mut client = Client::greeted(address);
    let commands = b"NOOP\r\n".repeat(20_000);
    let _ = client.send(&commands);
    client.await_unread();
}

fn one_byte_at_a_time(address: SocketAddr) {
    let mut client = Client::connect(address);
    let session = [ENVELOPE, b"Subject: slow\r\n\r\n..\r\n.\r\nQUIT\r\n"].concat();
    for byte in session {
        client.send(&[byte]).unwrap();
    }
    let said = client.rest().unwrap();
    assert!(said.contains("\r\n250 2.0.0 Ok: queued as "), "{said}");
    assert!(said.ends_with("\r\n221 2.0.0 Bye\r\n"), "{said}");
}
