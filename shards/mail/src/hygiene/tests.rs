use super::mend::{Origin, mend, whole_line_ends};
use super::*;
use crate::{Address, MessageId, WallTime};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

const GOOD: &[u8] =
    b"Received: from a\r\n\tby b; x\r\nDate: today\r\nFrom: <a@b.example>\r\nMessage-ID: <1@b>\r\n\r\nHi\r\n";

fn defects(content: &[u8]) -> Vec<Defect> {
    inspect(content).defects.iter().collect()
}

fn origin(sender: Option<&Address>) -> Origin<'_> {
    Origin { hostname: "mx.example", id: MessageId(1), at: WallTime(1_795_566_960_000_000), sender }
}

fn mended(content: &[u8], which: &[Defect]) -> String {
    let mended = mend(content, which.iter().copied().collect(), &origin(None));
    String::from_utf8(mended).expect("text")
}

fn long(bytes: usize) -> Vec<u8> {
    [GOOD, &[b'x'].repeat(bytes), b"\r\n"].concat()
}

#[test]
fn a_good_message_has_no_defect_and_its_hops_are_counted() {
    assert_eq!(inspect(GOOD), Findings { defects: Defects::NONE, hops: 1 });
    let two = [&b"RECEIVED : from x\r\n"[..], GOOD].concat();
    assert_eq!(inspect(&two).hops, 2);
    let behind = [GOOD, b"\r\nReceived: in the body\r\nBcc: x\r\nReturn-Path: x\r\n"].concat();
    assert_eq!(inspect(&behind), Findings { defects: Defects::NONE, hops: 1 });
}

#[test]
fn each_defect_is_found() {
    use Defect::*;
    let with = |field: &str| [field.as_bytes(), GOOD].concat();
    assert_eq!(defects(b""), [NoDate, NoFrom, NoMessageId]);
    assert_eq!(defects(b"\r\nDate: in the body\r\n"), [NoDate, NoFrom, NoMessageId]);
    assert_eq!(defects(&with("Bcc: <x@y.example>\r\n")), [Bcc]);
    assert_eq!(defects(&with("return-path: <x@y.example>\r\n")), [ReturnPath]);
    assert_eq!(defects(&with("Date: other\r\n")), [RepeatedField]);
    assert_eq!(defects(&with("Comments: a\r\nComments: b\r\n")), []);
    assert_eq!(defects(&[GOOD, b"\0"].concat()), [Nul]);
    assert_eq!(defects(b" begins with a continuation\r\n"), [HeaderSyntax, NoDate, NoFrom, NoMessageId]);
    assert_eq!(
        defects(b"Subject: x\r\nno field\r\nDate: x\r\n"),
        [HeaderSyntax, NoDate, NoFrom, NoMessageId]
    );
    assert_eq!(defects(b": no name\r\n\r\n"), [HeaderSyntax, NoDate, NoFrom, NoMessageId]);
}

#[test]
fn a_line_may_have_998_bytes() {
    assert_eq!(defects(&long(998)), []);
    assert_eq!(defects(&long(999)), [Defect::LongLine]);
    // Wherever it stands, and without an end.
    for before in 0..1200 {
        let lead = [&[b'y'].repeat(before % 990)[..], b"\r\n", &[b'z'].repeat(before), b"\r\n"].concat();
        let expected = before > 998;
        assert_eq!(has_long_line(&lead), expected, "{before}");
        assert_eq!(has_long_line(&[&lead[..], &[b'x'].repeat(998)].concat()), expected, "{before}");
        assert!(has_long_line(&[&lead[..], &[b'x'].repeat(1001)].concat()), "{before}");
    }
}

#[test]
fn missing_fields_are_put_in_front() {
    use Defect::*;
    let bare = b"Subject: x\r\n\r\nHi\r\n";
    assert_eq!(
        mended(bare, &[NoDate, NoFrom, NoMessageId]),
        "Date: Wed, 25 Nov 2026 00:36:00 +0000\r\nFrom: <postmaster@mx.example>\r\n\
         Message-ID: <0000000000001@mx.example>\r\nSubject: x\r\n\r\nHi\r\n"
    );
    let sender = Address::parse("a@b.example", false).expect("mailbox");
    let from = mend(bare, [NoFrom].into_iter().collect(), &origin(Some(&sender)));
    assert!(from.starts_with(b"From: <a@b.example>\r\nSubject: x\r\n"), "{from:?}");
    // A message that is all body keeps it as body.
    assert_eq!(mended(b"Hi\r\n", &[NoMessageId]), "Message-ID: <0000000000001@mx.example>\r\n\r\nHi\r\n");
    assert_eq!(mended(b"\r\nHi\r\n", &[NoMessageId]), "Message-ID: <0000000000001@mx.example>\r\n\r\nHi\r\n");
}

#[test]
fn fields_are_left_out_with_their_continuations() {
    use Defect::*;
    let header = "Return-Path: <x@y>\r\n\t(folded)\r\nTo: a\r\nBcc: b,\r\n c\r\nTo: d\r\n e\r\nX: 1\r\n\r\nBcc: body\r\n";
    assert_eq!(
        mended(header.as_bytes(), &[ReturnPath, Bcc, RepeatedField]),
        "To: a\r\nX: 1\r\n\r\nBcc: body\r\n"
    );
    assert_eq!(mended(header.as_bytes(), &[]), header);
}

