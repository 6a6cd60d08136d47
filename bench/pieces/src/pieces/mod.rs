//! The pieces, and how each is run.

mod log;
mod peer;
mod relay;
mod sessions;
mod texts;
mod waiting;

/// A piece of the relay at work.
pub struct Piece {
    /// Its name.
    pub name: &'static str,
    /// What its counts are for each of.
    pub unit: &'static str,
    /// Runs it, and says how many units were counted.
    pub run: fn() -> u64,
}

const fn piece(name: &'static str, unit: &'static str, run: fn() -> u64) -> Piece {
    Piece { name, unit, run }
}

/// All pieces.
pub const PIECES: [Piece; 18] = [
    piece("decoder-4k", "message", sessions::decoder_4k),
    piece("decoder-64k", "message", sessions::decoder_64k),
    piece("decoder-dots", "message", sessions::decoder_dots),
    piece("receive-session", "message", sessions::receive),
    piece("send-session", "message", sessions::send),
    piece("addresses", "address", sessions::addresses),
    piece("commands", "command", sessions::commands),
    piece("trace-fields", "message", texts::trace_fields),
    piece("reports", "report", texts::reports),
    piece("queue-passing", "message", waiting::passing),
    piece("queue-retried", "message", waiting::retried),
    piece("spool-append", "message", log::appends),
    piece("spool-recovery", "message", log::recovery),
    piece("spool-scan", "MiB", log::scanning),
    piece("relay-persistent", "message", relay::persistent),
    piece("relay-connections", "message", relay::connections),
    piece("relay-deferred", "message", relay::deferred),
    piece("relay-refused", "message", relay::refused),
];
