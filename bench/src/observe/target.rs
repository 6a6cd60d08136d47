//! Everything that is observed of a target over a run.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use serde::Serialize;

use super::calls::Count;
use super::device::Number;
use super::{Device, Group, Reading, Usage, Watch, cgroup, device};

/// Where to look.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// Processes, with all their descendants.
    pub pids: Vec<u32>,
    /// A control group: a path, or a name below /sys/fs/cgroup.
    pub cgroup: Option<PathBuf>,
    /// A path on the device to watch, such as the target's queue.
    pub device_of: Option<PathBuf>,
    /// Whether system calls are counted, which makes all times worthless.
    pub count_calls: bool,
}

/// What was seen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Observed {
    /// Of the processes.
    pub processes: Option<Usage>,
    /// Of the control group.
    pub cgroup: Option<Group>,
    /// Of the device.
    pub device: Option<Device>,
    /// System calls by name.
    pub calls: Option<BTreeMap<String, u64>>,
}

/// An observation under way.
pub struct Observer {
    watch: Option<Watch>,
    cgroup: Option<(Vec<PathBuf>, Group)>,
    device: Option<(Number, Device)>,
    count: Option<Count>,
}

impl Observer {
    /// Starts with first readings, so that what cannot be observed is known before the run.
    pub fn start(target: &Target) -> io::Result<Self> {
        let Target { pids, cgroup, device_of, count_calls } = target;
        if *count_calls && pids.is_empty() {
            let text = "to count system calls, the process of the target must be given";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let cgroup = cgroup.as_ref().map(|group| {
            let places = cgroup::places(group);
            cgroup::read(&places).map(|first| (places, first))
        });
        let device = device_of.as_ref().map(|path| {
            let number = device::holding(path)?;
            device::read(number).map(|first| (number, first))
        });
        Ok(Self {
            count: count_calls.then(|| Count::start(pids)).transpose()?,
            watch: (!pids.is_empty()).then(|| Watch::start(pids.clone())).transpose()?,
            cgroup: cgroup.transpose()?,
            device: device.transpose()?,
        })
    }

    /// The last reading of the processes and when it was made.
    pub fn latest(&self) -> Option<(u64, Reading)> {
        self.watch.as_ref().map(Watch::latest)
    }

    /// Ends with last readings.
    pub fn finish(self) -> io::Result<Observed> {
        Ok(Observed {
            calls: self.count.map(Count::finish).transpose()?,
            // A group or device that has gone tells nothing any more; that fails no run.
            cgroup: self.cgroup.and_then(|(places, first)| Some(cgroup::read(&places).ok()?.since(&first))),
            device: self.device.and_then(|(number, first)| Some(device::read(number).ok()?.since(&first))),
            processes: self.watch.map(Watch::finish).transpose()?,
        })
    }
}
