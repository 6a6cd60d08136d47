//! How many shards there are, and on which CPU each one runs.
//!
//! Reading the machine is apart from deciding, so that machines of any shape can be tested on paper.

use crate::arguments::Shards;
use std::fmt;
use std::path::{Path, PathBuf};

/// A CPU as `/sys` describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Its number.
    pub number: usize,
    /// The NUMA node that it belongs to, when the kernel tells.
    pub node: Option<usize>,
    /// The other hardware threads of its core.
    pub siblings: Vec<usize>,
}

/// What the machine lets us use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The CPUs that we may run on.
    pub cpus: Vec<Cpu>,
    /// How many CPUs the cgroup pays for, rounded down, at least 1; `None` without a quota.
    pub quota: Option<usize>,
}

/// Which shard runs where, and why there are so many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreMap {
    /// The CPU of each shard; `None` for a shard that is not pinned.
    pub shards: Vec<Option<Cpu>>,
    /// Why, for people.
    pub reason: String,
}

impl CoreMap {
    /// Decides for `asked` on `machine`.
    pub fn new(asked: Shards, machine: &Machine) -> CoreMap {
        let cpus = spread(&machine.cpus);
        let allowed = cpus.len();
        let (count, reason) = match (asked, machine.quota) {
            (Shards::Auto, Some(quota)) if quota < allowed => {
                (quota, format!("the CPU quota of the cgroup pays for {quota} of {allowed} allowed CPUs"))
            }
            (Shards::Auto, _) => (allowed.max(1), format!("{allowed} CPUs are allowed")),
            (Shards::Count(count), _) if count > allowed => (
                count,
                format!("--shards {count} is more than {allowed} allowed CPUs, so no shard is pinned"),
            ),
            (Shards::Count(count), _) => (count, format!("--shards {count} of {allowed} allowed CPUs")),
        };
        let count = count.min(mail::id::SHARDS_MAX);
        let shards = match count <= allowed {
            true => cpus.into_iter().take(count).map(Some).collect(),
            false => vec![None; count],
        };
        CoreMap { shards, reason }
    }

    /// The CPU number of each shard.
    pub fn cpus(&self) -> Vec<Option<usize>> {
        self.shards.iter().map(|cpu| cpu.as_ref().map(|cpu| cpu.number)).collect()
    }
}

impl fmt::Display for CoreMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.shards.len() == 1 { "" } else { "s" };
        write!(f, "{} shard{plural}: {}", self.shards.len(), self.reason)?;
        for (shard, cpu) in self.shards.iter().enumerate() {
            match cpu {
                Some(cpu) => write!(f, "\n  shard {shard} on {cpu}")?,
                None => write!(f, "\n  shard {shard} not pinned")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CPU {}", self.number)?;
        if let Some(node) = self.node {
            write!(f, ", NUMA node {node}")?;
        }
        if !self.siblings.is_empty() {
            let siblings: Vec<String> = self.siblings.iter().map(ToString::to_string).collect();
            write!(f, ", shares its core with CPU {}", siblings.join(" and "))?;
        }
        Ok(())
    }
}

/// The CPUs in the order in which shards take them: one hardware thread of each core before the second of any,
/// so that few shards do not crowd few cores.
fn spread(cpus: &[Cpu]) -> Vec<Cpu> {
    let mut cpus = cpus.to_vec();
    cpus.sort_by_key(|cpu| (cpu.siblings.iter().filter(|other| **other < cpu.number).count(), cpu.number));
    cpus
}

/// Looks at the machine that we run on.
pub fn look() -> Machine {
    let mask = core_affinity::get_core_ids().unwrap_or_default();
    read_machine(Path::new("/"), mask.into_iter().map(|core| core.id).collect())
}

