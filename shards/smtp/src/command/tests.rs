use std::format;
use std::string::String;
use std::vec::Vec;

use super::*;

fn mail_of(line: &str) -> Result<Mail<'_>, CommandError> {
    match parse(line.as_bytes())? {
        Command::Mail(mail) => Ok(mail),
        other => panic!("{line} is {other:?}"),
    }
}

#[test]
fn verbs_are_known_in_any_case() {
    for (line, command) in [
        ("EHLO mx.example", Command::Ehlo("mx.example")),
        ("ehlo [IPv6:::1]", Command::Ehlo("[IPv6:::1]")),
        ("HELO  a_b ", Command::Helo("a_b")),
        ("EHLO münchen.example", Command::Ehlo("münchen.example")),
        ("DATA", Command::Data),
        ("dAtA ", Command::Data),
        ("BDAT 0", Command::Bdat(Chunk { bytes: 0, is_last: false })),
        ("BDAT 007  last ", Command::Bdat(Chunk { bytes: 7, is_last: true })),
        ("bdat 999999999999999999", Command::Bdat(Chunk { bytes: 999_999_999_999_999_999, is_last: false })),
        ("RSET", Command::Rset),
        ("NOOP", Command::Noop),
        ("NOOP anything at all", Command::Noop),
        ("VRFY a", Command::Vrfy),
        ("HELP", Command::Help),
        ("HELP mail", Command::Help),
        ("quit", Command::Quit),
        ("RCPT TO:<a@b>", Command::Rcpt(Rcpt { path: "a@b", ..Rcpt::default() })),
        ("rcpt to:<>", Command::Rcpt(Rcpt::default())),
    ] {
        assert_eq!(parse(line.as_bytes()), Ok(command), "{line}");
    }
}

#[test]
fn lines_that_are_no_command() {
    for (line, error) in [
        ("", CommandError::Unknown),
        (" ", CommandError::Unknown),
        (" EHLO a", CommandError::Unknown),
        ("DATA\t", CommandError::Unknown),
        ("EHLO", CommandError::Argument),
        ("EHLO  ", CommandError::Argument),
        ("HELO a b", CommandError::Argument),
        ("HELO a\tb", CommandError::Argument),
        ("EHLO \x1b[31m", CommandError::Argument),
        ("DATA now", CommandError::Argument),
        ("RSET x", CommandError::Argument),
        ("QUIT x", CommandError::Argument),
        ("VRFY", CommandError::Argument),
        ("MAIL", CommandError::Argument),
        ("MAIL TO:<a@b>", CommandError::Argument),
        ("MAIL FROM:a@b", CommandError::Argument),
        ("MAIL FROM:<a@b", CommandError::Argument),
        ("MAIL FROM:<a@b>x", CommandError::Argument),
        ("MAIL FROM:<\"a>@b", CommandError::Argument),
        ("MAIL FROM:<@a,@b>", CommandError::Argument),
        ("MAIL FRO\u{e9}:<a@b>", CommandError::Argument),
        ("RCPT TO:<a@b> SIZE=1", CommandError::Parameter),
        ("RCPT FROM:<a@b>", CommandError::Argument),
        ("EXPN list", CommandError::NotImplemented),
        ("ETRN x", CommandError::NotImplemented),
        ("TURN", CommandError::NotImplemented),
        ("STARTTLS", CommandError::NotImplemented),
        ("AUTH", CommandError::Argument),
        ("AUTH PLAIN AA== BB==", CommandError::Argument),
        ("BDAT", CommandError::ChunkSize),
        ("BDAT LAST", CommandError::ChunkSize),
        ("BDAT 5 FIRST", CommandError::ChunkSize),
        ("BDAT 5 LAST LAST", CommandError::ChunkSize),
        ("BDAT 5LAST", CommandError::ChunkSize),
        ("BDAT -5", CommandError::ChunkSize),
        ("BDAT +5", CommandError::ChunkSize),
        ("BDAT 0x5", CommandError::ChunkSize),
        ("BDAT 5\tLAST", CommandError::ChunkSize),
        ("BDAT 1000000000000000000", CommandError::ChunkSize),
        ("BDAT \u{663}", CommandError::ChunkSize),
        ("RCPTTO:<a@b>", CommandError::Unknown),
        ("DATA\nQUIT", CommandError::Bytes),
        ("DATA\rQUIT", CommandError::Bytes),
        ("DATA\0", CommandError::Bytes),
    ] {
        assert_eq!(parse(line.as_bytes()), Err(error), "{line:?}");
    }
    assert_eq!(parse(b"EHLO \xff"), Err(CommandError::Bytes));
    assert_eq!(parse(format!("EHLO {}", "a".repeat(256)).as_bytes()), Err(CommandError::Argument));
}

