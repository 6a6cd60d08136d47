//! A program that writes and crashes, over thousands of seeds: what was acknowledged is there afterwards.

use host::buffer::BLOCK;
use host::{AlignedBuf, File, Host};
use sim::{Chance, Crash, Disk, DiskFaults, Failure, Options, Report, SimFile, SimHost, World, run};
use std::cell::RefCell;
use std::io::ErrorKind;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

const BLOCKS: usize = 16;

fn block(value: u8) -> AlignedBuf {
    let mut buffer = AlignedBuf::with_capacity(BLOCK);
    buffer.extend_from_slice(&[value; BLOCK]);
    buffer
}

/// What a block may hold: the value that was acknowledged last, and one that was begun after it.
#[derive(Clone, Copy, Debug, Default)]
struct Expected {
    acknowledged: u8,
    begun: Option<u8>,
}

type Ledger = Rc<RefCell<Vec<Expected>>>;

async fn write_forever(host: SimHost, file: Rc<SimFile>, ledger: Ledger, at: usize) {
    for value in 1..=u8::MAX {
        ledger.borrow_mut()[at].begun = Some(value);
        let (result, _) = file.write_synced(block(value), (at * BLOCK) as u64).await;
        if result.is_err() {
            return;
        }
        ledger.borrow_mut()[at] = Expected { acknowledged: value, begun: None };
        host.sleep_until(host.now() + Duration::from_micros(host.random() % 500)).await;
    }
}

/// How many blocks hold what was acknowledged, and how many something of a write that was not.
async fn write_and_crash(world: World, crash: Crash) -> (usize, usize) {
    let machine = world.add_machine();
    let ledger: Ledger = Rc::new(RefCell::new(vec![Expected::default(); BLOCKS]));
    let host = world.boot(machine, 1).remove(0);
    let written = ledger.clone();
    host.clone().spawn(async move {
        let Ok(file) = host.create_zeroed(Path::new("/log"), (BLOCKS * BLOCK) as u64).await else { return };
        let file = Rc::new(file);
        for at in 0..BLOCKS {
            host.spawn(write_forever(host.clone(), file.clone(), written.clone(), at));
        }
    });
    world.sleep(Duration::from_millis(8) + Duration::from_micros(world.workload().between(0, 9_999))).await;
    world.crash(machine, crash);
    let content = world.disk(machine).peek(Path::new("/log")).unwrap_or_default();
    let mut counts = (0, 0);
    for (bytes, expected) in content.chunks(BLOCK).zip(ledger.borrow().iter()) {
        let is_begun = |byte: &u8| Some(*byte) == expected.begun;
        assert!(bytes.iter().all(|byte| *byte == expected.acknowledged || is_begun(byte)), "{expected:?}");
        if bytes.iter().any(is_begun) { counts.1 += 1 } else { counts.0 += 1 }
    }
    counts
}

fn totals(disk: DiskFaults, crash: Crash, seeds: u64) -> (usize, usize) {
    (0..seeds).fold((0, 0), |(whole, torn), seed| {
        let options = Options { disk, ..Options::calm(seed) };
        let counts = run(options, move |world| write_and_crash(world, crash)).result.expect("no failure");
        (whole + counts.0, torn + counts.1)
    })
}

#[test]
fn what_was_acknowledged_survives_a_power_failure() {
    let (whole, begun) = totals(DiskFaults::NONE, Crash::Power, 2_000);
    assert!(whole > 5_000 && begun > 5_000, "{whole} {begun}");
}

#[test]
fn what_was_acknowledged_survives_the_process() {
    let (whole, begun) = totals(DiskFaults::NONE, Crash::Process, 500);
    assert!(whole > 1_000 && begun > 1_000, "{whole} {begun}");
}

#[test]
fn what_was_acknowledged_survives_failing_writes_and_syncs() {
    let faults =
        DiskFaults { write_error: Chance::percent(5), sync_error: Chance::percent(5), ..DiskFaults::NONE };
    totals(faults, Crash::Power, 2_000);
}

fn with_disk<T: 'static>(
    seed: u64,
    program: impl AsyncFnOnce(World, SimHost, Rc<Disk>) -> T + 'static,
) -> Report<T> {
    run(Options::calm(seed), |world| async move {
        let machine = world.add_machine();
        let host = world.boot(machine, 1).remove(0);
        let disk = world.disk(machine);
        program(world, host, disk).await
    })
}

#[test]
fn a_file_that_was_being_created_has_any_length_or_is_not_there() {
    let mut lengths = Vec::new();
    for seed in 0..300 {
        let report = with_disk(seed, async |world, host, disk| {
            let maker = host.clone();
            host.spawn(async move {
                maker.create_zeroed(Path::new("/f"), 8 * BLOCK as u64).await.expect("no fault");
                maker.sleep_until(mail::Time::FAR).await;
            });
            world.sleep(Duration::from_micros(300)).await;
            world.crash(sim::MachineId(1), Crash::Power);
            disk.peek(Path::new("/f")).map(|content| content.len())
        });
        lengths.push(report.result.expect("no failure"));
    }
    assert!(lengths.contains(&None));
    assert!(lengths.iter().flatten().any(|len| *len > 0 && *len < 8 * BLOCK));
}

