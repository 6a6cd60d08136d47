//! Whether the relay kept its promises, judged from the records alone. Draws nothing, changes nothing.
//!
//! * What was acknowledged is delivered, reported to its sender, or still waiting: for each recipient.
//! * What is delivered was sent, to that recipient, and is whole: only trace fields were put in front of it.
//! * A recipient gets a message twice only if it was offered twice, or a delivery is *explained*: the relay cannot
//!   have known of it (the 250 was never confirmed), or was excused from remembering it.

use crate::client::TOKEN_HEADER;
use crate::journal::{Delivery, Records, Sent};
use crate::network::Meter;
use mail::Time;
use std::collections::{BTreeMap, BTreeSet};

/// Header fields that a relay may put in front of a message (RFC 5321 section 4.4).
const TRACE_FIELDS: [&str; 2] = ["received:", "return-path:"];

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// Acknowledged, but neither delivered nor reported nor waiting.
    Lost {
        /// Of the message.
        token: u64,
        /// Who does not have it.
        recipient: String,
    },
    /// Delivered or reported, but never sent, or not to this recipient.
    Forged {
        /// Where it turned up.
        next_hop: String,
        /// To whom.
        recipient: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Delivered with another content than was sent.
    Altered {
        /// Of the message.
        token: u64,
        /// Where it turned up.
        next_hop: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Delivered or reported more often than can be explained.
    Duplicate {
        /// Of the message.
        token: u64,
        /// Who has it.
        recipient: String,
        /// Deliveries without explanation.
        unexplained: usize,
        /// How often it may have been accepted.
        offers: u32,
    },
    /// Reported as failed although the relay knew that it was delivered.
    Contradiction {
        /// Of the message.
        token: u64,
        /// Who has it.
        recipient: String,
    },
    /// More connections than are allowed.
    OverLimit {
        /// Where to.
        site: String,
        /// The most at once.
        most: usize,
        /// The limit.
        limit: usize,
    },
}

/// A recipient that still waits in the relay: the token of the message and the forward-path.
pub type Waiting = (u64, String);

/// All complaints, in a fixed order.
pub fn check(records: &Records, waiting: &[Waiting]) -> Vec<Complaint> {
    let mut seen = Seen::default();
    for delivery in &records.deliveries {
        if delivery.sender.is_empty() {
            seen.report(records, delivery)
        } else {
            seen.message(records, delivery)
        }
    }
    let waiting: BTreeSet<(u64, &str)> = waiting.iter().map(|(token, who)| (*token, who.as_str())).collect();
    for (token, sent) in &records.sent {
        seen.find_lost(*token, sent, &waiting);
    }
    for kind in [&seen.delivered, &seen.reported] {
        seen.complaints.extend(duplicates(records, kind));
    }
    let contradictions = seen.contradictions(records);
    seen.complaints.extend(contradictions);
    seen.complaints
}

/// Complains when a limit on connections did not hold.
pub fn check_limit(site: &str, meter: &Meter, limit: usize) -> Option<Complaint> {
    let most = meter.most();
    (most > limit).then(|| Complaint::OverLimit { site: site.to_owned(), most, limit })
}

type ByRecipient<'r> = BTreeMap<(u64, String), Vec<&'r Delivery>>;

/// What the next hops have, by message and recipient.
#[derive(Default)]
struct Seen<'r> {
    delivered: ByRecipient<'r>,
    reported: ByRecipient<'r>,
    complaints: Vec<Complaint>,
}

impl<'r> Seen<'r> {
    fn message(&mut self, records: &'r Records, delivery: &'r Delivery) {
        let found = token_of(&delivery.content).and_then(|token| Some((token, records.sent.get(&token)?)));
        let Some((token, sent)) = found else {
            let who = delivery.recipients.first().map_or("", String::as_str);
            return self.forged(delivery, who, "no client offered it");
        };
        if delivery.sender != sent.submission.sender {
            self.forged(delivery, &delivery.sender, "the reverse-path is not the sender's");
        }
        if let Some(why) = alteration(&sent.submission.content, &delivery.content) {
            self.complaints.push(Complaint::Altered { token, next_hop: delivery.next_hop.clone(), why });
        }
        for recipient in &delivery.recipients {
            match sent.offers.contains_key(recipient) {
                true => self.delivered.entry((token, recipient.clone())).or_default().push(delivery),
                false => self.forged(delivery, recipient, "it was not offered for this recipient"),
            }
        }
    }

