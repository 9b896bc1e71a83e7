//! Whether and when a request is tried again, as Envoy's retry policy defines it. Reads no clock and sends nothing.

use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode};
use mesh::route::{RetryOn, RetryPolicy};
use rand::{Rng, RngExt};

use crate::error::{ProxyError, RetryClass};

/// What is left of a policy for one request.
#[derive(Debug)]
pub(crate) struct Retries<'a> {
    policy: Option<&'a RetryPolicy>,
    left: u32,
    delay: Duration,
}

/// What is made of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It stands.
    Keep,
    /// Try again after this time.
    Again(Duration),
    /// The policy would try again, but no retry is left: flag `URX`.
    Exhausted,
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Envoy's first interval, of which a random part is waited.
const FIRST_DELAY: Duration = Duration::from_millis(25);
/// Envoy's longest: ten times the first.
const LONGEST_DELAY: Duration = Duration::from_millis(250);

impl<'a> Retries<'a> {
    /// All retries of a policy.
    pub(crate) fn new(policy: Option<&'a RetryPolicy>) -> Self {
        Self {
            policy,
            left: policy.map_or(0, |policy| policy.num_retries),
            delay: FIRST_DELAY,
        }
    }

    /// Whether any outcome that shows after the request was sent could lead to another attempt, so that the request must be
    /// kept. `http2`: the upstream can refuse streams; `grpc`: its headers may carry a gRPC status.
    pub(crate) fn may_resend(&self, http2: bool, grpc: bool) -> bool {
        self.left > 0
            && self.policy.is_some_and(|policy| {
                policy.retry_on.iter().any(|condition| match condition {
                    RetryOn::ConnectFailure => false,
                    RetryOn::RefusedStream => http2,
                    RetryOn::RetriableStatusCodes => !policy.status_codes.is_empty(),
                    RetryOn::GrpcCancelled
                    | RetryOn::GrpcDeadlineExceeded
                    | RetryOn::GrpcInternal
                    | RetryOn::GrpcResourceExhausted
                    | RetryOn::GrpcUnavailable => grpc,
                    RetryOn::ServerError
                    | RetryOn::GatewayError
                    | RetryOn::Reset
                    | RetryOn::ResetBeforeRequest
                    | RetryOn::Retriable4xx => true,
                })
            })
    }

    /// After an attempt that failed. `sent`: some of the request may have gone out.
    pub(crate) fn after_error(&mut self, error: &ProxyError, sent: bool, rng: &mut impl Rng) -> Decision {
        let class = error.retry_class();
        let wanted = |condition: RetryOn| match condition {
            RetryOn::ConnectFailure => class == RetryClass::Connect,
            RetryOn::RefusedStream => class == RetryClass::RefusedStream,
            RetryOn::ServerError | RetryOn::GatewayError | RetryOn::Reset => class != RetryClass::Never,
            RetryOn::ResetBeforeRequest => class != RetryClass::Never && !sent,
            RetryOn::Retriable4xx
            | RetryOn::RetriableStatusCodes
            | RetryOn::GrpcCancelled
            | RetryOn::GrpcDeadlineExceeded
            | RetryOn::GrpcInternal
            | RetryOn::GrpcResourceExhausted
            | RetryOn::GrpcUnavailable => false,
        };
        self.decide(wanted, rng)
    }

    /// After response headers.
    pub(crate) fn after_response(&mut self, status: StatusCode, headers: &HeaderMap, rng: &mut impl Rng) -> Decision {
        let Some(policy) = self.policy else {
            return Decision::Keep;
        };
        let code = status.as_u16();
        let grpc = headers
            .get(GRPC_STATUS)
            .and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
        let wanted = |condition: RetryOn| match condition {
            RetryOn::ServerError => status.is_server_error(),
            RetryOn::GatewayError => matches!(code, 502..=504),
            RetryOn::Retriable4xx => code == 409,
            RetryOn::RetriableStatusCodes => policy.status_codes.contains(&code),
            RetryOn::GrpcCancelled => grpc == Some(1),
            RetryOn::GrpcDeadlineExceeded => grpc == Some(4),
            RetryOn::GrpcResourceExhausted => grpc == Some(8),
            RetryOn::GrpcInternal => grpc == Some(13),
            RetryOn::GrpcUnavailable => grpc == Some(14),
            RetryOn::Reset | RetryOn::ResetBeforeRequest | RetryOn::ConnectFailure | RetryOn::RefusedStream => false,
        };
        self.decide(wanted, rng)
    }

