//! Command lines (RFC 5321 section 4.1), parsed without copying.

use mail::parameters::{is_envelope_id, is_original};
use mail::{BodyType, ByMode, Notify, Return, xtext};
use memchr::memchr3;

/// A command line that could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `EHLO` and the client's name: printable, without spaces, never empty.
    Ehlo(&'a str),
    /// `HELO` and the client's name, as for [`Command::Ehlo`].
    Helo(&'a str),
    /// `MAIL FROM:`.
    Mail(Mail<'a>),
    /// `RCPT TO:`.
    Rcpt(Rcpt<'a>),
    /// `AUTH` (RFC 4954 section 4).
    Auth {
        /// The name of the mechanism, as it came.
        mechanism: &'a str,
        /// The initial response, still encoded; `=` stands for an empty one.
        initial: Option<&'a str>,
    },
    /// `DATA`.
    Data,
    /// `BDAT` (RFC 3030 section 2).
    Bdat(Chunk),
    /// `RSET`.
    Rset,
    /// `NOOP`, whatever its argument.
    Noop,
    /// `VRFY` with an argument.
    Vrfy,
    /// `HELP`, whatever its argument.
    Help,
    /// `QUIT`.
    Quit,
}

/// The argument of `MAIL` (RFC 5321 section 4.1.1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mail<'a> {
    /// The path between the angle brackets, without a source route; empty for the null reverse-path.
    pub path: &'a str,
    /// `SIZE=`, in bytes; what no number can hold is `u64::MAX` (RFC 1870).
    pub size: Option<u64>,
    /// `BODY=` (RFC 6152, RFC 3030 section 3).
    pub body: BodyType,
    /// `SMTPUTF8` (RFC 6531).
    pub utf8: bool,
    /// Whether there was an `AUTH=` in form (RFC 4954 section 5). Whom it names is not kept: nobody is trusted to
    /// speak for others.
    pub auth: bool,
    /// `RET` (RFC 3461 section 4.3).
    pub returns: Option<Return>,
    /// `ENVID` (RFC 3461 section 4.4), in xtext.
    pub envelope_id: Option<&'a str>,
    /// `BY` (RFC 2852 section 4).
    pub by: Option<By>,
    /// `MT-PRIORITY` (RFC 6710 section 4), from -9 to 9.
    pub priority: Option<i8>,
}

/// The value of `BY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct By {
    /// In how many seconds from MAIL on the message shall be delivered; at least 1 with [`ByMode::Return`].
    pub seconds: i64,
    /// What happens then.
    pub mode: ByMode,
    /// Whether each relay on the way shall report.
    pub trace: bool,
}

/// The argument of `RCPT` (RFC 5321 section 4.1.1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rcpt<'a> {
    /// The path between the angle brackets, without a source route. Nothing is known of it yet: whether it may hold
    /// UTF-8 depends on the transaction.
    pub path: &'a str,
    /// `NOTIFY` (RFC 3461 section 4.1).
    pub notify: Option<Notify>,
    /// `ORCPT` (RFC 3461 section 4.2), in xtext or, of the type `utf-8`, in UTF-8.
    pub original: Option<&'a str>,
}

/// The argument of `BDAT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// How many bytes follow the line.
    pub bytes: u64,
    /// `LAST`: the message ends with them.
    pub is_last: bool,
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// NUL, CR or LF inside, or no UTF-8.
    Bytes,
    /// No verb that we have heard of.
    Unknown,
    /// A known verb that this server does not offer.
    NotImplemented,
    /// The argument is missing, or wrong, or there should be none.
    Argument,
    /// A parameter of MAIL or RCPT that was not announced.
    Parameter,
    /// `BDAT` without a size that can be read, so that nobody knows where the next command begins.
    ChunkSize,
}

/// Longest name in EHLO and HELO, in bytes (RFC 5321 section 4.5.3.1.2).
const NAME_BYTES_MAX: usize = 255;
/// Most digits in `SIZE=` (RFC 1870 section 5).
const SIZE_DIGITS_MAX: usize = 20;
/// Most digits in the size of a chunk. RFC 3030 sets no bound; so many count more bytes than anybody sends.
const CHUNK_DIGITS_MAX: usize = 18;

