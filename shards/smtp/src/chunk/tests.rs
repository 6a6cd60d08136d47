use std::vec;

use super::*;

/// What a decoder should make of a content.
#[derive(Debug, PartialEq)]
struct Seen {
    eight_bit: bool,
    bare: bool,
    dotted: bool,
    binary: bool,
    ends_in_line: bool,
}

/// The obvious way: the lines of the whole content, one after the other.
fn reference(content: &[u8]) -> Seen {
    let is_bare = |at: usize| match content[at] {
        b'\r' => content.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || content[at - 1] != b'\r',
        _ => false,
    };
    let bare = (0..content.len()).any(is_bare);
    let (mut dotted, mut long) = (false, false);
    let mut rest = content;
    while !rest.is_empty() {
        let end = rest.windows(2).position(|pair| pair == b"\r\n");
        let (line, after) = end.map_or((rest, &b""[..]), |end| (&rest[..end], &rest[end + 2..]));
        dotted |= line.starts_with(b".");
        long |= line.len() > 998;
        rest = after;
    }
    let ends_in_line = !content.is_empty() && !content.ends_with(b"\r\n");
    Seen {
        eight_bit: content.iter().any(|byte| *byte > 127),
        bare,
        dotted,
        binary: bare || long || ends_in_line || content.contains(&0),
        ends_in_line,
    }
}

/// Sends `content` in `chunks` of these sizes, each fed in `pieces` of that size, with bytes of another command behind.
fn decoded(content: &[u8], chunks: &[usize], piece: usize) -> Seen {
    let (mut decoder, mut skipper) = (Decoder::default(), Decoder::default());
    let (mut kept, mut rest) = (Vec::new(), content);
    for (number, size) in chunks.iter().enumerate() {
        let (chunk, after) = rest.split_at(*size);
        rest = after;
        let is_last = number + 1 == chunks.len();
        decoder.begin(chunk.len() as u64, is_last);
        skipper.begin(chunk.len() as u64, is_last);
        for bytes in chunk.chunks(piece) {
            let followed = [bytes, b"RSET\r\n"].concat();
            let is_end = decoder.left == bytes.len() as u64;
            let fed = if is_end { &followed[..] } else { bytes };
            assert_eq!((decoder.decode(fed, &mut kept), skipper.skip(fed)), (bytes.len(), bytes.len()));
        }
        assert!(decoder.is_chunk_complete());
        assert_eq!(decoder.is_complete(), is_last);
    }
    assert_eq!(kept, content);
    assert_eq!((decoder.size(), skipper.size()), (content.len() as u64, content.len() as u64));
    assert_eq!(decoder.is_binary(), skipper.is_binary());
    Seen {
        eight_bit: decoder.is_eight_bit(),
        bare: decoder.has_bare_line_end(),
        dotted: decoder.is_dotted(),
        binary: decoder.is_binary(),
        ends_in_line: decoder.ends_in_line(),
    }
}

#[test]
fn every_short_content_is_seen_like_the_reference_however_it_is_cut() {
    const ALPHABET: [u8; 4] = [b'\r', b'\n', b'.', b'a'];
    for length in 0..=7u32 {
        for number in 0..4usize.pow(length) {
            let content: Vec<u8> = (0..length).map(|place| ALPHABET[number >> (2 * place) & 3]).collect();
            let expected = reference(&content);
            for first in 0..=content.len() {
                assert_eq!(decoded(&content, &[first, content.len() - first], usize::MAX), expected);
            }
            assert_eq!(decoded(&content, &[content.len()], 1), expected, "{content:?}");
        }
    }
}

#[test]
fn arbitrary_contents_are_seen_like_the_reference() {
    let mut rng = fastrand::Rng::with_seed(1);
    const TOKENS: [&[u8]; 8] = [b"\r\n", b"\r\n.", b"\r", b"\n", b"\0", b"\xff", b"text", &[b'l'; 997]];
    for _ in 0..20_000 {
        let tokens = rng.usize(0..12);
        let content: Vec<u8> = match rng.bool() {
            true => (0..tokens).flat_map(|_| TOKENS[rng.usize(0..TOKENS.len())].to_vec()).collect(),
            false => (0..tokens * 9).map(|_| rng.u8(..)).collect(),
        };
        let mut chunks = vec![];
        let mut left = content.len();
        while left > 0 {
            let size = rng.usize(0..=left);
            chunks.push(size);
            left -= size;
        }
        chunks.push(0);
        let piece = rng.usize(1..=100);
        assert_eq!(decoded(&content, &chunks, piece), reference(&content), "{content:?} in {chunks:?}");
    }
}

#[test]
fn a_chunk_of_any_size_takes_only_what_there_is() {
    let mut decoder = Decoder::default();
    decoder.begin(u64::MAX, true);
    assert_eq!(decoder.skip(b"abc"), 3);
    assert!(!decoder.is_chunk_complete());
    let mut nothing = Decoder::default();
    nothing.begin(0, true);
    assert!(nothing.is_complete());
    assert_eq!(nothing.skip(b"NOOP\r\n"), 0);
    assert!(!nothing.is_binary() && !nothing.ends_in_line());
}
