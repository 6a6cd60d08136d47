//! SMTP replies (RFC 5321 section 4.2) with enhanced status codes (RFC 2034, RFC 3463).

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;

/// An enhanced status code, `class.subject.detail` (RFC 3463 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Enhanced(pub u8, pub u16, pub u16);

impl fmt::Display for Enhanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// What a reply means for the one who asked, by its first digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// 2yz: done.
    Success,
    /// 3yz: go on.
    Intermediate,
    /// 4yz: try again later.
    Transient,
    /// 5yz: do not try again.
    Permanent,
}

/// A reply: three digits, perhaps an enhanced code, and text whose lines are parted by `\n`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// Sent in front of the text of every line where there is one.
    pub enhanced: Option<Enhanced>,
    /// Without CR; LF parts the lines of a multi-line reply.
    pub text: Cow<'static, str>,
}

impl Reply {
    /// A reply with an enhanced code.
    pub fn new(code: u16, enhanced: (u8, u16, u16), text: impl Into<Cow<'static, str>>) -> Reply {
        let (class, subject, detail) = enhanced;
        Reply { code, enhanced: Some(Enhanced(class, subject, detail)), text: text.into() }
    }

    /// A reply that has no enhanced code: greetings, EHLO and 354 (RFC 2034 section 4).
    pub fn bare(code: u16, text: impl Into<Cow<'static, str>>) -> Reply {
        Reply { code, enhanced: None, text: text.into() }
    }

    /// The class by the first digit; whatever is no known class counts as transient, which loses nothing.
    pub fn class(&self) -> Class {
        match self.code / 100 {
            2 => Class::Success,
            3 => Class::Intermediate,
            5 => Class::Permanent,
            _ => Class::Transient,
        }
    }

    /// Appends the reply as it goes over the wire, each line ended by CRLF.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut lines = self.text.split('\n').peekable();
        while let Some(line) = lines.next() {
            let digits = [
                b'0' + (self.code / 100) as u8,
                b'0' + (self.code / 10 % 10) as u8,
                b'0' + (self.code % 10) as u8,
            ];
            out.extend_from_slice(&digits);
            out.push(if lines.peek().is_some() { b'-' } else { b' ' });
            if let Some(enhanced) = self.enhanced {
                push_enhanced(out, enhanced);
            }
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn push_enhanced(out: &mut Vec<u8>, Enhanced(class, subject, detail): Enhanced) {
    push_number(out, u16::from(class));
    out.push(b'.');
    push_number(out, subject);
    out.push(b'.');
    push_number(out, detail);
    out.push(b' ');
}

fn push_number(out: &mut Vec<u8>, number: u16) {
    if number >= 10 {
        push_number(out, number / 10);
    }
    out.push(b'0' + (number % 10) as u8);
}

impl fmt::Display for Reply {
    /// One line, for logs and reports.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        for line in self.text.split('\n') {
            write!(f, " {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn wire(reply: &Reply) -> alloc::string::String {
        let mut out = Vec::new();
        reply.encode(&mut out);
        alloc::string::String::from_utf8(out).expect("replies are text")
    }

    #[test]
    fn a_reply_is_written_line_by_line() {
        assert_eq!(wire(&Reply::new(250, (2, 1, 5), "ok")), "250 2.1.5 ok\r\n");
        assert_eq!(
            wire(&Reply::bare(250, "host\nSIZE 10\nPIPELINING")),
            "250-host\r\n250-SIZE 10\r\n250 PIPELINING\r\n"
        );
        assert_eq!(wire(&Reply::new(550, (5, 7, 255), "a\nb")), "550-5.7.255 a\r\n550 5.7.255 b\r\n");
        assert_eq!(Reply::new(550, (5, 1, 1), "a\nb").to_string(), "550 5.1.1 a b");
    }

    #[test]
    fn unknown_classes_are_transient() {
        assert_eq!(Reply::bare(199, "").class(), Class::Transient);
        assert_eq!(Reply::bare(354, "").class(), Class::Intermediate);
        assert_eq!(Reply::bare(999, "").class(), Class::Transient);
    }
}
