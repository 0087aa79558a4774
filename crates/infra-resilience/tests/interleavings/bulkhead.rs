//! The places of a bulkhead and those who wait for them: every interleaving of two threads.

#[path = "../../src/bulkhead/gate.rs"]
mod gate;
#[path = "../../src/bulkhead/line.rs"]
mod line;

/// Loom's lock as the crate's files call it, and a channel of one message by it.
mod sync {
    #[derive(Debug)]
    pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(super) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(super) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }

    pub(super) mod oneshot {
        use std::{
            pin::Pin,
            task::{Context, Poll},
        };

        use loom::sync::{Arc, Mutex};

        #[derive(Debug)]
        enum Slot<T> {
            Empty,
            Full(T),
            /// Nobody will look any more.
            Closed,
        }

        /// Nobody will say anything any more.
        #[derive(Debug)]
        pub(crate) struct Gone;

        #[derive(Debug)]
        pub(crate) struct Sender<T>(Arc<Mutex<Slot<T>>>);

        #[derive(Debug)]
        pub(crate) struct Receiver<T>(Arc<Mutex<Slot<T>>>);

        pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
            let slot = Arc::new(Mutex::new(Slot::Empty));
            (Sender(Arc::clone(&slot)), Receiver(slot))
        }

        impl<T> Sender<T> {
            pub(crate) fn send(self, value: T) -> Result<(), T> {
                let mut slot = self.0.lock().unwrap();
                if matches!(*slot, Slot::Closed) {
                    return Err(value);
                }
                *slot = Slot::Full(value);
                Ok(())
            }
        }

        impl<T> Receiver<T> {
            fn replace(&self, by: Slot<T>) -> Slot<T> {
                std::mem::replace(&mut *self.0.lock().unwrap(), by)
            }
        }

        impl<T> Future for Receiver<T> {
            type Output = Result<T, Gone>;

            fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<T, Gone>> {
                match self.replace(Slot::Empty) {
                    Slot::Full(value) => Poll::Ready(Ok(value)),
                    Slot::Empty | Slot::Closed => Poll::Pending,
                }
            }
        }

        impl<T> Drop for Receiver<T> {
            fn drop(&mut self) {
                // What lies there is dropped after the lock was let go.
                let _unseen = self.replace(Slot::Closed);
            }
        }
    }
}

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use gate::{ClientKey, Entry, Gate, Held, Waiting};
use infra_core::budget::Priority;
use loom::{sync::atomic::AtomicUsize, thread};

use crate::refused::Reason;

const CLIENT: ClientKey = ClientKey::Borrowed("");

fn enter(gate: &Arc<Gate>, priority: Priority) -> Entry {
    gate.enter(priority, &CLIENT).unwrap_or_else(|reason| panic!("refused: {reason:?}"))
}

fn run(entry: Entry) -> Held {
    match entry {
        Entry::Run(held) => held,
        Entry::Wait(_) => panic!("there was a place"),
    }
}

fn wait(entry: Entry) -> Waiting {
    match entry {
        Entry::Wait(waiting) => waiting,
        Entry::Run(_) => panic!("there was no place"),
    }
}

/// Returns what somebody who waited is told, who must have been told by now.
fn told(waiting: Waiting) -> Result<Held, Reason> {
    match pin!(waiting.turn()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(turn) => turn,
        Poll::Pending => panic!("nobody told it"),
    }
}

fn counts(gate: &Gate) -> (usize, usize, u64, u64) {
    let counts = gate.counts();
    (counts.running, counts.waiting, counts.admitted, counts.refused)
}

/// Two threads ask for the only place: they have it one after the other, whoever has to wait for it.
#[test]
fn the_only_place_is_had_by_one_at_a_time_and_by_both() {
    loom::model(|| {
        let (gate, inside) = (Gate::new(1, 1), Arc::new(AtomicUsize::new(0)));
        let have = |held: Held, inside: &AtomicUsize| {
            assert_eq!(inside.fetch_add(1, loom::sync::atomic::Ordering::SeqCst), 0);
            inside.fetch_sub(1, loom::sync::atomic::Ordering::SeqCst);
            drop(held);
        };
        let ask = move |gate: &Arc<Gate>, inside: &AtomicUsize| match enter(gate, Priority::Normal)
        {
            Entry::Run(held) => {
                have(held, inside);
                None
            }
            Entry::Wait(waiting) => Some(waiting),
        };
        let other = thread::spawn({
            let (gate, inside) = (Arc::clone(&gate), Arc::clone(&inside));
            move || ask(&gate, &inside)
        });
        let mine = ask(&gate, &inside);
        for waiting in [mine, other.join().unwrap()].into_iter().flatten() {
            have(told(waiting).unwrap(), &inside);
        }
        assert_eq!((counts(&gate), gate.counts().peak), ((0, 0, 2, 0), 1));
    });
}

/// A place comes back at the very time at which the one who waits for it leaves.
#[test]
fn a_place_that_is_handed_to_somebody_who_leaves_is_not_lost() {
    loom::model(|| {
        let gate = Gate::new(1, 1);
        let held = run(enter(&gate, Priority::Normal));
        let waiting = wait(enter(&gate, Priority::Normal));
        let leaving = thread::spawn(move || drop(waiting));
        drop(held);
        leaving.join().unwrap();
        assert_eq!((gate.counts().running, gate.counts().waiting), (0, 0));
        assert!(gate.enter_free().is_some(), "the place is there");
    });
}

/// The limit rises while a place comes back: both who wait are told.
#[test]
fn a_limit_that_rises_while_a_place_comes_back_leaves_nobody_waiting() {
    loom::model(|| {
        let gate = Gate::new(1, 2);
        let held = run(enter(&gate, Priority::Normal));
        let both = [(); 2].map(|()| wait(enter(&gate, Priority::Normal)));
        let raising = thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.set_limit(2)
        });
        drop(held);
        raising.join().unwrap();
        let both = both.map(|waiting| told(waiting).unwrap());
        assert_eq!((gate.counts().running, gate.counts().peak), (2, 2));
        drop(both);
        assert_eq!(counts(&gate), (0, 0, 3, 0));
    });
}

/// Somebody of a higher priority comes to a full line while a place comes back: whoever is not served was
/// told that it lost its place, and nobody else.
#[test]
fn who_is_displaced_while_a_place_comes_back_is_told_and_nobody_is_forgotten() {
    loom::model(|| {
        let gate = Gate::new(1, 1);
        let held = run(enter(&gate, Priority::Normal));
        let low = wait(enter(&gate, Priority::Low));
        let coming = thread::spawn({
            let gate = Arc::clone(&gate);
            move || enter(&gate, Priority::High)
        });
        drop(held);
        let high = coming.join().unwrap();
        let (admitted, refused) = match told(low) {
            Ok(held) => {
                let high = wait(high);
                drop(held);
                drop(told(high).unwrap());
                (3, 0)
            }
            Err(reason) => {
                assert_eq!(reason, Reason::Displaced);
                match high {
                    Entry::Run(held) => drop(held),
                    Entry::Wait(high) => drop(told(high).unwrap()),
                }
                (2, 1)
            }
        };
        assert_eq!(counts(&gate), (0, 0, admitted, refused));
    });
}
