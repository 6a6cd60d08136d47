//! One core of the relay.
#![forbid(unsafe_code)]

pub mod config;
pub mod metrics;