/// Most digits in `BY=` (RFC 2852 section 4).
const BY_DIGITS_MAX: usize = 9;

#[derive(Clone, Copy)]
enum Verb {
    Ehlo,
    Helo,
    Mail,
    Rcpt,
    Auth,
    Data,
    Bdat,
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
    NotImplemented,
}

/// The frequent ones first.
const VERBS: [(&str, Verb); 17] = [
    ("RCPT", Verb::Rcpt),
    ("MAIL", Verb::Mail),
    ("DATA", Verb::Data),
    ("BDAT", Verb::Bdat),
    ("EHLO", Verb::Ehlo),
    ("QUIT", Verb::Quit),
    ("RSET", Verb::Rset),
    ("HELO", Verb::Helo),
    ("NOOP", Verb::Noop),
    ("VRFY", Verb::Vrfy),
    ("HELP", Verb::Help),
    ("EXPN", Verb::NotImplemented),
    ("ETRN", Verb::NotImplemented),
    ("TURN", Verb::NotImplemented),
    ("ATRN", Verb::NotImplemented),
    ("AUTH", Verb::Auth),
    ("STARTTLS", Verb::NotImplemented),
];

/// Reads `line`, which comes without its CRLF.
pub fn parse(line: &[u8]) -> Result<Command<'_>, CommandError> {
    if memchr3(b'\0', b'\r', b'\n', line).is_some() {
        return Err(CommandError::Bytes);
    }
    let line = core::str::from_utf8(line).map_err(|_| CommandError::Bytes)?;
    let (word, argument) = line.split_once(' ').unwrap_or((line, ""));
    let argument = argument.trim_matches(' ');
    let verb = VERBS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, verb)| *verb);
    match verb.ok_or(CommandError::Unknown)? {
        Verb::Ehlo => client_name(argument).map(Command::Ehlo),
        Verb::Helo => client_name(argument).map(Command::Helo),
        Verb::Mail => mail(argument).map(Command::Mail),
        Verb::Rcpt => rcpt(argument).map(Command::Rcpt),
        Verb::Auth => auth(argument),
        Verb::Data => alone(argument, Command::Data),
        Verb::Bdat => chunk(argument).map(Command::Bdat).ok_or(CommandError::ChunkSize),
        Verb::Rset => alone(argument, Command::Rset),
        Verb::Quit => alone(argument, Command::Quit),
        Verb::Noop => Ok(Command::Noop),
        Verb::Help => Ok(Command::Help),
        Verb::Vrfy if argument.is_empty() => Err(CommandError::Argument),
        Verb::Vrfy => Ok(Command::Vrfy),
        Verb::NotImplemented => Err(CommandError::NotImplemented),
    }
}

fn alone<'a>(argument: &str, command: Command<'a>) -> Result<Command<'a>, CommandError> {
    if argument.is_empty() { Ok(command) } else { Err(CommandError::Argument) }
}

/// Any printable word will do: clients with odd names are many, and the name proves nothing.
fn client_name(argument: &str) -> Result<&str, CommandError> {
    let is_word = !argument.is_empty() && !argument.contains(|c: char| c.is_whitespace() || c.is_control());
    if is_word && argument.len() <= NAME_BYTES_MAX { Ok(argument) } else { Err(CommandError::Argument) }
}