#[test]
fn renames_and_removals_are_durable_only_after_a_sync_of_the_directory() {
    let mut outcomes = Vec::new();
    for seed in 0..200 {
        let report = with_disk(seed, async |world, host, disk| {
            let directory = Path::new("/spool");
            host.create_dir(directory).await.expect("no fault");
            for name in ["a", "b", "c"] {
                host.create_zeroed(&directory.join(name), BLOCK as u64).await.expect("no fault");
            }
            host.rename(&directory.join("a"), &directory.join("z")).await.expect("it is there");
            host.sync_dir(directory).await.expect("no fault");
            host.remove(&directory.join("b")).await.expect("it is there");
            assert_eq!(host.list_dir(directory).await.expect("a directory"), ["c", "z"]);
            world.crash(sim::MachineId(1), Crash::Power);
            disk.names_in(directory).join(" ")
        });
        outcomes.push(report.result.expect("no failure"));
    }
    outcomes.sort();
    outcomes.dedup();
    assert_eq!(outcomes, ["b c z", "c z"]);
}

#[test]
fn an_open_file_outlives_its_name_and_its_space_comes_back() {
    let report = with_disk(1, async |_, host, disk| {
        let path = Path::new("/f");
        let file = host.create_zeroed(path, BLOCK as u64).await.expect("no fault");
        file.write_synced(block(7), 0).await.0.expect("no fault");
        host.remove(path).await.expect("it is there");
        host.sync_dir(Path::new("/")).await.expect("no fault");
        assert_eq!(host.open_read(path).await.err().map(|error| error.kind()), Some(ErrorKind::NotFound));
        assert_eq!(file.read_at(0, BLOCK).await.expect("no fault"), vec![7; BLOCK]);
        assert_eq!(disk.used(), BLOCK as u64);
        drop(file);
        disk.used()
    });
    assert_eq!(report.result, Ok(0));
}

#[test]
fn a_full_disk_refuses_and_a_read_past_the_end_fails() {
    let report = with_disk(1, async |_, host, disk| {
        disk.set_capacity(3 * BLOCK as u64);
        let file = host.create_zeroed(Path::new("/a"), 2 * BLOCK as u64).await.expect("room");
        let full = host.create_zeroed(Path::new("/b"), 2 * BLOCK as u64).await;
        let past = file.read_at(BLOCK as u64, 2 * BLOCK).await;
        let missing = host.create_zeroed(Path::new("/no/a"), 0).await;
        [full.err(), past.err(), missing.err()].map(|error| error.map(|error| error.kind()))
    });
    let expected = [ErrorKind::StorageFull, ErrorKind::UnexpectedEof, ErrorKind::NotFound].map(Some);
    assert_eq!(report.result, Ok(expected));
}

#[test]
fn a_fault_under_one_prefix_leaves_the_others_alone_and_bits_flip() {
    let report = with_disk(1, async |_, host, disk| {
        for shard in ["/0", "/1"] {
            host.create_dir(Path::new(shard)).await.expect("no fault");
        }
        let broken = DiskFaults { sync_error: Chance::ALWAYS, ..DiskFaults::NONE };
        let good = host.create_zeroed(Path::new("/1/f"), BLOCK as u64).await.expect("no fault");
        let bad = host.create_zeroed(Path::new("/0/f"), BLOCK as u64).await.expect("no fault yet");
        disk.set_faults_under(Path::new("/0"), broken);
        good.write_synced(block(1), 0).await.0.expect("no fault here");
        assert!(bad.write_synced(block(1), 0).await.0.is_err());
        disk.flip_bit(Path::new("/1/f"), 5, 3);
        let flipped = good.read_at(5, 1).await.expect("no fault here");
        disk.set_faults(DiskFaults { read_flip: Chance::ALWAYS, ..DiskFaults::NONE });
        let seen = good.read_at(0, BLOCK).await.expect("no fault");
        let wrong: u32 = seen.iter().map(|byte| (byte ^ 1).count_ones()).sum();
        (flipped, (wrong == 0) || (wrong == 2))
    });
    assert_eq!(report.result, Ok((vec![1 ^ 8], true)));
}

#[test]
fn a_write_that_is_not_of_whole_blocks_is_a_mistake_of_the_program() {
    let report = with_disk(1, async |_, host, _| {
        let file = host.create_zeroed(Path::new("/f"), BLOCK as u64).await.expect("no fault");
        file.write_synced(block(1), 512).await.0.is_ok()
    });
    assert!(matches!(report.result, Err(Failure::Panic { .. })));
}