    fn report(&mut self, records: &'r Records, delivery: &'r Delivery) {
        let to = delivery.recipients.first().map_or("", String::as_str);
        let found = token_of(&delivery.content).and_then(|token| Some((token, records.sent.get(&token)?)));
        let Some((token, sent)) = found else {
            return self.forged(delivery, to, "a report on nothing that was sent");
        };
        if delivery.recipients != [sent.submission.sender.as_str()] {
            self.forged(delivery, to, "a report to another than the sender");
        }
        for recipient in failed_recipients(&delivery.content) {
            match sent.offers.contains_key(&recipient) {
                true => self.reported.entry((token, recipient)).or_default().push(delivery),
                false => self.forged(delivery, &recipient, "a report on another recipient"),
            }
        }
    }

    fn forged(&mut self, delivery: &Delivery, recipient: &str, why: &'static str) {
        let (next_hop, recipient) = (delivery.next_hop.clone(), recipient.to_owned());
        self.complaints.push(Complaint::Forged { next_hop, recipient, why });
    }

    fn find_lost(&mut self, token: u64, sent: &Sent, waiting: &BTreeSet<(u64, &str)>) {
        for recipient in &sent.owed {
            let key = (token, recipient.clone());
            let has_outcome = self.delivered.contains_key(&key) || self.reported.contains_key(&key);
            if !has_outcome && !waiting.contains(&(token, recipient.as_str())) {
                self.complaints.push(Complaint::Lost { token, recipient: recipient.clone() });
            }
        }
    }

    /// Recipients that were offered once, have the message as the relay knew, and were reported all the same.
    fn contradictions(&self, records: &Records) -> Vec<Complaint> {
        let known = self.delivered.iter().filter(|(key, deliveries)| {
            let is_known = |delivery: &&Delivery| !is_explained(records, delivery);
            self.reported.get(*key).is_some_and(|reports| reports.iter().any(is_known))
                && offers(records, key) == 1
                && deliveries.iter().any(is_known)
        });
        known
            .map(|((token, who), _)| Complaint::Contradiction { token: *token, recipient: who.clone() })
            .collect()
    }
}

fn duplicates(records: &Records, kind: &ByRecipient) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (key, deliveries) in kind {
        let unexplained = deliveries.iter().filter(|delivery| !is_explained(records, delivery)).count();
        let offers = offers(records, key);
        if unexplained > offers as usize {
            let (token, recipient) = key.clone();
            complaints.push(Complaint::Duplicate { token, recipient, unexplained, offers });
        }
    }
    complaints
}

fn offers(records: &Records, (token, recipient): &(u64, String)) -> u32 {
    records.sent.get(token).and_then(|sent| sent.offers.get(recipient)).copied().unwrap_or(0)
}

/// Whether the relay may not have known, or not have remembered, that this delivery happened.
fn is_explained(records: &Records, delivery: &Delivery) -> bool {
    let Some(confirmed) = delivery.confirmed else { return true };
    // What a report tells may have been learned, and forgotten, any time before the report came.
    let learned = if delivery.sender.is_empty() { Time(0) } else { delivery.at };
    records.excuses.iter().any(|excuse| *excuse.start() <= confirmed && learned <= *excuse.end())
}

/// The token of a message, or of the message that a report is about.
pub fn token_of(content: &[u8]) -> Option<u64> {
    field_values(content, TOKEN_HEADER).next().and_then(|value| u64::from_str_radix(value, 16).ok())
}

