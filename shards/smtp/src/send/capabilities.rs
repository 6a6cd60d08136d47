//! What a next hop offers (RFC 5321 section 4.1.1.1), and what it therefore cannot be given.

use super::{Chunking, EightBit, Profile, Transaction};
use mail::{BodyType, ByMode, Reply};

/// The extensions in a reply to EHLO that we use. None after HELO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Commands may be sent in groups (RFC 2920).
    pub pipelining: bool,
    /// SIZE may be declared (RFC 1870); the largest message in bytes, 0 when no limit is known.
    pub size: Option<u64>,
    /// 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// BDAT (RFC 3030 section 2).
    pub chunking: bool,
    /// BINARYMIME (RFC 3030 section 3).
    pub binary: bool,
    /// DSN (RFC 3461): it makes the reports that were asked for.
    pub dsn: bool,
    /// DELIVERBY (RFC 2852); the least time in seconds that it takes with mode `R`.
    pub by: Option<i64>,
    /// MT-PRIORITY (RFC 6710).
    pub priority: bool,
    /// SMTPUTF8 (RFC 6531).
    pub utf8: bool,
    /// Recipients of a transaction, by LIMITS (RFC 9422); `None` when it does not say.
    pub recipients_max: Option<usize>,
    /// Transactions of a connection, by LIMITS; `None` when it does not say.
    pub transactions_max: Option<u32>,
    /// Replies have enhanced codes (RFC 2034). We read them in any case.
    pub enhanced: bool,
}

impl Capabilities {
    /// Reads the reply to EHLO: a greeting line, then an extension per line. Unknown ones mean nothing to us.
    pub fn of(reply: &Reply) -> Capabilities {
        let mut offered = Capabilities::default();
        for line in reply.text.split('\n').skip(1) {
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next().unwrap_or_default();
            let is = |name: &str| keyword.eq_ignore_ascii_case(name);
            offered.pipelining |= is("PIPELINING");
            offered.eight_bit |= is("8BITMIME");
            offered.chunking |= is("CHUNKING");
            offered.binary |= is("BINARYMIME");
            offered.dsn |= is("DSN");
            offered.priority |= is("MT-PRIORITY");
            offered.utf8 |= is("SMTPUTF8");
            offered.enhanced |= is("ENHANCEDSTATUSCODES");
            if is("DELIVERBY") {
                offered.by = Some(words.clone().next().and_then(|least| least.parse().ok()).unwrap_or(0));
            }
            if is("LIMITS") {
                offered.read_limits(words.clone());
            }
            if is("SIZE") {
                // A limit that is missing or does not fit is none that a message could exceed.
                offered.size = Some(words.next().and_then(|limit| limit.parse().ok()).unwrap_or(0));
            }
        }
        offered
    }

