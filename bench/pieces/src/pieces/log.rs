//! The spool on the simulator's disk: appends with their outcomes, and the start after it.

use crate::meter::{self, count};
use crate::metered::Metered;
use host::Host;
use mail::{Address, Envelope, MessageId, WallTime};
use sim::{Options, SimHost, World, run};
use spool::recover::scan;
use spool::{Limits, Log, OutcomeRecord, RecipientState, Recovered};
use std::path::Path;
use std::time::Duration;

const WALL: WallTime = WallTime(1_795_566_960_000_000);
const DIRECTORY: &str = "/spool/shard-0";
/// Small, so that most of what a start reads are full ones.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Tasks that append at the same time, and so share groups.
const WRITERS: u64 = 10;
/// Messages of each, once as warm-up and once counted.
const MESSAGES: u64 = 50;

fn envelope() -> Envelope {
    let address = |text| Address::parse(text, false).expect("a mailbox");
    Envelope {
        sender: Some(address("sender@from.example")),
        recipients: vec![address("recipient@to.example")],
        ..Envelope::default()
    }
}

async fn open(host: Metered<SimHost>) -> (Log<Metered<SimHost>>, Recovered) {
    let limits = Limits { segment_bytes: SEGMENT_BYTES, ..Limits::default() };
    Log::open(host, DIRECTORY.into(), 0, limits).await.expect("the disk is whole")
}

/// Appends messages of 4 KiB, from several tasks; with `delivers` each is retired with its outcome.
async fn append(
    world: &World,
    log: &Log<Metered<SimHost>>,
    host: &Metered<SimHost>,
    first: u64,
    delivers: bool,
) {
    for writer in 0..WRITERS {
        let log = log.clone();
        host.spawn(async move {
            let (envelope, content) = (envelope(), vec![b'x'; 4096]);
            for number in 0..MESSAGES {
                let id = MessageId(first + writer * MESSAGES + number);
                let place = log.append_message(id, WALL, &envelope, &content).await.expect("it fits");
                if delivers {
                    let recipients = vec![(0, RecipientState::Delivered)];
                    log.append_outcome(place, &OutcomeRecord { id, at: WALL, recipients });
                    log.retire(id, place);
                }
            }
        });
    }
    world.sleep(Duration::from_secs(5)).await;
}

/// A message made durable, and its outcome.
pub fn appends() -> u64 {
    in_world(|world, host| async move {
        let (log, _) = open(host.clone()).await;
        append(&world, &log, &host, 1, true).await;
        meter::arm(true);
        append(&world, &log, &host, 1 + WRITERS * MESSAGES, true).await;
        meter::arm(false);
        assert_eq!(log.stats().messages, 2 * WRITERS * MESSAGES);
        WRITERS * MESSAGES
    })
}

/// A start with messages waiting, for each of them.
pub fn recovery() -> u64 {
    in_world(|world, host| async move {
        let (log, _) = open(host.clone()).await;
        append(&world, &log, &host, 1, false).await;
        log.close().await;
        let again = host.clone();
        meter::arm(true);
        host.spawn(async move {
            let (_, recovered) = open(again).await;
            assert_eq!(recovered.messages.len() as u64, WRITERS * MESSAGES);
        });
        world.sleep(Duration::from_secs(5)).await;
        meter::arm(false);
        WRITERS * MESSAGES
    })
}

/// The reading of a full segment with messages of 4 KiB, for each MiB of it.
pub fn scanning() -> u64 {
    in_world(|world, host| async move {
        let (log, _) = open(host.clone()).await;
        append(&world, &log, &host, 1, false).await;
        let segment = world.disk(sim::MachineId(1)).peek(&Path::new(DIRECTORY).join("00000001.seg"));
        let bytes = segment.expect("the first segment");
        scan(1, &bytes);
        let found = count(|| scan(1, &bytes));
        assert!(found.groups > 20 && found.damaged.is_empty());
        SEGMENT_BYTES >> 20
    })
}

fn in_world<F: Future<Output = u64> + 'static>(program: fn(World, Metered<SimHost>) -> F) -> u64 {
    let report = run(Options::calm(7), move |world| async move {
        let machine = world.add_machine();
        let host = Metered(world.boot(machine, 1).remove(0));
        program(world, host).await
    });
    report.result.expect("the world comes to its end")
}
