//! Whether a content needs SMTPUTF8 on its way (RFC 6531 section 3.1).

use crate::trace::header_lines;

/// Whether a header field of `content` holds UTF-8, or may do so inside a part of the body: of parts it is not known
/// where their headers are, so that any byte that is no ASCII counts there.
pub fn needs_smtputf8(content: &[u8]) -> bool {
    let (mut header_bytes, mut has_parts) = (0, false);
    for line in header_lines(content) {
        if !line.is_ascii() {
            return true;
        }
        header_bytes += line.len();
        has_parts = has_parts || is_composite(line);
    }
    has_parts && !content[header_bytes..].is_ascii()
}

/// Whether the line says that the body has headers of its own: `Content-Type: multipart/...` or `message/...`.
fn is_composite(line: &[u8]) -> bool {
    const NAME: &[u8] = b"content-type";
    let Some((name, after)) = line.split_at_checked(NAME.len()) else { return false };
    let value = after.trim_ascii_start().strip_prefix(b":").unwrap_or_default().trim_ascii_start();
    let begins = |kind: &[u8]| value.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind));
    // A value that goes on in the next line is not looked at: it may be either.
    name.eq_ignore_ascii_case(NAME) && (value.is_empty() || begins(b"multipart/") || begins(b"message/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_headers_need_it() {
        for (content, needs) in [
            ("Subject: a\r\n\r\nb\r\n", false),
            ("Subject: \u{e9}\r\n\r\nb\r\n", true),
            ("Subject: a\r\n \u{e9}\r\n\r\nb\r\n", true),
            ("Subject: a\r\n\r\n\u{e9}\r\n", false),
            ("Content-Type: text/plain\r\n\r\n\u{e9}\r\n", false),
            ("content-type : Multipart/mixed\r\n\r\n\u{e9}\r\n", true),
            ("Content-Type: message/rfc822\r\n\r\nSubject: \u{e9}\r\n", true),
            ("Content-Type:\r\n multipart/mixed\r\n\r\n\u{e9}\r\n", true),
            ("Content-Type: multipart/mixed\r\n\r\nb\r\n", false),
            ("", false),
            ("\u{e9}", true),
        ] {
            assert_eq!(needs_smtputf8(content.as_bytes()), needs, "{content:?}");
        }
    }
}
