//! The program end to end: each test runs the relay as a process of its own, sends it mail over loopback, and
//! looks at what comes out at the next hop.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, read the clock and sleep"
)]

mod client;
mod conservation;
mod crash;
mod dialogs;
mod hostile;
mod next_hop;
mod process;
mod routes;
mod spool;
mod traffic;
