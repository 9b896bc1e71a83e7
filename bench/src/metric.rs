//! What can be measured of a proxy.

use serde::Serialize;

/// One figure of a measurement. Less is better, but for `Rate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Metric {
    /// Processor time per unit of work.
    #[serde(rename = "cpu_us_per_unit")]
    Cpu,
    /// Units of work done in a second.
    #[serde(rename = "units_per_second")]
    Rate,
    /// Latency, median.
    #[serde(rename = "p50_us")]
    P50,
    /// Latency that one in ten exceeds.
    #[serde(rename = "p90_us")]
    P90,
    /// Latency that one in a hundred exceeds.
    #[serde(rename = "p99_us")]
    P99,
    /// Latency that one in a thousand exceeds.
    #[serde(rename = "p999_us")]
    P999,
    /// Private memory.
    #[serde(rename = "memory_kib")]
    Memory,
    /// From start to listening.
    #[serde(rename = "listening_ms")]
    Listening,
}

impl Metric {
    /// What it is called in tables.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Cpu => "cpu/unit",
            Self::Rate => "rate",
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Memory => "memory",
            Self::Listening => "listening",
        }
    }

    /// What it is counted in.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Cpu | Self::P50 | Self::P90 | Self::P99 | Self::P999 => "µs",
            Self::Rate => "/s",
            Self::Memory => "KiB",
            Self::Listening => "ms",
        }
    }
}
