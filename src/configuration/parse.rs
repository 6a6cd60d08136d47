//! Which keys there are. Their defaults are those of [`Settings`], and nowhere else.

use super::finding::{Finding, Findings, Problem, Severity};
use super::section::{Keyed, Section};
use super::{Settings, sense, value};
use crate::log;
use auth::Terms;
use clap::ValueEnum;
use shard::config::{
    Auth, Bounce, Chunking, Config, Delivery, EightBit, Listen, Reception, Retry, Route, Spool,
};
use toml::de::DeTable;

/// The words for when content is sent with BDAT.
pub const CHUNKING: [(&str, Chunking); 3] =
    [("auto", Chunking::Auto), ("always", Chunking::Always), ("never", Chunking::Never)];
/// The words for what becomes of 8-bit content where 8BITMIME is not offered.
pub const EIGHT_BIT: [(&str, EightBit); 2] = [("send", EightBit::Send), ("bounce", EightBit::Bounce)];

/// Parses the `text` of `file`. Gives the settings with warnings, or the errors along with the warnings.
pub fn parse(file: &str, text: &str) -> Result<(Settings, Vec<Finding>), Vec<Finding>> {
    let findings = Findings::new(file, text);
    let settings = read(text, &findings);
    let findings = findings.into_list();
    match findings.iter().any(|finding| finding.severity == Severity::Error) {
        false => Ok((settings, findings)),
        true => Err(findings),
    }
}

/// Whether clients log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Login {
    Off,
    Optional,
    Required,
}

/// A listener with what is asked of the file only, not of a shard.
pub struct Listener {
    /// What the shards need to know.
    pub listen: Listen,
    /// It was said that everybody may relay here.
    pub allow_open_relay: bool,
}

fn read(text: &str, findings: &Findings<'_>) -> Settings {
    let (document, faults) = DeTable::parse_recoverable(text);
    for fault in &faults {
        let what = fault.message().trim().replace('\n', ", ");
        let offset = fault.span().map_or(0, |span| span.start);
        findings.error_at(offset, "syntax", Problem::new(what, "write it as TOML (https://toml.io)"));
    }
    let mut settings = Settings::default();
    // What follows a fault of syntax may have been misread, and would give findings that mislead.
    if faults.is_empty() {
        let document = Section::document(document.get_ref(), findings);
        read_document(document, &mut settings, findings);
    }
    settings
}

fn read_document(document: Section<'_>, settings: &mut Settings, findings: &Findings<'_>) {
    let relay = &mut settings.relay;
    document.read("hostname", value::hostname, &mut relay.hostname);
    read_spool(document.section("spool"), &mut relay.spool);
    let listeners = match document.sections("listen") {
        Some(listeners) => read_each(listeners, read_listener),
        None => default_listeners(),
    };
    let routes =
        document.sections("route").map(|routes| read_each(routes, |route| read_route(route, findings)));
    read_retry(document.section("retry"), &mut relay.retry, findings);
    read_reception(document.section("reception"), &mut relay.reception);
    read_delivery(document.section("delivery"), &mut relay.delivery);
    read_auth(document.section("auth"), &mut relay.auth);
    read_bounce(document.section("bounce"), &mut relay.bounce);
    let metrics = document.section("metrics");
    metrics.read("address", value::address_or_none, &mut settings.metrics);
    metrics.end();
    read_log(document.section("log"), &mut settings.log);
    document.end();

    let routes = routes.unwrap_or_default();
    sense::check_listeners(&listeners, settings.metrics, findings);
    sense::check_routes(&routes, &listeners, findings);
    relay.listen = listeners.into_iter().map(|listener| listener.value.listen).collect();
    relay.routes = routes.into_iter().map(|route| route.value).collect();
    sense::check_bounds(relay, findings);
    sense::check_auth(relay, findings);
    sense::check_names(relay, findings);
}

fn read_each<'t, T>(sections: Vec<Section<'t>>, read: impl Fn(Section<'t>) -> Option<T>) -> Vec<Keyed<T>> {
    let keyed = |section: Section<'t>| {
        let key = section.key.clone();
        Some(Keyed { key, value: read(section)? })
    };
    sections.into_iter().filter_map(keyed).collect()
}

fn read_spool(section: Section<'_>, spool: &mut Spool) {
    section.read("path", value::path, &mut spool.path);
    section.read("segment_bytes", value::bytes, &mut spool.segment_bytes);
    section.read("spares_max", value::count, &mut spool.spares_max);
    section.read("allow_volatile_spool", value::truth, &mut spool.allow_volatile);
    section.read("free_bytes_min", value::bytes, &mut spool.free_bytes_min);
    section.read("free_inodes_min", value::count, &mut spool.free_inodes_min);
    section.read("free_percent_min", value::percent, &mut spool.free_percent_min);
    section.read("damaged_max", value::count, &mut spool.damaged_max);
    section.read("damaged_bytes_max", value::bytes, &mut spool.damaged_bytes_max);
    section.read("deliveries_max", value::count, &mut spool.deliveries_max);
    section.end();
}

fn default_listeners() -> Vec<Keyed<Listener>> {
    let keyed = |listen| Keyed { key: "listen".into(), value: Listener { listen, allow_open_relay: false } };
    Config::default().listen.into_iter().map(keyed).collect()
}

