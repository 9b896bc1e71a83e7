//! The time source.
//!
//! Durations are measured on the runtime's clock, which a test can pause; the wall clock is read only for what people and
//! certificates see.

use std::time::SystemTime;

use tokio::time::Instant;

/// A point in time on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// For logs: `%START_TIME%`.
    pub(crate) wall: SystemTime,
    /// For measuring.
    pub(crate) instant: Instant,
}

impl Moment {
    /// The present.
    pub(crate) fn now() -> Self {
        Self {
            wall: SystemTime::now(),
            instant: Instant::now(),
        }
    }
}
