//! A next hop that answers as large ones do: the replies to what came together leave together, so that counts do not
//! depend on how they were cut.

use host::{Conn, Host, Listener};
use sim::{Lines, SimConn, World};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// How long it waits for the next line.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// What a next hop says to a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Welcome.
    Taken,
    /// Not now, when it is named for the first time; welcome after that.
    Deferred,
    /// Never.
    Refused,
}

/// A next hop; clones are the same one.
#[derive(Clone)]
pub struct Peer(Rc<State>);

struct State {
    answer: Cell<Answer>,
    known: RefCell<BTreeSet<Vec<u8>>>,
    taken: Cell<u64>,
}

impl Peer {
    /// Listens at `at` for as long as the world lasts.
    pub fn start(world: &World, at: SocketAddr) -> Peer {
        let answer = Cell::new(Answer::Taken);
        let peer = Peer(Rc::new(State { answer, known: RefCell::default(), taken: Cell::new(0) }));
        let (world, serving) = (world.clone(), peer.clone());
        world.outside().clone().spawn(async move {
            let mut listener = world.outside().listen(at).expect("each peer has an address of its own");
            while let Ok(conn) = listener.accept().await {
                let (world, peer) = (world.clone(), serving.clone());
                world.outside().clone().spawn(async move {
                    // A connection that breaks shows in what was taken.
                    let _ = peer.talk(&world, conn).await;
                });
            }
        });
        peer
    }

    /// Answers so from now on.
    pub fn set_answer(&self, answer: Answer) {
        self.0.answer.set(answer);
    }

    /// Messages that it took.
    pub fn taken(&self) -> u64 {
        self.0.taken.get()
    }

    async fn talk(&self, world: &World, conn: SimConn) -> io::Result<()> {
        let (mut lines, mut replies, mut accepted) = (Lines::new(conn), Vec::new(), 0);
        replies.extend_from_slice(b"220 mx.example ESMTP\r\n");
        loop {
            lines.send(&std::mem::take(&mut replies), world.now() + PATIENCE).await?;
            loop {
                let Some(line) = lines.line(world.now() + PATIENCE).await? else { return Ok(()) };
                let (text, is_last) = self.reply(&line, &mut accepted);
                replies.extend_from_slice(text);
                if is_last {
                    break;
                }
            }
            if replies.ends_with(b"354 Go on\r\n") {
                lines.send(&std::mem::take(&mut replies), world.now() + PATIENCE).await?;
                while lines.line(world.now() + PATIENCE).await?.is_some_and(|line| line != b".") {}
                self.0.taken.set(self.taken() + 1);
                replies.extend_from_slice(b"250 2.0.0 Ok: queued as 0123456789\r\n");
            } else if replies.starts_with(b"221") {
                lines.send(&replies, world.now() + PATIENCE).await?;
                lines.into_conn().close().await;
                return Ok(());
            }
        }
    }

    /// The reply to a command, and whether it ends a group of commands (RFC 2920 section 3.1).
    fn reply(&self, line: &[u8], accepted: &mut u32) -> (&'static [u8], bool) {
        match line.get(..4).unwrap_or_default() {
            b"EHLO" => (
                b"250-mx.example\r\n250-PIPELINING\r\n250-SIZE 26214400\r\n250 ENHANCEDSTATUSCODES\r\n",
                true,
            ),
            b"MAIL" => {
                *accepted = 0;
                (b"250 2.1.0 Ok\r\n", false)
            }
            b"RCPT" => {
                let answer = self.judge(line);
                *accepted += u32::from(answer == Answer::Taken);
                (text(answer), false)
            }
            b"DATA" if *accepted > 0 => (b"354 Go on\r\n", true),
            b"DATA" => (b"554 5.5.1 No valid recipients\r\n", true),
            b"RSET" => (b"250 2.0.0 Ok\r\n", false),
            b"QUIT" => (b"221 2.0.0 Bye\r\n", true),
            _ => (b"500 5.5.2 What?\r\n", true),
        }
    }

    fn judge(&self, line: &[u8]) -> Answer {
        match self.0.answer.get() {
            Answer::Deferred if !self.0.known.borrow_mut().insert(line.to_vec()) => Answer::Taken,
            answer => answer,
        }
    }
}

fn text(answer: Answer) -> &'static [u8] {
    match answer {
        Answer::Taken => b"250 2.1.5 Ok\r\n",
        Answer::Deferred => b"451 4.7.1 Greylisted, try again later\r\n",
        Answer::Refused => b"550 5.1.1 No such user here\r\n",
    }
}