fn read_listener(section: Section<'_>) -> Option<Listener> {
    let address = section.required("address", value::address, "\"127.0.0.1:2525\"");
    let mut allow_open_relay = false;
    let relay_from = section.list("relay_from", value::network).map(values);
    let relay_to = section.list("relay_to", value::domain).map(values);
    section.read("allow_open_relay", value::truth, &mut allow_open_relay);
    let (mut login, mut without_tls) = (Login::Off, false);
    section.read("auth", value::choice, &mut login);
    section.read("auth_without_tls", value::truth, &mut without_tls);
    section.end();
    let mut listen = Config::default().listen.remove(0);
    listen.auth = match login {
        Login::Off => None,
        login => Some(Terms { required: login == Login::Required, without_tls }),
    };
    listen.address = address?;
    listen.relay_from = relay_from.unwrap_or(listen.relay_from);
    listen.relay_to = relay_to.unwrap_or(listen.relay_to);
    Some(Listener { listen, allow_open_relay })
}

fn read_route(section: Section<'_>, findings: &Findings<'_>) -> Option<Route> {
    let domain = section.required("domain", value::domain, "\"*\"");
    let to = section.list("to", value::next_hop);
    let key = section.key_of("to");
    section.end();
    let example = "[\"192.0.2.1:25\"]";
    match &to {
        None => findings.error(&key, Problem::new("is missing", format!("add to = {example}"))),
        Some(hops) => sense::check_hops(&key, hops, findings),
    }
    Some(Route { domain: domain?, to: values(to?) })
}

fn read_retry(section: Section<'_>, retry: &mut Retry, findings: &Findings<'_>) {
    if let Some(intervals) = section.list("intervals", value::duration) {
        if intervals.is_empty() && !findings.has_errors_below(&section.key_of("intervals")) {
            let advice = "write at least one time, such as [\"5m\"]";
            findings.error(&section.key_of("intervals"), Problem::new("is empty", advice));
        }
        retry.intervals = values(intervals);
    }
    section.read("max_age", value::duration, &mut retry.max_age);
    section.read("jitter_percent", value::percent, &mut retry.jitter_percent);
    section.end();
}

fn read_reception(section: Section<'_>, reception: &mut Reception) {
    section.read("connections_max", value::count, &mut reception.connections_max);
    section.read("message_bytes_max", value::bytes, &mut reception.message_bytes_max);
    section.read("recipients_max", value::count, &mut reception.recipients_max);
    section.read("hops_max", value::count, &mut reception.hops_max);
    section.read("errors_max", value::count, &mut reception.errors_max);
    section.read("command_timeout", value::duration, &mut reception.command_timeout);
    section.read("data_timeout", value::duration, &mut reception.data_timeout);
    section.read("body_memory", value::memory, &mut reception.body_memory);
    section.end();
}

fn read_delivery(section: Section<'_>, delivery: &mut Delivery) {
    section.read("connections_max", value::count, &mut delivery.connections_max);
    section.read("shard_connections_max", value::count, &mut delivery.shard_connections_max);
    section.read("recipients_max", value::count, &mut delivery.recipients_max);
    section.read("transactions_max", value::count, &mut delivery.transactions_max);
    section.read("pipeline_messages", value::truth, &mut delivery.pipeline_messages);
    section.read("chunking", |value| value::word_of(value, &CHUNKING), &mut delivery.chunking);
    section.read("eight_bit", |value| value::word_of(value, &EIGHT_BIT), &mut delivery.eight_bit);
    section.read("idle_timeout", value::duration, &mut delivery.idle_timeout);
    section.read("connect_timeout", value::duration, &mut delivery.connect_timeout);
    section.read("reply_timeout", value::duration, &mut delivery.reply_timeout);
    section.read("data_timeout", value::duration, &mut delivery.data_timeout);
    section.read("final_timeout", value::duration, &mut delivery.final_timeout);
    section.read("port", value::count, &mut delivery.port);
    section.end();
}

fn read_auth(section: Section<'_>, auth: &mut Auth) {
    let guard = &mut auth.guard;
    section.read("users", value::path_or_none, &mut auth.users);
    section.read("failures_max", value::count, &mut guard.failures_max);
    section.read("lockout", value::duration, &mut guard.lockout);
    section.read("failure_delay", value::duration, &mut guard.delay);
    section.read("failure_delay_max", value::duration, &mut guard.delay_max);
    section.read("keys_max", value::count, &mut guard.keys_max);
    section.read("workers", value::count, &mut auth.workers);
    section.read("waiting_max", value::count, &mut auth.waiting_max);
    section.read("verified_for", value::duration, &mut auth.verified_for);
    section.read("verified_max", value::count, &mut auth.verified_max);
    section.end();
}

fn read_bounce(section: Section<'_>, bounce: &mut Bounce) {
    section.read("delay_after", value::duration, &mut bounce.delay_after);
    section.read("delay_reports", value::truth, &mut bounce.delay_reports);
    section.read("return_bytes_max", value::memory, &mut bounce.return_bytes_max);
    section.end();
}

fn read_log(section: Section<'_>, log: &mut log::Settings) {
    section.read("format", value::choice, &mut log.format);
    section.read("level", value::choice, &mut log.level);
    section.end();
}

fn values<T>(list: Vec<Keyed<T>>) -> Vec<T> {
    list.into_iter().map(|keyed| keyed.value).collect()
}
