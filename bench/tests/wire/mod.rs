//! What tests say to a sink byte by byte.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bench::sink;

/// The codes of whole replies.
pub fn codes(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.as_bytes().get(3) == Some(&b' ')).map(|line| &line[..3]).collect()
}

/// Sends all of it in pieces of this size, reads until the sink closes, and returns the reply codes.
pub fn talk(sink: &sink::Handle, input: &[u8], piece: usize) -> String {
    let mut stream = TcpStream::connect(sink.addresses()[0]).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for piece in input.chunks(piece) {
        stream.write_all(piece).unwrap();
    }
    let mut output = String::new();
    stream.read_to_string(&mut output).unwrap();
    codes(&output).join(" ")
}
