use super::*;
use crate::{Key, ScramVerifier, Users, password};
use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use core::num::NonZeroU32;

/// The exchange of RFC 7677 section 3.
const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const SERVER_FIRST: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
const EXPORTER: [u8; 32] = [9; 32];

fn verifier() -> ScramVerifier {
    let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    ScramVerifier::new(&password("pencil").unwrap(), salt, NonZeroU32::new(4096).unwrap())
}

fn credentials() -> Answer {
    Answer::Credentials(Credentials { verifier: verifier(), nonce: SERVER_NONCE.into() })
}

fn user(name: &str) -> Arc<User> {
    Arc::new(User {
        name: name.into(),
        password: None,
        scram: Some(verifier()),
        senders: vec![],
        tenant: None,
        messages: None,
        recipients: None,
        disabled: false,
    })
}

fn tls(exporter: Option<[u8; 32]>, certificate: Option<&str>) -> Channel {
    Channel::Tls { exporter, certificate: certificate.map(Into::into) }
}

fn exchange(mechanism: Mechanism) -> Exchange {
    Exchange::new(mechanism, &tls(None, None))
}

fn challenge(text: &str) -> Next {
    Next::Challenge(text.as_bytes().to_vec())
}

#[test]
fn plain_asks_for_user_and_password() {
    // RFC 4616 section 4, with an authorization identity only where it is the user's own.
    for message in ["\0tim\0tanstaaftanstaaf", "tim\0tim\0tanstaaftanstaaf"] {
        let mut exchange = exchange(Mechanism::Plain);
        assert_eq!(exchange.begin(None), challenge(""));
        assert_eq!(exchange.respond(message.as_bytes()), Next::Ask);
        let secret = password("tanstaaftanstaaf").unwrap();
        assert_eq!(exchange.question(), Some(Question::Password { user: "tim", password: &secret }));
        assert_eq!(exchange.answer(Answer::Granted(user("tim"))), Next::End(End::Granted(user("tim"))));
    }
    for (message, end) in [
        ("Ursel\0Kurt\0xipj3plmq", End::Denied),
        ("\0\0pw", End::Denied),
        ("\0tim\0", End::Denied),
        ("\0tim\0p\u{7}w", End::Denied),
        ("tim\0pw", End::Malformed),
        ("\0tim\0pw\0", End::Malformed),
        ("", End::Malformed),
    ] {
        assert_eq!(exchange(Mechanism::Plain).begin(Some(message.as_bytes())), Next::End(end), "{message:?}");
    }
    assert_eq!(exchange(Mechanism::Plain).begin(Some(b"\0\xff\0a")), Next::End(End::Malformed));
}

#[test]
fn login_asks_for_one_after_the_other() {
    let mut one = exchange(Mechanism::Login);
    assert_eq!(one.begin(None), challenge("Username:"));
    assert_eq!(one.respond(b"tim"), challenge("Password:"));
    assert_eq!(one.respond(b"pw"), Next::Ask);
    assert_eq!(one.answer(Answer::Unavailable), Next::End(End::Unavailable));
    let mut other = exchange(Mechanism::Login);
    assert_eq!(other.begin(Some(b"tim")), challenge("Password:"));
    assert_eq!(other.respond(b""), Next::End(End::Denied));
    assert_eq!(exchange(Mechanism::Login).begin(Some(b"")), Next::End(End::Denied));
}

#[test]
fn scram_is_that_of_rfc_7677() {
    let mut exchange = exchange(Mechanism::ScramSha256);
    assert_eq!(exchange.begin(Some(CLIENT_FIRST.as_bytes())), Next::Ask);
    assert_eq!(exchange.question(), Some(Question::Credentials { user: "user" }));
    assert_eq!(exchange.answer(credentials()), challenge(SERVER_FIRST));
    assert_eq!(exchange.respond(CLIENT_FINAL.as_bytes()), Next::Ask);
    assert_eq!(exchange.question(), Some(Question::Proven { user: "user" }));
    assert_eq!(exchange.answer(Answer::Granted(user("user"))), challenge(SERVER_FINAL));
    assert_eq!(exchange.question(), None);
    assert_eq!(exchange.respond(b""), Next::End(End::Granted(user("user"))));
    assert_eq!(exchange.respond(b""), Next::End(End::Malformed));
}

