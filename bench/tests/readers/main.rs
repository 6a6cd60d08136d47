//! What reads series of runs: the page, the comparison, and the commands for both.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod command;
mod compare;
mod page;
mod sample;
