//! Authorization, asked at random: policies and requests that nobody wrote, put to both proxies; every verdict must be the same.
//!
//! `PARITY_SEED` repeats a run, `PARITY_VERDICTS` makes it longer or shorter. A difference is reduced to the smallest policies and
//! request that still show it. Half of the policies have the shape that control compiles, half any shape that we accept.

use std::{collections::BTreeMap, env, fmt::Write as _};

use rand::{SeedableRng, rngs::StdRng};
use serde_json::Value;

use crate::proxy::Kind;

mod batch;
mod policy;
mod request;
mod shrink;
mod words;

use batch::verdicts;
use request::{Door, Request};

/// Verdicts of a run, unless `PARITY_VERDICTS` says otherwise.
const VERDICTS: usize = 20_000;
/// Configurations that a proxy serves at once.
const SETS: usize = 250;

/// A configuration, and who asks it what.
#[derive(Debug, Clone)]
struct Set {
    /// Merged into the HTTP connection manager.
    http: Value,
    /// RBAC filters, in order.
    filters: Value,
    doors: Vec<Door>,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Verdict {
    status: u16,
    /// `RESPONSE_CODE_DETAILS`, with the policy's name.
    details: String,
}

/// Where a verdict stands: set, door, request.
type Place = (usize, usize, usize);

/// Compares verdicts on random policies and requests.
///
/// # Errors
/// The smallest pair that was found to be judged differently.
pub(crate) fn authorization() -> Result<(), String> {
    let seed = from_environment("PARITY_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let wanted =
        from_environment("PARITY_VERDICTS").map_or(VERDICTS, |number| usize::try_from(number).unwrap_or(VERDICTS));
    eprintln!("random::authorization: PARITY_SEED={seed} PARITY_VERDICTS={wanted}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut tally = Tally::default();
    while tally.verdicts < wanted {
        let sets: Vec<_> = (0..SETS).map(|_| Set::random(&mut rng)).collect();
        let both = runtime.block_on(ask(&sets))?;
        if let Some(place) = both.difference() {
            let smallest = runtime.block_on(shrink::shrink(Set::alone(&sets, place)))?;
            return Err(format!("seed {seed}: {smallest}"));
        }
        both.envoy.values().for_each(|verdict| tally.add(verdict));
    }
    eprintln!("random::authorization: {tally}");
    tally.judge()
}

fn from_environment(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

/// The verdicts of both, by place.
struct Both {
    envoy: BTreeMap<Place, Verdict>,
    ours: BTreeMap<Place, Verdict>,
}

async fn ask(sets: &[Set]) -> Result<Both, String> {
    Ok(Both {
        envoy: verdicts(sets, Kind::Envoy).await?,
        ours: verdicts(sets, Kind::Ours).await?,
    })
}

impl Both {
    /// The first place where the two do not agree.
    fn difference(&self) -> Option<Place> {
        let mut places = self.envoy.iter();
        places
            .find(|(place, envoy)| self.ours.get(*place) != Some(*envoy))
            .map(|(place, _)| *place)
    }
}

impl Set {
    fn random(rng: &mut StdRng) -> Self {
        let words = words::Words::random(rng);
        Self {
            http: policy::settings(rng),
            filters: policy::filters(rng, &words),
            doors: request::doors(rng, &words),
        }
    }

    /// One request, and the configuration that judges it.
    fn alone(sets: &[Self], (set, door, request): Place) -> Self {
        let set = &sets[set];
        let door = &set.doors[door];
        let requests: Vec<Request> = vec![door.requests[request].clone()];
        Self {
            doors: vec![Door {
                requests,
                ..door.clone()
            }],
            ..set.clone()
        }
    }
}

/// How often each kind of verdict was given.
#[derive(Default)]
struct Tally {
    verdicts: usize,
    allowed: usize,
    unmatched: usize,
    by_policy: usize,
}

impl Tally {
    fn add(&mut self, verdict: &Verdict) {
        self.verdicts += 1;
        match verdict.details.strip_prefix("rbac_access_denied_matched_policy") {
            Some("[none]") => self.unmatched += 1,
            Some(_) => self.by_policy += 1,
            None if verdict.details == "direct_response" => self.allowed += 1,
            None => {}
        }
    }

    /// A run that hardly ever hits, or misses, compares nothing.
    fn judge(&self) -> Result<(), String> {
        let often = [self.allowed, self.unmatched, self.by_policy]
            .iter()
            .all(|kind| kind * 10 > self.verdicts);
        let complaint = || format!("each kind of verdict must be one in ten at least: {self}");
        often.then_some(()).ok_or_else(complaint)
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let other = self.verdicts - self.allowed - self.unmatched - self.by_policy;
        write!(
            f,
            "{} verdicts alike: {} allowed, {} denied for want of a policy, {} denied by one, {other} answered otherwise",
            self.verdicts, self.allowed, self.unmatched, self.by_policy
        )
    }
}

/// A set with one request, and what each said.
fn describe(set: &Set, envoy: &Verdict, ours: &Verdict) -> String {
    let mut text = format!("the verdicts differ\n  envoy {envoy:?}\n  ours  {ours:?}\n");
    for door in &set.doors {
        let _ = writeln!(
            text,
            "  {} from {} with SNI {:?} over {:?}",
            door.identity, door.from, door.sni, door.protocol
        );
        for request in &door.requests {
            let _ = writeln!(text, "  {request:?}");
        }
    }
    let _ = write!(text, "  http: {}\n  filters: {:#}", set.http, set.filters);
    text
}