/// The last message of an honest client.
fn client_final(
    header: &[u8],
    bare: &str,
    server_first: &str,
    verifier: &ScramVerifier,
    secret: &str,
) -> String {
    let iterations = NonZeroU32::new(verifier.iterations).unwrap();
    let mut salted = [0; 32];
    let algorithm = ring::pbkdf2::PBKDF2_HMAC_SHA256;
    ring::pbkdf2::derive(algorithm, iterations, &verifier.salt, secret.as_bytes(), &mut salted);
    let nonce = server_first.split(',').next().unwrap();
    let without_proof = format!("c={},{nonce}", BASE64.encode(header));
    let said = format!("{bare},{server_first},{without_proof}");
    let client_key = crate::digest::hmac(&salted, &[b"Client Key"]);
    let signature = crate::digest::hmac(&crate::digest::hash(&client_key), &[said.as_bytes()]);
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
    format!("{without_proof},p={}", BASE64.encode(proof))
}

/// Plays a client that speaks of `bound` data; says what the exchange asked in the end, or how it ended.
fn scram(mechanism: Mechanism, channel: &Channel, header: &str, bound: &[u8], secret: &str) -> String {
    let (mut exchange, bare) = (Exchange::new(mechanism, channel), "n=user,r=abc");
    let first = exchange.begin(Some(format!("{header}{bare}").as_bytes()));
    if first != Next::Ask {
        return format!("{first:?}");
    }
    let Next::Challenge(server_first) = exchange.answer(credentials()) else { panic!("no challenge") };
    let header = [header.as_bytes(), bound].concat();
    let last = client_final(&header, bare, core::str::from_utf8(&server_first).unwrap(), &verifier(), secret);
    let next = exchange.respond(last.as_bytes());
    exchange.question().map_or_else(|| format!("{next:?}"), |question| format!("{question:?}"))
}

#[test]
fn scram_plus_is_bound_to_its_channel() {
    let channel = tls(Some(EXPORTER), None);
    let plus =
        |header, bound: &[u8], secret| scram(Mechanism::ScramSha256Plus, &channel, header, bound, secret);
    let (proven, disproven) = ("Proven { user: \"user\" }", "Disproven { user: \"user\" }");
    assert_eq!(plus("p=tls-exporter,,", &EXPORTER, "pencil"), proven);
    assert_eq!(plus("p=tls-exporter,,", &EXPORTER, "pen"), disproven);
    assert_eq!(plus("p=tls-exporter,,", &[8; 32], "pencil"), disproven);
    assert_eq!(plus("p=tls-unique,,", &EXPORTER, "pencil"), "End(Denied)");
    assert_eq!(plus("n,,", b"", "pencil"), "End(Malformed)");
    assert_eq!(plus("y,,", b"", "pencil"), "End(Malformed)");
    let without = |channel: &Channel, header| scram(Mechanism::ScramSha256, channel, header, b"", "pencil");
    assert_eq!(without(&channel, "n,,"), proven);
    // Someone in between has hidden that we can bind.
    assert_eq!(without(&channel, "y,,"), "End(Denied)");
    assert_eq!(without(&Channel::Plain, "y,,"), proven);
    assert_eq!(without(&channel, "p=tls-exporter,,"), "End(Malformed)");
    assert_eq!(without(&channel, "n,a=user,"), proven);
    assert_eq!(without(&channel, "n,a=root,"), "End(Denied)");
    assert_eq!(without(&channel, "n,user,"), "End(Malformed)");
}

#[test]
fn scram_refuses_what_is_out_of_form() {
    for (first, end) in [
        ("n,,n=user", End::Malformed),
        ("n,,r=abc,n=user", End::Malformed),
        ("n,,m=ext,n=user,r=abc", End::Malformed),
        ("n,,n=us=2cer,r=abc", End::Malformed),
        ("n,,n=us=,r=abc", End::Malformed),
        ("n,,n=,r=abc", End::Denied),
        ("n,,n=user,r=", End::Malformed),
        ("n,,n=user,r=a\u{e9}", End::Malformed),
        ("", End::Malformed),
    ] {
        let next = exchange(Mechanism::ScramSha256).begin(Some(first.as_bytes()));
        assert_eq!(next, Next::End(end), "{first}");
    }
    let mut escaped = exchange(Mechanism::ScramSha256);
    assert_eq!(escaped.begin(Some(b"n,,n=a=2Cb=3D,r=abc,x=ext")), Next::Ask);
    assert_eq!(escaped.question(), Some(Question::Credentials { user: "a,b=" }));
    for (last, is_asked) in [
        (CLIENT_FINAL.replace("biws", "eSws"), true),
        (CLIENT_FINAL.replace("rOpr", "xOpr"), true),
        (CLIENT_FINAL.replace("dHzb", "dHzc"), true),
        (CLIENT_FINAL.replace("dHzb", "dHz"), false),
        (CLIENT_FINAL.replace(",p=", ",q="), false),
        (CLIENT_FINAL.replace("c=", "d="), false),
        (String::new(), false),
    ] {
        let mut exchange = exchange(Mechanism::ScramSha256);
        assert_eq!(exchange.begin(Some(CLIENT_FIRST.as_bytes())), Next::Ask);
        assert_eq!(exchange.answer(credentials()), challenge(SERVER_FIRST));
        let next = exchange.respond(last.as_bytes());
        assert_eq!(next, if is_asked { Next::Ask } else { Next::End(End::Malformed) }, "{last}");
        if is_asked {
            assert_eq!(exchange.question(), Some(Question::Disproven { user: "user" }));
            // Whatever the driver thinks.
            assert_eq!(exchange.answer(Answer::Granted(user("user"))), Next::End(End::Denied));
        }
    }
}