fn mail(argument: &str) -> Result<Mail<'_>, CommandError> {
    let (path, parameters) = path_and_parameters(argument, "FROM:")?;
    let mut mail = Mail { path, ..Mail::default() };
    let (mut body, mut utf8, mut auth) = (None, None, None);
    for (keyword, value) in each(parameters) {
        let is = |name: &str| keyword.eq_ignore_ascii_case(name);
        if is("SIZE") {
            set_once(&mut mail.size, size_value(value)?)?;
        } else if is("BODY") {
            set_once(&mut body, body_value(value)?)?;
        } else if is("SMTPUTF8") {
            set_once(&mut utf8, value.is_none().then_some(true).ok_or(CommandError::Argument)?)?;
        } else if is("AUTH") {
            set_once(&mut auth, value.is_some_and(is_xtext).then_some(true).ok_or(CommandError::Argument)?)?;
        } else if is("RET") {
            set_once(&mut mail.returns, returns_value(value)?)?;
        } else if is("ENVID") {
            let id = value.filter(|value| !value.is_empty() && is_envelope_id(value));
            set_once(&mut mail.envelope_id, id.ok_or(CommandError::Argument)?)?;
        } else if is("BY") {
            set_once(&mut mail.by, value.and_then(by_value).ok_or(CommandError::Argument)?)?;
        } else if is("MT-PRIORITY") {
            set_once(&mut mail.priority, value.and_then(priority_value).ok_or(CommandError::Argument)?)?;
        } else {
            return Err(CommandError::Parameter);
        }
    }
    let (utf8, auth) = (utf8.unwrap_or_default(), auth.unwrap_or_default());
    Ok(Mail { body: body.unwrap_or_default(), utf8, auth, ..mail })
}

fn rcpt(argument: &str) -> Result<Rcpt<'_>, CommandError> {
    let (path, parameters) = path_and_parameters(argument, "TO:")?;
    let mut rcpt = Rcpt { path, ..Rcpt::default() };
    for (keyword, value) in each(parameters) {
        if keyword.eq_ignore_ascii_case("NOTIFY") {
            set_once(&mut rcpt.notify, value.and_then(Notify::parse).ok_or(CommandError::Argument)?)?;
        } else if keyword.eq_ignore_ascii_case("ORCPT") {
            let original = value.filter(|value| is_original(value));
            set_once(&mut rcpt.original, original.ok_or(CommandError::Argument)?)?;
        } else {
            return Err(CommandError::Parameter);
        }
    }
    Ok(rcpt)
}

/// Each parameter with its value.
fn each(parameters: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let parameters = parameters.split(' ').filter(|parameter| !parameter.is_empty());
    parameters.map(|parameter| match parameter.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (parameter, None),
    })
}

/// RFC 2852 section 4: `by-time ";" by-mode [by-trace]`.
fn by_value(value: &str) -> Option<By> {
    let (time, how) = value.split_once(';')?;
    let digits = time.strip_prefix(['+', '-']).unwrap_or(time);
    let is_number = (1..=BY_DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let seconds: i64 = time.parse().ok().filter(|_| is_number)?;
    let (mode, trace) = match () {
        () if how.eq_ignore_ascii_case("N") => (ByMode::Notify, false),
        () if how.eq_ignore_ascii_case("NT") => (ByMode::Notify, true),
        () if how.eq_ignore_ascii_case("R") => (ByMode::Return, false),
        () if how.eq_ignore_ascii_case("RT") => (ByMode::Return, true),
        () => return None,
    };
    (mode == ByMode::Notify || seconds > 0).then_some(By { seconds, mode, trace })
}

/// RFC 6710 section 4.1: from -9 to 9.
fn priority_value(value: &str) -> Option<i8> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let is_digit = digits.len() == 1 && digits.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|_| is_digit)
}

fn returns_value(value: Option<&str>) -> Result<Return, CommandError> {
    match value {
        Some(value) if value.eq_ignore_ascii_case("FULL") => Ok(Return::Full),
        Some(value) if value.eq_ignore_ascii_case("HDRS") => Ok(Return::Headers),
        _ => Err(CommandError::Argument),
    }
}

/// RFC 4954 section 5: `AUTH=` is never empty.
fn is_xtext(value: &str) -> bool {
    xtext::decode(value).is_some_and(|text| !text.is_empty())
}

