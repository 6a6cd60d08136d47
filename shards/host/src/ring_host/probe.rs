//! What the machine gives, asked before any shard is started, so that an operator reads a sentence instead of a
//! panic.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use io_uring::{IoUring, Probe, cqueue, opcode, squeue, types};

use super::pool::{self, Memory, Pool};
use super::ring;

/// Locked memory below which glommio makes no executor, in bytes.
const MEMLOCK_MIN: u64 = 512 << 10;
/// Descriptors below which a relay is cramped.
const DESCRIPTORS_MIN: u64 = 4096;
/// How long one feature may take to show itself.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// One thing that a shard needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was tried.
    pub name: &'static str,
    /// Whether the machine gives it.
    pub ok: bool,
    /// One sentence: what was found, and when it is missing, what to do.
    pub advice: String,
}

/// Tries everything that a shard needs. When there is no io_uring at all, what builds on it is not tried.
pub fn probe() -> Vec<Finding> {
    let mut findings = limits().to_vec();
    let uring = match ring::build() {
        Ok(uring) => uring,
        Err(error) => {
            findings.push(Finding { name: "io_uring", ok: false, advice: why_no_ring(&error) });
            return findings;
        }
    };
    findings.push(good("io_uring", "a ring with the flags that shards use can be made."));
    findings.extend(opcodes(&uring));
    findings.extend(features(&uring));
    findings.push(behaviour("provided buffers and multishot receive", multishot_receive()));
    findings.push(behaviour("multishot accept", ring::build().and_then(multishot_accept)));
    findings
}

fn good(name: &'static str, advice: &str) -> Finding {
    Finding { name, ok: true, advice: advice.to_owned() }
}

fn limits() -> [Finding; 2] {
    [
        limit(
            "RLIMIT_MEMLOCK",
            libc::RLIMIT_MEMLOCK,
            MEMLOCK_MIN,
            "LimitMEMLOCK=64M in the unit file, or ulimit -l",
        ),
        limit(
            "RLIMIT_NOFILE",
            libc::RLIMIT_NOFILE,
            DESCRIPTORS_MIN,
            "LimitNOFILE=1048576 in the unit file, or ulimit -n",
        ),
    ]
}

fn limit(name: &'static str, which: libc::__rlimit_resource_t, needed: u64, raise: &str) -> Finding {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit, and `limit` is one.
    if unsafe { libc::getrlimit(which, &raw mut limit) } != 0 {
        return Finding {
            name,
            ok: false,
            advice: format!("cannot be read: {}.", io::Error::last_os_error()),
        };
    }
    let found = limit.rlim_cur;
    if found >= needed {
        return Finding { name, ok: true, advice: format!("{found}, and at least {needed} is needed.") };
    }
    Finding {
        name,
        ok: false,
        advice: format!("{found}, but at least {needed} is needed: raise it by {raise}."),
    }
}

/// Tells apart what keeps io_uring away.
fn why_no_ring(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => why_denied(),
        Some(libc::ENOSYS) => {
            "the kernel has no io_uring (CONFIG_IO_URING), or a sandbox such as gVisor hides it: \
                               use another kernel or leave the sandbox."
                .to_owned()
        }
        Some(libc::ENOMEM) => {
            "no memory for a ring: raise RLIMIT_MEMLOCK or the memory limit of the control group.".to_owned()
        }
        Some(libc::EINVAL) => {
            "the kernel does not know the flags that shards use: it must be 6.1 or newer.".to_owned()
        }
        Some(libc::EMFILE | libc::ENFILE) => {
            "out of descriptors: raise RLIMIT_NOFILE or fs.file-max.".to_owned()
        }
        _ => format!("io_uring_setup failed: {error}."),
    }
}

fn why_denied() -> String {
    let setting = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    match setting.trim() {
        "" | "0" => "a seccomp filter denies io_uring (that of Docker does by default): run with a profile that allows \
                     io_uring_setup, io_uring_enter and io_uring_register."
            .to_owned(),
        "1" => "kernel.io_uring_disabled is 1: set it to 0, or run in the group of kernel.io_uring_group.".to_owned(),
        other => format!("kernel.io_uring_disabled is {other}: set it to 0."),
    }
}