/// Reads `/proc` and `/sys` below `root` for the CPUs of the affinity `mask`. What cannot be read narrows nothing.
fn read_machine(root: &Path, mask: Vec<usize>) -> Machine {
    let groups = cgroup_folders(root);
    let cpuset =
        groups.iter().find_map(|folder| parse_cpu_list(&read(&folder.join("cpuset.cpus.effective"))?));
    let narrowed: Vec<usize> = match &cpuset {
        Some(set) => mask.iter().copied().filter(|cpu| set.contains(cpu)).collect(),
        None => mask.clone(),
    };
    // A mask and a set without a common CPU come from a change between the two looks; the mask is what binds.
    let numbers = if narrowed.is_empty() { mask } else { narrowed };
    let quotas = groups.iter().filter_map(|folder| parse_cpu_max(&read(&folder.join("cpu.max"))?));
    Machine { cpus: numbers.into_iter().map(|number| read_cpu(root, number)).collect(), quota: quotas.min() }
}

fn read_cpu(root: &Path, number: usize) -> Cpu {
    let folder = root.join(format!("sys/devices/system/cpu/cpu{number}"));
    let siblings = read(&folder.join("topology/thread_siblings_list"));
    let mut siblings = siblings.and_then(|list| parse_cpu_list(&list)).unwrap_or_default();
    siblings.retain(|other| *other != number);
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let node =
        entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()).next();
    Cpu { number, node, siblings }
}

/// The folder of our cgroup and those above it, innermost first; empty without cgroups of version 2.
fn cgroup_folders(root: &Path) -> Vec<PathBuf> {
    let mount = read(&root.join("proc/self/mountinfo")).and_then(|mounts| parse_cgroup_mount(&mounts));
    let group = read(&root.join("proc/self/cgroup")).and_then(|groups| parse_cgroup(&groups));
    let (Some((mount_root, mount_point)), Some(group)) = (mount, group) else { return Vec::new() };
    let inside = group.strip_prefix(&mount_root).map(Path::to_path_buf).unwrap_or_default();
    let top = root.join(mount_point.strip_prefix("/").unwrap_or(&mount_point));
    let folders = inside.ancestors().map(|part| top.join(part));
    folders.collect()
}

fn read(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok()
}

/// The path of our group in the one hierarchy of version 2, from `/proc/self/cgroup`.
fn parse_cgroup(text: &str) -> Option<PathBuf> {
    text.lines().find_map(|line| line.strip_prefix("0::")).map(PathBuf::from)
}

/// Root and mount point of the first file system of type cgroup2, from `/proc/self/mountinfo`.
fn parse_cgroup_mount(text: &str) -> Option<(PathBuf, PathBuf)> {
    let line = text.lines().find(|line| line.contains(" - cgroup2 "))?;
    let mut fields = line.split(' ').skip(3);
    Some((fields.next()?.into(), fields.next()?.into()))
}

/// `0-3,8` as the numbers that it stands for; `None` when it is empty or no such list.
fn parse_cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last < first || last >= CPU_NUMBERS_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// Above the number of any CPU that a kernel can have; bounds what a list can expand to.
const CPU_NUMBERS_MAX: usize = 1 << 16;

