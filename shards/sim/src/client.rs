//! A scripted client: hands messages to the relay, as well or badly as its plan says.

use crate::journal::Journal;
use crate::lines::Lines;
use crate::random::{Chance, Span};
use crate::world::World;
use host::Host;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// The header that carries a message's token, in hexadecimal.
pub const TOKEN_HEADER: &str = "X-Token";

/// A message to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Unique in its world.
    pub token: u64,
    /// Reverse-path; not empty, so that there is somebody to report to.
    pub sender: String,
    /// Forward-paths.
    pub recipients: Vec<String>,
    /// Header and body; lines end with CRLF, the last one too.
    pub content: Vec<u8>,
}

impl Submission {
    /// A message whose header carries its token, followed by `body` (lines ended by CRLF).
    pub fn new(token: u64, sender: &str, recipients: &[String], body: &[u8]) -> Submission {
        let header =
            format!("From: <{sender}>\r\n{TOKEN_HEADER}: {token:016x}\r\nSubject: a message\r\n\r\n");
        let content = [header.as_bytes(), body].concat();
        Submission { token, sender: sender.to_owned(), recipients: recipients.to_vec(), content }
    }
}

/// How a client works.
#[derive(Clone, Debug)]
pub struct Client {
    /// The relay.
    pub relay: SocketAddr,
    /// The address that it connects from.
    pub from: Option<IpAddr>,
    /// Sends MAIL, RCPT and DATA together where the relay offers PIPELINING.
    pub pipelines: bool,
    /// Uses BDAT where the relay offers CHUNKING.
    pub chunks: bool,
    /// Messages in one connection; at least 1.
    pub per_connection: usize,
    /// How often it tries each message; at least 1.
    pub attempts: usize,
    /// Between connections.
    pub pause: Span,
    /// Goes away in the middle of a message's content.
    pub abandons: Chance,
    /// How long it waits for a reply.
    pub patience: Duration,
}

/// What a transaction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Accepted, or refused for good.
    Settled,
    /// To be tried again.
    Again,
}

type Waiting = VecDeque<(Rc<Submission>, usize)>;

impl Client {
    /// A client that does everything right, one message at a time.
    pub fn plain(relay: SocketAddr) -> Client {
        Client {
            relay,
            from: None,
            pipelines: false,
            chunks: false,
            per_connection: 1,
            attempts: 1,
            pause: Span::millis(0, 10),
            abandons: Chance::NEVER,
            patience: Duration::from_secs(300),
        }
    }

    /// Sends all of `mail`, and tries each again while it may.
    pub async fn run(&self, world: &World, journal: &Journal, mail: Vec<Rc<Submission>>) {
        let mut waiting: Waiting = mail.into_iter().map(|submission| (submission, self.attempts)).collect();
        while let Some((submission, left)) = waiting.pop_front() {
            match self.open(world).await {
                Ok(visit) => {
                    waiting.push_front((submission, left));
                    self.visit(visit, journal, &mut waiting).await;
                }
                Err(_) => try_again(&mut waiting, submission, left),
            }
            world.sleep(world.workload().span(self.pause)).await;
        }
    }

    async fn open<'w>(&self, world: &'w World) -> io::Result<Visit<'w>> {
        let deadline = world.now() + self.patience;
        let conn = world.outside().connect(self.relay, self.from, deadline).await?;
        let mut visit =
            Visit { world, lines: Lines::new(conn), patience: self.patience, extensions: Vec::new() };
        visit.expect(220).await?;
        visit.extensions = visit.ask("EHLO client.example\r\n", 250).await?;
        Ok(visit)
    }

    /// Sends messages over one connection until enough were sent or something fails.
    async fn visit(&self, mut visit: Visit<'_>, journal: &Journal, waiting: &mut Waiting) {
        for _ in 0..self.per_connection {
            let Some((submission, left)) = waiting.pop_front() else { break };
            let verdict = visit.transact(self, journal, &submission).await;
            if !matches!(verdict, Ok(Verdict::Settled)) {
                try_again(waiting, submission, left);
            }
            if verdict.is_err() {
                return;
            }
        }
        let _ = visit.ask("QUIT\r\n", 221).await;
        host::Conn::close(visit.lines.into_conn()).await;
    }
}

fn try_again(waiting: &mut Waiting, submission: Rc<Submission>, left: usize) {
    if left > 1 {
        waiting.push_back((submission, left - 1));
    }
}

/// One connection to the relay.
struct Visit<'w> {
    world: &'w World,
    lines: Lines,
    patience: Duration,
    extensions: Vec<String>,
}

