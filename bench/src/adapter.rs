//! Relays under test: started, told what they shall do, and stopped by adapters, which are programs of their
//! own (bench/adapters/README.md has the contract).

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Deserialize;

use crate::identity;
use crate::sys;
use crate::undo::Undo;

/// What an adapter says about its relay.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Description {
    /// The relay's name.
    pub name: String,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// What its positive reply to a message promises.
    #[serde(default)]
    pub durability: String,
    /// Whether it can be started on this machine.
    pub available: bool,
    /// Why not.
    #[serde(default)]
    pub reason: String,
}

/// A program that knows how to run one kind of relay.
#[derive(Clone, Debug)]
pub struct Adapter {
    program: PathBuf,
    /// What it said about the relay.
    pub description: Description,
}

/// What a relay is to be set up for.
#[derive(Clone, Debug)]
pub struct Setup {
    /// A directory of its own on the disk under test.
    pub directory: PathBuf,
    /// Where it listens.
    pub port: u16,
    /// Another free port, for its own purposes.
    pub spare_port: u16,
    /// Where mail goes.
    pub next_hop: SocketAddr,
    /// Where mail for a domain and those below it goes instead.
    pub routes: Vec<(String, SocketAddr)>,
    /// Clients connected at the same time.
    pub sessions: usize,
    /// Connections to one next hop at the same time.
    pub connections: u32,
    /// Seconds from a temporary failure to the next attempt; 0 leaves it to the relay.
    pub retry: u32,
}

#[derive(Deserialize)]
struct Started {
    pids: Vec<u32>,
    #[serde(default)]
    configuration: Vec<PathBuf>,
}

/// A relay that runs. It is stopped and its directory removed when this is dropped.
pub struct Relay {
    adapter: Adapter,
    setup: Setup,
    /// Its processes.
    pub pids: Vec<u32>,
    /// A hash of its configuration, the same in all rounds.
    pub configuration: String,
    _undo: Undo,
}

impl Adapter {
    /// Finds an adapter by its name in `adapters`, or by its path, and asks it about its relay.
    pub fn find(name: &str, adapters: &Path) -> io::Result<Self> {
        let program = if name.contains('/') { PathBuf::from(name) } else { adapters.join(name) };
        let program = fs::canonicalize(&program)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.display())))?;
        let text = answer(&program, "describe", Command::new(&program).arg("describe"))?;
        Ok(Self { description: parse(&program, "describe", &text)?, program })
    }

    /// Starts the relay in a fresh directory.
    pub fn start(&self, setup: Setup) -> io::Result<Relay> {
        fs::create_dir_all(&setup.directory)?;
        let (adapter, old) = (self.clone(), setup.clone());
        // What goes wrong while cleaning up would hide what was wrong before.
        let undo = Undo::new(move || {
            let _ = adapter.call("stop", &old);
            let _ = fs::remove_dir_all(&old.directory);
        });
        let started = parse::<Started>(&self.program, "start", &self.call("start", &setup)?)?;
        let configuration = fingerprint(&started.configuration, &setup)?;
        Ok(Relay { adapter: self.clone(), setup, pids: started.pids, configuration, _undo: undo })
    }

    fn call(&self, verb: &str, setup: &Setup) -> io::Result<String> {
        answer(&self.program, verb, &mut self.command(verb, setup))
    }

    fn command(&self, verb: &str, setup: &Setup) -> Command {
        let routes: Vec<_> = setup.routes.iter().map(|(domain, hop)| format!("{domain}={hop}")).collect();
        let mut command = Command::new(&self.program);
        command
            .arg(verb)
            .env("BENCH_DIRECTORY", &setup.directory)
            .env("BENCH_PORT", setup.port.to_string())
            .env("BENCH_SPARE_PORT", setup.spare_port.to_string())
            .env("BENCH_NEXT_HOP", setup.next_hop.to_string())
            .env("BENCH_ROUTES", routes.join(","))
            .env("BENCH_SESSIONS", setup.sessions.to_string())
            .env("BENCH_CONNECTIONS", setup.connections.to_string())
            .env("BENCH_RETRY", setup.retry.to_string());
        command
    }
}

impl Relay {
    /// Ends all its processes at once, as a crash would.
    pub fn kill(&self) -> io::Result<()> {
        self.adapter.call("kill", &self.setup).map(drop)
    }