    fn decide(&mut self, wanted: impl Fn(RetryOn) -> bool, rng: &mut impl Rng) -> Decision {
        let Some(policy) = self.policy else {
            return Decision::Keep;
        };
        if !policy.retry_on.iter().any(|condition| wanted(*condition)) {
            return Decision::Keep;
        }
        if self.left == 0 {
            return Decision::Exhausted;
        }
        self.left -= 1;
        let delay = self.delay.mul_f64(rng.random());
        self.delay = (self.delay * 2).min(LONGEST_DELAY);
        Decision::Again(delay)
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::error::{ConnectError, UpstreamReset};

    /// What Istio sends when nothing is said of retries.
    fn istio() -> RetryPolicy {
        RetryPolicy {
            retry_on: vec![
                RetryOn::ConnectFailure,
                RetryOn::RefusedStream,
                RetryOn::GrpcUnavailable,
                RetryOn::GrpcCancelled,
                RetryOn::RetriableStatusCodes,
            ],
            num_retries: 2,
            per_try_timeout: None,
            status_codes: Vec::new(),
            avoid_previous_hosts: true,
            host_selection_attempts: Some(5),
        }
    }

    fn refused() -> ProxyError {
        ProxyError::Connect(ConnectError::Io("refused".into()))
    }

    fn reset(reset: UpstreamReset) -> ProxyError {
        ProxyError::Reset { reset, started: false }
    }

    #[test]
    fn istios_default_retries_what_was_never_seen() {
        let policy = istio();
        let mut rng = StdRng::seed_from_u64(1);
        let mut check = |error: &ProxyError, again: bool| {
            let decision = Retries::new(Some(&policy)).after_error(error, true, &mut rng);
            assert_eq!(matches!(decision, Decision::Again(_)), again, "{error}");
        };
        check(&refused(), true);
        check(&reset(UpstreamReset::RefusedStream), true);
        check(&reset(UpstreamReset::Closed), false);
        check(&reset(UpstreamReset::Protocol), false);
        check(&ProxyError::NoHealthyHost, false);
        check(&ProxyError::TryTimeout, false);
    }

    #[test]
    fn says_when_no_retry_is_left() {
        let (policy, mut rng) = (istio(), StdRng::seed_from_u64(1));
        let mut retries = Retries::new(Some(&policy));
        assert!(matches!(retries.after_error(&refused(), false, &mut rng), Decision::Again(d) if d < FIRST_DELAY));
        assert!(matches!(retries.after_error(&refused(), false, &mut rng), Decision::Again(d) if d < FIRST_DELAY * 2));
        assert_eq!(retries.after_error(&refused(), false, &mut rng), Decision::Exhausted);
        assert_eq!(
            Retries::new(None).after_error(&refused(), false, &mut rng),
            Decision::Keep
        );
    }

    #[test]
    fn statuses_are_retried_where_the_policy_lists_them() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut check = |condition: RetryOn, status: u16, grpc: Option<&'static str>, again: bool| {
            let policy = RetryPolicy {
                retry_on: vec![condition],
                status_codes: vec![418],
                ..istio()
            };
            let headers = grpc.map(|code| (http::HeaderName::from_static("grpc-status"), code.parse().unwrap()));
            let headers = HeaderMap::from_iter(headers);
            let status = StatusCode::from_u16(status).unwrap();
            let decision = Retries::new(Some(&policy)).after_response(status, &headers, &mut rng);
            assert_eq!(decision != Decision::Keep, again, "{condition:?} {status}");
        };
        check(RetryOn::RetriableStatusCodes, 418, None, true);
        check(RetryOn::RetriableStatusCodes, 503, None, false);
        check(RetryOn::ServerError, 500, None, true);
        check(RetryOn::GatewayError, 500, None, false);
        check(RetryOn::GatewayError, 503, None, true);
        check(RetryOn::Retriable4xx, 409, None, true);
        check(RetryOn::GrpcUnavailable, 200, Some("14"), true);
        check(RetryOn::GrpcUnavailable, 200, Some("0"), false);
        check(RetryOn::Reset, 503, None, false);
    }

    #[test]
    fn a_request_is_kept_only_where_it_could_be_sent_again() {
        let policy = istio();
        let check = |http2, grpc, expect| {
            assert_eq!(Retries::new(Some(&policy)).may_resend(http2, grpc), expect);
        };
        check(false, false, false);
        check(true, false, true);
        check(false, true, true);
    }
}
