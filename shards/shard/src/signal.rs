//! Waking tasks of the same shard. Not `Send`: other threads ring a `host::Bell`.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};

/// Something has happened: tasks that wait for it go on.
#[derive(Debug, Default)]
pub struct Signal {
    raised: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Signal {
    /// Raises it; it stays raised until a task has waited for it.
    pub fn raise(&self) {
        self.raised.set(true);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Waits until it is raised, and lowers it. One task may wait at a time; a later one takes its place.
    pub fn wait(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|cx| {
            if self.raised.take() {
                return Poll::Ready(());
            }
            remember(&mut self.waiting.borrow_mut(), cx.waker());
            Poll::Pending
        })
    }
}

/// Raised once and for ever: any number of tasks may wait for it.
#[derive(Debug, Default)]
pub struct Latch {
    raised: Cell<bool>,
    waiting: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
}

/// One waiter's place at a [`Latch`].
#[derive(Debug)]
pub struct Place<'a> {
    latch: &'a Latch,
    index: usize,
}

impl Latch {
    /// Raises it.
    pub fn raise(&self) {
        self.raised.set(true);
        self.waiting.borrow_mut().iter_mut().filter_map(Option::take).for_each(Waker::wake);
    }

    /// Whether it is raised.
    pub fn is_raised(&self) -> bool {
        self.raised.get()
    }

    /// A place to wait at, so that waiting again and again costs nothing.
    pub fn place(&self) -> Place<'_> {
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            self.waiting.borrow_mut().push(None);
            self.waiting.borrow().len() - 1
        });
        Place { latch: self, index }
    }
}

impl Place<'_> {
    /// Waits until the latch is raised.
    pub fn wait(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|cx| {
            if self.latch.is_raised() {
                return Poll::Ready(());
            }
            remember(&mut self.latch.waiting.borrow_mut()[self.index], cx.waker());
            Poll::Pending
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.latch.waiting.borrow_mut()[self.index] = None;
        self.latch.free.borrow_mut().push(self.index);
    }
}

fn remember(place: &mut Option<Waker>, waker: &Waker) {
    if !place.as_ref().is_some_and(|known| known.will_wake(waker)) {
        *place = Some(waker.clone());
    }
}

/// Open or shut, for any number of tasks that wait for a change.
#[derive(Debug)]
pub struct Gate {
    is_open: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Gate {
    /// An open one.
    pub fn open() -> Gate {
        Gate { is_open: Cell::new(true), waiting: RefCell::default() }
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.is_open.get()
    }

    /// Opens or shuts it.
    pub fn turn(&self, is_open: bool) {
        if self.is_open.replace(is_open) != is_open {
            self.waiting.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Waits until it is open, or shut.
    pub fn until(&self, is_open: bool) -> impl Future<Output = ()> + '_ {
        poll_fn(move |cx| {
            if self.is_open.get() == is_open {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|known| known.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
    }
}

/// What came first.
#[derive(Debug, PartialEq, Eq)]
pub enum First<A, B> {
    /// The first future, which also wins when both are ready.
    One(A),
    /// The second future.
    Two(B),
}

/// Waits for the first of two futures and drops the other; only for futures that may be dropped.
pub async fn first<A, B>(one: impl Future<Output = A>, two: impl Future<Output = B>) -> First<A, B> {
    let (mut one, mut two) = (pin!(one), pin!(two));
    poll_fn(|cx| {
        if let Poll::Ready(done) = one.as_mut().poll(cx) {
            return Poll::Ready(First::One(done));
        }
        two.as_mut().poll(cx).map(First::Two)
    })
    .await
}

/// Runs a future to its end or to its panic.
pub async fn contain<T>(future: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let poll = std::panic::AssertUnwindSafe(|| future.as_mut().poll(cx));
        match std::panic::catch_unwind(poll) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    })
    .await
}

/// The future panicked; the panic hook has told why.
#[derive(Debug, PartialEq, Eq)]
pub struct Panicked;
