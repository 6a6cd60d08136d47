//! Content that is sent with BDAT.

use super::*;
use mail::BodyType;

const CHUNKS: &str = "250-mx\n250-PIPELINING\n250-CHUNKING\n250 BINARYMIME";
const CHUNKS_ONE_BY_ONE: &str = "250-mx\n250-CHUNKING\n250 BINARYMIME";

fn binary(recipients: usize) -> Transaction {
    of(Envelope { body: BodyType::Binary, ..Envelope::clone(&transaction(recipients).envelope) })
}

#[test]
fn binary_content_is_one_chunk_after_the_recipients() {
    for arrival in ARRIVALS {
        for hello in [CHUNKS, CHUNKS_ONE_BY_ONE] {
            let mut peer = Peer::new(&["220 mx", hello, "250 m", "250 r", "550 no", "250 taken"], arrival);
            assert_eq!(peer.run(), End::Ready);
            peer.take_heard();
            assert_eq!(peer.begin(binary(2)), End::Ready);
            assert_eq!(
                peer.take_heard(),
                "MAIL FROM:<s@x.example> BODY=BINARYMIME\r\nRCPT TO:<r0@y.example>\r\n\
                 RCPT TO:<r1@y.example>\r\nBDAT 1000 LAST\r\n[chunk]\r\n"
            );
            assert_eq!(peer.outcomes.as_deref().map(brief), Some(vec![('D', 250), ('F', 550)]));
        }
    }
}

#[test]
fn text_goes_with_data_unless_chunks_are_wanted() {
    for (chunking, hello, is_chunk) in [
        (Chunking::Auto, CHUNKS, false),
        (Chunking::Never, CHUNKS, false),
        (Chunking::Always, CHUNKS, true),
        (Chunking::Always, PIPELINED, false),
    ] {
        let script = match is_chunk {
            true => ["220 mx", hello, "250 m", "250 r", "250 taken", ""],
            false => ["220 mx", hello, "250 m", "250 r", "354 go on", "250 taken"],
        };
        let mut peer = Peer::new(&script, Arrival::Single);
        let profile = Profile { chunking, ..Profile::new("me.example") };
        peer.session = Session::new(Rc::new(profile), Time(0));
        assert_eq!(peer.run(), End::Ready);
        assert_eq!(peer.begin(transaction(1)), End::Ready);
        assert_eq!(peer.take_heard().contains("BDAT 1000 LAST\r\n[chunk]"), is_chunk, "{chunking:?}");
        assert_eq!(peer.outcomes.as_deref().map(brief), Some(vec![('D', 250)]));
    }
}

#[test]
fn every_combination_of_replies_gives_each_recipient_its_outcome() {
    let codes = [250u16, 451, 550];
    for number in 0..codes.len().pow(4) {
        let code = |place: u32| codes[number / codes.len().pow(place) % codes.len()];
        let (mail, recipients, end) = (code(0), [code(1), code(2)], code(3));
        let expected =
            recipients.map(|recipient| match [mail, recipient, end].into_iter().find(|c| *c >= 400) {
                Some(code) => (if code >= 500 { 'F' } else { 'f' }, code),
                None => ('D', 250),
            });
        let sends = mail == 250 && recipients.contains(&250);
        for arrival in ARRIVALS {
            let mut codes = vec![mail, recipients[0], recipients[1]];
            codes.extend(sends.then_some(end));
            // The next transaction begins with RSET unless the chunk was taken.
            let is_dirty = mail == 250 && (!sends || end != 250);
            codes.extend(is_dirty.then_some(250));
            codes.extend([250, 250, 250]);
            let lines: Vec<String> = codes.iter().map(|code| format!("{code} x")).collect();
            let mut script = vec!["220 mx", CHUNKS];
            script.extend(lines.iter().map(String::as_str));
            let mut peer = Peer::new(&script, arrival);
            assert_eq!(peer.run(), End::Ready);
            assert_eq!(peer.begin(binary(2)), End::Ready);
            assert_eq!(peer.outcomes.take().as_deref().map(brief), Some(expected.to_vec()));
            assert_eq!(peer.take_heard().contains("[chunk]"), sends);
            assert_eq!(peer.begin(binary(1)), End::Ready, "the connection is in order");
            assert_eq!(peer.take_heard().starts_with("RSET\r\n"), is_dirty);
            assert_eq!(peer.outcomes.as_deref().map(brief), Some(vec![('D', 250)]));
        }
    }
}

#[test]
fn nothing_follows_a_chunk_and_no_chunk_follows() {
    let mut peer = Peer::new(&["220 mx", CHUNKS, "250 m", "250 r"], Arrival::Single);
    assert_eq!(peer.run(), End::Ready);
    let mut out = Vec::new();
    peer.session.begin(transaction(1), peer.now, &mut out);
    peer.session.feed(b"250 m\r\n250 r\r\n354 go on\r\n");
    assert_eq!(peer.session.step(peer.now, &mut out), Step::Content);
    out.clear();
    assert!(!peer.session.follow(binary(1), &mut out) && out.is_empty());
    assert!(peer.session.follow(transaction(1), &mut out));
}