fn opcodes(uring: &IoUring) -> Vec<Finding> {
    let mut known = Probe::new();
    if let Err(error) = uring.submitter().register_probe(&mut known) {
        return vec![Finding {
            name: "opcodes",
            ok: false,
            advice: format!("cannot be asked for: {error}."),
        }];
    }
    let used = [
        ("ACCEPT", opcode::Accept::CODE),
        ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
        ("CLOSE", opcode::Close::CODE),
        ("CONNECT", opcode::Connect::CODE),
        ("FSYNC", opcode::Fsync::CODE),
        ("MKDIRAT", opcode::MkDirAt::CODE),
        ("OPENAT", opcode::OpenAt::CODE),
        ("POLL_ADD", opcode::PollAdd::CODE),
        ("READ", opcode::Read::CODE),
        ("RECV", opcode::Recv::CODE),
        ("RENAMEAT", opcode::RenameAt::CODE),
        ("SEND", opcode::Send::CODE),
        ("UNLINKAT", opcode::UnlinkAt::CODE),
        ("WRITE", opcode::Write::CODE),
    ];
    used.map(|(name, code)| present(name, known.is_supported(code))).into()
}

fn features(uring: &IoUring) -> [Finding; 3] {
    let params = uring.params();
    [
        present("EXT_ARG (waiting with a time-out)", params.is_feature_ext_arg()),
        present("NODROP (no completion is lost)", params.is_feature_nodrop()),
        present("CQE_SKIP (silent cancellation)", params.is_feature_skip_cqe_on_success()),
    ]
}

fn present(name: &'static str, ok: bool) -> Finding {
    let advice = if ok { "known to the kernel." } else { "unknown to the kernel: it must be 6.1 or newer." };
    Finding { name, ok, advice: advice.to_owned() }
}

fn behaviour(name: &'static str, tried: io::Result<bool>) -> Finding {
    match tried {
        Ok(true) => good(name, "works."),
        Ok(false) => Finding {
            name,
            ok: false,
            advice: "does not go on after the first: the kernel must be 6.1 or newer.".to_owned(),
        },
        Err(error) => {
            Finding { name, ok: false, advice: format!("failed ({error}): the kernel must be 6.1 or newer.") }
        }
    }
}

/// Receives one byte and looks whether the receive goes on.
fn multishot_receive() -> io::Result<bool> {
    // Made first, so that it outlives the ring on every way out.
    let memory = Rc::new(Memory::new(pool::BUFFERS_MIN, pool::BUFFER_BYTES_MIN));
    let mut uring = ring::build()?;
    let _pool = Pool::register(memory.clone(), &uring.submitter())?;
    let (ours, mut theirs) = UnixStream::pair()?;
    theirs.write_all(b"x")?;
    let completion =
        first(&mut uring, opcode::RecvMulti::new(types::Fd(ours.as_raw_fd()), pool::GROUP).build())?;
    Ok(completion.result() == 1 && cqueue::more(completion.flags()))
}

/// Accepts one connection and looks whether the accept goes on.
fn multishot_accept(mut uring: IoUring) -> io::Result<bool> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut caller = TcpStream::connect(listener.local_addr()?)?;
    let completion = first(&mut uring, opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).build())?;
    if completion.result() < 0 {
        return Err(io::Error::from_raw_os_error(-completion.result()));
    }
    // SAFETY: an accept hands a new descriptor over, and nobody else knows it.
    drop(unsafe { OwnedFd::from_raw_fd(completion.result()) });
    caller.set_read_timeout(Some(ANSWER_MAX))?;
    let ended = matches!(caller.read(&mut [0]), Ok(0));
    Ok(ended && cqueue::more(completion.flags()))
}

/// Hands one entry over and waits for its first completion.
fn first(uring: &mut IoUring, entry: squeue::Entry) -> io::Result<cqueue::Entry> {
    // SAFETY: the callers keep the socket and the pool until the ring is gone.
    unsafe { uring.submission().push(&entry) }.map_err(io::Error::other)?;
    let timespec = types::Timespec::from(ANSWER_MAX);
    uring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&timespec))?;
    uring.completion().next().ok_or_else(|| io::ErrorKind::TimedOut.into())
}