#[test]
fn parameters_of_mail() {
    let plain = Mail { path: "a@b", ..Mail::default() };
    let by = |seconds, mode, trace| Some(By { seconds, mode, trace });
    for (line, mail) in [
        ("MAIL FROM:<a@b>", plain),
        ("mail from: <a@b> ", plain),
        ("MAIL  FROM:<a@b>", plain),
        ("MAIL FROM:<>", Mail { path: "", ..plain }),
        ("MAIL FROM:<a@b>  SIZE=10", Mail { size: Some(10), ..plain }),
        ("MAIL FROM:<a@b> size=0 body=8bitmime", Mail { size: Some(0), body: BodyType::EightBit, ..plain }),
        ("MAIL FROM:<a@b> BODY=binarymime", Mail { body: BodyType::Binary, ..plain }),
        ("MAIL FROM:<a@b> BODY=7BIT SMTPUTF8", Mail { utf8: true, ..plain }),
        ("MAIL FROM:<a@b> RET=full", Mail { returns: Some(Return::Full), ..plain }),
        (
            "MAIL FROM:<a@b> ENVID=QQ+20x RET=HDRS",
            Mail { returns: Some(Return::Headers), envelope_id: Some("QQ+20x"), ..plain },
        ),
        ("MAIL FROM:<a@b> by=+120;rt", Mail { by: by(120, ByMode::Return, true), ..plain }),
        ("MAIL FROM:<a@b> BY=-1;N", Mail { by: by(-1, ByMode::Notify, false), ..plain }),
        ("MAIL FROM:<a@b> MT-PRIORITY=-9", Mail { priority: Some(-9), ..plain }),
        ("MAIL FROM:<a@b> mt-priority=9", Mail { priority: Some(9), ..plain }),
        ("MAIL FROM:<a@b> SIZE=99999999999999999999", Mail { size: Some(u64::MAX), ..plain }),
    ] {
        assert_eq!(mail_of(line), Ok(mail), "{line}");
    }
    for (parameters, error) in [
        ("SIZE", CommandError::Argument),
        ("SIZE=", CommandError::Argument),
        ("SIZE=-1", CommandError::Argument),
        ("SIZE=+1", CommandError::Argument),
        ("SIZE=1x", CommandError::Argument),
        ("SIZE=100000000000000000000", CommandError::Argument),
        ("SIZE=1 SIZE=1", CommandError::Argument),
        ("BODY", CommandError::Argument),
        ("BODY=7BIT BODY=7BIT", CommandError::Argument),
        ("BODY=BASE64", CommandError::Parameter),
        ("SMTPUTF8=1", CommandError::Argument),
        ("SMTPUTF8 SMTPUTF8", CommandError::Argument),
        ("AUTH", CommandError::Argument),
        ("AUTH=", CommandError::Argument),
        ("AUTH=a=b", CommandError::Argument),
        ("AUTH=a+2", CommandError::Argument),
        ("AUTH=a+2d", CommandError::Argument),
        ("AUTH=<> AUTH=<>", CommandError::Argument),
        ("BY", CommandError::Argument),
        ("BY=", CommandError::Argument),
        ("BY=5", CommandError::Argument),
        ("BY=5;", CommandError::Argument),
        ("BY=5;X", CommandError::Argument),
        ("BY=5;TN", CommandError::Argument),
        ("BY=0;R", CommandError::Argument),
        ("BY=-5;RT", CommandError::Argument),
        ("BY=+-5;N", CommandError::Argument),
        ("BY=1234567890;N", CommandError::Argument),
        ("BY=5;N BY=5;N", CommandError::Argument),
        ("MT-PRIORITY", CommandError::Argument),
        ("MT-PRIORITY=", CommandError::Argument),
        ("MT-PRIORITY=+1", CommandError::Argument),
        ("MT-PRIORITY=10", CommandError::Argument),
        ("MT-PRIORITY=--1", CommandError::Argument),
        ("MT-PRIORITY=1 MT-PRIORITY=1", CommandError::Argument),
        ("RET", CommandError::Argument),
        ("RET=BODY", CommandError::Argument),
        ("RET=FULL RET=FULL", CommandError::Argument),
        ("ENVID", CommandError::Argument),
        ("ENVID=", CommandError::Argument),
        ("ENVID=a+2b", CommandError::Argument),
        ("ENVID=a=b", CommandError::Argument),
        ("ENVID=a+0D+0A", CommandError::Argument),
        ("ENVID=a ENVID=b", CommandError::Argument),
        ("NOTIFY=NEVER", CommandError::Parameter),
        ("=", CommandError::Parameter),
    ] {
        assert_eq!(mail_of(&format!("MAIL FROM:<a@b> {parameters}")), Err(error), "{parameters}");
    }
}