/// `200000 100000` as the number of CPUs that it pays for, rounded down, at least 1; `None` without a quota.
fn parse_cpu_max(text: &str) -> Option<usize> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (usize, usize) = (quota.parse().ok()?, period.trim().parse().ok()?);
    Some(quota.checked_div(period)?.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(number: usize, siblings: &[usize]) -> Cpu {
        Cpu { number, node: None, siblings: siblings.to_vec() }
    }

    fn machine(count: usize, quota: Option<usize>) -> Machine {
        Machine { cpus: (0..count).map(|number| cpu(number, &[])).collect(), quota }
    }

    #[test]
    fn lists_of_cpus() {
        for (text, cpus) in [("0\n", vec![0]), ("0-3,8", vec![0, 1, 2, 3, 8]), ("1,3-4\n", vec![1, 3, 4])] {
            assert_eq!(parse_cpu_list(text), Some(cpus), "{text}");
        }
        for bad in ["", "\n", "a", "3-1", "1-", "-1", "0-99999999999", "1,,2"] {
            assert_eq!(parse_cpu_list(bad), None, "{bad}");
        }
    }

    #[test]
    fn quotas_round_down_but_never_to_nothing() {
        for (text, cpus) in [
            ("max 100000\n", None),
            ("200000 100000\n", Some(2)),
            ("250000 100000", Some(2)),
            ("50000 100000", Some(1)),
            ("1 0", None),
            ("", None),
            ("x y", None),
        ] {
            assert_eq!(parse_cpu_max(text), cpus, "{text}");
        }
    }

    #[test]
    fn auto_takes_each_allowed_cpu_as_far_as_the_quota_pays() {
        let auto = |machine: &Machine| CoreMap::new(Shards::Auto, machine);
        assert_eq!(auto(&machine(3, None)).cpus(), [Some(0), Some(1), Some(2)]);
        let paid = auto(&machine(3, Some(2)));
        assert_eq!(paid.cpus(), [Some(0), Some(1)]);
        assert_eq!(paid.reason, "the CPU quota of the cgroup pays for 2 of 3 allowed CPUs");
        assert_eq!(auto(&machine(2, Some(8))).cpus(), [Some(0), Some(1)]);
        assert_eq!(auto(&machine(0, None)).cpus(), [None]);
    }

    #[test]
    fn more_shards_than_cpus_are_not_pinned() {
        let asked = |count| CoreMap::new(Shards::Count(count), &machine(2, Some(1)));
        assert_eq!(asked(1).cpus(), [Some(0)]);
        assert_eq!(asked(2).cpus(), [Some(0), Some(1)]);
        assert_eq!(asked(3).cpus(), [None, None, None]);
        assert_eq!(asked(3).to_string().lines().nth(3), Some("  shard 2 not pinned"));
    }

    #[test]
    fn a_core_gets_a_second_shard_only_when_each_core_has_one() {
        let cpus = vec![cpu(0, &[1]), cpu(1, &[0]), cpu(2, &[3]), cpu(3, &[2])];
        let map = |count| CoreMap::new(Shards::Count(count), &Machine { cpus: cpus.clone(), quota: None });
        assert_eq!(map(2).cpus(), [Some(0), Some(2)]);
        assert_eq!(map(4).cpus(), [Some(0), Some(2), Some(1), Some(3)]);
    }

    #[test]
    fn a_machine_is_read_from_proc_and_sys() {
        let root = std::env::temp_dir().join(format!("mtad-cores-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/self/cgroup", "4:memory:/x\n0::/mail.slice/mtad.service\n");
        write("proc/self/mountinfo", "31 24 0:27 / /cg rw,nosuid - cgroup2 cgroup2 rw\n");
        write("cg/mail.slice/mtad.service/cpu.max", "max 100000\n");
        write("cg/mail.slice/cpu.max", "310000 100000\n");
        write("cg/mail.slice/cpuset.cpus.effective", "1-5\n");
        write("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1,5\n");
        write("sys/devices/system/cpu/cpu1/node3/present", "");
        let machine = read_machine(&root, vec![0, 1, 2]);
        let bare = read_machine(&root.join("nothing"), vec![4]);
        std::fs::remove_dir_all(&root).unwrap();

        let first = Cpu { number: 1, node: Some(3), siblings: vec![5] };
        assert_eq!(first.to_string(), "CPU 1, NUMA node 3, shares its core with CPU 5");
        assert_eq!(machine, Machine { cpus: vec![first, cpu(2, &[])], quota: Some(3) });
        assert_eq!(bare, Machine { cpus: vec![cpu(4, &[])], quota: None });
    }

    #[test]
    fn this_machine_has_a_cpu() {
        assert!(!look().cpus.is_empty());
    }
}
