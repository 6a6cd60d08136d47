use super::*;
use shard::config::{DomainPattern, NextHop};
use std::time::Duration;

const SHIPPED: &str = include_str!("../../config/mtad.toml");

/// What must work as it stands.
const EXAMPLE: &str = r#"
[spool]
path = "spool"

[[listen]]
address = "127.0.0.1:2525"
relay_from = ["127.0.0.0/8"]

[[route]]
domain = "*"
to = ["127.0.0.1:2526"]

[retry]
intervals = ["2s", "5s", "10s"]   # the last one repeats
max_age = "5d"

[metrics]
address = "127.0.0.1:9025"
"#;

fn lines(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

fn errors(text: &str) -> Vec<String> {
    let mut findings = parse("f", text).expect_err("the text is wrong");
    findings.retain(|finding| finding.severity == finding::Severity::Error);
    lines(&findings)
}

#[test]
fn the_example_is_understood() {
    let (settings, warnings) = parse("f", EXAMPLE).map_err(|findings| lines(&findings)).unwrap();
    let mut expected = Settings::default();
    expected.relay.routes = vec![shard::config::Route {
        domain: DomainPattern::Any,
        to: vec![NextHop::Address(SocketAddr::from(([127, 0, 0, 1], 2526)))],
    }];
    expected.relay.retry.intervals = [2, 5, 10].map(Duration::from_secs).to_vec();
    assert_eq!(settings, expected);
    assert!(lines(&warnings).iter().all(|line| line.contains("spool.path") || line.contains("hostname")));
}

#[test]
fn nothing_is_the_defaults() {
    assert_eq!(parse("f", "").map(|(settings, _)| settings), Ok(Settings::default()));
    assert_eq!(load(None), Ok((Settings::default(), Vec::new())));
}

#[test]
fn the_shipped_file_is_the_defaults() {
    assert_eq!(parse("f", SHIPPED).map(|(settings, _)| settings), Ok(Settings::default()));
}

/// The sections with a key that does not exist in each, so that the report lists those that do.
const UNKNOWN_KEYS: &str = "absent = 1
[spool]
absent = 1
[[listen]]
address = \"127.0.0.1:1\"
absent = 1
[[route]]
domain = \"*\"
to = [\"127.0.0.1:2\"]
absent = 1
[retry]
absent = 1
[reception]
absent = 1
[delivery]
absent = 1
[auth]
absent = 1
[bounce]
absent = 1
[metrics]
absent = 1
[log]
absent = 1
";

#[test]
fn the_shipped_file_shows_every_key_in_its_section() {
    let examples = SHIPPED.replace("\n#[", "\n[").replace("\n#domain", "\ndomain").replace("\n#to", "\nto");
    let shown = match parse("f", &examples) {
        Ok((settings, _)) => settings,
        Err(findings) => panic!("{:?}", lines(&findings)),
    };
    assert_eq!(shown.relay.routes.len(), 1, "the examples are read");
    let document: toml::Table = examples.parse().unwrap();
    let mut seen = 0;
    for line in errors(UNKNOWN_KEYS) {
        let (key, keys) = line.split_once(": is no key of mtad; remove it, or use one of ").expect(&line);
        let section = key.rsplit_once(' ').expect(&line).1.trim_end_matches("absent").trim_end_matches('.');
        let table = match document.get(section) {
            None => &document,
            Some(toml::Value::Array(sections)) => sections[0].as_table().expect("an array of tables"),
            Some(table) => table.as_table().expect("a table"),
        };
        for key in keys.split(", ") {
            assert!(table.contains_key(key), "{section} lacks {key}");
            seen += 1;
        }
    }
    assert_eq!(seen, document_keys(&document), "each section was looked at");
}

fn document_keys(document: &toml::Table) -> usize {
    let inside = |value: &toml::Value| match value {
        toml::Value::Table(table) => table.len(),
        toml::Value::Array(sections) => sections[0].as_table().map_or(0, toml::Table::len),
        _ => 0,
    };
    document.len() + document.values().map(inside).sum::<usize>()
}

#[test]
fn the_quickstart_has_nothing_to_complain_of() {
    let (settings, warnings) = parse("f", include_str!("../../config/quickstart.toml")).expect("is right");
    assert!(warnings.is_empty(), "{:?}", lines(&warnings));
    assert_eq!((settings.relay.listen.len(), settings.relay.routes.len()), (2, 2));
}

#[test]
fn everything_that_is_wrong_is_said_at_once_in_the_order_of_the_file() {
    let text = "hostnam = \"a.b\"\n[spool]\nsegment_bytes = \"64MB\"\nspares_max = 0\n[retry]\nmax_age = \"5x\"\n\
                [[listen]]\naddress = \"localhost\"\n[reception]\nhops_max = true\n";
    let expected = [
        "f:1:1: hostnam: ",
        "f:3:17: spool.segment_bytes: ",
        "f:4:14: spool.spares_max: ",
        "f:6:11: retry.max_age: ",
        "f:8:11: listen.address: ",
        "f:10:12: reception.hops_max: ",
    ];
    let said = errors(text);
    assert_eq!(said.len(), expected.len(), "{said:?}");
    assert!(said.iter().zip(expected).all(|(line, start)| line.starts_with(start)), "{said:?}");
}

#[test]
fn any_text_is_judged_without_panic() {
    let mut random = 1_u64;
    for round in 0..3000 {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for _ in 0..=round % 4 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (random >> 33) as usize % text.len();
            let letters = ['"', '[', ']', '=', '\n', '0', '\u{e9}', '\0', '.', '#', '-', '{', ','];
            text[at] = letters[(random >> 20) as usize % letters.len()];
        }
        let text: String = text.into_iter().collect();
        if let Err(findings) = parse("f", &text) {
            assert!(lines(&findings).iter().all(|line| line.contains("; ")), "{text}");
        }
    }
}

#[test]
fn files_that_cannot_be_read_are_told() {
    let of = |path: &str| lines(&load(Some(Path::new(path))).expect_err(path));
    assert_eq!(
        of("/nowhere/mtad.toml"),
        [
            "/nowhere/mtad.toml: file: cannot be read (No such file or directory (os error 2)); name a file that this user may read"
        ]
    );
    assert_eq!(of("/dev/zero"), ["/dev/zero: file: is larger than 4 MiB; name a configuration file"]);
    assert!(of("/")[0].contains("cannot be read"));
}