#[test]
fn the_body_begins_where_the_header_is_none() {
    let content = b"Subject: x\r\nno field\r\nDate: body\r\n";
    assert_eq!(mended(content, &[Defect::HeaderSyntax]), "Subject: x\r\n\r\nno field\r\nDate: body\r\n");
    assert_eq!(mended(b" x\r\nSubject: y\r\n", &[Defect::HeaderSyntax]), "\r\n x\r\nSubject: y\r\n");
}

#[test]
fn long_lines_are_folded_outside_of_characters() {
    let mended = |text: &str| {
        let content = [text.as_bytes(), b"\r\n"].concat();
        String::from_utf8(mend(&content, [Defect::LongLine].into_iter().collect(), &origin(None)))
            .expect("UTF-8")
    };
    assert_eq!(mended(&"x".repeat(998)), "x".repeat(998) + "\r\n");
    assert_eq!(
        mended(&"x".repeat(1996)),
        ["x".repeat(998), "x".repeat(997), "x".into()].join("\r\n ") + "\r\n"
    );
    let umlauts = mended(&("x".to_owned() + &"ä".repeat(2000)));
    assert!(umlauts.split("\r\n").all(|line| line.len() <= 998), "{umlauts}");
    assert_eq!(umlauts.replace("\r\n ", ""), "x".to_owned() + &"ä".repeat(2000) + "\r\n");
}

#[test]
fn line_ends_are_made_whole() {
    let cases: [(&[u8], &[u8]); 8] = [
        (b"", b""),
        (b"a\r\nb\r\n", b"a\r\nb\r\n"),
        (b"a\nb\rc", b"a\r\nb\r\nc"),
        (b"\r", b"\r\n"),
        (b"\n\r", b"\r\n\r\n"),
        (b"\r\r\n", b"\r\n\r\n"),
        (b"\r\n\n", b"\r\n\r\n"),
        (b"a\n.\r\n", b"a\r\n.\r\n"),
    ];
    for (content, expected) in cases {
        assert_eq!(whole_line_ends(content), expected, "{content:?}");
    }
}

#[test]
fn what_is_mended_is_not_found_again_in_any_short_content() {
    let pieces: [&[u8]; 8] = [
        b"Date: x\r\n",
        b"Bcc: y\r\n",
        b" z\r\n",
        b"\r\n",
        b"no field\r\n",
        b"a\0b\r\n",
        b"return-path :\r\n",
        b"q",
    ];
    let mut all = Table::default();
    DEFECTS.into_iter().filter(|defect| defect.is_mendable()).for_each(|defect| all.set(defect, Action::Fix));
    for which in 0..8_usize.pow(5) {
        let content: Vec<u8> = (0..5).flat_map(|at| pieces[which / 8_usize.pow(at) % 8]).copied().collect();
        let clean = |content| all.clean(content, Defects::NONE, &origin(None)).expect("nothing is refused");
        let Some(mended) = clean(&content).content else {
            assert!(inspect(&content).defects.is_empty(), "{content:?}");
            continue;
        };
        assert_eq!(clean(&mended).content, None, "{content:?} became {mended:?}");
        assert_eq!(mend(&content, Defects::NONE, &origin(None)), content);
    }
}

#[test]
fn a_message_is_refused_mended_or_left_as_it_is() {
    use Defect::*;
    let table = |changes: &[(Defect, Action)]| {
        let mut table = Table::default();
        changes.iter().for_each(|(defect, action)| table.set(*defect, *action));
        table
    };
    let none = Defects::NONE;
    let clean = |table: &Table, content: &[u8], known| table.clean(content, known, &origin(None));
    let usual = table(&[]);
    assert_eq!(clean(&usual, GOOD, none), Ok(Cleaned { content: None, mended: none, hops: 1 }));
    assert_eq!(clean(&usual, b"a\0", none), Err(Nul));
    let bare: Defects = [BareLineEnd].into_iter().collect();
    assert_eq!(clean(&usual, b"a\n", bare), Err(BareLineEnd));
    // What came to light behind a NUL or a bare line end is dealt with too.
    let mending = table(&[(BareLineEnd, Action::Fix), (Nul, Action::Fix), (Bcc, Action::Fix)]);
    let cleaned = clean(&mending, b"X: y\rB\0cc: a\nTo: b\r\n\r\n", bare).expect("mended");
    assert_eq!(cleaned.content.as_deref(), Some(&b"X: y\r\nTo: b\r\n\r\n"[..]));
    assert_eq!(cleaned.mended, [BareLineEnd, Nul, Bcc].into_iter().collect());
    let strict = table(&[(BareLineEnd, Action::Fix), (Nul, Action::Fix), (Bcc, Action::Reject)]);
    assert_eq!(clean(&strict, b"X: y\rB\0cc: a\r\n\r\n", bare), Err(Bcc));
}

#[test]
fn the_table_says_what_is_done() {
    let mut table = Table::default();
    let both: Defects = [Defect::Nul, Defect::ReturnPath, Defect::NoDate].into_iter().collect();
    assert_eq!(table.refusal(both), Some(Defect::Nul));
    assert_eq!(table.to_mend(both), [Defect::ReturnPath].into_iter().collect());
    table.set(Defect::Nul, Action::Fix);
    assert_eq!((table.refusal(both), table.action(Defect::Nul)), (None, Action::Fix));
    table.set(Defect::Nul, Action::Accept);
    assert_eq!(table.action(Defect::Nul), Action::Accept);
    for (at, defect) in DEFECTS.into_iter().enumerate() {
        assert_eq!(defect as usize, at, "{}", defect.name());
    }
}
