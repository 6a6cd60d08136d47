//! A next hop that keeps every message as it came.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What arrived in one transaction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrived {
    /// The argument of MAIL.
    pub mail: String,
    /// The addresses of all RCPT, sorted.
    pub recipients: Vec<String>,
    /// Dots taken off.
    pub content: Vec<u8>,
}

impl Arrived {
    /// The content behind the relay's own Received field.
    pub fn original(&self) -> &[u8] {
        assert!(self.content.starts_with(b"Received: from "), "{self:?}");
        let end = self.content.windows(3).position(|bytes| bytes.starts_with(b"\r\n") && bytes[2] != b'\t');
        end.map_or(&[], |end| &self.content[end + 2..])
    }
}

/// Takes connections until the test program ends.
pub struct NextHop {
    pub address: SocketAddr,
    arrived: Arc<Mutex<Vec<Arrived>>>,
}

impl NextHop {
    pub fn start() -> NextHop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hop = NextHop { address: listener.local_addr().unwrap(), arrived: Arc::default() };
        let arrived = hop.arrived.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let arrived = arrived.clone();
                // A relay that goes away ends its connection, and nothing else.
                std::thread::spawn(move || serve(stream?, &arrived));
            }
        });
        hop
    }

    /// Everything that arrived so far, sorted.
    pub fn arrived(&self) -> Vec<Arrived> {
        let mut arrived = self.arrived.lock().unwrap().clone();
        arrived.sort();
        arrived
    }
}

fn serve(mut stream: TcpStream, arrived: &Mutex<Vec<Arrived>>) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?);
    stream.write_all(b"220 hop.example ESMTP\r\n")?;
    let (mut mail, mut recipients) = (String::new(), Vec::new());
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        let reply = match line.split_once(':').unwrap_or((line, "")) {
            ("EHLO mx.example", _) => {
                "250-hop.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250 SMTPUTF8"
            }
            ("MAIL FROM", argument) => {
                mail = argument.to_string();
                "250 ok"
            }
            ("RCPT TO", address) => {
                recipients.push(address.trim_start_matches('<').trim_end_matches('>').to_string());
                "250 ok"
            }
            ("DATA", _) => {
                stream.write_all(b"354 go on\r\n")?;
                let content = content(&mut lines)?;
                recipients.sort();
                let (mail, recipients) = (std::mem::take(&mut mail), std::mem::take(&mut recipients));
                arrived.lock().unwrap().push(Arrived { mail, recipients, content });
                "250 taken"
            }
            (command, _) if command.starts_with("BDAT ") => {
                let size = command["BDAT ".len()..].trim_end_matches(" LAST").parse().unwrap();
                let mut content = vec![0; size];
                lines.read_exact(&mut content)?;
                recipients.sort();
                let (mail, recipients) = (std::mem::take(&mut mail), std::mem::take(&mut recipients));
                arrived.lock().unwrap().push(Arrived { mail, recipients, content });
                "250 taken"
            }
            ("QUIT", _) => "221 bye",
            ("RSET", _) => "250 ok",
            _ => "500 what?",
        };
        stream.write_all(format!("{reply}\r\n").as_bytes())?;
    }
}

fn content(lines: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(content);
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}
