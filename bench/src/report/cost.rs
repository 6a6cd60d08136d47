//! What each side cost for a message.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::load::Sent;
use crate::observe::{Device, Group, Observed, Usage};
use crate::sink::Received;

/// CPU time per acknowledged message, and the target's other needs. What was not observed is absent.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// Microseconds of the load's threads.
    pub load_cpu: f64,
    /// Microseconds of the sink's threads.
    pub sink_cpu: f64,
    /// Microseconds of the target's processes.
    pub target_cpu: Option<f64>,
    /// Context switches of the target per message.
    pub target_switches: Option<f64>,
    /// Bytes that the target caused to be written to a device, per message.
    pub target_written: Option<f64>,
    /// All readings of the target.
    pub target: Option<Usage>,
    /// Microseconds of the target's control group, per message.
    pub cgroup_cpu: Option<f64>,
    /// Bytes that the control group wrote to devices, per message.
    pub cgroup_written: Option<f64>,
    /// All readings of the control group.
    pub cgroup: Option<Group>,
    /// Flushes of the device, per message.
    pub device_flushes: Option<f64>,
    /// Write requests to the device, per message.
    pub device_writes: Option<f64>,
    /// Bytes written to the device, per message.
    pub device_written: Option<f64>,
    /// What the device did, for whomever.
    pub device: Option<Device>,
    /// System calls of the target. If they were counted, the times of the run do not count.
    pub calls: Option<Calls>,
}

/// System calls.
#[derive(Clone, Debug, Serialize)]
pub struct Calls {
    /// All together per message.
    pub per_message: f64,
    /// By name, per message.
    pub by_name: BTreeMap<String, f64>,
    /// By name, in all.
    pub counts: BTreeMap<String, u64>,
}

impl Cost {
    pub(super) fn new(sent: &Sent, received: &Received, observed: Observed) -> Self {
        let messages = sent.progress.accepted.max(1) as f64;
        let each = |count: u64| count as f64 / messages;
        let Observed { processes, cgroup, device, calls } = observed;
        let spent = processes.map(|usage| usage.spent);
        Self {
            load_cpu: sent.cpu as f64 / 1000.0 / messages,
            sink_cpu: received.cpu as f64 / 1000.0 / messages,
            target_cpu: spent.map(|spent| each(spent.cpu())),
            target_switches: spent.map(|spent| each(spent.voluntary + spent.involuntary)),
            target_written: spent.map(|spent| each(spent.written)),
            target: processes,
            cgroup_cpu: cgroup.and_then(|group| group.cpu).map(each),
            cgroup_written: cgroup.and_then(|group| group.written).map(each),
            cgroup,
            device_flushes: device.as_ref().and_then(|device| device.flushes).map(each),
            device_writes: device.as_ref().map(|device| each(device.writes)),
            device_written: device.as_ref().map(|device| each(device.written)),
            device,
            calls: calls.map(|counts| Calls {
                per_message: each(counts.values().sum()),
                by_name: counts.iter().map(|(name, &count)| (name.clone(), each(count))).collect(),
                counts,
            }),
        }
    }
}
