//! The file of users: TOML in, users out; read again whenever it changes.

use super::finding::{Finding, Findings, Problem, Severity};
use super::section::{Keyed, Section};
use super::value;
use auth::{Key, User};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use toml::de::DeTable;

/// What a file of users says.
#[derive(Debug, Default, PartialEq)]
pub struct UserFile {
    /// What makes up the salts of users that there are not.
    pub decoy: Option<Key>,
    /// All users.
    pub users: Vec<User>,
}

/// Reads a file of users. Gives it with warnings, or the errors along with the warnings.
pub fn load_users(file: &Path) -> Result<(UserFile, Vec<Finding>), Vec<Finding>> {
    let name = file.display().to_string();
    let text = super::read(file).map_err(|problem| vec![Finding::of_file(&name, problem)])?;
    let (users, mut findings) = parse_users(&name, &text)?;
    let mode = std::fs::metadata(file).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        let what = format!("can be read by others (mode {:04o})", mode & 0o7777);
        let problem = Problem::new(what, format!("chmod 600 {name}"));
        findings.push(Finding::of_file(&name, problem).into_warning());
    }
    Ok((users, findings))
}

/// Parses the `text` of `file`.
pub fn parse_users(file: &str, text: &str) -> Result<(UserFile, Vec<Finding>), Vec<Finding>> {
    let findings = Findings::new(file, text);
    let (document, faults) = DeTable::parse_recoverable(text);
    for fault in &faults {
        let what = fault.message().trim().replace('\n', ", ");
        let offset = fault.span().map_or(0, |span| span.start);
        findings.error_at(offset, "syntax", Problem::new(what, "write it as TOML (https://toml.io)"));
    }
    let mut users = UserFile::default();
    if faults.is_empty() {
        read_document(Section::document(document.get_ref(), &findings), &mut users, &findings);
    }
    let findings = findings.into_list();
    match findings.iter().any(|finding| finding.severity == Severity::Error) {
        false => Ok((users, findings)),
        true => Err(findings),
    }
}

fn read_document(document: Section<'_>, file: &mut UserFile, findings: &Findings<'_>) {
    document.read("key", value::key, &mut file.decoy);
    let mut seen = BTreeMap::new();
    for section in document.sections("user").unwrap_or_default() {
        let key = section.key_of("name");
        let Some(user) = read_user(section, findings) else { continue };
        if seen.insert(user.name.clone(), ()).is_some() {
            let what = format!("{:?} stands here twice", user.name);
            findings.error(&key, Problem::new(what, "remove one of them"));
        }
        file.users.push(user);
    }
    document.end();
}

fn read_user(section: Section<'_>, findings: &Findings<'_>) -> Option<User> {
    let key = section.key.clone();
    let name = section.required("name", value::user_name, "\"name\"");
    let (mut password, mut scram) = (None, None);
    section.read("password", |value| value::password_hash(value).map(Some), &mut password);
    section.read("scram", |value| value::scram_verifier(value).map(Some), &mut scram);
    let senders = section.list("senders", value::sender).unwrap_or_default();
    let mut user = User {
        name: name?,
        password,
        scram,
        senders: senders.into_iter().map(|Keyed { value, .. }| value).collect(),
        tenant: None,
        messages: None,
        recipients: None,
        disabled: false,
    };
    section.read("tenant", value::label, &mut user.tenant);
    section.read("messages", value::rate, &mut user.messages);
    section.read("recipients", value::rate, &mut user.recipients);
    section.read("disabled", value::truth, &mut user.disabled);
    section.end();
    if user.senders.is_empty() && !findings.has_errors_below(&key) {
        let advice = "add senders = [\"user@example.com\"], or [\"*\"] for everybody";
        findings.warn(&key, Problem::new("may send as nobody", advice));
    }
    Some(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn findings(text: &str) -> Vec<String> {
        let found = match parse_users("users.toml", text) {
            Ok((_, warnings)) => warnings,
            Err(errors) => errors,
        };
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_says_all_of_a_user() {
        let text = format!(
            "[[user]]\nname = \"a\"\npassword = \"{HASH}\"\nsenders = [\"a@b.example\", \"*\"]\n\
             tenant = \"t\"\nmessages = \"10/1m\"\nrecipients = \"1000/1h\"\ndisabled = true\n"
        );
        let (file, warnings) = parse_users("users.toml", &text).unwrap();
        assert_eq!((warnings.len(), file.users.len(), &*file.users[0].name), (0, 1, "a"));
        let user = &file.users[0];
        assert_eq!(user.messages.map(|rate| (rate.count, rate.per.as_secs())), Some((10, 60)));
        assert_eq!(user.password.as_ref().map(|hash| hash.as_str()), Some(HASH));
        assert!(user.disabled && user.senders.len() == 2 && user.tenant.as_deref() == Some("t"));
    }

    #[test]
    fn faults_are_told_with_their_line_and_without_secrets() {
        let user = "[[user]]\nname = \"a\"\nsenders = [\"*\"]\n";
        for (text, expected) in [
            (
                format!("{user}password = \"hunter2\"\n"),
                "users.toml:4:12: user.password: is no argon2id hash",
            ),
            (
                format!("{user}scram = \"hunter2\"\n"),
                "users.toml:4:9: user.scram: is no SCRAM-SHA-256 verifier",
            ),
            (format!("{user}{user}"), "users.toml:5:8: user.name: \"a\" stands here twice"),
            (format!("{user}messages = \"10\"\n"), "users.toml:4:12: user.messages: \"10\" is no rate"),
            (format!("{user}pasword = \"x\"\n"), "users.toml:4:1: user.pasword: is no key of mtad"),
            ("[[user]]\nname = \"a\"\n".into(), "users.toml:1:1: warning: user: may send as nobody"),
            ("[[user]\n".into(), "users.toml:1:"),
        ] {
            let found = findings(&text);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?} instead of {expected}");
            assert!(!found[0].contains("hunter2"));
        }
    }
}