    /// Begins to start it again in the same directory; [`Relay::resumed`] is to follow.
    pub fn resume(&self) -> io::Result<Child> {
        let mut command = self.adapter.command("start", &self.setup);
        sys::unblock_signals(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    }

    /// Waits until the adapter says that the relay runs again.
    pub fn resumed(&mut self, child: Child) -> io::Result<()> {
        let program = &self.adapter.program;
        let text = text_of(program, "start", child.wait_with_output()?)?;
        self.pids = parse::<Started>(program, "start", &text)?.pids;
        Ok(())
    }

    /// How many messages it says that it has queued.
    pub fn queued(&self) -> io::Result<u64> {
        parse(&self.adapter.program, "queue", &self.adapter.call("queue", &self.setup)?)
    }
}

fn answer(program: &Path, verb: &str, command: &mut Command) -> io::Result<String> {
    sys::unblock_signals(command);
    let output = command.stdin(Stdio::null()).output();
    let output = output
        .map_err(|error| io::Error::new(error.kind(), format!("{} {verb}: {error}", program.display())))?;
    text_of(program, verb, output)
}

fn text_of(program: &Path, verb: &str, output: std::process::Output) -> io::Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{} {verb}: {}: {}", program.display(), output.status, said.trim())))
}

fn parse<T: for<'text> Deserialize<'text>>(program: &Path, verb: &str, text: &str) -> io::Result<T> {
    serde_json::from_str(text).map_err(|error| {
        let what = format!("{} {verb}: not the answer that the contract wants: {error}", program.display());
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}

/// A hash of these files, blind to what changes from round to round: the directory and the ports.
fn fingerprint(files: &[PathBuf], setup: &Setup) -> io::Result<String> {
    if files.is_empty() {
        return Ok(String::new());
    }
    let mut text = String::new();
    for file in files {
        let content = fs::read(file)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))?;
        text.push_str(&String::from_utf8_lossy(&content));
    }
    Ok(format!("{:016x}", identity::hash(neutral(&text, setup).as_bytes())))
}

fn neutral(text: &str, setup: &Setup) -> String {
    let ports = [(setup.port, "PORT"), (setup.spare_port, "SPARE_PORT"), (setup.next_hop.port(), "HOP_PORT")];
    let routes = setup.routes.iter().map(|(_, hop)| (hop.port(), "ROUTE_PORT"));
    let mut text = text.replace(&*setup.directory.to_string_lossy(), "DIRECTORY");
    let mut replaced = Vec::new();
    for (port, name) in ports.into_iter().chain(routes) {
        if !replaced.contains(&port) {
            replaced.push(port);
            text = text.replace(&port.to_string(), name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(directory: &str, port: u16) -> Setup {
        let hop = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Setup {
            directory: directory.into(),
            port,
            spare_port: port + 1,
            next_hop: hop(port + 2),
            routes: vec![("a.example".into(), hop(port + 3)), ("b.example".into(), hop(port + 3))],
            sessions: 100,
            connections: 20,
            retry: 0,
        }
    }

    #[test]
    fn the_configuration_is_the_same_in_all_rounds() {
        let text = |directory: &str, port: u16| {
            let configuration = format!("{directory}/q {port} {} {} {} 20", port + 1, port + 2, port + 3);
            neutral(&configuration, &setup(directory, port))
        };
        assert_eq!(text("/disk/1", 11000), "DIRECTORY/q PORT SPARE_PORT HOP_PORT ROUTE_PORT 20");
        assert_eq!(text("/disk/1", 11000), text("/disk/22", 22000));
    }

    #[test]
    fn answers_follow_the_contract() {
        let program = Path::new("adapter");
        let full =
            r#"{"name": "a", "version": "1", "durability": "synced", "available": true, "reason": ""}"#;
        let description: Description = parse(program, "describe", full).unwrap();
        assert_eq!((description.name.as_str(), description.available), ("a", true));
        let short: Description =
            parse(program, "describe", r#"{"name": "b", "available": false, "reason": "why"}"#).unwrap();
        assert_eq!((short.reason.as_str(), short.version.as_str()), ("why", ""));
        let started: Started = parse(program, "start", r#"{"pids": [1, 2]}"#).unwrap();
        assert_eq!((started.pids, started.configuration.len()), (vec![1, 2], 0));
        assert_eq!(parse::<u64>(program, "queue", "17\n").unwrap(), 17);
        for wrong in ["", "{}", "{\"pids\": 1}", "no JSON"] {
            let error = parse::<Started>(program, "start", wrong).err().unwrap();
            assert!(error.to_string().starts_with("adapter start: not the answer"), "{error}");
        }
    }

    #[test]
    fn an_adapter_that_fails_is_quoted() {
        let directory = std::env::temp_dir().join(format!("mtad-bench-adapter-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("bad"), "#!/bin/sh\necho out of luck >&2\nexit 3\n").unwrap();
        Command::new("chmod").arg("+x").arg(directory.join("bad")).status().unwrap();
        let error = Adapter::find("bad", &directory).err().unwrap().to_string();
        assert!(error.contains("out of luck") && error.contains("describe"), "{error}");
        let error = Adapter::find("absent", &directory).err().unwrap().to_string();
        assert!(error.contains("absent"), "{error}");
        fs::remove_dir_all(&directory).unwrap();
    }
}
