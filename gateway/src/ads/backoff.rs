//! How long to wait before trying again.

use std::time::Duration;

/// Doubles from [`FIRST`] to [`LONGEST`].
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The wait before the next attempt. `random` is uniform in `0..=u32::MAX` and spreads many clients over the second half.
    pub(super) fn advance(&mut self, random: u32) -> Duration {
        let half = self.next / 2;
        let spread = half.mul_f64(f64::from(random) / f64::from(u32::MAX));
        self.next = (self.next * 2).min(LONGEST);
        half + spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_a_bound_and_is_spread() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..10).map(|_| backoff.advance(u32::MAX)).collect();
        assert_eq!(waits[..3], [FIRST, FIRST * 2, FIRST * 4]);
        assert_eq!(waits[9], LONGEST);
        assert_eq!(backoff.advance(0), LONGEST / 2);
    }
}
