//! Seeded hostile input for the receiving session: real dialogs, broken at random. Whatever comes, it does not
//! panic, says complete replies, holds no more memory than it may, and what it says and stores does not depend
//! on how the bytes were cut.

mod play;

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use auth::{Channel, Terms};
use fastrand::Rng;
use mail::BodyType;
use play::{Play, Rules};

const SEEDS: Range<u64> = 0..20_000;
const MESSAGE_BYTES_MAX: usize = 300;
const LINE_BYTES_MAX: usize = 100;
const PIECE_BYTES_MAX: usize = 700;

/// What is thrown in between.
const TOKENS: [&[u8]; 31] = [
    b"\r\n",
    b"\n",
    b"\r",
    b".",
    b"\r\n.\r\n",
    b"\r\n..",
    b"\0",
    b"\xff",
    b" ",
    b"<",
    b">",
    b"\"",
    b":",
    b"DATA\r\n",
    b"RSET\r\n",
    b"QUIT\r\n",
    b"NOOP\r\n",
    b"MAIL FROM:<a@b>\r\n",
    b"RCPT TO:<b@example.com>\r\n",
    b"EHLO x\r\n",
    b"RCPT TO:<\"",
    b"\xc3\xa9",
    b"AUTH PLAIN AHVzZXIAcGVuY2ls\r\n",
    b"AUTH LOGIN\r\n",
    b"*\r\n",
    b"BDAT 10\r\n",
    b"BDAT 7 LAST\r\n",
    b"BDAT 0 LAST\r\n",
    b"BDAT 1000\r\n",
    b" BODY=BINARYMIME\r\n",
    b"MAIL FROM:<a@b> BODY=BINARYMIME\r\nRCPT TO:<b@example.com>\r\nBDAT 20 LAST\r\n",
];

#[test]
fn broken_dialogs_are_answered_in_form_and_within_bounds() {
    let dialogs = client_sides();
    let (mut messages, mut logins) = (0, 0);
    for seed in SEEDS {
        let mut rng = Rng::with_seed(seed);
        let bytes = broken(&dialogs, &mut rng);
        let rules = Rc::new(rules(&mut rng));
        let mut whole = Play::new(&rules);
        whole.feed(&bytes);
        check_memory(&whole, bytes.len(), seed);
        check_form(&whole, seed);
        let mut pieces = Play::new(&rules);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rng.usize(1..=rest.len().min(PIECE_BYTES_MAX)));
            pieces.feed(piece);
            check_memory(&pieces, PIECE_BYTES_MAX, seed);
            rest = after;
        }
        assert_eq!(whole.text(), pieces.text(), "seed {seed}");
        assert_eq!(whole.stored, pieces.stored, "seed {seed}");
        assert_eq!(whole.closed, pieces.closed, "seed {seed}");
        messages += whole.stored.len();
        logins += usize::from(whole.session.user().is_some());
    }
    // Input that never gets through would prove little.
    assert!(messages > SEEDS.end as usize / 6, "only {messages} messages were stored");
    assert!(logins > SEEDS.end as usize / 40, "only {logins} clients logged in");
}

#[test]
fn events_at_any_point_leave_the_session_in_order() {
    let dialogs = client_sides();
    for seed in SEEDS.start..SEEDS.end / 2 {
        let mut rng = Rng::with_seed(seed);
        let bytes = broken(&dialogs, &mut rng);
        let mut play = Play::new(&Rc::new(rules(&mut rng)));
        let mut rest = &bytes[..];
        while !rest.is_empty() && play.closed.is_none() {
            let (piece, after) = rest.split_at(rng.usize(1..=rest.len().min(50)));
            play.feed(piece);
            if play.closed.is_none() {
                match rng.u32(0..40) {
                    0 => play.stop(),
                    1 => play.end_of_input(),
                    2 => _ = play.pass(Duration::from_secs(rng.u64(0..400))),
                    3..6 => {
                        play.session.refuse_body(play::reply("452 4.3.1 No room"));
                        assert_eq!(play.session.held(), 0, "seed {seed}");
                    }
                    _ => {}
                }
            }
            check_memory(&play, 50, seed);
            rest = after;
        }
        check_form(&play, seed);
    }
}

