//! `mtad user`: looks after a file of users.

use super::random;
use crate::configuration::{UserFile, load_users, parse_users};
use auth::{Cost, ITERATIONS, Key, PasswordHash, ScramVerifier, Secret, Sender, Users};
use clap::{Args, Subcommand};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use toml::Value;

/// Bytes of salt of a new user.
const SALT_BYTES: usize = 16;
/// Longest line that is taken for a password, in bytes; more than any password may have.
const LINE_BYTES_MAX: u64 = 4096;

/// What to do with the users.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add a user; the password is asked for, or read as one line from standard input when that is no terminal.
    ///
    /// The file is made when there is none, and replaced as a whole: a relay that runs sees the old one or the new
    /// one, within two seconds. What is kept of the password are an argon2id hash, for PLAIN and LOGIN, and a verifier
    /// for SCRAM-SHA-256.
    Add {
        /// Its name; upper and lower case are different.
        name: String,
        /// Whom it may send as: an address, a domain, ".example.com" for all domains below it, or "*". May be repeated.
        #[arg(long = "sender", value_name = "SENDER", required = true)]
        senders: Vec<String>,
        /// On whose behalf it sends.
        #[arg(long)]
        tenant: Option<String>,
        /// Where users are kept.
        #[command(flatten)]
        place: Place,
    },
    /// List all users: name, mechanisms, senders, tenant.
    List {
        /// Where users are kept.
        #[command(flatten)]
        place: Place,
    },
    /// Test a password, which is asked for as by `add`; exits with 1 when it is wrong.
    Verify {
        /// The user's name.
        name: String,
        /// Where users are kept.
        #[command(flatten)]
        place: Place,
    },
}

/// Where users are kept.
#[derive(Debug, Args)]
pub struct Place {
    /// The file of users, which auth.users names in the configuration.
    #[arg(long = "file", value_name = "FILE", default_value = "/etc/mtad/users.toml")]
    file: PathBuf,
}

/// Does it; what is to be said, or why it failed.
pub fn run(command: Command) -> Result<String, String> {
    match command {
        Command::Add { name, senders, tenant, place } => add(&place.file, &name, &senders, tenant),
        Command::List { place } => load(&place.file).map(|file| list(&file)),
        Command::Verify { name, place } => verify(&place.file, &name),
    }
}

fn load(file: &Path) -> Result<UserFile, String> {
    load_users(file).map(|(file, _)| file).map_err(|findings| {
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        lines.join("\nmtad: ")
    })
}

fn add(file: &Path, name: &str, senders: &[String], tenant: Option<String>) -> Result<String, String> {
    let name = auth::name(name).map_err(|_| format!("{name:?} is no user name; use printable characters"))?;
    if let Some(bad) = senders.iter().find(|sender| Sender::parse(sender).is_none()) {
        return Err(format!("{bad:?} is neither an address nor a domain, nor *"));
    }
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => first_lines(),
        Err(error) => return Err(format!("{}: {error}", file.display())),
    };
    let known = parse_users(&file.display().to_string(), &text);
    let known = known.map_err(|findings| format!("{}; correct the file first", findings[0]))?.0;
    if known.users.iter().any(|user| user.name == name) {
        return Err(format!("{}: {name:?} is there already; remove it from the file first", file.display()));
    }
    let secret = ask_password(true)?;
    let hash = PasswordHash::new(&secret, &random::<SALT_BYTES>(), Cost::default());
    let hash = hash.ok_or("the password could not be hashed")?;
    let iterations = NonZeroU32::new(ITERATIONS).ok_or("no iterations")?;
    let scram = ScramVerifier::new(&secret, random::<SALT_BYTES>().to_vec(), iterations);
    let senders = Value::Array(senders.iter().map(|sender| Value::String(sender.clone())).collect());
    let mut lines = vec![
        "\n[[user]]".to_owned(),
        format!("name = {}", Value::String(name.to_string())),
        format!("password = \"{}\"", hash.as_str()),
        format!("scram = \"{scram}\""),
        format!("senders = {senders}"),
    ];
    lines.extend(tenant.map(|tenant| format!("tenant = {}", Value::String(tenant))));
    let text = format!("{}\n{}\n", text.trim_end(), lines.join("\n"));
    parse_users("the new file", &text).map_err(|findings| findings[0].to_string())?;
    replace(file, &text).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(format!("{name} is added to {}\n", file.display()))
}

fn first_lines() -> String {
    format!(
        "# Users of mtad. A relay that runs reads this file again when it changes; mtad user add adds to it.\n\
         # The key makes up answers for users that there are not, so that nobody can tell who there is.\n\
         key = \"{}\"\n",
        Key(random()).encode()
    )
}

/// Puts `text` in the place of `file`, as a whole, and for the owner's eyes only.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    // What is there is left over from a program that was stopped, or belongs to one at work: both need a look.
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let written = out.write_all(text.as_bytes()).and_then(|()| out.sync_all());
    if let Err(error) = written.and_then(|()| std::fs::rename(&new, file)) {
        let _ = std::fs::remove_file(&new);
        return Err(error);
    }
    let directory = file.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

fn list(file: &UserFile) -> String {
    let mut text = String::new();
    for user in &file.users {
        let senders: Vec<String> = user.senders.iter().map(ToString::to_string).collect();
        let mut words = vec![user.name.to_string(), senders.join(",")];
        words.extend(user.password.is_some().then(|| "password".to_owned()));
        words.extend(user.scram.is_some().then(|| "scram".to_owned()));
        words.extend(user.tenant.as_ref().map(|tenant| format!("tenant={tenant}")));
        words.extend(user.disabled.then(|| "disabled".to_owned()));
        text.push_str(&words.join("\t"));
        text.push('\n');
    }
    text
}

fn verify(file: &Path, name: &str) -> Result<String, String> {
    let read = load(file)?;
    let prepared = auth::name(name).map_err(|_| format!("{name:?} is no user name"))?;
    let users = Users::new(read.users, Key(random()), Key(random()));
    let secret = ask_password(false)?;
    if users.active(&prepared).is_none() {
        return Err(format!("{name:?} is not there, or is disabled"));
    }
    match users.check(&prepared, &secret) {
        Some(_) => Ok("the password is right\n".to_owned()),
        None => Err("the password is wrong".to_owned()),
    }
}

/// Asks for a password, twice when it is a new one; from a pipe, it is one line.
fn ask_password(is_new: bool) -> Result<Secret, String> {
    let failed = |error: io::Error| format!("the password cannot be read: {error}");
    let text = if io::stdin().is_terminal() {
        let text = rpassword::prompt_password("Password: ").map_err(failed)?;
        if is_new && rpassword::prompt_password("Once more: ").map_err(failed)? != text {
            return Err("the passwords differ".to_owned());
        }
        text
    } else {
        let mut line = String::new();
        io::stdin().lock().take(LINE_BYTES_MAX).read_line(&mut line).map_err(failed)?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    auth::password(&text).map_err(|_| {
        let bytes = auth::PASSWORD_BYTES_MAX;
        format!("a password has 1 to {bytes} bytes, and no characters that Unicode 3.2 does not know")
    })
}
