//! Counts descriptors and changes the process's limit of them, so this is a program of its own with one test.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and its plain threads may sleep"
)]

mod shard;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use host::{Conn, Host, Listener};
use mail::Time;
use shard::{on_shard, options, settle, within};

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A reset instead of a FIN.
fn reset(socket: TcpStream) {
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn nothing_is_left_of_abrupt_closes_and_of_a_time_without_descriptors() {
    // The kernel remembers the limit that held when an accept was started, so it is set first.
    set_limit(4096);
    on_shard(options(), |host| async move {
        let mut listener = host.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let at = listener.local();
        let before = descriptors();
        let callers = thread::spawn(move || call_and_go(at, 2000));
        let mut accepted = 0;
        loop {
            // Who resets at once may be gone before the accept, which then yields the next.
            let Some(mut conn) = one_of(&host, &mut listener).await else {
                if callers.is_finished() {
                    break;
                }
                continue;
            };
            accepted += 1;
            if accepted % 2 == 0 {
                host.spawn(async move {
                    conn.send(&mut b"hello".to_vec(), Time::FAR).await.ok();
                });
            } else {
                let deadline = within(&host, 5000);
                host.spawn(async move { while let Ok(Some(_)) = conn.recv(deadline).await {} });
            }
        }
        callers.join().unwrap();
        let stats = settle(&host, |stats| stats.connections == 0 && descriptors() <= before).await;
        assert_eq!((stats.connections, stats.buffers_available), (0, stats.buffers));
        assert_eq!(descriptors(), before);
        assert!(accepted > 600, "{accepted}");

        without_descriptors(&host, &mut listener).await;
    });
}

/// The next connection, or nothing when none comes any more.
async fn one_of<H: Host>(host: &H, listener: &mut H::Listener) -> Option<H::Conn> {
    let mut accept = std::pin::pin!(listener.accept());
    let mut patience = std::pin::pin!(host.sleep_until(host.now() + Duration::from_secs(1)));
    std::future::poll_fn(|cx| match accept.as_mut().poll(cx) {
        std::task::Poll::Ready(accepted) => std::task::Poll::Ready(Some(accepted.unwrap())),
        std::task::Poll::Pending => patience.as_mut().poll(cx).map(|()| None),
    })
    .await
}

fn call_and_go(at: SocketAddr, count: usize) {
    for turn in 0..count {
        let mut socket = TcpStream::connect(at).unwrap();
        if turn % 2 == 0 {
            // The server may have reset it already.
            let _ = socket.write_all(b"EHLO there\r\n");
        }
        if turn % 3 == 0 {
            reset(socket);
        }
    }
}

/// An accept that fails for want of descriptors says so once per call, does not spin, and goes on afterwards.
async fn without_descriptors<H: Host>(host: &H, listener: &mut H::Listener) {
    let caller = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let taken: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    caller.connect(&listener.local().into()).unwrap();
    let error = listener.accept().await.err().unwrap();
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    host.sleep_until(host.now() + Duration::from_millis(50)).await;
    assert_eq!(listener.accept().await.err().unwrap().raw_os_error(), Some(libc::EMFILE));
    drop(taken);
    host.sleep_until(host.now() + Duration::from_millis(50)).await;
    listener.accept().await.unwrap();
}

/// Sets the soft limit of descriptors.
fn set_limit(soft: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get one rlimit.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = soft;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
}
