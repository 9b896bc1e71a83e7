//! Who owns a worker's tasks, and how they end: stop accepting, finish, deadline, abort.
//!
//! Invariant: every task of a worker is spawned here, runs on the worker's thread and is gone when the worker is.

use std::{cell::Cell, future::Future, rc::Rc};

use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

/// How far a data plane is on its way to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Everything is served.
    Running,
    /// Nothing new is accepted; what runs may finish.
    Draining,
    /// What still runs is cut off.
    Stopped,
}

/// The owner of one worker's tasks. Clones are handles to the same owner.
#[derive(Clone)]
pub(crate) struct Drain {
    phase: watch::Receiver<Phase>,
    tasks: Rc<Tasks>,
}

#[derive(Default)]
struct Tasks {
    running: Cell<usize>,
    ended: Notify,
}

/// Counts a task until it is dropped, however that happens.
struct Running(Rc<Tasks>);

/// Where tasks run that are no worker's: lookups, the stream to control.
#[derive(Debug, Clone)]
pub(crate) struct Runtime(tokio::runtime::Handle);

/// A task that ends when its owner drops this.
#[derive(Debug)]
pub(crate) struct Background(AbortHandle);

impl Runtime {
    /// Of a handle.
    pub(crate) fn new(handle: tokio::runtime::Handle) -> Self {
        Self(handle)
    }

    /// Runs a task until it ends or is dropped.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Background {
        Background(self.0.spawn(task).abort_handle())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drain {
    /// An owner that drains when `phase` says so, or when its sender is gone.
    pub(crate) fn new(phase: watch::Receiver<Phase>) -> Self {
        Self {
            phase,
            tasks: Rc::default(),
        }
    }

    /// Runs a task on this thread until it ends or the worker does.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let running = Running::new(&self.tasks);
        tokio::task::spawn_local(async move {
            task.await;
            drop(running);
        });
    }

    /// Waits until tasks should come to an end.
    pub(crate) async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Waits until tasks are cut off.
    pub(crate) async fn stopped(&self) {
        self.reached(Phase::Stopped).await;
    }

    async fn reached(&self, phase: Phase) {
        // An error means that the sender is gone, and with it everybody who could still want the tasks.
        let _ = self.phase.clone().wait_for(|current| *current >= phase).await;
    }

    /// Waits until no task runs.
    pub(crate) async fn idle(&self) {
        while self.tasks.running.get() > 0 {
            self.tasks.ended.notified().await;
        }
    }
}

impl Running {
    fn new(tasks: &Rc<Tasks>) -> Self {
        tasks.running.set(tasks.running.get() + 1);
        Self(tasks.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
        self.0.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;

    #[tokio::test]
    async fn is_idle_once_every_task_has_ended() {
        LocalSet::new()
            .run_until(async {
                let (start, phase) = watch::channel(Phase::Running);
                let drain = Drain::new(phase);
                for _ in 0..3 {
                    let own = drain.clone();
                    drain.spawn(async move { own.draining().await });
                }
                assert_eq!(drain.tasks.running.get(), 3);
                start.send_replace(Phase::Draining);
                drain.idle().await;
                assert_eq!(drain.tasks.running.get(), 0);
            })
            .await;
    }

    #[tokio::test]
    async fn a_lost_owner_drains() {
        let (start, phase) = watch::channel(Phase::Running);
        drop(start);
        Drain::new(phase).draining().await;
    }
}
