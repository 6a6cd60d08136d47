//! Messages from .eml files, made fit to be sent and to be known again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{CONTENTS_BYTES_MAX, Message};

/// Files taken from a directory; more is an error.
const FILES_MAX: usize = 10_000;
/// Longest line without its end (RFC 5321 4.5.3.1.6); a longer one is cut.
const LINE_BYTES_MAX: usize = 998;
/// Headers that a relay may rightly take away or that must be unique, and those of the rig itself.
const DROPPED: [&str; 7] =
    ["bcc", "resent-bcc", "return-path", "content-length", "message-id", "x-mtad-bench-hash", "x-mtad-bench"];

/// All .eml files directly in `directory`, in the order of their names.
pub(super) fn load(directory: &Path) -> io::Result<Vec<Message>> {
    let wrong = |text: String| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {text}", directory.display()))
    };
    let paths = paths(directory).map_err(|error| wrong(error.to_string()))?;
    if paths.is_empty() {
        return Err(wrong("there is no .eml file in it".into()));
    }
    if paths.len() > FILES_MAX {
        return Err(wrong(format!("it has {} .eml files, at most {FILES_MAX} are taken", paths.len())));
    }
    let mut total = 0;
    let mut messages = Vec::with_capacity(paths.len());
    for path in paths {
        let bytes = fs::metadata(&path)?.len();
        total += bytes;
        if total > CONTENTS_BYTES_MAX as u64 {
            return Err(wrong(format!("its .eml files have more than {CONTENTS_BYTES_MAX} bytes in all")));
        }
        messages.push(message(&fs::read(&path)?));
    }
    Ok(messages)
}

fn paths(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("eml")) && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Sorts the lines of a file into headers and body. What looks like no header ends the headers.
fn message(text: &[u8]) -> Message {
    let mut message = Message { weight: 1, headers: Vec::new(), body: Vec::new() };
    let mut lines = lines(text).peekable();
    // The line in front of a message in an mbox is not part of it.
    lines.next_if(|line| line.starts_with(b"From "));
    // A continuation of nothing is dropped: it would become part of the header in front.
    let mut kept = false;
    while let Some(line) = lines.next_if(|line| name(line).is_some() || is_continuation(line)) {
        if let Some(name) = name(line) {
            kept = !DROPPED.iter().any(|dropped| name.eq_ignore_ascii_case(dropped.as_bytes()));
        }
        if kept {
            put(line, b"\r\n ", &mut message.headers);
        }
    }
    lines.next_if(|line| line.is_empty());
    lines.for_each(|line| put(line, b"\r\n", &mut message.body));
    message
}

/// The lines of a text, which may end with CRLF, LF or CR.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        let line = (!rest.is_empty()).then(|| &rest[..end]);
        let behind = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[(end + behind).min(rest.len())..];
        line
    })
}

/// The name of a header field, if this is its first line.
fn name(line: &[u8]) -> Option<&[u8]> {
    let name = line[..memchr::memchr(b':', line)?].trim_ascii_end();
    let fits = name.first()?.is_ascii_alphanumeric() && name.iter().all(u8::is_ascii_graphic);
    fits.then_some(name)
}

fn is_continuation(line: &[u8]) -> bool {
    matches!(line, [b' ' | b'\t', ..])
}

/// Appends a line, cut with `joint` where it is too long.
fn put(line: &[u8], joint: &[u8], out: &mut Vec<u8>) {
    // A joint that starts the next line with a space makes that line longer.
    for (index, piece) in line.chunks(LINE_BYTES_MAX - 1).enumerate() {
        if index > 0 {
            out.extend_from_slice(joint);
        }
        out.extend_from_slice(piece);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{Content, Templates, Transfer};
    use crate::identity::{Arrival, Stamp, examine};
    use crate::transparency::unstuff;

    #[test]
    fn headers_and_lines_are_put_right() {
        let long = "x".repeat(2500);
        let text = format!(
            "From mbox@x Sat\nReturn-Path: <a>\nSubject: a\n b\nbcc : x\n\ty\nX-Mtad-Bench: 1\r\nTo: b\r\n\r\n.a\rb\n{long}\n\nend"
        );
        let message = message(text.as_bytes());
        assert_eq!(message.headers, b"Subject: a\r\n b\r\nTo: b\r\n");
        let body = String::from_utf8(message.body).unwrap();
        assert!(body.starts_with(".a\r\nb\r\nxxx") && body.ends_with("x\r\n\r\nend\r\n"));
        assert_eq!(body.replace("\r\n", "").matches('x').count(), 2500);
        assert!(body.split("\r\n").all(|line| line.len() <= LINE_BYTES_MAX && !line.contains(['\r', '\n'])));
    }

    #[test]
    fn odd_files_become_messages() {
        for (text, headers, body) in [
            ("", "", ""),
            ("\n\n", "", "\r\n"),
            ("A: b", "A: b\r\n", ""),
            ("no header\nA: b\n", "", "no header\r\nA: b\r\n"),
            (".A: b\n", "", ".A: b\r\n"),
            ("\r\r\n\n", "", "\r\n\r\n"),
        ] {
            let message = message(text.as_bytes());
            let parts = [message.headers, message.body].map(|part| String::from_utf8(part).unwrap());
            assert_eq!(parts, [headers, body], "{text:?}");
        }
    }

    #[test]
    fn a_directory_is_loaded_within_its_bounds() {
        let directory = std::env::temp_dir().join(format!("mtad-bench-eml-{}", std::process::id()));
        let content = Content::Eml(directory.clone());
        let load = || Templates::new(&content, Transfer::Data, "a@b");
        assert!(load().is_err(), "no directory");
        fs::create_dir(&directory).unwrap();
        let empty = load().err().unwrap().to_string();
        assert!(empty.contains("no .eml file"), "{empty}");
        fs::write(directory.join("b.txt"), "no message").unwrap();
        fs::write(directory.join("a.EML"), "Subject: one\n\n.\n..two\n").unwrap();
        fs::write(directory.join("c.eml"), b"Subject: \xe9\n\n\xff\0").unwrap();
        let mut templates = load().unwrap();
        for sequence in 0..2 {
            let stamp = Stamp { run: 1, sequence, recipients: 1, time: 3 };
            let template = templates.of(sequence);
            template.stamp(&stamp);
            let (mut wire, mut message) = (Vec::new(), Vec::new());
            template.write(&mut wire);
            unstuff(wire.strip_suffix(b".\r\n").unwrap(), &mut message);
            assert_eq!(message.len(), template.bytes());
            assert_eq!(examine(&message), Arrival::Intact(stamp));
        }
        let big = fs::File::create(directory.join("d.eml")).unwrap();
        big.set_len(CONTENTS_BYTES_MAX as u64).unwrap();
        let error = load().err().unwrap().to_string();
        assert!(error.contains("bytes in all"), "{error}");
        fs::remove_dir_all(&directory).unwrap();
    }
}