#[test]
fn external_is_whom_the_certificate_names() {
    let channel = tls(None, Some("relay.example"));
    for (response, is_asked) in [("", true), ("relay.example", true), ("root", false)] {
        let mut exchange = Exchange::new(Mechanism::External, &channel);
        assert_eq!(exchange.begin(None), challenge(""));
        let next = exchange.respond(response.as_bytes());
        assert_eq!(next, if is_asked { Next::Ask } else { Next::End(End::Denied) });
        assert_eq!(exchange.question().is_some(), is_asked);
    }
    assert_eq!(exchange(Mechanism::External).begin(Some(b"")), Next::End(End::Denied));
}

/// Messages that are right, broken at random: no panic, and nobody comes in who should not.
#[test]
fn broken_messages_let_nobody_in() {
    const MECHANISMS: [Mechanism; 5] = [
        Mechanism::Plain,
        Mechanism::Login,
        Mechanism::ScramSha256,
        Mechanism::ScramSha256Plus,
        Mechanism::External,
    ];
    let messages: [&[u8]; 6] = [
        b"user\0user\0pencil",
        b"user",
        CLIENT_FIRST.as_bytes(),
        b"p=tls-exporter,a=user,n=user,r=abc",
        CLIENT_FINAL.as_bytes(),
        b"",
    ];
    let users = Users::new([], Key([1; 32]), Key([2; 32]));
    let (mut asked, mut rng) = (0, fastrand::Rng::with_seed(7677));
    for _ in 0..200_000 {
        let channel = tls(rng.bool().then_some(EXPORTER), rng.bool().then_some("user"));
        let mut exchange = Exchange::new(*rng.choice(&MECHANISMS).unwrap(), &channel);
        let first = broken(rng.choice(messages).unwrap(), &mut rng);
        let mut next = exchange.begin(rng.bool().then_some(&first));
        for _ in 0..6 {
            next = match next {
                Next::Challenge(_) => exchange.respond(&broken(rng.choice(messages).unwrap(), &mut rng)),
                Next::Ask => {
                    asked += 1;
                    let answer = match exchange.question().expect("a question") {
                        Question::Credentials { user } => Answer::Credentials(users.credentials(user, b"1")),
                        Question::Proven { .. } => {
                            assert_eq!(exchange.mechanism(), Mechanism::External);
                            Answer::Denied
                        }
                        _ => Answer::Denied,
                    };
                    exchange.answer(answer)
                }
                Next::End(End::Granted(user)) => panic!("{} came in", user.name),
                end => end,
            };
        }
        assert!(!matches!(next, Next::Ask));
    }
    assert!(asked > 10_000, "only {asked} questions: the input was too broken to prove anything");
}

fn broken(message: &[u8], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = message.to_vec();
    for _ in 0..rng.usize(0..3) {
        let at = rng.usize(0..=bytes.len());
        match rng.u8(0..3) {
            0 => bytes.insert(at, rng.u8(..)),
            1 => bytes.truncate(at),
            _ => bytes.splice(at..at, *b",=").for_each(drop),
        }
    }
    bytes
}

#[test]
fn passwords_do_not_show_in_records() {
    let mut exchange = exchange(Mechanism::Plain);
    assert_eq!(exchange.begin(Some(b"\0tim\0tanstaaf")), Next::Ask);
    assert!(!format!("{exchange:?}").contains("tanstaaf"));
    assert!(!format!("{:?}", credentials()).contains(&verifier().to_string()[..20]));
}
