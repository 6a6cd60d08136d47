//! SMTP without input or output.
//!
//! A session is a value that is fed bytes and time and says what to do next; whoever drives it owns the socket,
//! the clock and the disk. What it wants to say goes into a buffer of the driver's, which is sent with one write
//! whenever a step has to wait. An open question is a ticket, consumed by its answer, and nothing past it is
//! read: pipelined commands stay in order, and back-pressure needs no code.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod chunk;
pub mod command;
pub mod data;
pub mod extension;
pub mod receive;
pub mod send;
