//! All short dialogs, judged by an oracle that looks at one recipient at a time.

use super::*;
use alloc::string::ToString;

/// What the replies mean, told for one recipient at a time. `None` is a reply that never came.
struct Dialog<'a> {
    mail: Option<u16>,
    recipients: &'a [Option<u16>],
    data: Option<u16>,
    end: Option<u16>,
}

impl Dialog<'_> {
    fn outcome(&self, index: usize) -> (char, u16) {
        let ended = |code: Option<u16>| code.is_none() || code == Some(421);
        let refused = |code: u16| (if code >= 500 { 'F' } else { 'f' }, code);
        let ok = |code: Option<u16>| code.is_some_and(|code| code < 400);
        let stop = |code: Option<u16>| ('f', code.unwrap_or(LOST));
        if !ok(self.mail) {
            return self.mail.map_or(stop(None), refused);
        }
        // Nothing after the reply that ended the connection was heard.
        if let Some(before) = self.recipients[..index].iter().find(|code| ended(**code)) {
            return stop(*before);
        }
        if let Some(code) = self.recipients[index].filter(|code| *code >= 400) {
            return refused(code);
        }
        let later = self.recipients[index..].iter().copied().chain([self.data]);
        match later.into_iter().find(|code| ended(*code)) {
            Some(code) => stop(code),
            None if !ok(self.data) => self.data.map_or(stop(None), refused),
            None => match self.end {
                Some(250) => ('D', 250),
                Some(code) => refused(code),
                None => stop(None),
            },
        }
    }

    fn is_accepted(&self) -> bool {
        self.mail == Some(250) && self.recipients.contains(&Some(250))
    }

    /// The replies in the order in which this next hop gives them.
    fn replies(&self, pipelined: bool) -> Vec<u16> {
        let all = [self.mail].into_iter().chain(self.recipients.iter().copied()).flatten();
        let mut replies: Vec<u16> =
            if pipelined || self.mail == Some(250) { all.collect() } else { self.mail.into_iter().collect() };
        if pipelined || self.is_accepted() {
            replies.extend(self.data);
            if self.data == Some(354) {
                replies.extend(self.end);
            }
        }
        if let Some(end) = replies.iter().position(|code| *code == 421) {
            replies.truncate(end + 1);
        }
        replies
    }
}

/// Calls `f` for each list of `len` codes.
fn each_list(codes: &[u16], len: usize, f: &mut impl FnMut(&[Option<u16>])) {
    for number in 0..codes.len().pow(len as u32) {
        let mut rest = number;
        let list: Vec<Option<u16>> = (0..len)
            .map(|_| {
                let code = codes[rest % codes.len()];
                rest /= codes.len();
                Some(code)
            })
            .collect();
        f(&list);
    }
}

