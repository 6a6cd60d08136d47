//! Connecting, listening and sending.

use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, SockRef, Socket, Type};

/// Connections waiting to be accepted; the kernel clips it to its own bound.
const BACKLOG_MAX: i32 = 8192;
/// Receive buffer of a connection that is read in small pieces, so that its peer feels it.
const NARROW_BYTES: usize = 16 * 1024;

/// Sends `unsent` and then `out`; keeps the rest in `unsent`. True if nothing is left.
pub(super) fn send(stream: &mut TcpStream, unsent: &mut Vec<u8>, out: &[u8]) -> io::Result<bool> {
    if unsent.is_empty() {
        let count = write(stream, out)?;
        unsent.extend_from_slice(&out[count..]);
    } else {
        unsent.extend_from_slice(out);
        let count = write(stream, unsent)?;
        unsent.drain(..count);
    }
    Ok(unsent.is_empty())
}

fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// Makes the receive buffer small.
pub(super) fn narrow(stream: &TcpStream) {
    // Refused by no kernel; without it the peer would only feel it later.
    let _ = SockRef::from(stream).set_recv_buffer_size(NARROW_BYTES);
}

/// Lets the end of the connection be a reset (RST) in place of the orderly one.
pub(super) fn prepare_reset(stream: &TcpStream) {
    // With no time to linger, what follows from closing is a reset.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

pub(super) fn established(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn connect(target: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
        _ => {}
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// Listens on `address` once per thread, on sockets among which the kernel spreads connections.
///
/// Fails if anybody listens there already: sharing a port with a stranger would split the traffic silently.
pub(crate) fn listen(address: SocketAddr, threads: usize) -> io::Result<Vec<TcpListener>> {
    let probe = bound(address, false)?;
    let address = probe.local_addr()?.as_socket().unwrap_or(address);
    if threads == 1 {
        return Ok(vec![listening(probe)?]);
    }
    drop(probe);
    (0..threads).map(|_| listening(bound(address, true)?)).collect()
}

fn bound(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listening(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG_MAX)?;
    Ok(TcpListener::from_std(socket.into()))
}