#[test]
fn parameters_of_rcpt() {
    let plain = Rcpt { path: "a@b", ..Rcpt::default() };
    let never = Some(Notify::default());
    let two = Some(Notify { success: true, delay: true, ..Notify::default() });
    for (line, rcpt) in [
        ("RCPT TO:<a@b> NOTIFY=never", Rcpt { notify: never, ..plain }),
        ("RCPT TO:<a@b> notify=DELAY,success", Rcpt { notify: two, ..plain }),
        ("RCPT TO:<a@b> ORCPT=rfc822;a+2Bb@c", Rcpt { original: Some("rfc822;a+2Bb@c"), ..plain }),
        (
            "RCPT TO:<a@b>  ORCPT=utf-8;\u{e9}@c  NOTIFY=NEVER ",
            Rcpt { original: Some("utf-8;\u{e9}@c"), notify: never, ..plain },
        ),
    ] {
        assert_eq!(parse(line.as_bytes()), Ok(Command::Rcpt(rcpt)), "{line}");
    }
    for (parameters, error) in [
        ("NOTIFY", CommandError::Argument),
        ("NOTIFY=", CommandError::Argument),
        ("NOTIFY=NEVER,SUCCESS", CommandError::Argument),
        ("NOTIFY=SUCCESS,SUCCESS", CommandError::Argument),
        ("NOTIFY=NEVER NOTIFY=NEVER", CommandError::Argument),
        ("ORCPT", CommandError::Argument),
        ("ORCPT=a@b", CommandError::Argument),
        ("ORCPT=rfc822;", CommandError::Argument),
        ("ORCPT=rfc822;a=b", CommandError::Argument),
        ("ORCPT=rfc822;\u{e9}", CommandError::Argument),
        ("ORCPT=rfc822;a ORCPT=rfc822;a", CommandError::Argument),
        ("RET=FULL", CommandError::Parameter),
        ("X", CommandError::Parameter),
    ] {
        let line = format!("RCPT TO:<a@b> {parameters}");
        assert_eq!(parse(line.as_bytes()), Err(error), "{parameters}");
    }
}

#[test]
fn arbitrary_lines_are_judged_without_panic() {
    const WORDS: [&str; 28] = [
        "MAIL FROM:<a@b>",
        "RCPT TO:<a@b>",
        "BDAT",
        " ",
        "=",
        "+",
        "SIZE",
        "BODY",
        "RET",
        "ENVID",
        "NOTIFY",
        "ORCPT",
        "FULL",
        "NEVER",
        "SUCCESS,",
        "DELAY",
        "rfc822;",
        "utf-8;",
        "+2B",
        "\u{e9}",
        "LAST",
        "12",
        "99999999999999999999",
        "SMTPUTF8",
        "BY",
        ";RT",
        "MT-PRIORITY",
        "-",
    ];
    let mut rng = fastrand::Rng::with_seed(2);
    let mut parsed = 0;
    for _ in 0..200_000 {
        let mut line = Vec::new();
        for _ in 0..rng.usize(0..9) {
            match rng.u8(0..12) {
                0 => line.push(rng.u8(..)),
                _ => line.extend_from_slice(WORDS[rng.usize(0..WORDS.len())].as_bytes()),
            }
        }
        parsed += usize::from(parse(&line).is_ok());
    }
    assert!(parsed > 1000, "only {parsed} were commands");
}

#[test]
fn source_routes_are_dropped() {
    for (written, path) in [
        ("@a:c@d", "c@d"),
        ("@a,@b:c@d", "c@d"),
        ("@[IPv6:::1],@b:c@d", "c@d"),
        ("@a:\":\"@d", "\":\"@d"),
        ("\"<>\\\">\"@d", "\"<>\\\">\"@d"),
        ("c@[IPv6:::1]", "c@[IPv6:::1]"),
    ] {
        assert_eq!(
            parse(format!("RCPT TO:<{written}>").as_bytes()),
            Ok(Command::Rcpt(Rcpt { path, ..Rcpt::default() })),
            "{written}"
        );
    }
}

#[test]
fn lines_of_one_and_two_bytes_are_never_a_command() {
    for first in 0..=255u8 {
        assert!(parse(&[first]).is_err());
        for second in 0..=255u8 {
            assert!(parse(&[first, second]).is_err());
        }
    }
}

#[test]
fn every_short_argument_over_a_hostile_alphabet_is_judged_without_panic() {
    let alphabet = ['<', '>', '"', '\\', '@', ':', '[', ' ', '\u{e9}', 'a'];
    let mut arguments = std::vec![String::new()];
    for _ in 0..5 {
        arguments =
            arguments.iter().flat_map(|text| alphabet.iter().map(move |c| format!("{text}{c}"))).collect();
        for argument in &arguments {
            for start in ["MAIL FROM:", "RCPT TO:", "RCPT TO:<@", "MAIL FROM:<>", "EHLO ", "MAIL "] {
                let line = format!("{start}{argument}");
                let parsed = parse(line.as_bytes());
                if let Ok(Command::Rcpt(Rcpt { path, .. }) | Command::Mail(Mail { path, .. })) = parsed {
                    assert!(line.contains(path));
                }
            }
        }
    }
}

#[test]
fn a_cut_line_is_a_command_only_where_a_parameter_ends() {
    let line = b"MAIL FROM:<a@b> SIZE=10 BODY=8BITMIME SMTPUTF8";
    let accepted: Vec<usize> = (0..=line.len()).filter(|end| parse(&line[..*end]).is_ok()).collect();
    assert_eq!(accepted, [15, 16, 22, 23, 24, 37, 38, 46]);
}