/// Calls `f` for each dialog with one to three recipients.
fn each_dialog(f: &mut impl FnMut(&Dialog<'_>)) {
    for count in 1..=3 {
        each_list(&[250, 450, 550, 421], count, &mut |recipients| {
            for mail in [250, 451, 550, 421] {
                for data in [354, 451, 554, 421] {
                    for end in [250, 451, 554, 421] {
                        let [mail, data, end] = [mail, data, end].map(Some);
                        f(&Dialog { mail, recipients, data, end });
                    }
                }
            }
        });
    }
}

fn play(dialog: &Dialog<'_>, pipelined: bool, arrival: Arrival, replies: &[u16]) -> (Peer, End) {
    let texts: Vec<String> = replies.iter().map(|code| format!("{code} said")).collect();
    let hello = if pipelined { PIPELINED } else { PLAIN };
    let script: Vec<&str> = ["220 mx", hello].into_iter().chain(texts.iter().map(String::as_str)).collect();
    let mut peer = Peer::new(&script, arrival);
    assert_eq!(peer.run(), End::Ready);
    peer.take_heard();
    let end = peer.begin(transaction(dialog.recipients.len()));
    (peer, end)
}

#[test]
fn every_combination_of_replies_gives_each_recipient_its_outcome() {
    each_dialog(&mut |dialog| {
        for (pipelined, arrival) in [true, false].into_iter().flat_map(|p| ARRIVALS.map(|a| (p, a))) {
            let replies = dialog.replies(pipelined);
            let (mut peer, end) = play(dialog, pipelined, arrival, &replies);
            let expected: Vec<_> = (0..dialog.recipients.len()).map(|index| dialog.outcome(index)).collect();
            let about = format!("{replies:?} pipelined {pipelined} {arrival:?}");
            assert_eq!(peer.outcomes.as_deref().map(brief), Some(expected), "{about}");
            let hung_up = replies.contains(&421);
            assert_eq!(end, if hung_up { End::Closed(Some(421)) } else { End::Ready }, "{about}");
            assert_eq!(peer.played, peer.script.len(), "every reply is read: {about}");
            assert_eq!(peer.lost(), None, "{about}");
            let heard = peer.take_heard();
            let told = !hung_up || replies.ends_with(&[354, 421]);
            let content = told && dialog.is_accepted() && dialog.data == Some(354);
            let dot = told && pipelined && !dialog.is_accepted() && dialog.data == Some(354);
            assert_eq!(heard.contains("[content]"), content, "{about}");
            assert_eq!(heard.ends_with("\r\n.\r\n"), dot, "{about}");
        }
    });
}

#[test]
fn a_loss_at_every_point_gives_every_recipient_an_outcome() {
    each_dialog(&mut |dialog| {
        for pipelined in [true, false] {
            let replies = dialog.replies(pipelined);
            for kept in 0..replies.len() {
                let (mut peer, end) = play(dialog, pipelined, Arrival::Single, &replies[..kept]);
                let at = |index: usize| replies[..kept].get(index).copied();
                let count = dialog.recipients.len();
                let recipients: Vec<_> = (0..count).map(|index| at(index + 1)).collect();
                let cut = Dialog { mail: at(0), recipients: &recipients, data: at(count + 1), end: None };
                let expected: Vec<_> = (0..count).map(|index| cut.outcome(index)).collect();
                let about = format!("{kept} of {replies:?} pipelined {pipelined}");
                assert_eq!(end, End::Lost, "{about}");
                assert_eq!(peer.outcomes, None, "{about}");
                assert_eq!(peer.lost().as_deref().map(brief), Some(expected), "{about}");
                assert_eq!(peer.lost(), None, "{about}");
                assert_eq!(peer.run(), End::Closed(Some(LOST)), "{about}");
            }
        }
    });
}

#[test]
fn the_next_transaction_begins_with_rset_only_when_one_may_be_open() {
    each_dialog(&mut |dialog| {
        let replies = [true, false].map(|pipelined| dialog.replies(pipelined));
        if dialog.recipients.len() > 2 || replies[0].contains(&421) {
            return;
        }
        for (pipelined, replies) in [true, false].into_iter().zip(replies) {
            let (mut peer, end) = play(dialog, pipelined, Arrival::Single, &replies);
            assert_eq!(end, End::Ready);
            peer.take_heard();
            peer.outcomes = None;
            let finished = dialog.data == Some(354) && (pipelined || dialog.is_accepted());
            let open = dialog.mail == Some(250) && !finished;
            let next = ["250 reset\r\n", "250 m\r\n", "250 r\r\n", "354 d\r\n", "250 done\r\n"];
            peer.script.extend(next[usize::from(!open)..].iter().map(|reply| reply.to_string()));
            assert_eq!(peer.begin(transaction(1)), End::Ready);
            assert_eq!(
                peer.take_heard().starts_with("RSET\r\nMAIL"),
                open,
                "{replies:?} pipelined {pipelined}"
            );
            assert_eq!(peer.outcomes.as_deref().map(brief), Some(vec![('D', 250)]));
            assert_eq!(peer.played, peer.script.len());
        }
    });
}

#[test]
fn a_transaction_that_follows_another_fares_as_if_it_came_alone() {
    let first_replies = ["250 m\r\n", "250 r\r\n", "354 d\r\n"].map(String::from);
    each_dialog(&mut |dialog| {
        for (first, arrival) in [250, 451, 554].into_iter().flat_map(|f| ARRIVALS.map(|a| (f, a))) {
            let replies = dialog.replies(true);
            for kept in [replies.len(), replies.len() / 2, 0] {
                let mut peer = Peer::new(&["220 mx", PIPELINED], arrival);
                assert_eq!(peer.run(), End::Ready);
                peer.take_heard();
                peer.script.extend(first_replies.iter().cloned());
                peer.script.push(format!("{first} said\r\n"));
                peer.script.extend(replies[..kept].iter().map(|code| format!("{code} said\r\n")));
                peer.follower = Some(transaction(dialog.recipients.len()));
                let end = peer.begin(transaction(1));
                let about = format!("{first} then {kept} of {replies:?} {arrival:?}");
                let letter = if first == 250 {
                    'D'
                } else if first < 500 {
                    'f'
                } else {
                    'F'
                };
                assert_eq!(peer.followed.as_deref().map(brief), Some(vec![(letter, first)]), "{about}");
                assert!(peer.heard.contains("DATA\r\n[content]\r\nMAIL"), "{about}: {}", peer.heard);
                if kept < replies.len() {
                    assert_eq!(end, End::Lost, "{about}");
                    let count = dialog.recipients.len();
                    assert_eq!(peer.lost().map(|outcomes| outcomes.len()), Some(count), "{about}");
                    continue;
                }
                let expected: Vec<_> =
                    (0..dialog.recipients.len()).map(|index| dialog.outcome(index)).collect();
                assert_eq!(peer.outcomes.as_deref().map(brief), Some(expected), "{about}");
                let hung_up = replies.contains(&421);
                assert_eq!(end, if hung_up { End::Closed(Some(421)) } else { End::Ready }, "{about}");
                assert_eq!(peer.played, peer.script.len(), "every reply is read: {about}");
            }
        }
    });
}

#[test]
fn a_follower_is_forgotten_when_the_connection_ends_before_its_turn() {
    for (last, end) in [("421 bye", End::Closed(Some(421))), ("354 what", End::Closed(Some(451)))] {
        for arrival in ARRIVALS {
            let mut peer = Peer::new(&["220 mx", PIPELINED, "250 m", "250 r", "354 d", last], arrival);
            assert_eq!(peer.run(), End::Ready);
            peer.follower = Some(transaction(2));
            assert_eq!(peer.begin(transaction(1)), end);
            assert_eq!(peer.followed.as_ref().map(Vec::len), Some(1), "of the first only");
            assert_eq!((peer.outcomes.take(), peer.lost()), (None, None));
        }
    }
}

#[test]
fn who_cannot_take_a_follower_is_told_nothing() {
    let ready = |hello: &str| {
        let mut peer = Peer::new(&["220 mx", hello, "250 m", "250 r", "354 d"], Arrival::Single);
        assert_eq!(peer.run(), End::Ready);
        let mut out = Vec::new();
        let small = Transaction { size: 10, ..transaction(1) };
        peer.session.begin(small, peer.now, &mut out);
        for _ in 0..3 {
            peer.session.feed(peer.script[peer.played].as_bytes());
            peer.played += 1;
            let _step = peer.session.step(peer.now, &mut out);
        }
        assert_eq!(peer.session.step(peer.now, &mut out), Step::Content);
        peer
    };
    let mut out = Vec::new();
    assert!(!ready(PLAIN).session.follow(transaction(1), &mut out));
    assert!(!ready("250-mx\n250-SIZE 999\n250 PIPELINING").session.follow(transaction(1), &mut out));
    assert!(!ready(PIPELINED).session.follow(transaction(PIPELINE_COMMANDS_MAX - 1), &mut out));
    assert_eq!(out, b"");
    let mut peer = ready(PIPELINED);
    assert!(peer.session.follow(transaction(PIPELINE_COMMANDS_MAX - 2), &mut out));
    assert!(!peer.session.follow(transaction(1), &mut out), "one at a time");
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), PIPELINE_COMMANDS_MAX);
}
