//! What a shard's host counts.

use super::core::Shared;

/// Counters since the start of the shard, and levels at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostStats {
    /// Turns of the pump.
    pub turns: u64,
    /// System calls that entered the ring.
    pub enters: u64,
    /// Those of them that waited.
    pub waits: u64,
    /// Completions taken.
    pub completions: u64,
    /// Tasks started.
    pub spawned: u64,
    /// Tasks that ended by a panic.
    pub panics: u64,
    /// Times that the pump got the thread back more than 40 ms late although no task ran: the executor slept with
    /// work to do, or the machine gave the thread no CPU.
    pub stalls: u64,
    /// Receives that ended because no buffer was free; each goes on when some are.
    pub enobufs: u64,
    /// Buffers whose bytes were copied out to get them back, because their readers did not come for them.
    pub spilled: u64,
    /// Receive buffers in all.
    pub buffers: u64,
    /// Bytes of each.
    pub buffer_bytes: u64,
    /// Receive buffers that are free.
    pub buffers_available: u64,
    /// Fewest that were ever free.
    pub buffers_low: u64,
    /// Connections, with those that are dropped but not yet closed.
    pub connections: u64,
    /// Listening sockets, likewise.
    pub listeners: u64,
    /// File operations and connects under way.
    pub operations: u64,
    /// Deadlines that are waited for.
    pub timers: u64,
}

impl HostStats {
    pub(super) fn read(shared: &Shared) -> HostStats {
        let core = shared.core();
        HostStats {
            turns: core.counters.turns,
            enters: core.ring.enters,
            waits: core.ring.waits,
            completions: core.counters.completions,
            spawned: shared.spawned.get(),
            panics: shared.panics.get(),
            stalls: shared.stalls.get(),
            enobufs: core.counters.enobufs,
            spilled: core.counters.spilled,
            buffers: core.pool.count().into(),
            buffer_bytes: core.pool.bytes() as u64,
            buffers_available: core.pool.available().into(),
            buffers_low: core.pool.low().into(),
            connections: core.streams.len() as u64,
            listeners: core.listeners.len() as u64,
            operations: core.operations.len() as u64,
            timers: core.timers.len() as u64,
        }
    }

    /// What only grows, for metrics: name, help, value.
    pub(super) fn counters(&self) -> Vec<(&'static str, &'static str, u64)> {
        vec![
            ("host_turns", "Turns of the ring.", self.turns),
            ("host_enters", "System calls that entered the ring.", self.enters),
            ("host_completions", "Completions taken from the ring.", self.completions),
            ("host_panics", "Tasks that ended by a panic.", self.panics),
            ("host_stalls", "Times that the shard got its thread back late.", self.stalls),
            ("host_enobufs", "Receives that found no buffer.", self.enobufs),
            ("host_buffers_spilled", "Receive buffers copied out to get them back.", self.spilled),
        ]
    }

    /// As they are now, for metrics.
    pub(super) fn gauges(&self) -> Vec<(&'static str, &'static str, u64)> {
        vec![
            ("host_buffers", "Receive buffers.", self.buffers),
            ("host_buffers_available", "Receive buffers that are free.", self.buffers_available),
            ("host_buffers_low", "Fewest receive buffers that were ever free.", self.buffers_low),
            ("host_connections", "Sockets that are open, with those being closed.", self.connections),
            ("host_operations", "File operations and connects under way.", self.operations),
            ("host_timers", "Deadlines that are waited for.", self.timers),
        ]
    }
}