fn check_memory(play: &Play, piece_bytes: usize, seed: u64) {
    // A vector that grows has room for twice what it holds; a `Received` field is less than 1 KiB here.
    assert!(play.session.held() <= 2 * (MESSAGE_BYTES_MAX + piece_bytes + 1024), "seed {seed}");
    // An attempt to log in has longer lines.
    let line_bytes_max = if play.rules.profile.auth.is_some() { 12_290 } else { LINE_BYTES_MAX };
    assert!(play.session.input_held() <= 2 * (line_bytes_max + piece_bytes), "seed {seed}");
}

fn check_form(play: &Play, seed: u64) {
    play::count_replies(&play.out);
    for incoming in &play.stored {
        assert!(!incoming.envelope.recipients.is_empty(), "seed {seed}");
        assert!(incoming.envelope.recipients.iter().all(|r| r.domain() == "example.com"), "seed {seed}");
        assert!(incoming.content.len() <= MESSAGE_BYTES_MAX + 1024, "seed {seed}");
        if incoming.envelope.body != BodyType::Binary {
            assert!(incoming.content.ends_with(b"\r\n"), "seed {seed}");
            let ends = |pair: &[u8]| (pair[0] == b'\r') != (pair[1] == b'\n');
            assert!(!incoming.content.windows(2).any(ends), "seed {seed}: a bare line end");
        }
        let is_dotted = incoming.content.windows(3).any(|window| window == b"\r\n.");
        assert_eq!(incoming.dotted, is_dotted, "seed {seed}");
    }
}

fn rules(rng: &mut Rng) -> Rules {
    let mut rules = Rules::new();
    rules.relay.push("example.com".to_string());
    rules.profile.message_bytes_max = MESSAGE_BYTES_MAX as u64;
    rules.profile.line_bytes_max = LINE_BYTES_MAX;
    rules.profile.recipients_max = 3;
    rules.profile.errors_max = rng.u32(0..30);
    rules.profile.idle_commands_max = rng.u32(3..60);
    rules.profile.transactions_max = rng.u32(1..20);
    rules.profile.auth = rng.bool().then(|| Terms { required: rng.u32(0..9) == 0, without_tls: rng.bool() });
    if rng.bool() {
        rules.channel = Channel::Tls { exporter: None, certificate: None };
    }
    rules.profile.login_failures_max = rng.u32(0..5);
    rules.users.push(("user".to_string(), "pencil".to_string()));
    let refused = ["store", "data", "sender a@b", "recipient b@example.com"].get(rng.usize(0..20));
    if let Some(what) = refused {
        let reply =
            *rng.choice(&["451 4.3.0 Later", "550 5.7.1 Never", "421 4.3.2 Gone"]).expect("one of three");
        rules.refusals.push((what.to_string(), play::reply(reply)));
    }
    rules
}

/// What the clients of all dialogs send, each after a HELO and with plain escapes left as they are.
fn client_sides() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dialogs");
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    let side = |path| {
        let text = fs::read_to_string(path).expect("a dialog is text");
        let mut bytes = b"EHLO x\r\n".to_vec();
        for line in text.lines() {
            match line.split_at_checked(3) {
                Some(("C: ", rest)) => bytes.extend_from_slice(format!("{rest}\r\n").as_bytes()),
                Some(("C| ", rest)) => bytes.extend_from_slice(plain(rest).as_bytes()),
                _ => {}
            }
        }
        bytes
    };
    paths.into_iter().map(side).collect()
}

/// `text` with the escapes for CR and LF resolved, so that chunks have nearly the size that they say.
fn plain(text: &str) -> String {
    text.replace("\\r", "\r").replace("\\n", "\n")
}

/// One or two dialogs, mostly with a few wounds, sometimes with many.
fn broken(dialogs: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = rng.choice(dialogs).expect("some").clone();
    if rng.bool() {
        bytes.extend_from_slice(rng.choice(dialogs).expect("some"));
    }
    let wounds = if rng.u32(0..10) == 0 { rng.usize(0..100) } else { rng.usize(0..6) };
    for _ in 0..wounds {
        let at = rng.usize(0..=bytes.len());
        let length = rng.usize(0..=(bytes.len() - at).min(30));
        match rng.u32(0..5) {
            0 => _ = bytes.drain(at..at + length),
            1 => {
                let token = *rng.choice(&TOKENS).expect("some");
                bytes.splice(at..at, token.iter().copied());
            }
            2 if at < bytes.len() => bytes[at] = rng.u8(..),
            3 => {
                let copy = bytes[at..at + length].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => {
                let token = *rng.choice(&TOKENS).expect("some");
                bytes.splice(at..at, token.repeat(rng.usize(0..40)));
            }
        }
    }
    bytes
}
