//! When to renew a certificate. Decides only: the time and the jitter come in, what to do goes out.
//!
//! Source: Istio's agent (`security/pkg/nodeagent`): renewal at half of the lifetime, plus or minus one hundredth of it
//! so that a fleet does not renew at once. A failed attempt is repeated with growing pauses, and an identity that expires
//! all the same is an alarm, given once.

use std::time::{Duration, SystemTime};

use crate::Certificate;

/// Share of the lifetime that is left when renewal begins.
const GRACE: f64 = 0.5;
/// Largest jitter, as a share of the lifetime.
const MAX_JITTER: f64 = 0.01;
/// Pause after the first failure; it doubles with each one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// The renewal of one certificate after the other.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// When to try next; `None` while an attempt is under way.
    next: Option<SystemTime>,
    expires: SystemTime,
    failures: u32,
    alarmed: bool,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing before this time.
    Wait(SystemTime),
    /// Try to renew, then call [`Rotation::renewed`] or [`Rotation::failed`].
    Renew,
    /// The certificate has expired: tell somebody, then ask again.
    Alarm,
}

impl Rotation {
    /// Begins with the certificate in use. `jitter` is drawn by the caller from -1 to 1; what lies outside is cut off.
    pub fn new(current: &Certificate, jitter: f64) -> Self {
        let next = Some(renewal_time(current, jitter));
        Self {
            next,
            expires: current.not_after,
            failures: 0,
            alarmed: false,
        }
    }

    /// What to do at `now`. While an attempt is under way there is nothing to do but wait for its end or for expiry.
    pub fn next(&mut self, now: SystemTime) -> Action {
        if now > self.expires && !self.alarmed {
            self.alarmed = true;
            return Action::Alarm;
        }
        match self.next {
            Some(at) if at <= now => {
                self.next = None;
                Action::Renew
            }
            Some(at) if self.alarmed => Action::Wait(at),
            Some(at) => Action::Wait(at.min(self.just_expired())),
            None if self.alarmed => Action::Wait(now + MAX_PAUSE),
            None => Action::Wait(self.just_expired()),
        }
    }

    /// An attempt brought a new certificate.
    pub fn renewed(&mut self, current: &Certificate, jitter: f64) {
        *self = Self::new(current, jitter);
    }

    /// An attempt failed at `now`. `jitter`, from -1 to 1, spreads the next one by up to a quarter of the pause.
    pub fn failed(&mut self, now: SystemTime, jitter: f64) {
        let pause = FIRST_PAUSE
            .saturating_mul(2_u32.saturating_pow(self.failures))
            .min(MAX_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.next = Some(now + pause.mul_f64(1.0 + bounded(jitter) / 4.0));
    }

    fn just_expired(&self) -> SystemTime {
        self.expires + Duration::from_secs(1)
    }
}

fn renewal_time(current: &Certificate, jitter: f64) -> SystemTime {
    let lifetime = current
        .not_after
        .duration_since(current.not_before)
        .unwrap_or(Duration::ZERO);
    current.not_after - lifetime.mul_f64(GRACE + bounded(jitter) * MAX_JITTER)
}

fn bounded(jitter: f64) -> f64 {
    if jitter.is_nan() { 0.0 } else { jitter.clamp(-1.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CaRequest, CertificateAuthority, LeafRequest};

    const LIFETIME: Duration = Duration::from_secs(1000);
    const SECOND: Duration = Duration::from_secs(1);

    /// A certificate that is valid for 1000 s from `start`.
    fn certificate(start: SystemTime) -> Certificate {
        let ca = CertificateAuthority::root(&CaRequest::named("test"), start).unwrap();
        ca.issue(&LeafRequest::new([]).between(start, start + LIFETIME), start)
            .unwrap()
            .leaf()
            .clone()
    }

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    /// A rotation whose attempt is under way, half-way through the lifetime.
    fn attempting() -> (Rotation, SystemTime) {
        let mut rotation = Rotation::new(&certificate(start()), 0.0);
        let now = start() + LIFETIME / 2;
        assert_eq!(rotation.next(now), Action::Renew);
        (rotation, now)
    }

    #[test]
    fn renews_at_half_of_the_lifetime_give_or_take_a_hundredth() {
        for (jitter, after) in [(0.0, 500), (1.0, 490), (-1.0, 510), (7.0, 490), (f64::NAN, 500)] {
            let mut rotation = Rotation::new(&certificate(start()), jitter);
            let at = start() + Duration::from_secs(after);
            assert_eq!(rotation.next(start()), Action::Wait(at), "{jitter}");
            assert_eq!(rotation.next(at - SECOND), Action::Wait(at));
            assert_eq!(rotation.next(at), Action::Renew);
        }
    }

    #[test]
    fn one_attempt_at_a_time() {
        let (mut rotation, now) = attempting();
        assert!(matches!(rotation.next(now + SECOND), Action::Wait(_)));
    }

    #[test]
    fn pauses_grow_after_each_failure_up_to_a_limit() {
        let (mut rotation, mut now) = attempting();
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            rotation.failed(now, 0.0);
            let at = now + Duration::from_secs(seconds);
            assert!(matches!(rotation.next(now), Action::Wait(until) if until <= at) || rotation.alarmed);
            now = at;
            while rotation.next(now) != Action::Renew {}
        }
        for _ in 0..100 {
            rotation.failed(now, 1.0);
        }
        assert_eq!(rotation.next(now), Action::Wait(now + MAX_PAUSE.mul_f64(1.25)));
    }

    #[test]
    fn success_starts_over() {
        let (mut rotation, now) = attempting();
        rotation.failed(now, 0.0);
        assert_eq!(rotation.next(now + SECOND), Action::Renew);
        rotation.renewed(&certificate(now), 0.0);
        assert_eq!(rotation.next(now), Action::Wait(now + LIFETIME / 2));
        assert_eq!(rotation.failures, 0);
    }

    #[test]
    fn expiry_is_an_alarm_given_once_and_renewal_goes_on() {
        let (mut rotation, now) = attempting();
        let end = start() + LIFETIME;
        assert_eq!(rotation.next(now), Action::Wait(end + SECOND));
        assert_eq!(rotation.next(end + SECOND), Action::Alarm);
        assert!(matches!(rotation.next(end + SECOND), Action::Wait(_)));
        rotation.failed(end + SECOND, 0.0);
        assert_eq!(rotation.next(end + SECOND * 2), Action::Renew);
    }
}
