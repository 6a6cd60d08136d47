//! A client that says what the test wants, and no more.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// A relay that is silent for so long does not answer at all.
const REPLY_WAIT: Duration = Duration::from_secs(20);

pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects; the greeting is not read yet.
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(REPLY_WAIT)).unwrap();
        stream.set_write_timeout(Some(REPLY_WAIT)).unwrap();
        // Bytes that are sent one by one shall arrive so.
        stream.set_nodelay(true).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    /// Connects, reads the greeting and says hello.
    pub fn greeted(address: SocketAddr) -> Client {
        let mut client = Client::connect(address);
        assert_eq!(client.line().unwrap(), "220 mx.example ESMTP");
        assert_eq!(client.ask("EHLO client.example"), "250 HELP");
        client
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Closes our half of the connection.
    pub fn end(&mut self) {
        self.stream.get_mut().shutdown(Shutdown::Write).unwrap();
    }

    /// The next line without its end; an error at the end of the connection.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let whole = line.strip_suffix("\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(whole.to_string())
    }

    /// Sends a command and returns the last line of its reply.
    pub fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes()).unwrap();
        self.reply()
    }

    /// The last line of the next reply.
    pub fn reply(&mut self) -> String {
        loop {
            let line = self.line().unwrap();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    /// Everything until the relay closes.
    pub fn rest(&mut self) -> io::Result<String> {
        let mut rest = String::new();
        self.stream.read_to_string(&mut rest)?;
        Ok(rest)
    }

    /// Waits until something was said that nobody reads; a close now resets the connection.
    pub fn await_unread(&mut self) {
        self.stream.get_mut().peek(&mut [0]).unwrap();
    }

    /// Sends a message, `content` as it goes over the wire without the final dot.
    pub fn deliver(&mut self, mail: &str, recipients: &[&str], content: &[u8]) {
        assert_eq!(self.ask(&format!("MAIL FROM:{mail}")), "250 2.1.0 Ok");
        for recipient in recipients {
            assert_eq!(self.ask(&format!("RCPT TO:<{recipient}>")), "250 2.1.5 Ok");
        }
        assert_eq!(self.ask("DATA"), "354 End data with <CR><LF>.<CR><LF>");
        self.send(&[content, b".\r\n"].concat()).unwrap();
        let reply = self.reply();
        assert!(reply.starts_with("250 2.0.0 Ok: queued as "), "{reply}");
    }

    pub fn quit(mut self) {
        assert_eq!(self.ask("QUIT"), "221 2.0.0 Bye");
        assert_eq!(self.rest().unwrap(), "");
    }
}
