use super::*;
use crate::doctor::Verdict;

fn spool(path: impl Into<PathBuf>) -> Spool {
    Spool { path: path.into(), ..Spool::default() }
}

/// An empty directory of its own for each test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(parent: &Path, name: &str) -> Folder {
        let path = parent.join(format!("mtad-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_spool_in_memory_is_volatile_and_refused_unless_allowed() {
    let memory = Path::new("/dev/shm");
    if !FileSystem::of(memory).is_ok_and(|found| found.name == "tmpfs") {
        return;
    }
    let folder = Folder::new(memory, "volatile");
    let mut spool = spool(folder.0.join("not/yet"));
    let refused = &checks(&spool)[1];
    assert_eq!(refused.verdict, Verdict::Missing);
    assert!(refused.to_string().contains("tmpfs, volatile"), "{refused}");
    assert!(refused.advice.contains("allow_volatile_spool = true"), "{refused}");
    spool.allow_volatile = true;
    assert_eq!(checks(&spool)[1].verdict, Verdict::Warning);
    assert!(!spool.path.exists(), "the doctor makes nothing");
}

#[test]
fn a_shard_on_a_file_system_of_its_own_is_looked_at_by_itself() {
    let memory = Path::new("/dev/shm");
    if !FileSystem::of(memory).is_ok_and(|found| found.name == "tmpfs") {
        return;
    }
    let (folder, elsewhere) = (Folder::new(&std::env::temp_dir(), "volumes"), Folder::new(memory, "volumes"));
    std::fs::create_dir(folder.0.join("shard-0")).unwrap();
    std::os::unix::fs::symlink(&elsewhere.0, folder.0.join("shard-1")).unwrap();
    let checks = checks(&spool(&folder.0));
    let told: Vec<String> = checks[2..].iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "shard-0 is where the spool is: {told:?}");
    assert!(told[0].starts_with("spool shard-1 keeps mail: the file system is tmpfs, volatile"), "{told:?}");
    assert_eq!(checks[2].verdict, Verdict::Missing);
}

#[test]
fn nothing_is_left_behind() {
    let folder = Folder::new(&std::env::temp_dir(), "left");
    let spool = spool(&folder.0);
    assert_eq!(checks(&spool)[0], Check::ok("spool", shown(&folder.0)));
    assert!(sync_latency(&spool).seen.contains(" writes of 4 KiB, each synced: min "));
    assert!(space(&spool).is_some());
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0);
}

#[test]
fn a_file_where_the_spool_should_be_is_told() {
    let folder = Folder::new(&std::env::temp_dir(), "file");
    let file = folder.0.join("spool");
    std::fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let checks = checks(&spool(path));
        assert_eq!((checks.len(), checks[0].verdict), (1, Verdict::Missing));
        assert!(checks[0].to_string().starts_with("spool: "), "{}", checks[0]);
    }
}

#[test]
fn a_spool_that_everybody_can_write_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new(&std::env::temp_dir(), "open");
    std::fs::set_permissions(&folder.0, std::fs::Permissions::from_mode(0o777)).unwrap();
    let checks = checks(&spool(&folder.0));
    assert_eq!(checks[0].verdict, Verdict::Warning);
    assert!(checks[0].advice.starts_with("chmod 700 /"), "{}", checks[0]);
}

#[test]
fn times_that_no_disk_can_reach_are_suspicious() {
    let times = |micros| vec![Duration::from_micros(micros); SYNCS];
    assert_eq!(judge_times(&times(19)).verdict, Verdict::Warning);
    assert_eq!(judge_times(&times(150)).verdict, Verdict::Ok);
    assert_eq!(judge_times(&times(60_000)).verdict, Verdict::Warning);
    let one = judge_times(&[Duration::from_micros(150)]);
    assert_eq!(one.seen, "1 writes of 4 KiB, each synced: min 150 us, median 150 us, p99 150 us");
}
