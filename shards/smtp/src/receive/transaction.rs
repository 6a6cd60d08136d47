//! What is known between MAIL and the end of the message.

use alloc::format;
use alloc::vec::Vec;

use mail::{Address, AddressError, BodyType, Envelope, Reply};

use super::replies;
use crate::command::Mail;

/// Sender and recipients so far.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) sender: Option<Address>,
    pub(super) recipients: Recipients,
    /// As declared.
    pub(super) size: Option<u64>,
    pub(super) body: BodyType,
    pub(super) utf8: bool,
}

impl Transaction {
    pub(super) fn into_envelope(self) -> Envelope {
        Envelope { sender: self.sender, recipients: self.recipients.list, body: self.body, utf8: self.utf8 }
    }
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
    pub(super) fn push(&mut self, address: Address) {
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

/// The forward-path of RCPT. RFC 5321 section 4.5.1: `<postmaster>` needs no domain.
pub(super) fn recipient(path: &str, utf8: bool, hostname: &str) -> Result<Address, &'static Reply> {
    let parsed = if path.eq_ignore_ascii_case("postmaster") {
        Address::parse(&format!("{path}@{hostname}"), true)
    } else {
        Address::parse(path, utf8)
    };
    parsed.map_err(|error| match error {
        AddressError::Utf8 => &replies::NEEDS_SMTPUTF8,
        _ => &replies::BAD_RECIPIENT,
    })
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