/// RFC 3030 section 2: `bdat-cmd ::= "BDAT" SP chunk-size [ SP end-marker ] CR LF`.
fn chunk(argument: &str) -> Option<Chunk> {
    let (size, is_last) = match argument.split_once(' ') {
        Some((size, marker)) if marker.trim_start_matches(' ').eq_ignore_ascii_case("LAST") => (size, true),
        Some(_) => return None,
        None => (argument, false),
    };
    let is_number = (1..=CHUNK_DIGITS_MAX).contains(&size.len()) && size.bytes().all(|b| b.is_ascii_digit());
    let bytes = size.parse().ok().filter(|_| is_number)?;
    Some(Chunk { bytes, is_last })
}

fn auth(argument: &str) -> Result<Command<'_>, CommandError> {
    let (mechanism, initial) = match argument.split_once(' ') {
        Some((mechanism, initial)) => (mechanism, Some(initial.trim_start_matches(' '))),
        None => (argument, None),
    };
    let is_word = !mechanism.is_empty() && initial.is_none_or(|initial| !initial.contains(' '));
    is_word.then_some(Command::Auth { mechanism, initial }).ok_or(CommandError::Argument)
}

fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<(), CommandError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(CommandError::Argument),
    }
}

fn size_value(value: Option<&str>) -> Result<u64, CommandError> {
    let digits =
        value.filter(|value| (1..=SIZE_DIGITS_MAX).contains(&value.len())).ok_or(CommandError::Argument)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(CommandError::Argument);
    }
    Ok(digits.parse().unwrap_or(u64::MAX))
}

fn body_value(value: Option<&str>) -> Result<BodyType, CommandError> {
    match value {
        Some(value) if value.eq_ignore_ascii_case("7BIT") => Ok(BodyType::SevenBit),
        Some(value) if value.eq_ignore_ascii_case("8BITMIME") => Ok(BodyType::EightBit),
        Some(value) if value.eq_ignore_ascii_case("BINARYMIME") => Ok(BodyType::Binary),
        Some(_) => Err(CommandError::Parameter),
        None => Err(CommandError::Argument),
    }
}

/// Splits `FROM:<path> parameters`. RFC 5321 section 3.3 wants no space after the colon, but many send one.
fn path_and_parameters<'a>(argument: &'a str, prefix: &str) -> Result<(&'a str, &'a str), CommandError> {
    let (start, rest) = argument.split_at_checked(prefix.len()).ok_or(CommandError::Argument)?;
    if !start.eq_ignore_ascii_case(prefix) {
        return Err(CommandError::Argument);
    }
    let rest = rest.trim_start_matches(' ').strip_prefix('<').ok_or(CommandError::Argument)?;
    let end = path_end(rest).ok_or(CommandError::Argument)?;
    let (path, parameters) = (&rest[..end], &rest[end + 1..]);
    if !parameters.is_empty() && !parameters.starts_with(' ') {
        return Err(CommandError::Argument);
    }
    let path = without_route(path).ok_or(CommandError::Argument)?;
    Ok((path, parameters.trim_start_matches(' ')))
}

/// Where the closing angle bracket is; a quoted local part may hold others.
fn path_end(text: &str) -> Option<usize> {
    enum In {
        Plain,
        Quotes,
        Escape,
    }
    let mut place = In::Plain;
    for (offset, byte) in text.bytes().enumerate() {
        place = match (place, byte) {
            (In::Plain, b'>') => return Some(offset),
            (In::Plain, b'"') | (In::Escape, _) => In::Quotes,
            (In::Quotes, b'"') => In::Plain,
            (In::Quotes, b'\\') => In::Escape,
            (place, _) => place,
        };
    }
    None
}

/// Drops a source route, `@a,@b:` (RFC 5321 section 4.1.1.3 and appendix C); `None` when it never ends.
fn without_route(path: &str) -> Option<&str> {
    if !path.starts_with('@') {
        return Some(path);
    }
    // An address literal may hold colons: those are inside its brackets.
    let mut depth = 0u32;
    let end = path.bytes().position(|byte| {
        match byte {
            b'[' => depth += 1,
            b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        byte == b':' && depth == 0
    })?;
    Some(&path[end + 1..])
}

#[cfg(test)]
mod tests;
