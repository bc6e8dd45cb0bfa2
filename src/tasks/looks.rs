//! Of those who look at one task, to ask about it or to cancel it, one at a time does, so that nobody cancels what another
//! one has just learnt to be finished; and nobody looks for a task that is still on its way to its upstream.

use std::sync::Arc;

use hashbrown::HashSet;
use parking_lot::{Condvar, Mutex};

use crate::id::TaskId;

#[derive(Default)]
pub struct Looks {
    going: Mutex<HashSet<TaskId>>,
    ended: Condvar,
    on_their_way: Mutex<HashSet<TaskId>>,
}

/// While it lives, nobody else looks at the task.
pub struct Look<'a> {
    looks: &'a Looks,
    task: TaskId,
}

/// While it lives, the task is on its way.
pub struct OnItsWay {
    looks: Arc<Looks>,
    task: TaskId,
}

impl Looks {
    /// Blocks while somebody else looks at it.
    pub fn take(&self, task: TaskId) -> Look<'_> {
        let mut going = self.going.lock();
        while !going.insert(task) {
            self.ended.wait(&mut going);
        }
        Look { looks: self, task }
    }

    /// `None`: somebody else looks at it, or it is on its way.
    pub fn try_take(&self, task: TaskId) -> Option<Look<'_>> {
        let is_free = !self.is_any_on_its_way(&[task]) && self.going.lock().insert(task);
        // One that is made is one that ends.
        is_free.then(|| Look { looks: self, task })
    }

    pub fn on_its_way(self: &Arc<Self>, task: TaskId) -> OnItsWay {
        self.on_their_way.lock().insert(task);
        OnItsWay { looks: Arc::clone(self), task }
    }

    pub fn is_any_on_its_way(&self, tasks: &[TaskId]) -> bool {
        let on_their_way = self.on_their_way.lock();
        tasks.iter().any(|task| on_their_way.contains(task))
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        self.looks.going.lock().remove(&self.task);
        self.looks.ended.notify_all();
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.looks.on_their_way.lock().remove(&self.task);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn the_second_look_waits_for_the_first() {
        let (looks, over) = (Looks::default(), AtomicBool::new(false));
        let [one, other] = [7, 8].map(TaskId::from_raw);
        let first = looks.take(one);
        assert!(looks.try_take(one).is_none() && looks.try_take(other).is_some());
        assert!(looks.try_take(one).is_none(), "whoever was refused has ended nobody else's");
        std::thread::scope(|threads| {
            threads.spawn(|| {
                drop(looks.take(one));
                assert!(over.load(Ordering::SeqCst), "two looks at once");
            });
            over.store(true, Ordering::SeqCst);
            drop(first);
        });
    }

    #[test]
    fn what_is_on_its_way_is_not_looked_for() {
        let looks = Arc::new(Looks::default());
        let [one, other] = [7, 8].map(TaskId::from_raw);
        let going = looks.on_its_way(one);
        assert!(looks.is_any_on_its_way(&[other, one]) && !looks.is_any_on_its_way(&[other]));
        assert!(looks.try_take(one).is_none());
        drop(going);
        assert!(looks.try_take(one).is_some());
    }
}
