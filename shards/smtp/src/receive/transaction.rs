//! What is known between MAIL and the end of the message.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use mail::{Address, AddressError, BodyType, Envelope, Parameters, RecipientParameters, Reply, WallTime};

use super::replies;
use crate::command::{By, Mail, Rcpt};

/// Sender and recipients so far.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) sender: Option<Address>,
    pub(super) recipients: Recipients,
    /// As declared.
    pub(super) size: Option<u64>,
    pub(super) body: BodyType,
    pub(super) utf8: bool,
    by: Option<By>,
    /// What was asked beside; most messages have nothing of it.
    parameters: Option<Box<Parameters>>,
}

impl Transaction {
    pub(super) fn new(sender: Option<Address>, mail: &Mail<'_>) -> Transaction {
        let Mail { size, body, utf8, returns, envelope_id, by, priority, .. } = *mail;
        let envelope_id = envelope_id.map(Box::from);
        let parameters = Parameters { returns, envelope_id, priority, ..Parameters::default() };
        let parameters = (!parameters.is_empty()).then(|| Box::new(parameters));
        Transaction { sender, recipients: Recipients::default(), size, body, utf8, by, parameters }
    }

    /// Adds a recipient, which is not there yet.
    pub(super) fn add(&mut self, Recipient { address, asked }: Recipient) {
        if !asked.is_empty() {
            let index = self.recipients.list.len() as u16;
            self.parameters.get_or_insert_default().recipients.push((index, asked));
        }
        self.recipients.push(address);
    }

    /// The envelope of a message that is `accepted` now. So late is known when what it asked for must be done: the time
    /// since MAIL is given away.
    pub(super) fn into_envelope(self, accepted: WallTime) -> Envelope {
        let Transaction { sender, recipients, body, utf8, by, mut parameters, .. } = self;
        if let Some(By { seconds, mode, trace }) = by {
            let until = WallTime(accepted.0.saturating_add_signed(seconds * 1_000_000));
            parameters.get_or_insert_default().by = Some(mail::By { until, mode, trace });
        }
        Envelope { sender, recipients: recipients.list, body, utf8, parameters }
    }
}

/// A recipient that may be added.
#[derive(Debug)]
pub(super) struct Recipient {
    pub(super) address: Address,
    pub(super) asked: RecipientParameters,
}

/// Recipients in the order in which they were given, each once.
#[derive(Debug, Default)]
pub(super) struct Recipients {
    list: Vec<Address>,
    /// Places in `list`, sorted by address; kept only for long lists.
    order: Vec<u32>,
}

/// Up to this length a list is searched from end to end, which needs no more memory.
const UNSORTED_MAX: usize = 32;

impl Recipients {
    pub(super) fn list(&self) -> &[Address] {
        &self.list
    }

    pub(super) fn contains(&self, address: &Address) -> bool {
        match self.order.is_empty() {
            true => self.list.contains(address),
            false => self.place(address).is_ok(),
        }
    }

    /// Adds `address`, which is not there yet.
    fn push(&mut self, address: Address) {
        if self.list.len() == UNSORTED_MAX {
            self.order = (0..UNSORTED_MAX as u32).collect();
            self.order.sort_unstable_by(|a, b| self.list[*a as usize].cmp(&self.list[*b as usize]));
        }
        if !self.order.is_empty() {
            let (Ok(place) | Err(place)) = self.place(&address);
            self.order.insert(place, self.list.len() as u32);
        }
        self.list.push(address);
    }

    fn place(&self, address: &Address) -> Result<usize, usize> {
        self.order.binary_search_by(|at| self.list[*at as usize].cmp(address))
    }
}

/// The reverse-path of MAIL.
pub(super) fn sender(mail: &Mail<'_>) -> Result<Option<Address>, &'static Reply> {
    if mail.path.is_empty() {
        return Ok(None);
    }
    Address::parse(mail.path, mail.utf8).map(Some).map_err(|error| match error {
        AddressError::Utf8 => &replies::NEEDS_SMTPUTF8,
        _ => &replies::BAD_SENDER,
    })
}

/// The recipient of RCPT. RFC 5321 section 4.5.1: `<postmaster>` needs no domain.
pub(super) fn recipient(rcpt: &Rcpt<'_>, utf8: bool, hostname: &str) -> Result<Recipient, &'static Reply> {
    let parsed = if rcpt.path.eq_ignore_ascii_case("postmaster") {
        Address::parse(&format!("{}@{hostname}", rcpt.path), true)
    } else {
        Address::parse(rcpt.path, utf8)
    };
    let address = parsed.map_err(|error| match error {
        AddressError::Utf8 => &replies::NEEDS_SMTPUTF8,
        _ => &replies::BAD_RECIPIENT,
    })?;
    if !utf8 && rcpt.original.is_some_and(|original| !original.is_ascii()) {
        return Err(&replies::NEEDS_SMTPUTF8);
    }
    let asked = RecipientParameters { notify: rcpt.notify, original: rcpt.original.map(Box::from) };
    Ok(Recipient { address, asked })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_recipient_is_there_once_and_in_order() {
        let mut recipients = Recipients::default();
        let address = |number: usize| {
            let number = number * 7919 % 200;
            Address::parse(&format!("user{number}@example.com"), false).expect("an address")
        };
        for number in 0..600 {
            let address = address(number);
            assert_eq!(recipients.contains(&address), number >= 200, "{number}");
            if !recipients.contains(&address) {
                recipients.push(address);
            }
        }
        let expected: Vec<Address> = (0..200).map(address).collect();
        assert_eq!(recipients.list(), expected);
    }
}
