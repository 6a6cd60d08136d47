//! Scheduling, time and failures of worlds.

use host::{Bell, Host, Planted};
use mail::Time;
use sim::{Crash, Failure, Options, SimHost, World, run};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// Tasks that sleep for drawn times and note the order in which they woke.
async fn sleepers(world: World) -> Vec<(usize, Time)> {
    let woken = Rc::new(RefCell::new(Vec::new()));
    for number in 0..20 {
        let (host, woken) = (world.outside().clone(), woken.clone());
        world.outside().spawn(async move {
            for _ in 0..10 {
                host.sleep_until(host.now() + Duration::from_millis(host.random() % 5)).await;
                woken.borrow_mut().push((number, host.now()));
            }
        });
    }
    world.sleep(Duration::from_secs(1)).await;
    woken.take()
}

#[test]
fn a_seed_gives_one_world_and_another_seed_another() {
    let traces: Vec<u64> = (0..50).map(|seed| run(Options::calm(seed), sleepers).trace).collect();
    for (seed, trace) in traces.iter().enumerate() {
        let again = run(Options::calm(seed as u64), sleepers);
        assert_eq!(again.trace, *trace);
        assert_eq!(again.result.expect("no failure").len(), 200);
    }
    let mut distinct = traces.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), traces.len());
}

#[test]
fn time_is_virtual_and_never_falls() {
    let report = run(Options::calm(1), |world| async move {
        world.sleep(Duration::from_secs(24 * 3600)).await;
        sleepers(world).await
    });
    let woken = report.result.expect("no failure");
    assert!(woken.windows(2).all(|pair| pair[0].1 <= pair[1].1));
    assert!(report.end > Time(0) + Duration::from_secs(24 * 3600));
}

#[test]
fn a_panic_ends_the_world_and_says_where() {
    let report = run(Options::calm(1), |world| async move {
        let machine = world.add_machine();
        let hosts = world.boot(machine, 3);
        hosts[2].spawn(async { panic!("on purpose") });
        world.sleep(Duration::from_secs(1)).await;
    });
    match report.result {
        Err(Failure::Panic { machine, shard: 2, message }) if message == "on purpose" => {
            assert_eq!(machine.0, 1)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn tasks_that_never_rest_or_never_wake_are_found() {
    let options = Options { polls_max: 10_000, ..Options::calm(1) };
    let busy = run(options, |world| async move {
        let bell = world.outside().bell();
        loop {
            bell.ring();
            world.outside().rung().await;
        }
    });
    assert_eq!(busy.result, Err::<(), _>(Failure::Livelock));
    let stuck = run(Options::calm(1), |world| async move { world.outside().rung().await });
    assert_eq!(stuck.result, Err(Failure::Deadlock));
    let slow = Options { time_max: Duration::from_secs(5), ..Options::calm(1) };
    let late = run(slow, |world| async move { world.sleep(Duration::from_secs(6)).await });
    assert_eq!(late.result, Err(Failure::Overtime));
}

#[test]
fn rings_while_none_waits_are_one() {
    let report = run(Options::calm(3), |world| async move {
        let machine = world.add_machine();
        let hosts = world.boot(machine, 2);
        let (sleeper, ringer) = (hosts[0].clone(), hosts[0].bell());
        let woken = Rc::new(Cell::new(0));
        let count = woken.clone();
        sleeper.clone().spawn(async move {
            loop {
                sleeper.rung().await;
                count.set(count.get() + 1);
            }
        });
        for rings in [3, 1, 0] {
            (0..rings).for_each(|_| ringer.ring());
            world.sleep(Duration::from_millis(1)).await;
        }
        woken.get()
    });
    assert_eq!(report.result, Ok(2));
}

#[test]
fn a_crash_ends_all_tasks_of_its_machine_and_no_other() {
    struct Noted(Rc<Cell<u32>>);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let report = run(Options::calm(5), |world| async move {
        let (first, second) = (world.add_machine(), world.add_machine());
        let dropped = Rc::new(Cell::new(0));
        for machine in [first, second] {
            for host in world.boot(machine, 2) {
                let noted = Noted(dropped.clone());
                host.clone().spawn(async move {
                    host.sleep_until(Time::FAR).await;
                    drop(noted);
                });
            }
        }
        world.sleep(Duration::from_millis(1)).await;
        world.crash(first, Crash::Power);
        let after = (dropped.get(), world.is_up(first), world.is_up(second));
        world.boot(first, 1);
        (after, world.is_up(first))
    });
    assert_eq!(report.result, Ok(((2, false, true), true)));
}

#[test]
fn what_a_dying_task_starts_never_runs() {
    struct Phoenix(SimHost, Rc<Cell<u32>>);
    impl Drop for Phoenix {
        fn drop(&mut self) {
            let (host, started) = (self.0.clone(), self.1.clone());
            started.set(started.get() + 1);
            let next = Phoenix(host.clone(), started);
            self.0.spawn(async move {
                host.sleep_until(Time::FAR).await;
                drop(next);
            });
        }
    }
    let report = run(Options::calm(5), |world| async move {
        let (machine, started) = (world.add_machine(), Rc::new(Cell::new(0)));
        let host = world.boot(machine, 1).remove(0);
        let first = Phoenix(host.clone(), started.clone());
        host.clone().spawn(async move {
            host.sleep_until(Time::FAR).await;
            drop(first);
        });
        world.sleep(Duration::from_millis(1)).await;
        world.crash(machine, Crash::Power);
        world.boot(machine, 1);
        world.sleep(Duration::from_millis(1)).await;
        started.get()
    });
    assert_eq!(report.result, Ok(1));
}

#[test]
fn a_crash_after_so_many_polls_comes_after_so_many_polls() {
    for polls in 1..50 {
        let report = run(Options::calm(polls), |world| async move {
            let machine = world.add_machine();
            let host = world.boot(machine, 1).remove(0);
            let polled = Rc::new(Cell::new(0));
            let count = polled.clone();
            world.crash_after_polls(machine, Crash::Process, polls);
            host.clone().spawn(async move {
                loop {
                    count.set(count.get() + 1);
                    host.sleep_until(host.now() + Duration::from_millis(1)).await;
                }
            });
            world.sleep(Duration::from_secs(1)).await;
            (polled.get(), world.is_up(machine))
        });
        assert_eq!(report.result, Ok((polls, false)));
    }
}

#[test]
fn each_boot_has_its_own_clock_and_the_wall_clock_may_jump() {
    let report = run(Options::calm(9), |world| async move {
        let machine = world.add_machine();
        let host = world.boot(machine, 1).remove(0);
        let (before, wall) = (host.now(), host.wall());
        host.sleep_until(before + Duration::from_secs(3)).await;
        assert!(host.now().since(before) >= Duration::from_secs(3));
        assert!(host.wall().since(wall) < Duration::from_secs(4));
        world.jump_wall(-3_600_000_000);
        assert!(host.wall() < wall);
        world.crash(machine, Crash::Process);
        let again = world.boot(machine, 1).remove(0);
        again.now() != host.now()
    });
    assert!(report.result.is_ok());
}

#[test]
fn planted_faults_are_seen_by_the_host() {
    let options = Options { planted: vec![Planted::AckBeforeSync], ..Options::calm(1) };
    let report = run(options, |world| async move {
        let host = world.outside().clone();
        let first = (host.planted(Planted::AckBeforeSync), host.planted(Planted::OutcomeLost));
        world.plant(vec![]);
        (first, host.planted(Planted::AckBeforeSync))
    });
    assert_eq!(report.result, Ok(((true, false), false)));
}
