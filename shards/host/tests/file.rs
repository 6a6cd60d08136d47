//! Files in a directory of the test's own.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and its plain threads may sleep"
)]

mod shard;

use std::io::ErrorKind;
use std::path::Path;

use host::buffer::BLOCK;
use host::ring_host::RingHost;
use host::{AlignedBuf, File, Host};
use shard::{directory, on_shard, options, settle};

fn blocks(count: usize, byte: u8) -> AlignedBuf {
    let mut buffer = AlignedBuf::with_capacity(count * BLOCK);
    buffer.extend_from_slice(&vec![byte; count * BLOCK]);
    buffer
}

#[test]
fn a_hundred_files_of_synced_writes_read_back() {
    let path = directory("hundred");
    on_shard(options(), move |host| async move {
        let (done, names) = (std::rc::Rc::new(std::cell::Cell::new(0)), path.clone());
        for number in 0..100u8 {
            let (host, path, done) = (host.clone(), path.join(format!("{number:03}")), done.clone());
            host.clone().spawn(async move {
                write_and_read(&host, &path, number).await;
                done.set(done.get() + 1);
            });
        }
        settle(&host, |_| done.get() == 100).await;
        assert_eq!(done.get(), 100);
        let listed = host.list_dir(&names).await.unwrap();
        assert_eq!(listed, (0..100).map(|number| format!("{number:03}")).collect::<Vec<_>>());
        for number in 0..100u8 {
            let bytes = std::fs::read(names.join(format!("{number:03}"))).unwrap();
            assert_eq!(bytes.len(), 16 * BLOCK);
            assert!(bytes[..4 * BLOCK].iter().all(|byte| *byte == 0));
            assert!(bytes[4 * BLOCK..8 * BLOCK].iter().all(|byte| *byte == number));
            assert!(bytes[8 * BLOCK..].iter().all(|byte| *byte == 0));
        }
        assert_eq!(settle(&host, |stats| stats.operations == 0).await.operations, 0);
    });
}

async fn write_and_read(host: &RingHost, path: &Path, number: u8) {
    let file = host.create_zeroed(path, 16 * BLOCK as u64).await.unwrap();
    assert_eq!(file.size(), 16 * BLOCK as u64);
    let (written, buffer) = file.write_synced(blocks(4, number), 4 * BLOCK as u64).await;
    written.unwrap();
    assert_eq!(buffer.len(), 4 * BLOCK);
    // Any offset and length may be read, also across what was never written.
    let start = 4 * BLOCK - 3;
    let read = file.read_at(start as u64, 10).await.unwrap();
    assert_eq!(read, [0, 0, 0, number, number, number, number, number, number, number]);
    let reader = host.open_read(path).await.unwrap();
    assert_eq!(reader.size(), 16 * BLOCK as u64);
    assert!(reader.read_at(0, 16 * BLOCK).await.unwrap()[8 * BLOCK - 1] == number);
    let (refused, _) = reader.write_synced(blocks(1, 1), 0).await;
    assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EBADF));
    assert_eq!(file.read_at(16 * BLOCK as u64 - 1, 2).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert!(file.read_at(5, 0).await.unwrap().is_empty());
}

#[test]
fn a_file_is_replaced_by_zeros_and_a_size_of_many_pieces_is_kept() {
    let path = directory("zeros").join("segment");
    on_shard(options(), move |host| async move {
        std::fs::write(&path, vec![7; 5 << 20]).unwrap();
        let size = (3 << 20) + BLOCK as u64;
        host.create_zeroed(&path, size).await.unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() as u64 == size && bytes.iter().all(|byte| *byte == 0));
        assert_eq!(host.create_zeroed(&path, 100).await.err().unwrap().kind(), ErrorKind::InvalidInput);
        let file = host.open_write(&path).await.unwrap();
        assert_eq!(file.size(), size);
        let mut odd = AlignedBuf::with_capacity(BLOCK);
        odd.extend_from_slice(b"not a block");
        assert_eq!(file.write_synced(odd, 0).await.0.unwrap_err().kind(), ErrorKind::InvalidInput);
        file.write_synced(blocks(1, 9), 3 << 20).await.0.unwrap();
        assert_eq!(file.read_at((3 << 20) + 17, 3).await.unwrap(), [9, 9, 9]);
    });
}

#[test]
fn a_file_system_in_memory_is_written_too() {
    let path = Path::new("/dev/shm");
    if !path.is_dir() {
        return;
    }
    let path = path.join(format!("mtad-host-{}", std::process::id()));
    on_shard(options(), move |host| async move {
        let file = host.create_zeroed(&path, 4 * BLOCK as u64).await.unwrap();
        file.write_synced(blocks(2, 5), BLOCK as u64).await.0.unwrap();
        assert_eq!(file.read_at(BLOCK as u64 - 1, 2).await.unwrap(), [0, 5]);
        host.remove(&path).await.unwrap();
        assert!(!path.exists());
    });
}

#[test]
fn names_are_made_changed_and_removed() {
    let path = directory("names");
    on_shard(options(), move |host| async move {
        let deep = path.join("a/b/c");
        host.create_dir(&deep).await.unwrap();
        host.create_dir(&deep).await.unwrap();
        assert!(deep.is_dir());
        let (one, two) = (deep.join("one"), deep.join("two"));
        std::fs::write(&one, "1").unwrap();
        std::fs::write(&two, "2").unwrap();
        host.rename(&one, &two).await.unwrap();
        host.sync_dir(&deep).await.unwrap();
        assert_eq!(std::fs::read_to_string(&two).unwrap(), "1");
        assert_eq!(host.list_dir(&deep).await.unwrap(), ["two"]);
        host.remove(&two).await.unwrap();
        assert!(host.list_dir(&deep).await.unwrap().is_empty());
        for missing in [
            host.remove(&two).await.err(),
            host.rename(&one, &two).await.err(),
            host.open_read(&one).await.err(),
            host.open_write(&one).await.err(),
            host.list_dir(&one).await.err(),
            host.sync_dir(&one).await.err(),
            host.create_zeroed(&one.join("under"), 0).await.err(),
        ] {
            assert_eq!(missing.unwrap().kind(), ErrorKind::NotFound);
        }
        std::fs::write(&one, "a file").unwrap();
        assert!(host.create_dir(&one).await.is_err());
        assert!(host.create_dir(&one.join("under")).await.is_err());
    });
}

#[test]
fn a_write_that_nobody_waits_for_still_happens() {
    let path = directory("dropped").join("file");
    on_shard(options(), move |host| async move {
        let file = host.create_zeroed(&path, 64 * BLOCK as u64).await.unwrap();
        for block in 0..64 {
            let write = file.write_synced(blocks(1, 3), block * BLOCK as u64);
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(std::pin::pin!(write).poll(&mut cx).is_pending());
        }
        drop(file);
        let stats = settle(&host, |stats| stats.operations == 0).await;
        assert_eq!(stats.operations, 0);
        assert!(std::fs::read(&path).unwrap().iter().all(|byte| *byte == 3));
    });
}

#[test]
fn a_failed_write_is_told_with_its_own_reason_and_not_with_that_of_the_sync() {
    on_shard(options(), |host| async move {
        // A device that knows no direct access and has no room.
        let file = host.open_write(Path::new("/dev/full")).await.unwrap();
        let (written, buffer) = file.write_synced(blocks(2, 1), 0).await;
        assert_eq!(written.unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(buffer.len(), 2 * BLOCK);
    });
}