/// The recipients that a report (RFC 3464) says have failed for good.
fn failed_recipients(report: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(report).replace("\r\n", "\n");
    let failed = text.split("\n\n").filter(|group| {
        field_values(group.as_bytes(), "Action")
            .next()
            .is_some_and(|action| action.eq_ignore_ascii_case("failed"))
    });
    let named = failed.filter_map(|group| {
        let value = field_values(group.as_bytes(), "Final-Recipient").next()?;
        Some(value.split_once(';').map_or(value, |(_, address)| address).trim().to_owned())
    });
    named.collect()
}

/// The values of all lines `name: value`.
fn field_values<'c>(content: &'c [u8], name: &'c str) -> impl Iterator<Item = &'c str> {
    content.split(|byte| *byte == b'\n').filter_map(move |line| {
        let (field, value) = line.split_at_checked(name.len())?;
        if !field.eq_ignore_ascii_case(name.as_bytes()) {
            return None;
        }
        Some(std::str::from_utf8(value.strip_prefix(b":")?).ok()?.trim())
    })
}

/// What is wrong with a delivered content, if anything.
fn alteration(sent: &[u8], delivered: &[u8]) -> Option<&'static str> {
    let Some(front) = delivered.strip_suffix(sent) else { return Some("it does not end with what was sent") };
    if !front.is_empty() && !front.ends_with(b"\r\n") {
        return Some("what was put in front of it is not whole lines");
    }
    let front = String::from_utf8_lossy(front).to_ascii_lowercase();
    let mut in_trace = false;
    for line in front.split_terminator("\r\n") {
        let continues = in_trace && line.starts_with([' ', '\t']);
        in_trace = continues || TRACE_FIELDS.iter().any(|field| line.starts_with(field));
        if !in_trace {
            return Some("other than trace fields was put in front of it");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Submission;
    use crate::journal::Journal;
    use std::rc::Rc;

    const A: &str = "a@one.example";
    const B: &str = "b@two.example";

    fn submission() -> Rc<Submission> {
        let recipients = [A.to_owned(), B.to_owned()];
        Rc::new(Submission::new(7, "s@senders.example", &recipients, b".body\r\n"))
    }

    /// A journal in which one message was acknowledged for A.
    fn owed() -> Journal {
        let journal = Journal::new();
        journal.offer(&submission(), &[A.to_owned()]);
        journal.acknowledge(7, &[A.to_owned()]);
        journal
    }

    fn delivery(recipient: &str, at: u64, confirmed: Option<u64>) -> Delivery {
        Delivery {
            next_hop: "one".to_owned(),
            sender: submission().sender.clone(),
            recipients: vec![recipient.to_owned()],
            commands: Vec::new(),
            content: [b"Received: from x\r\n\tby y\r\n", submission().content.as_slice()].concat(),
            at: Time(at),
            confirmed: confirmed.map(Time),
        }
    }

    fn report(to: &str, on: &str, action: &str) -> Delivery {
        let content = format!(
            "Subject: report\r\n\r\nReporting-MTA: dns; y\r\n\r\nFinal-Recipient: rfc822; {on}\r\nAction: {action}\r\n\
             Status: 5.0.0\r\n\r\nX-Token: 0000000000000007\r\n"
        );
        let delivery = delivery(to, 5, Some(6));
        Delivery { sender: String::new(), content: content.into_bytes(), ..delivery }
    }

    fn deliver_all(journal: &Journal, deliveries: &[Delivery]) {
        for delivery in deliveries {
            journal.deliver(delivery.clone());
        }
    }

    fn complaints(deliveries: Vec<Delivery>, waiting: &[Waiting]) -> Vec<Complaint> {
        let journal = owed();
        deliver_all(&journal, &deliveries);
        check(&journal.records(), waiting)
    }

    #[test]
    fn delivered_or_reported_or_waiting_is_enough() {
        assert_eq!(complaints(vec![delivery(A, 1, Some(2))], &[]), []);
        assert_eq!(complaints(vec![report("s@senders.example", A, "failed")], &[]), []);
        assert_eq!(complaints(vec![], &[(7, A.to_owned())]), []);
    }

    #[test]
    fn loss_is_seen() {
        let lost = [Complaint::Lost { token: 7, recipient: A.to_owned() }];
        assert_eq!(complaints(vec![], &[]), lost);
        assert_eq!(complaints(vec![], &[(7, B.to_owned()), (8, A.to_owned())]), lost);
        assert_eq!(complaints(vec![report("s@senders.example", A, "delayed")], &[]), lost);
    }

    #[test]
    fn what_nobody_acknowledged_may_be_lost() {
        let journal = Journal::new();
        journal.offer(&submission(), &[A.to_owned()]);
        assert_eq!(check(&journal.records(), &[]), []);
    }

    #[test]
    fn forgeries_are_seen() {
        let waiting = [(7, A.to_owned())];
        let stranger = Delivery { content: b"X-Token: 8\r\n\r\n".to_vec(), ..delivery(A, 1, Some(2)) };
        let other_sender = Delivery { sender: "x@y".to_owned(), ..delivery(A, 1, Some(2)) };
        for forged in [
            stranger,
            other_sender,
            delivery(B, 1, Some(2)),
            report("x@y", A, "failed"),
            report("s@senders.example", B, "failed"),
        ] {
            let complaints = complaints(vec![forged], &waiting);
            assert!(matches!(complaints[..], [Complaint::Forged { .. }]), "{complaints:?}");
        }
    }

    #[test]
    fn every_change_of_the_content_is_seen() {
        let whole = delivery(A, 1, Some(2)).content;
        let sent = submission().content.clone();
        let mut flipped = whole.clone();
        *flipped.last_mut().expect("not empty") ^= 1;
        for content in [
            whole[..whole.len() - 2].to_vec(),
            flipped,
            [b"X-Extra: 1\r\n", sent.as_slice()].concat(),
            [b" Received: 1\r\n", sent.as_slice()].concat(),
            [b"Received: 1", sent.as_slice()].concat(),
            [whole.as_slice(), b"more\r\n"].concat(),
        ] {
            let complaints = complaints(vec![Delivery { content, ..delivery(A, 1, Some(2)) }], &[]);
            assert!(matches!(complaints[..], [Complaint::Altered { .. }]), "{complaints:?}");
        }
    }

    #[test]
    fn duplicates_need_an_explanation() {
        let twice = vec![delivery(A, 10, Some(20)), delivery(A, 30, Some(40))];
        assert!(matches!(complaints(twice.clone(), &[])[..], [Complaint::Duplicate { unexplained: 2, .. }]));
        assert_eq!(complaints(vec![delivery(A, 10, None), delivery(A, 30, Some(40))], &[]), []);
        for (excuse, holds) in
            [(15..=25, true), (20..=99, true), (1..=10, true), (21..=29, false), (1..=9, false)]
        {
            let journal = owed();
            deliver_all(&journal, &twice);
            journal.excuse(Time(*excuse.start())..=Time(*excuse.end()));
            assert_eq!(check(&journal.records(), &[]).is_empty(), holds, "{excuse:?}");
        }
        let journal = owed();
        journal.offer(&submission(), &[A.to_owned()]);
        deliver_all(&journal, &twice);
        assert_eq!(check(&journal.records(), &[]), [], "a message that was offered twice may come twice");
    }

    #[test]
    fn a_report_on_what_was_delivered_is_seen() {
        let report = report("s@senders.example", A, "failed");
        let known = complaints(vec![delivery(A, 1, Some(2)), report.clone()], &[]);
        assert_eq!(known, [Complaint::Contradiction { token: 7, recipient: A.to_owned() }]);
        assert_eq!(complaints(vec![delivery(A, 1, None), report.clone()], &[]), []);
        let journal = owed();
        deliver_all(&journal, &[delivery(A, 3, Some(4)), report]);
        journal.excuse(Time(0)..=Time(2));
        assert_eq!(check(&journal.records(), &[]), [], "it may have failed before what is excused");
    }
}
