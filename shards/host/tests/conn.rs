//! Connections over loopback, against plain blocking sockets.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and its plain threads may sleep"
)]

mod shard;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use host::ring_host::{Options, RingConn, RingHost};
use host::{Conn, Host, Listener};
use mail::Time;
use shard::{on_shard, options, pause, settle, within};

fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Sends back what comes until the peer closes.
async fn echo(mut conn: RingConn) {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = conn.recv(Time::FAR).await {
        bytes.extend_from_slice(&chunk);
        drop(chunk);
        conn.send(&mut bytes, Time::FAR).await.unwrap();
    }
    conn.close().await;
}

/// Bytes that differ everywhere.
fn pattern(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Two connected ends on one shard.
async fn pair(host: &RingHost) -> (RingConn, RingConn) {
    let mut listener = host.listen(anywhere()).unwrap();
    let ours = host.connect(listener.local(), None, within(host, 5000)).await.unwrap();
    (ours, listener.accept().await.unwrap())
}

#[test]
fn what_is_sent_comes_back() {
    on_shard(options(), |host| async move {
        let mut listener = host.listen(anywhere()).unwrap();
        let at = listener.local();
        let client = thread::spawn(move || {
            let mut socket = TcpStream::connect(at).unwrap();
            for round in 0..200 {
                let sent = pattern(round * 50 + 1);
                socket.write_all(&sent).unwrap();
                let mut back = vec![0; sent.len()];
                socket.read_exact(&mut back).unwrap();
                assert!(sent == back);
            }
            socket.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(socket.read(&mut [0]).unwrap(), 0);
            socket.local_addr().unwrap()
        });
        let conn = listener.accept().await.unwrap();
        assert_eq!(conn.local(), at);
        let peer = conn.peer();
        echo(conn).await;
        assert_eq!(client.join().unwrap(), peer);
    });
}

#[test]
fn a_buffer_comes_back_empty_with_its_room_and_shared_bytes_are_sent_as_they_are() {
    on_shard(options(), |host| async move {
        let (mut one, mut other) = pair(&host).await;
        let mut buffer = Vec::with_capacity(5000);
        buffer.extend_from_slice(b"hello ");
        one.send(&mut buffer, Time::FAR).await.unwrap();
        assert!(buffer.is_empty() && buffer.capacity() == 5000);
        one.send(&mut buffer, Time::FAR).await.unwrap();
        one.send_bytes(bytes::Bytes::from_static(b"world"), Time::FAR).await.unwrap();
        let mut received = Vec::new();
        while received.len() < 11 {
            received.extend_from_slice(&other.recv(within(&host, 5000)).await.unwrap().unwrap());
        }
        assert_eq!(received, b"hello world");
    });
}

#[test]
fn sixteen_mebibytes_each_way_through_sixteen_buffers_and_a_slow_reader_stay_intact() {
    let options = Options { buffers: 16, buffer_bytes: 4096, ..options() };
    let stats = on_shard(options, |host| async move {
        let mut listener = host.listen(anywhere()).unwrap();
        let at = listener.local();
        let client = thread::spawn(move || {
            let sent = pattern(16 << 20);
            let mut socket = TcpStream::connect(at).unwrap();
            let mut writer = socket.try_clone().unwrap();
            let copy = sent.clone();
            let writing = thread::spawn(move || writer.write_all(&copy).unwrap());
            let mut back = vec![0; sent.len()];
            for (turn, piece) in back.chunks_mut(1 << 20).enumerate() {
                thread::sleep(Duration::from_millis(if turn % 4 == 0 { 30 } else { 0 }));
                socket.read_exact(piece).unwrap();
            }
            writing.join().unwrap();
            sent == back
        });
        let conn = listener.accept().await.unwrap();
        let done = std::rc::Rc::new(std::cell::Cell::new(false));
        let flag = done.clone();
        host.spawn(async move {
            echo(conn).await;
            flag.set(true);
        });
        for turn in 0.. {
            pause(&host, 10).await;
            assert!(turn < 6000, "the echo hangs: {:?}", host.stats());
            if client.is_finished() && done.get() {
                break;
            }
        }
        assert!(client.join().unwrap());
        settle(&host, |stats| stats.connections == 0).await
    });
    assert_eq!((stats.connections, stats.buffers_available), (0, stats.buffers));
    assert!(stats.buffers_low < stats.buffers);
}

#[test]
fn readers_that_do_not_come_cannot_keep_the_buffers_from_others() {
    let options = Options { buffers: 16, buffer_bytes: 512, ..options() };
    let stats = on_shard(options, |host| async move {
        let mut listener = host.listen(anywhere()).unwrap();
        let at = listener.local();
        let mut idle = Vec::new();
        let mut callers = Vec::new();
        for _ in 0..40 {
            let mut caller = TcpStream::connect(at).unwrap();
            idle.push(listener.accept().await.unwrap());
            caller.write_all(&[b'x'; 4096]).unwrap();
            callers.push(caller);
        }
        let (mut one, other) = pair(&host).await;
        host.spawn(echo(other));
        for _ in 0..100 {
            one.send(&mut b"ping".to_vec(), within(&host, 5000)).await.unwrap();
            assert_eq!(&*one.recv(within(&host, 5000)).await.unwrap().unwrap(), b"ping");
        }
        let stats = host.stats();
        for mut conn in idle {
            let mut received = 0;
            while received < 4096 {
                let chunk = conn.recv(within(&host, 5000)).await.unwrap().unwrap();
                assert!(chunk.iter().all(|byte| *byte == b'x'));
                received += chunk.len();
            }
        }
        stats
    });
    assert!(stats.enobufs > 0 && stats.spilled > 0, "{stats:?}");
}

#[test]
fn a_connection_is_usable_after_a_receive_timed_out() {
    on_shard(options(), |host| async move {
        let (mut one, mut other) = pair(&host).await;
        for _ in 0..3 {
            let before = host.now();
            assert_eq!(one.recv(within(&host, 50)).await.err().unwrap().kind(), ErrorKind::TimedOut);
            let waited = host.now().since(before);
            assert!(waited >= Duration::from_millis(50) && waited < Duration::from_secs(5), "{waited:?}");
            other.send(&mut b"late".to_vec(), Time::FAR).await.unwrap();
            assert_eq!(&*one.recv(within(&host, 5000)).await.unwrap().unwrap(), b"late");
        }
        assert_eq!(one.recv(Time(0)).await.err().unwrap().kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn a_send_to_a_peer_that_does_not_read_times_out_and_everything_is_given_back() {
    let stats = on_shard(options(), |host| async move {
        let (mut one, other) = pair(&host).await;
        let before = host.now();
        let error = one.send(&mut vec![0; 256 << 20], within(&host, 100)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(host.now().since(before) < Duration::from_secs(5));
        drop((one, other));
        settle(&host, |stats| stats.connections == 0).await
    });
    assert_eq!((stats.connections, stats.timers, stats.buffers_available), (0, 0, stats.buffers));
}

#[test]
fn futures_may_be_dropped_at_any_moment() {
    let stats = on_shard(options(), |host| async move {
        for round in 0..50 {
            let (mut one, mut other) = pair(&host).await;
            assert!(first_poll(other.recv(Time::FAR)).is_none());
            let mut buffer = vec![round; 8 << 20];
            assert!(first_poll(one.send(&mut buffer, Time::FAR)).is_none());
            assert!(buffer.is_empty());
            assert_eq!(one.send(&mut vec![1], Time::FAR).await.unwrap_err().kind(), ErrorKind::Other);
            assert!(first_poll(host.connect(one.peer(), None, Time::FAR)).is_none());
            assert!(first_poll(host.sleep_until(Time::FAR)).is_none());
            if round % 2 == 0 {
                assert_eq!(other.recv(within(&host, 5000)).await.unwrap().unwrap()[0], round);
            }
        }
        settle(&host, |stats| stats.connections == 0 && stats.operations == 0).await
    });
    assert_eq!((stats.connections, stats.operations, stats.timers), (0, 0, 0));
    assert_eq!(stats.buffers_available, stats.buffers);
}

/// Polls once, then drops.
fn first_poll<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut cx) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[test]
fn a_refused_connect_says_so_and_a_silent_one_times_out() {
    on_shard(options(), |host| async move {
        let closed = TcpListener::bind(anywhere()).unwrap().local_addr().unwrap();
        let refused = host.connect(closed, None, within(&host, 5000)).await;
        assert_eq!(refused.err().unwrap().kind(), ErrorKind::ConnectionRefused);

        let (full, _callers) = full_listener();
        let before = host.now();
        let silent = host.connect(full.local_addr().unwrap(), None, within(&host, 200)).await;
        assert_eq!(silent.err().unwrap().kind(), ErrorKind::TimedOut);
        let waited = host.now().since(before);
        assert!(waited >= Duration::from_millis(200) && waited < Duration::from_secs(5), "{waited:?}");

        let elsewhere = Some("203.0.113.1".parse().unwrap());
        let unowned = host.connect(closed, elsewhere, within(&host, 5000)).await;
        assert_eq!(unowned.err().unwrap().kind(), ErrorKind::AddrNotAvailable);
        let stats = settle(&host, |stats| stats.operations == 0).await;
        assert_eq!(stats.operations, 0);
    });
}

/// A listener whose backlog is full, so that further connects are not answered.
fn full_listener() -> (TcpListener, Vec<socket2::Socket>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&anywhere().into()).unwrap();
    socket.listen(1).unwrap();
    let at = socket.local_addr().unwrap();
    let call = |_| {
        let caller = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        caller.set_nonblocking(true).unwrap();
        let _ = caller.connect(&at);
        caller
    };
    let callers = (0..8).map(call).collect();
    thread::sleep(Duration::from_millis(50));
    (socket.into(), callers)
}

#[test]
fn the_source_address_is_the_one_asked_for() {
    on_shard(options(), |host| async move {
        let mut listener = host.listen(anywhere()).unwrap();
        let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
        let conn = host.connect(listener.local(), Some(from), within(&host, 5000)).await.unwrap();
        let accepted = listener.accept().await.unwrap();
        assert_eq!((accepted.peer().ip(), conn.local().ip()), (from, from));
        assert_eq!(accepted.peer(), conn.local());
        assert_eq!(accepted.local(), conn.peer());
    });
}

#[test]
fn a_connection_is_stale_when_the_peer_has_spoken_or_gone() {
    on_shard(options(), |host| async move {
        let (mut one, mut other) = pair(&host).await;
        assert!(!one.is_stale() && !other.is_stale());
        other.send(&mut b"421 bye".to_vec(), Time::FAR).await.unwrap();
        pause(&host, 20).await;
        assert!(one.is_stale());
        drop(one.recv(Time::FAR).await.unwrap());
        assert!(!one.is_stale());
        drop(other);
        pause(&host, 20).await;
        assert!(one.is_stale());
    });
}

#[test]
fn an_orderly_close_delivers_the_last_words_although_the_peer_was_still_talking() {
    on_shard(options(), |host| async move {
        let mut listener = host.listen(anywhere()).unwrap();
        let at = listener.local();
        let client = thread::spawn(move || {
            let mut socket = TcpStream::connect(at).unwrap();
            socket.write_all(&[b'x'; 1 << 20]).unwrap();
            thread::sleep(Duration::from_millis(100));
            let mut last = String::new();
            socket.read_to_string(&mut last).map(|_| last)
        });
        let mut conn = listener.accept().await.unwrap();
        drop(conn.recv(Time::FAR).await.unwrap());
        conn.send(&mut b"552 too much".to_vec(), Time::FAR).await.unwrap();
        conn.close().await;
        pause(&host, 200).await;
        assert_eq!(client.join().unwrap().unwrap(), "552 too much");
    });
}

#[test]
fn a_close_waits_at_most_about_a_second() {
    on_shard(options(), |host| async move {
        let (one, _other) = pair(&host).await;
        let before = Instant::now();
        one.close().await;
        let waited = before.elapsed();
        assert!(waited > Duration::from_millis(900) && waited < Duration::from_secs(10), "{waited:?}");
    });
}

#[test]
fn a_dropped_listener_refuses_and_its_port_is_free_for_the_next() {
    on_shard(options(), |host| async move {
        let listener = host.listen(anywhere()).unwrap();
        let at = listener.local();
        let waiting = TcpStream::connect(at).unwrap();
        drop(listener);
        let stats = settle(&host, |stats| stats.listeners == 0).await;
        assert_eq!(stats.listeners, 0);
        pause(&host, 20).await;
        assert_eq!(TcpStream::connect(at).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        drop(waiting);
        let mut again = host.listen(at).unwrap();
        let _caller = TcpStream::connect(at).unwrap();
        again.accept().await.unwrap();
    });
}

#[test]
fn two_shards_share_one_address() {
    on_shard(options(), |host| async move {
        let (mut one, mut other) = (host.listen(anywhere()).unwrap(), None);
        let at = one.local();
        other.get_or_insert(host.listen(at).unwrap());
        let callers: Vec<_> = (0..64).map(|_| TcpStream::connect(at).unwrap()).collect();
        pause(&host, 50).await;
        drop(one.accept().await.unwrap());
        drop(other.unwrap().accept().await.unwrap());
        drop(callers);
    });
}
