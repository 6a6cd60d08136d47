//! Lines over a connection, for scripts that speak SMTP. Shares nothing with the relay's own code, so that a
//! mistake in one is not hidden by the same mistake in the other.

use crate::conn::SimConn;
use host::Conn;
use mail::Time;
use std::io::{self, ErrorKind};

/// The longest line that a script takes, in bytes; a longer one is an error.
const LINE_BYTES_MAX: usize = 1 << 20;

/// A connection read line by line.
pub struct Lines {
    conn: SimConn,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were taken.
    taken: usize,
}

impl Lines {
    /// Reads lines from `conn`.
    pub fn new(conn: SimConn) -> Lines {
        Lines { conn, buffer: Vec::new(), taken: 0 }
    }

    /// The next line without its CRLF (a bare LF ends no line); `None` at the end, even within a line.
    pub async fn line(&mut self, deadline: Time) -> io::Result<Option<Vec<u8>>> {
        let mut searched = self.taken;
        loop {
            if let Some(end) = line_end(&self.buffer, searched) {
                let line = self.buffer[self.taken..end].to_vec();
                self.taken = end + 2;
                return Ok(Some(line));
            }
            // The last byte may be the CR of a line end that is cut in two.
            let unsearched = self.buffer.len().saturating_sub(1).max(self.taken) - self.taken;
            if !self.fill(deadline).await? {
                return Ok(None);
            }
            searched = self.taken + unsearched;
        }
    }

    /// The next `len` bytes; `None` when the end comes first.
    pub async fn bytes(&mut self, len: usize, deadline: Time) -> io::Result<Option<Vec<u8>>> {
        while self.buffer.len() - self.taken < len {
            if !self.fill(deadline).await? {
                return Ok(None);
            }
        }
        self.taken += len;
        Ok(Some(self.buffer[self.taken - len..self.taken].to_vec()))
    }

    /// A whole SMTP reply: its code and the text of its lines. The end of the connection is an error here.
    pub async fn reply(&mut self, deadline: Time) -> io::Result<(u16, Vec<String>)> {
        let mut texts = Vec::new();
        loop {
            let line = self.line(deadline).await?.ok_or(ErrorKind::UnexpectedEof)?;
            let line = String::from_utf8_lossy(&line).into_owned();
            let code = line.get(..3).and_then(|code| code.parse().ok()).ok_or(ErrorKind::InvalidData)?;
            texts.push(line.get(4..).unwrap_or_default().to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok((code, texts));
            }
        }
    }

    /// Sends `bytes`.
    pub async fn send(&mut self, bytes: &[u8], deadline: Time) -> io::Result<()> {
        self.conn.send(&mut bytes.to_vec(), deadline).await
    }

    /// Forgets what has come and was not taken.
    pub fn forget(&mut self) {
        self.taken = self.buffer.len();
    }

    /// Reads and forgets what comes until the end, an error or `deadline`.
    pub async fn drain(&mut self, deadline: Time) {
        self.buffer.clear();
        self.taken = 0;
        while let Ok(true) = self.fill(deadline).await {
            self.buffer.clear();
        }
    }

    /// The connection; what was read and not taken is lost.
    pub fn into_conn(self) -> SimConn {
        self.conn
    }

    async fn fill(&mut self, deadline: Time) -> io::Result<bool> {
        self.buffer.drain(..std::mem::take(&mut self.taken));
        if self.buffer.len() > LINE_BYTES_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        let chunk = self.conn.recv(deadline).await?;
        Ok(chunk.map(|chunk| self.buffer.extend_from_slice(&chunk)).is_some())
    }
}

/// Where the first CRLF is that begins at `from` or later.
fn line_end(buffer: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = buffer.get(at + 1..)?.iter().position(|byte| *byte == b'\n') {
        at += found + 1;
        if buffer[at - 1] == b'\r' {
            return Some(at - 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::line_end;

    #[test]
    fn only_crlf_ends_a_line() {
        for (text, from, end) in [
            ("ab\r\n", 0, Some(2)),
            ("\r\n", 0, Some(0)),
            ("\r\n", 1, None),
            ("a\nb\rc\r\r\n\n", 0, Some(6)),
            ("a\n\r", 0, None),
            ("", 0, None),
        ] {
            assert_eq!(line_end(text.as_bytes(), from), end, "{text:?}");
        }
    }
}
