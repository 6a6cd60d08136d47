use std::format;
use std::string::String;

use super::*;

/// What a decoder should make of a stream.
#[derive(Debug, PartialEq)]
struct Decoded {
    /// Bytes up to and including the end; `None` when there is no end.
    end: Option<usize>,
    /// Without stuffing. Says nothing when `bare`.
    content: Vec<u8>,
    bare: bool,
    dotted: bool,
    size: u64,
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// The obvious way: looks for CRLF "." CRLF in the whole stream, then splits what is before it into lines.
fn reference(stream: &[u8]) -> Decoded {
    let mut led = b"\r\n".to_vec();
    led.extend_from_slice(stream);
    let end = find(&led, b"\r\n.\r\n").map(|at| at + 3);
    // The content, where a stream without an end is content as far as it goes.
    let stuffed = end.map_or(stream, |end| &stream[..end - 3]);
    let is_bare = |at: usize| match stuffed[at] {
        b'\r' => stuffed.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || stuffed[at - 1] != b'\r',
        _ => false,
    };
    let mut content = Vec::new();
    let mut dotted = false;
    let mut rest = stuffed;
    while !rest.is_empty() {
        let length = find(rest, b"\r\n").map_or(rest.len(), |at| at + 2);
        let line = rest[..length].strip_prefix(b".").unwrap_or(&rest[..length]);
        dotted = dotted || line.starts_with(b".");
        content.extend_from_slice(line);
        rest = &rest[length..];
    }
    let bare = (0..stuffed.len()).any(is_bare);
    Decoded { end, size: content.len() as u64, content, bare, dotted }
}

/// Feeds `pieces` one after the other, and checks that skipping sees the same.
fn decoded(pieces: &[&[u8]]) -> Decoded {
    let (mut decoder, mut skipper) = (Decoder::new(), Decoder::new());
    let mut content = Vec::new();
    let mut used = 0;
    for piece in pieces {
        let taken = decoder.decode(piece, &mut content);
        assert_eq!(skipper.skip(piece), taken);
        assert!(decoder.is_complete() || taken == piece.len());
        used += taken;
    }
    assert_eq!((decoder.place, decoder.size, decoder.bare), (skipper.place, skipper.size, skipper.bare));
    assert_eq!(decoder.size(), content.len() as u64);
    Decoded {
        end: decoder.is_complete().then_some(used),
        size: decoder.size(),
        content,
        bare: decoder.has_bare_line_end(),
        dotted: decoder.is_dotted(),
    }
}

fn assert_same(stream: &[u8], expected: &Decoded, pieces: &[&[u8]]) {
    let got = decoded(pieces);
    assert_eq!(got.end, expected.end, "end of {stream:?} as {pieces:?}");
    // An unfinished stream may stop in the middle of a line end or of a stuffed line: only its end counts.
    if expected.end.is_some() {
        assert_eq!(got.bare, expected.bare, "bare line ends of {stream:?} as {pieces:?}");
        if !expected.bare {
            assert_eq!(&got, expected, "{stream:?} as {pieces:?}");
        }
    }
}

/// Whole, byte by byte, and cut in two at every point.
fn check_every_way(stream: &[u8]) {
    let expected = reference(stream);
    assert_same(stream, &expected, &[stream]);
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_same(stream, &expected, &bytes);
    for cut in 1..stream.len() {
        assert_same(stream, &expected, &[&stream[..cut], &stream[cut..]]);
    }
}

#[test]
fn every_short_stream_is_decoded_like_the_reference() {
    // Those that end are few, so each is also tried with an end behind it: its content is then checked too.
    const ALPHABET: [u8; 4] = [b'\r', b'\n', b'.', b'a'];
    for length in 0..=8u32 {
        for number in 0..4usize.pow(length) {
            let mut stream: Vec<u8> = (0..length).map(|place| ALPHABET[number >> (2 * place) & 3]).collect();
            check_every_way(&stream);
            if length <= 6 {
                stream.extend_from_slice(b"\r\n.\r\n");
                check_every_way(&stream);
            }
        }
    }
}

#[test]
fn every_short_stream_across_the_edge_of_a_block_is_decoded_like_the_reference() {
    const ALPHABET: [u8; 4] = [b'\r', b'\n', b'.', b'a'];
    let filler = [b'a'; BLOCK + 2];
    for number in 0..4usize.pow(5) {
        let middle: Vec<u8> = (0..5).map(|place| ALPHABET[number >> (2 * place) & 3]).collect();
        for before in BLOCK - 5..=BLOCK + 1 {
            let stream = [&filler[..before], &middle, &filler, b"\r\n.\r\n"].concat();
            let expected = reference(&stream);
            assert_same(&stream, &expected, &[&stream]);
            for cut in [BLOCK - 1, BLOCK, BLOCK + 1] {
                assert_same(&stream, &expected, &[&stream[..cut], &stream[cut..]]);
            }
        }
    }
}

fn end_of(stream: &[u8]) -> Option<usize> {
    check_every_way(stream);
    decoded(&[stream]).end
}

#[test]
fn smuggled_ends_never_end_a_message_and_are_refused() {
    for (name, smuggled) in [
        ("LF . LF", "\n.\n"),
        ("LF . CRLF", "\n.\r\n"),
        ("LF . CR", "\n.\r"),
        ("CR . CR", "\r.\r"),
        ("CR . LF", "\r.\n"),
        ("CR . CRLF", "\r.\r\n"),
        ("CRLF . CR", "\r\n.\r"),
        ("CRLF . LF", "\r\n.\n"),
        ("CRLF . CR CRLF", "\r\n.\r\r\n"),
        ("CR CRLF . CR CRLF", "\r\r\n.\r\r\n"),
        ("LF CR . CRLF", "\n\r.\r\n"),
        ("LF LF . LF LF", "\n\n.\n\n"),
        ("CR CR . CR CR", "\r\r.\r\r"),
        ("LF . CRLF at the start of a line", "\r\n\n.\r\n"),
    ] {
        let stream = format!("Subject: a\r\n\r\nbody{smuggled}MAIL FROM:<b@c>\r\n.\r\n");
        assert_eq!(end_of(stream.as_bytes()), Some(stream.len()), "{name}");
        assert!(decoded(&[stream.as_bytes()]).bare, "{name}");
    }
}

#[test]
fn smuggled_ends_with_other_bytes_are_content() {
    for (name, smuggled) in [
        ("CRLF NUL . CRLF", "\r\n\0.\r\n"),
        ("CRLF . NUL CRLF", "\r\n.\0\r\n"),
        ("CRLF SP . CRLF", "\r\n .\r\n"),
        ("CRLF . SP CRLF", "\r\n. \r\n"),
        ("CRLF .. CRLF", "\r\n..\r\n"),
        ("VT . VT", "\x0b.\x0b"),
        ("NEL . NEL", "\u{85}.\u{85}"),
        ("LS . LS", "\u{2028}.\u{2028}"),
    ] {
        let stream = format!("a{smuggled}MAIL FROM:<b@c>\r\n.\r\n");
        assert_eq!(end_of(stream.as_bytes()), Some(stream.len()), "{name}");
        assert!(!decoded(&[stream.as_bytes()]).bare, "{name}");
    }
}

#[test]
fn a_bare_cr_before_the_true_end_is_refused_there() {
    let stream = b"a\r\r\n.\r\nQUIT\r\n";
    assert_eq!(end_of(stream), Some(7));
    assert!(decoded(&[stream]).bare);
}

#[test]
fn stuffing_is_removed_and_dots_are_noticed() {
    for (stream, content, dotted) in [
        (".\r\n", "", false),
        ("a\r\n.\r\n", "a\r\n", false),
        ("..\r\n.\r\n", ".\r\n", true),
        ("a\r\n..b\r\n.\r\n", "a\r\n.b\r\n", true),
        (".b\r\n.\r\n", "b\r\n", false),
        ("a.\r\n.\r\n", "a.\r\n", false),
        ("\r\n.\r\n", "\r\n", false),
        ("...\r\n.\r\nMAIL", "..\r\n", true),
    ] {
        check_every_way(stream.as_bytes());
        let got = decoded(&[stream.as_bytes()]);
        assert_eq!(
            (String::from_utf8_lossy(&got.content).as_ref(), got.dotted),
            (content, dotted),
            "{stream:?}"
        );
    }
}

#[test]
fn eight_bit_content_is_noticed_wherever_it_is() {
    for (stream, eight_bit) in
        [(&b"a\r\n.\r\n"[..], false), (b"a\x80\r\n.\r\n", true), (b"\xff\r\n.\r\n", true)]
    {
        for cut in 0..stream.len() {
            let (mut decoder, mut content) = (Decoder::new(), Vec::new());
            decoder.decode(&stream[..cut], &mut content);
            decoder.decode(&stream[cut..], &mut content);
            assert_eq!(decoder.is_eight_bit(), eight_bit);
        }
    }
    // What follows the message does not count.
    let mut decoder = Decoder::new();
    assert_eq!(decoder.skip(b".\r\n\xff"), 3);
    assert!(!decoder.is_eight_bit());
    assert_eq!(decoder.skip(b"more"), 0);
}
