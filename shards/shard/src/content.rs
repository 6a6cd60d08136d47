//! The content of a message in memory, ready for the wire.

use bytes::Bytes;
use memchr::memmem;

/// End of data (RFC 5321 section 4.1.1.4), kept behind the content so that both leave in one write.
const END: &[u8] = b".\r\n";
/// The same behind a last line that has no end of its own.
const LINE_END: &[u8] = b"\r\n.\r\n";

/// Reference-counted content. Cloning it copies nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    wire: Bytes,
    /// Bytes of the content; the end of data follows.
    len: usize,
    /// Whether a line may start with a dot.
    dotted: bool,
}

impl Content {
    /// Takes content whose lines end in CRLF; a last one that does not gets its CRLF from [`Content::wire`] only.
    pub fn new(content: Vec<u8>) -> Content {
        Content::received(content, true)
    }

    /// The same when it is known whether a line starts with a dot.
    pub fn received(mut content: Vec<u8>, dotted: bool) -> Content {
        let len = content.len();
        let ends_in_line = !content.is_empty() && !content.ends_with(b"\r\n");
        content.extend_from_slice(if ends_in_line { LINE_END } else { END });
        Content { wire: Bytes::from(content), len, dotted }
    }

    /// The content without the end of data.
    pub fn bytes(&self) -> &[u8] {
        &self.wire[..self.len]
    }

    /// Bytes of content.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no content.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What BDAT sends: the content as it is.
    pub fn chunk(&self) -> Bytes {
        self.wire.slice(..self.len)
    }

    /// What DATA sends: dots doubled at the start of lines (RFC 5321 section 4.5.2), copying only if there is one,
    /// and the end of data.
    pub fn wire(&self) -> Bytes {
        let content = self.bytes();
        if !self.dotted || (!content.starts_with(b".") && memmem::find(content, b"\r\n.").is_none()) {
            return self.wire.clone();
        }
        let mut stuffed = Vec::with_capacity(self.wire.len() + 64);
        let mut rest = content;
        if rest.starts_with(b".") {
            stuffed.push(b'.');
        }
        while let Some(at) = memmem::find(rest, b"\r\n.") {
            stuffed.extend_from_slice(&rest[..at + 3]);
            stuffed.push(b'.');
            rest = &rest[at + 3..];
        }
        stuffed.extend_from_slice(rest);
        stuffed.extend_from_slice(&self.wire[self.len..]);
        Bytes::from(stuffed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule as the RFC states it, line by line.
    fn reference(content: &[u8]) -> Vec<u8> {
        let text = String::from_utf8(content.to_vec()).expect("ASCII");
        let stuff = |line: &str| if line.starts_with('.') { format!(".{line}") } else { line.to_owned() };
        let lines: Vec<String> = text.split_inclusive("\r\n").map(stuff).collect();
        (lines.concat() + ".\r\n").into_bytes()
    }

    #[test]
    fn dots_are_doubled_at_the_start_of_lines_only() {
        let pieces = ["", ".", "..", "a", "\r\n", "a.b"];
        let mut contents = vec![String::new()];
        for _ in 0..5 {
            contents = contents.iter().flat_map(|c| pieces.iter().map(move |p| format!("{c}{p}"))).collect();
        }
        for text in contents.iter().filter(|text| text.is_empty() || text.ends_with("\r\n")) {
            let content = Content::new(text.clone().into_bytes());
            assert_eq!(content.bytes(), text.as_bytes());
            assert_eq!(&*content.wire(), reference(text.as_bytes()), "{text:?}");
        }
    }

    #[test]
    fn without_a_leading_dot_nothing_is_copied() {
        let content = Content::new(b"Subject: x\r\n\r\nhello. world\r\n".to_vec());
        assert_eq!(content.wire().as_ptr(), content.bytes().as_ptr());
    }

    #[test]
    fn a_last_line_without_its_end_gets_one() {
        assert_eq!(&*Content::new(b"a".to_vec()).wire(), b"a\r\n.\r\n");
        assert_eq!(&*Content::new(b"\r\n.a".to_vec()).wire(), b"\r\n..a\r\n.\r\n");
    }

    #[test]
    fn a_chunk_is_the_content_as_it_is() {
        for bytes in [&b""[..], b"a", b".\r\n", b"\r\n.", b"\n.\n\0"] {
            let content = Content::new(bytes.to_vec());
            assert_eq!((&*content.chunk(), content.bytes(), content.len()), (bytes, bytes, bytes.len()));
        }
    }
}
