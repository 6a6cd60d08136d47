//! RFC 5321 4.5.2: a dot that starts a line is doubled on the wire.

/// Appends `text` with its dots doubled.
pub(crate) fn stuff(text: &[u8], out: &mut Vec<u8>) {
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
}

/// Appends `wire` with the first dot of every line taken off.
pub(crate) fn unstuff(wire: &[u8], out: &mut Vec<u8>) {
    for line in wire.split_inclusive(|&byte| byte == b'\n') {
        out.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_survive_the_wire() {
        let text = b".\r\na.b\r\n..\r\n\r\n.c\r\n";
        let (mut wire, mut back) = (Vec::new(), Vec::new());
        stuff(text, &mut wire);
        assert_eq!(wire, b"..\r\na.b\r\n...\r\n\r\n..c\r\n");
        unstuff(&wire, &mut back);
        assert_eq!(back, text);
    }
}