impl Visit<'_> {
    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.lines.send(bytes, self.world.now() + self.patience).await
    }

    async fn reply(&mut self) -> io::Result<(u16, Vec<String>)> {
        let reply = self.lines.reply(self.world.now() + self.patience).await?;
        // RFC 5321 section 3.8: 421 says that the connection is about to close, whatever was asked.
        if reply.0 == 421 { Err(ErrorKind::ConnectionAborted.into()) } else { Ok(reply) }
    }

    async fn expect(&mut self, code: u16) -> io::Result<Vec<String>> {
        match self.reply().await? {
            (found, texts) if found == code => Ok(texts),
            _ => Err(ErrorKind::ConnectionAborted.into()),
        }
    }

    async fn ask(&mut self, command: &str, code: u16) -> io::Result<Vec<String>> {
        self.send(command.as_bytes()).await?;
        self.expect(code).await
    }

    fn offers(&self, extension: &str) -> bool {
        self.extensions.iter().any(|line| line.split(' ').next() == Some(extension))
    }

    async fn transact(
        &mut self,
        plan: &Client,
        journal: &Journal,
        mail: &Rc<Submission>,
    ) -> io::Result<Verdict> {
        let chunks = plan.chunks && self.offers("CHUNKING");
        let pipelines = plan.pipelines && self.offers("PIPELINING");
        let mut commands = vec![self.mail_command(mail)];
        commands.extend(mail.recipients.iter().map(|recipient| format!("RCPT TO:<{recipient}>\r\n")));
        commands.extend((!chunks).then(|| "DATA\r\n".to_owned()));
        let codes = self.commands(&commands, pipelines).await?;
        let refused = codes.iter().take(1 + mail.recipients.len()).any(|code| code / 100 == 4);
        let again = if refused { Verdict::Again } else { Verdict::Settled };
        let accepted: Vec<String> = mail
            .recipients
            .iter()
            .zip(&codes[1..])
            .filter(|(_, code)| **code == 250)
            .map(|(r, _)| r.clone())
            .collect();
        let goes_on = codes[0] == 250 && !accepted.is_empty();
        if !chunks && codes.last() == Some(&354) {
            return self.data(plan, journal, mail, goes_on.then_some(accepted)).await;
        }
        if !goes_on || !chunks {
            self.ask("RSET\r\n", 250).await?;
            let is_temporary = codes.last().is_some_and(|code| code / 100 == 4);
            return Ok(if is_temporary { Verdict::Again } else { again });
        }
        self.chunks(plan, journal, mail, accepted).await
    }

    fn mail_command(&self, mail: &Submission) -> String {
        let is_eight_bit = self.offers("8BITMIME") && !mail.content.is_ascii();
        let body = if is_eight_bit { " BODY=8BITMIME" } else { "" };
        let size = if self.offers("SIZE") { format!(" SIZE={}", mail.content.len()) } else { String::new() };
        format!("MAIL FROM:<{}>{body}{size}\r\n", mail.sender)
    }

    /// The codes of the replies to `commands`; without pipelining it does not ask for what is pointless.
    async fn commands(&mut self, commands: &[String], pipelines: bool) -> io::Result<Vec<u16>> {
        let mut codes = Vec::new();
        if pipelines {
            self.send(commands.concat().as_bytes()).await?;
            for _ in commands {
                codes.push(self.reply().await?.0);
            }
            return Ok(codes);
        }
        for command in commands {
            let is_pointless = codes.first().is_some_and(|code| *code != 250)
                || (command.starts_with("DATA") && !codes[1..].contains(&250));
            if is_pointless {
                codes.push(503);
                continue;
            }
            self.send(command.as_bytes()).await?;
            codes.push(self.reply().await?.0);
        }
        Ok(codes)
    }

    /// Sends the content after 354. Without recipients only the end, as RFC 2920 section 3.1 wants it.
    async fn data(
        &mut self,
        plan: &Client,
        journal: &Journal,
        mail: &Rc<Submission>,
        accepted: Option<Vec<String>>,
    ) -> io::Result<Verdict> {
        let Some(accepted) = accepted else {
            self.send(b".\r\n").await?;
            self.reply().await?;
            return Ok(Verdict::Again);
        };
        let wire = with_dots(&mail.content);
        if self.world.workload().hits(plan.abandons) {
            let cut = self.world.workload().below(wire.len());
            self.send(&wire[..cut]).await?;
            return Err(ErrorKind::ConnectionAborted.into());
        }
        journal.offer(mail, &accepted);
        self.send(&wire).await?;
        self.end(journal, mail, &accepted).await
    }

    async fn chunks(
        &mut self,
        plan: &Client,
        journal: &Journal,
        mail: &Rc<Submission>,
        accepted: Vec<String>,
    ) -> io::Result<Verdict> {
        let cut = self.world.workload().below(mail.content.len());
        let (first, last) = mail.content.split_at(cut);
        self.send(&[format!("BDAT {}\r\n", first.len()).as_bytes(), first].concat()).await?;
        let (code, _) = self.reply().await?;
        if self.world.workload().hits(plan.abandons) {
            self.send(format!("BDAT {} LAST\r\n", last.len()).as_bytes()).await?;
            return Err(ErrorKind::ConnectionAborted.into());
        }
        if code != 250 {
            self.ask("RSET\r\n", 250).await?;
            return Ok(if code / 100 == 4 { Verdict::Again } else { Verdict::Settled });
        }
        journal.offer(mail, &accepted);
        self.send(&[format!("BDAT {} LAST\r\n", last.len()).as_bytes(), last].concat()).await?;
        self.end(journal, mail, &accepted).await
    }

    /// Reads the reply to the end of the content.
    async fn end(
        &mut self,
        journal: &Journal,
        mail: &Submission,
        accepted: &[String],
    ) -> io::Result<Verdict> {
        match self.reply().await?.0 {
            250 => {
                journal.acknowledge(mail.token, accepted);
                Ok(Verdict::Settled)
            }
            code if code / 100 == 5 => Ok(Verdict::Settled),
            _ => Ok(Verdict::Again),
        }
    }
}

/// The content as DATA carries it (RFC 5321 section 4.5.2), its end included.
fn with_dots(content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(content.len() + 64);
    let mut starts_line = true;
    for piece in content.split_inclusive(|byte| *byte == b'\n') {
        if starts_line && piece[0] == b'.' {
            wire.push(b'.');
        }
        wire.extend_from_slice(piece);
        starts_line = piece.ends_with(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_doubled_only_at_the_start_of_lines() {
        assert_eq!(with_dots(b".a.\r\n..\r\n\n.\r\n"), b"..a.\r\n...\r\n\n.\r\n.\r\n");
        assert_eq!(with_dots(b""), b".\r\n");
    }
}
