//! A small mix of messages that look like what a relay carries on a working day.

use fastrand::Rng;

use crate::content::Draft;

const PLAIN: &str = "text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit";

/// All kinds, the small ones the most frequent.
pub(crate) fn drafts(rng: &mut Rng) -> Vec<Draft> {
    vec![note(), order(rng), code(rng), alert(rng), newsletter(rng), invoice(rng), minutes(), patch(rng)]
}

fn note() -> Draft {
    Draft {
        weight: 6,
        from: "Ana Souza",
        subject: "Lunch on Thursday?".into(),
        kind: PLAIN.into(),
        body: "Hi,\r\n\r\nthe place by the canal is open again. Thursday at half past twelve?\r\n\
               Bring Jörg if he is in town, I still owe him a coffee.\r\n\r\n\
               ... and thanks for the photos!\r\n\r\nAna\r\n-- \r\nAna Souza, Rua do Açúcar 12\r\n"
            .into(),
    }
}

fn order(rng: &mut Rng) -> Draft {
    let mut body = String::from("Thank you for your order.\r\n\r\n");
    let goods =
        ["Desk lamp, brass", "Notebook A5, ruled", "Tea, Assam 250 g", "Bicycle bell", "Wool socks, grey"];
    for _ in 0..24 {
        let name = goods[rng.usize(..goods.len())];
        let line =
            format!("{:>3} x {name:<28} {:>6}.{:02} EUR\r\n", rng.u32(1..9), rng.u32(2..90), rng.u32(..100));
        body.push_str(&line);
    }
    body.push_str("\r\nYour parcel leaves our warehouse tomorrow. You may return it within 30 days.\r\n");
    Draft {
        weight: 6,
        from: "Corner Shop",
        subject: format!("Order {} confirmed", rng.u32(100_000..)),
        kind: PLAIN.into(),
        body,
    }
}

fn code(rng: &mut Rng) -> Draft {
    Draft {
        weight: 5,
        from: "Account service",
        subject: "Your sign-in code".into(),
        kind: PLAIN.into(),
        body: format!(
            "Your code is {:06}.\r\n\r\nIt is valid for ten minutes. If you did not ask for it, change your password.\r\n",
            rng.u32(..1_000_000)
        ),
    }
}

fn alert(rng: &mut Rng) -> Draft {
    let mut body = String::from("3 checks failed on web-07:\r\n\r\n");
    for _ in 0..40 {
        let line = format!(
            "2026-03-{:02}T{:02}:{:02}:{:02}Z disk /dev/vd{} latency {} ms, queue {}\r\n",
            rng.u32(1..29),
            rng.u32(..24),
            rng.u32(..60),
            rng.u32(..60),
            rng.char('a'..='f'),
            rng.u32(1..900),
            rng.u32(..64),
        );
        body.push_str(&line);
    }
    Draft {
        weight: 4,
        from: "Watch",
        subject: "=?utf-8?Q?=E2=9A=A0?= web-07 is slow".into(),
        kind: format!("{PLAIN}\r\nAuto-Submitted: auto-generated"),
        body,
    }
}

fn newsletter(rng: &mut Rng) -> Draft {
    let words = ["harbour", "garden", "season", "market", "library", "evening", "concert", "river", "museum"];
    let mut text = String::new();
    let mut html = String::from("<html><body style=\"font-family: serif\">\r\n<h1>News from town</h1>\r\n");
    for item in 1..=30 {
        let pick = |rng: &mut Rng| words[rng.usize(..words.len())];
        let line =
            format!("The {} by the {} opens its {} this {}.", pick(rng), pick(rng), pick(rng), pick(rng));
        text.push_str(&format!("{item}. {line}\r\n"));
        html.push_str(&format!(
            "<p><a href=\"https://news.example/{item}?u={:x}\">{line}</a><br>\r\n<img src=\"https://news.example/i/{item}.png\" alt=\"\"></p>\r\n",
            rng.u64(..)
        ));
    }
    html.push_str("</body></html>\r\n");
    Draft {
        weight: 5,
        from: "Town News",
        subject: "What is on this week".into(),
        kind: "multipart/alternative; boundary=\"=_part\"\r\nList-Unsubscribe: <https://news.example/leave>"
            .into(),
        body: format!(
            "--=_part\r\nContent-Type: text/plain\r\n\r\n{text}--=_part\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{html}--=_part--\r\n"
        ),
    }
}

fn invoice(rng: &mut Rng) -> Draft {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut file = String::new();
    for _ in 0..560 {
        file.extend((0..76).map(|_| ALPHABET[rng.usize(..64)] as char));
        file.push_str("\r\n");
    }
    Draft {
        weight: 2,
        from: "Accounts",
        subject: "Invoice for March".into(),
        kind: "multipart/mixed; boundary=\"=_file\"".into(),
        body: format!(
            "--=_file\r\nContent-Type: text/plain\r\n\r\nPlease find the invoice attached.\r\n\r\n--=_file\r\n\
             Content-Type: application/pdf; name=\"invoice.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\
             Content-Disposition: attachment; filename=\"invoice.pdf\"\r\n\r\n{file}--=_file--\r\n"
        ),
    }
}

fn minutes() -> Draft {
    let paragraph = "We went through the open points. The budget for the new hall is approved, the roof is not: \
                     two more offers are needed before June. Márta asks the neighbours; 田中さん writes to the city. ";
    let mut body = String::from("Minutes\r\n\r\n");
    for _ in 0..12 {
        // Many mail programs leave a paragraph on one line, close to the limit of 998 bytes.
        body.push_str(&paragraph.repeat(4));
        body.push_str("\r\n\r\n");
    }
    Draft {
        weight: 3,
        from: "Secretary",
        subject: "=?utf-8?Q?Minutes_of_the_meeting_=E2=80=93_draft?=".into(),
        kind: PLAIN.into(),
        body,
    }
}

fn patch(rng: &mut Rng) -> Draft {
    let mut body = String::from("Applied, thanks. For the record:\r\n\r\n");
    for _ in 0..60 {
        body.push_str(&format!("-    let limit = {};\r\n+    let limit = {};\r\n", rng.u16(..), rng.u16(..)));
        // A lone dot and a dot in front: what transparency is for.
        body.push_str(".\r\n..hidden/file\r\n");
    }
    Draft {
        weight: 3,
        from: "Build",
        subject: "Re: [patch] raise the limits".into(),
        kind: "text/plain; charset=us-ascii".into(),
        body,
    }
}
