//! When the next unit of work is due.
//!
//! A closed loop does the next as soon as the last is done. An open loop keeps to a schedule, whatever the proxy does, and latency
//! counts from when a unit was due: a proxy that stalls pays for each request that would have come meanwhile, not for one.

use std::time::{Duration, Instant};

use tokio::{task::yield_now, time::sleep};

/// The runtime's timers are no finer than this; what is left is waited for awake.
const TIMERS: Duration = Duration::from_millis(2);

/// A loop's pace.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// At once.
    Closed,
    /// Each `step`, next at `due`.
    Fixed { due: Instant, step: Duration },
}

impl Pace {
    /// That of one of several loops which together do `rate` units a second.
    pub(super) fn shared(rate: u32, index: usize, loops: usize) -> anyhow::Result<Self> {
        let (index, loops) = (u32::try_from(index)?, u32::try_from(loops)?);
        let between = Duration::from_secs(1) / rate;
        Ok(Self::Fixed {
            due: Instant::now() + between * index,
            step: between * loops,
        })
    }

    /// Waits until the next unit is due; the moment that it was due is what its latency counts from.
    pub(super) async fn due(&mut self) -> Instant {
        let Self::Fixed { due, step } = self else {
            return Instant::now();
        };
        let this = *due;
        *due += *step;
        let ahead = this.saturating_duration_since(Instant::now());
        if ahead > TIMERS {
            sleep(ahead - TIMERS).await;
        }
        while Instant::now() < this {
            yield_now().await;
        }
        this
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loops_share_a_rate_and_a_late_one_keeps_its_schedule() {
        let first = Pace::shared(1_000, 0, 4).unwrap().due().await;
        let mut pace = Pace::shared(1_000, 2, 4).unwrap();
        let due = pace.due().await;
        assert!(due >= first + Duration::from_millis(2) && Instant::now() >= due);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(
            pace.due().await,
            due + Duration::from_millis(4),
            "not from now, but from when it was due"
        );
        assert_eq!(pace.due().await, due + Duration::from_millis(8));
    }
}
