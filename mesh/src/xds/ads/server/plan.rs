//! What is sent next: make before break.

use super::{Channel, Stream};
use crate::xds::{
    ResourceType,
    ads::{ResourceSet, server::channel::Difference},
};

/// A message that is due.
pub(super) struct Push {
    pub(super) kind: ResourceType,
    pub(super) difference: Difference,
    pub(super) nonce: String,
}

/// Which part of a difference a step sends.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    /// New and changed resources.
    Make,
    /// Removals.
    Break,
    /// Both at once: nothing points at these by a name that would dangle.
    Whole,
}

/// The order of everything. A step is not taken before those above it are done.
const PLAN: [(ResourceType, Step); 7] = [
    (ResourceType::Cluster, Step::Make),
    (ResourceType::Endpoints, Step::Make),
    (ResourceType::Listener, Step::Whole),
    (ResourceType::RouteConfig, Step::Whole),
    (ResourceType::Secret, Step::Whole),
    (ResourceType::Cluster, Step::Break),
    (ResourceType::Endpoints, Step::Break),
];

/// Picks the next message and notes it as sent. `limit`: bytes of resources in it, about.
pub(super) fn next(stream: &mut Stream, set: &ResourceSet, limit: usize) -> Option<Push> {
    let (kind, mut difference) = pick(stream, set)?;
    difference.limit(limit);
    repeat_dependents(stream, kind, &difference);
    stream.nonces += 1;
    let nonce = stream.nonces.to_string();
    let version = set.version(kind).clone();
    stream.channel(kind).sent(nonce.clone(), &difference, version);
    Some(Push {
        kind,
        difference,
        nonce,
    })
}

/// Whether something new is still to be sent.
pub(super) fn makes(stream: &Stream, set: &ResourceSet) -> bool {
    let mut steps = PLAN.iter().filter(|(_, step)| *step != Step::Break);
    steps.any(|(kind, step)| due(stream.channels.get(*kind), *kind, *step, set).is_some())
}

/// Whether something is still to be taken away.
pub(super) fn breaks(stream: &Stream, set: &ResourceSet) -> bool {
    let mut steps = PLAN.iter().filter(|(_, step)| *step == Step::Break);
    steps.any(|(kind, step)| due(stream.channels.get(*kind), *kind, *step, set).is_some())
}

fn pick(stream: &Stream, set: &ResourceSet) -> Option<(ResourceType, Difference)> {
    let mut clusters_behind = false;
    for (kind, step) in PLAN {
        let may_go = match (kind, step) {
            (ResourceType::Endpoints, Step::Make) => true,
            (_, Step::Break) => !clusters_behind && may_break(stream, set),
            (_, Step::Make | Step::Whole) => !clusters_behind && !clusters_warming(stream, kind, set),
        };
        if !may_go {
            return None;
        }
        let channel = stream.channels.get(kind);
        let Some(difference) = due(channel, kind, step, set) else {
            continue;
        };
        if channel.has_room() {
            return Some((kind, difference));
        }
        // A client may answer for clusters only when it has their endpoints, so these must not wait.
        clusters_behind = true;
    }
    None
}

/// Whether the client is about to ask for endpoints of clusters it was just sent: what points at these clusters waits, so
/// that it finds them ready. It asks before it answers for the clusters; but in the state of the world its request is void
/// if endpoints were under way to it, and comes again with the answer to these.
fn clusters_warming(stream: &Stream, kind: ResourceType, set: &ResourceSet) -> bool {
    let awaits_answer = |kind| stream.channels.get(kind).awaits_answer();
    kind != ResourceType::Cluster
        && (awaits_answer(ResourceType::Cluster) || awaits_answer(ResourceType::Endpoints))
        && stream.lacks_dependents(ResourceType::Cluster, set)
}

/// Clusters go only when nothing that is in force at the client can point at them.
fn may_break(stream: &Stream, set: &ResourceSet) -> bool {
    let settled = |kind| stream.channels.get(kind).is_settled();
    let listeners_unknown = !stream.channels.get(ResourceType::Listener).opened;
    if listeners_unknown && stream.channels.get(ResourceType::Cluster).is_resumed() {
        return false;
    }
    settled(ResourceType::Listener)
        && settled(ResourceType::RouteConfig)
        && !stream.lacks_dependents(ResourceType::Listener, set)
}

fn due(channel: &Channel, kind: ResourceType, step: Step, set: &ResourceSet) -> Option<Difference> {
    let mut difference = Difference::default();
    if step != Step::Break {
        difference.changed = channel.changed(kind, set);
        difference.removed = channel.missing(kind, set);
    }
    if step != Step::Make {
        difference.removed.extend(channel.gone(kind, set));
    }
    let silent = step == Step::Break || !channel.owes_reply;
    if difference.is_empty() && silent {
        return None;
    }
    channel.add_repeats(kind, set, &mut difference);
    Some(difference)
}

/// A changed cluster waits for its endpoints even if the client knows them. A changed listener may mend a route
/// configuration that was refused because of it.
fn repeat_dependents(stream: &mut Stream, kind: ResourceType, difference: &Difference) {
    let Some(dependents) = kind.dependents() else {
        return;
    };
    let channel = stream.channel(dependents);
    for name in difference.changed.iter().flat_map(|entry| &entry.requires) {
        if dependents == ResourceType::Endpoints || channel.doubts(name) {
            channel.forget(name);
        }
    }
}