    /// RFC 9422 section 4: `NAME=VALUE` each; what is not known, or makes no sense, is no limit.
    fn read_limits<'a>(&mut self, limits: impl Iterator<Item = &'a str>) {
        for (name, value) in limits.filter_map(|limit| limit.split_once('=')) {
            let value = value.parse().ok().filter(|value| *value > 0);
            if name.eq_ignore_ascii_case("RCPTMAX") {
                self.recipients_max = value.map(|value| usize::try_from(value).unwrap_or(usize::MAX));
            } else if name.eq_ignore_ascii_case("MAILMAX") {
                self.transactions_max = value;
            }
        }
    }

    /// Whether the content of `transaction` goes to this next hop with BDAT.
    pub fn takes_chunk(&self, transaction: &Transaction, profile: &Profile) -> bool {
        self.chunking
            && match profile.chunking {
                Chunking::Never => false,
                Chunking::Auto => transaction.envelope.body == BodyType::Binary,
                Chunking::Always => true,
            }
    }

    /// Why `transaction` cannot be given to this next hop: the reply that all its recipients fail with.
    pub fn obstacle(&self, transaction: &Transaction, profile: &Profile) -> Option<Reply> {
        if transaction.needs_utf8() && !self.utf8 {
            return Some(Reply::new(
                550,
                (5, 6, 7),
                "UTF-8 address or header, but the next hop has no SMTPUTF8",
            ));
        }
        if let Some(text) = self.body_obstacle(transaction, profile) {
            return Some(Reply::new(554, (5, 6, 3), text));
        }
        if let Some(text) = self.time_obstacle(transaction) {
            return Some(Reply::new(554, (5, 4, 7), text));
        }
        match self.size {
            Some(limit) if limit > 0 && transaction.size > limit => {
                Some(Reply::new(552, (5, 3, 4), "message larger than the next hop accepts"))
            }
            _ => None,
        }
    }

    /// RFC 2852 section 4.1: what shall come back when it is late goes only where that is known, while there is time.
    fn time_obstacle(&self, transaction: &Transaction) -> Option<&'static str> {
        let (mode, left) = transaction.time_left?;
        if mode == ByMode::Notify {
            return None;
        }
        match self.by {
            _ if left <= 0 => Some("delivery time expired"),
            None => Some("delivery by a given time wanted, but the next hop has no DELIVERBY"),
            Some(least) if left < least => Some("delivery time too short for the next hop"),
            Some(_) => None,
        }
    }

    fn body_obstacle(&self, transaction: &Transaction, profile: &Profile) -> Option<&'static str> {
        let sends_anyway = self.eight_bit || profile.eight_bit == EightBit::Send;
        match transaction.envelope.body {
            BodyType::EightBit if !sends_anyway => Some("8-bit content, but the next hop has no 8BITMIME"),
            // RFC 3030 section 3: without a conversion it cannot be delivered.
            BodyType::Binary if !self.binary || !self.takes_chunk(transaction, profile) => {
                Some("binary content, but the next hop has no BINARYMIME, or is not given BDAT")
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::sync::Arc;
    use alloc::vec;
    use mail::{Address, Envelope};

    #[test]
    fn extensions_are_read_in_any_case_and_order() {
        let text = "mx.example greets\nsize 1000\nPipelining\n8BITMIME \nX-UNKNOWN a b\nSMTPUTF8\n\
                    EnhancedStatusCodes\nchunking\nBinaryMime\nDSN\n\
                    limits x RCPTMAX=20 MailMax=5 RCPTDOMAINMAX=1 Y=\n\
                    DeliverBy 30\nMT-PRIORITY MIXER\n";
        let all = Capabilities {
            pipelining: true,
            size: Some(1000),
            eight_bit: true,
            chunking: true,
            binary: true,
            dsn: true,
            utf8: true,
            recipients_max: Some(20),
            transactions_max: Some(5),
            by: Some(30),
            priority: true,
            enhanced: true,
        };
        assert_eq!(Capabilities::of(&Reply::bare(250, text)), all);
        assert_eq!(Capabilities::of(&Reply::bare(250, "")), Capabilities::default());
        assert_eq!(Capabilities::of(&Reply::bare(250, "PIPELINING")), Capabilities::default());
        assert_eq!(Capabilities::of(&Reply::bare(250, "mx\nPIPELININGX\nXSIZE 5")), Capabilities::default());
        for none in ["LIMITS", "LIMITS RCPTMAX=0", "LIMITS RCPTMAX=-1 RCPTMAX", "LIMITS RCPTMAX=99999999999"]
        {
            let text = alloc::format!("mx\n{none}");
            assert_eq!(Capabilities::of(&Reply::bare(250, text)), Capabilities::default(), "{none}");
        }
        for none in ["SIZE", "SIZE 0", "SIZE x", "SIZE 99999999999999999999", "SIZE -1"] {
            let text = alloc::format!("mx\n{none}");
            assert_eq!(Capabilities::of(&Reply::bare(250, text)).size, Some(0), "{none}");
        }
    }

    #[test]
    fn what_the_next_hop_cannot_take_is_found() {
        let mailbox = |text| Address::parse(text, true).expect("mailbox");
        let simple = Envelope { recipients: vec![mailbox("a@b")], ..Envelope::default() };
        let whole = |envelope: Envelope| Transaction {
            recipients: (0..envelope.recipients.len() as u16).collect(),
            envelope: Arc::new(envelope),
            size: 100,
            time_left: None,
        };
        let plain = whole(simple.clone());
        let none = Capabilities::default();
        let mut profile = Profile::new("me.example");
        let strict = profile.clone();
        let code = |offered: &Capabilities, t: &Transaction| {
            offered.obstacle(t, &strict).and_then(|reply| reply.enhanced)
        };
        let sized = |limit| Capabilities { size: Some(limit), ..none.clone() };
        let detail = |subject, detail| Some(mail::Enhanced(5, subject, detail));
        assert_eq!(code(&none, &plain), None);
        assert_eq!(code(&sized(0), &plain), None);
        assert_eq!(code(&sized(100), &plain), None);
        assert_eq!(code(&sized(99), &plain), detail(3, 4));
        let eight = whole(Envelope { body: BodyType::EightBit, ..simple.clone() });
        assert_eq!(code(&none, &eight), detail(6, 3));
        assert_eq!(code(&Capabilities { eight_bit: true, ..none.clone() }, &eight), None);
        profile.eight_bit = EightBit::Send;
        assert_eq!(none.obstacle(&eight, &profile), None);
        let binary = whole(Envelope { body: BodyType::Binary, ..simple.clone() });
        let chunks = Capabilities { chunking: true, eight_bit: true, ..none.clone() };
        assert_eq!(code(&chunks, &binary), detail(6, 3));
        assert_eq!(code(&Capabilities { binary: true, ..none.clone() }, &binary), detail(6, 3));
        let both = Capabilities { binary: true, ..chunks.clone() };
        for (chunking, takes_binary, takes_text) in
            [(Chunking::Auto, true, false), (Chunking::Always, true, true), (Chunking::Never, false, false)]
        {
            profile.chunking = chunking;
            assert_eq!(both.takes_chunk(&binary, &profile), takes_binary);
            assert_eq!(both.obstacle(&binary, &profile).is_none(), takes_binary);
            assert_eq!(both.takes_chunk(&plain, &profile), takes_text);
            assert!(!none.takes_chunk(&binary, &profile) && !none.takes_chunk(&plain, &profile));
        }
        for needs in [
            Envelope { utf8: true, ..simple.clone() },
            Envelope { sender: Some(mailbox("é@b")), ..simple.clone() },
            Envelope { recipients: vec![mailbox("a@b"), mailbox("a@é")], ..simple.clone() },
        ]
        .map(whole)
        {
            assert_eq!(code(&none, &needs), detail(6, 7));
            assert_eq!(code(&Capabilities { utf8: true, ..none.clone() }, &needs), None);
        }
        for (mode, left, by, fails) in [
            (ByMode::Return, 10, None, true),
            (ByMode::Return, 10, Some(0), false),
            (ByMode::Return, 10, Some(11), true),
            (ByMode::Return, 0, Some(0), true),
            (ByMode::Notify, -10, None, false),
            (ByMode::Notify, 10, Some(11), false),
        ] {
            let timed = Transaction { time_left: Some((mode, left)), ..plain.clone() };
            let offered = Capabilities { by, ..none.clone() };
            assert_eq!(
                code(&offered, &timed),
                if fails { detail(4, 7) } else { None },
                "{mode:?} {left} {by:?}"
            );
        }
        let others = Envelope { recipients: vec![mailbox("a@b"), mailbox("a@é")], ..simple };
        let one = Transaction { recipients: [0].into_iter().collect(), ..whole(others) };
        assert_eq!(code(&none, &one), None, "only those count that this next hop gets");
    }
}
