//! One type of resource on one stream: what the client wants, holds and has answered.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::{Refusal, Report};
use crate::xds::{
    ResourceType,
    ads::{Entry, MAX_RESOURCES, Name, ProtocolError, ResourceSet, clip},
};

/// Responses of one type that may wait for their answer.
const MAX_IN_FLIGHT: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Channel {
    /// Whether the client has spoken of this type on this stream.
    pub(super) opened: bool,
    pub(super) wildcard: bool,
    names: BTreeSet<Name>,
    held: BTreeMap<Name, Held>,
    in_flight: VecDeque<Sent>,
    last_nonce: String,
    /// Resources of refused responses. Which of them the client took is unknown, so all of them go along with the next
    /// response.
    doubtful: BTreeSet<Name>,
    refused: Option<String>,
    /// Responses were under way when one was refused. They may mend the culprit without carrying the rest of its company,
    /// which is then asked about again.
    recheck: bool,
    acknowledged: Option<Name>,
    /// The client must hear from us even if nothing differs.
    pub(super) owes_reply: bool,
    /// The client had something from an earlier stream when it opened this one.
    resumed: bool,
}

/// What a client has of a resource.
#[derive(Debug)]
enum Held {
    /// What we sent.
    Sent(Arc<Entry>),
    /// What it says it has from an earlier stream.
    Claimed(Name),
    /// Nothing, and it was told so.
    Absent,
}

/// A response that was not answered yet.
#[derive(Debug)]
struct Sent {
    nonce: String,
    names: Vec<Name>,
    version: Name,
}

/// What a client must be told to hold what it should.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub(super) changed: Vec<Arc<Entry>>,
    pub(super) removed: Vec<Name>,
}

impl Held {
    fn version(&self) -> Option<&Name> {
        match self {
            Self::Sent(entry) => Some(&entry.version),
            Self::Claimed(version) => Some(version),
            Self::Absent => None,
        }
    }
}

impl Difference {
    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }

    /// Keeps what fits into a message of about `bytes`, at least one resource. The rest is found again the next time.
    pub(super) fn limit(&mut self, bytes: usize) {
        let mut room = bytes;
        let fitting = self.changed.iter().take_while(|entry| {
            let had_room = room > 0;
            room = room.saturating_sub(entry.any.value.len());
            had_room
        });
        let fitting = fitting.count();
        self.changed.truncate(fitting);
    }
}

// Subscriptions.
impl Channel {
    /// Whether the client gets this resource.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    pub(super) fn names(&self) -> &BTreeSet<Name> {
        &self.names
    }

    /// Adds a name; `false` if it was there.
    pub(super) fn add(&mut self, kind: ResourceType, name: Name) -> Result<bool, ProtocolError> {
        let added = self.names.insert(name);
        if self.names.len() > MAX_RESOURCES {
            return Err(ProtocolError::TooMany(kind));
        }
        Ok(added)
    }

    /// Ends the interest in a name.
    pub(super) fn remove(&mut self, name: &str) {
        self.names.remove(name);
        self.forget(name);
        self.forgive();
    }

    /// Ends the interest in everything not named.
    pub(super) fn remove_wildcard(&mut self) {
        self.wildcard = false;
        self.held.retain(|name, _| self.names.contains(name));
        self.doubtful.retain(|name| self.names.contains(name));
        self.forgive();
    }

    /// A refusal of what is wanted no longer is no refusal.
    fn forgive(&mut self) {
        if self.doubtful.is_empty() {
            self.refused = None;
        }
    }

    /// The client may have lost it: it is sent again.
    pub(super) fn forget(&mut self, name: &str) {
        self.held.remove(name);
        self.doubtful.remove(name);
    }

    /// The client may have lost everything it was sent on this stream.
    pub(super) fn forget_sent(&mut self) {
        self.held.clear();
    }

    /// Whether the client may have refused it.
    pub(super) fn doubts(&self, name: &str) -> bool {
        self.doubtful.contains(name)
    }

    /// What a client says it has from an earlier stream.
    pub(super) fn claim(&mut self, name: Name, version: Name) {
        self.held.insert(name, Held::Claimed(version));
        self.resumed = true;
    }

    /// Whether the client came with something from an earlier stream: then it has more, of types it did not speak of yet.
    pub(super) fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Drops claims that are no concern of this stream.
    pub(super) fn drop_unwanted_claims(&mut self) {
        if !self.wildcard {
            self.held.retain(|name, _| self.names.contains(name));
        }
    }

    /// The client wants nothing of this type any more.
    pub(super) fn unsubscribe(&mut self) {
        self.names.clear();
        self.remove_wildcard();
        self.in_flight.clear();
        self.owes_reply = false;
    }

    /// Starts from nothing. The last nonce still counts: its response may be on the way.
    pub(super) fn reset(&mut self) {
        *self = Self {
            last_nonce: std::mem::take(&mut self.last_nonce),
            acknowledged: self.acknowledged.take(),
            ..Self::default()
        };
    }
}

// Comparing and sending.
impl Channel {
    /// What the client should hold.
    pub(super) fn target<'a>(
        &'a self,
        kind: ResourceType,
        set: &'a ResourceSet,
    ) -> impl Iterator<Item = &'a Arc<Entry>> {
        let all = set.iter(kind).filter(|_| self.wildcard);
        let named = self.names.iter().filter(|_| !self.wildcard);
        all.chain(join(named, entries(kind, set)).filter_map(|(_, entry)| entry))
    }

    /// What it should hold but, as far as we know, does not.
    pub(super) fn changed(&self, kind: ResourceType, set: &ResourceSet) -> Vec<Arc<Entry>> {
        let target: Vec<_> = self.target(kind, set).collect();
        let held = join(target.iter().map(|entry| &entry.name), &self.held);
        let changed = target.iter().zip(held).filter(|(entry, (_, held))| {
            let version = held.and_then(Held::version);
            version.is_none_or(|version| *version != entry.version)
        });
        changed.map(|(entry, _)| Arc::clone(entry)).collect()
    }

    /// What it holds but should not.
    pub(super) fn gone(&self, kind: ResourceType, set: &ResourceSet) -> Vec<Name> {
        let held = self.held.iter().filter(|(_, held)| held.version().is_some());
        let there = join(held.map(|(name, _)| name), entries(kind, set));
        let gone = there.filter(|(_, entry)| entry.is_none());
        gone.map(|(name, _)| name.clone()).collect()
    }

    /// What it asks for, does not exist, and it was not told so yet.
    pub(super) fn missing(&self, kind: ResourceType, set: &ResourceSet) -> Vec<Name> {
        let unanswered = join(self.names.iter(), &self.held).filter(|(_, held)| held.is_none());
        let unanswered = unanswered.map(|(name, _)| name);
        unanswered
            .filter(|name| set.get(kind, name).is_none())
            .cloned()
            .collect()
    }

    /// Adds what goes along because an earlier response was refused.
    pub(super) fn add_repeats(&self, kind: ResourceType, set: &ResourceSet, difference: &mut Difference) {
        let known: BTreeSet<_> = difference.changed.iter().map(|entry| entry.name.clone()).collect();
        let repeats = self.doubtful.iter().filter(|name| !known.contains(*name));
        difference
            .changed
            .extend(repeats.filter_map(|name| set.get(kind, name)).cloned());
    }

    /// Whether another response may be sent before an answer came.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight.len() < MAX_IN_FLIGHT
    }

    /// Notes that a response goes out.
    pub(super) fn sent(&mut self, nonce: String, difference: &Difference, version: Name) {
        for entry in &difference.changed {
            self.held.insert(entry.name.clone(), Held::Sent(entry.clone()));
        }
        for name in &difference.removed {
            self.doubtful.remove(name);
            match self.names.contains(name) {
                true => self.held.insert(name.clone(), Held::Absent),
                false => self.held.remove(name),
            };
        }
        self.owes_reply = false;
        self.last_nonce.clone_from(&nonce);
        self.in_flight.push_back(Sent {
            nonce,
            names: difference.changed.iter().map(|entry| entry.name.clone()).collect(),
            version,
        });
    }

    /// Everything that was sent on this stream and still holds.
    pub(super) fn held_entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.held.values().filter_map(|held| match held {
            Held::Sent(entry) => Some(entry),
            Held::Claimed(_) | Held::Absent => None,
        })
    }
}

/// Resources of a type by name, in order.
fn entries(kind: ResourceType, set: &ResourceSet) -> impl Iterator<Item = (&Name, &Arc<Entry>)> {
    set.iter(kind).map(|entry| (&entry.name, entry))
}

/// What each of these names, which are in order, has among values in order of theirs. One walk over both: a client holds tens of
/// thousands of resources of which one differs, and to look each of them up costs more than to encode the one.
fn join<'a, V>(
    names: impl IntoIterator<Item = &'a Name>,
    values: impl IntoIterator<Item = (&'a Name, V)>,
) -> impl Iterator<Item = (&'a Name, Option<V>)> {
    let mut values = values.into_iter().peekable();
    names.into_iter().map(move |name| {
        while values.next_if(|(other, _)| is_before(other, name)).is_some() {}
        let value = values.next_if(|(other, _)| Arc::ptr_eq(other, name) || *other == name);
        (name, value.map(|(_, value)| value))
    })
}

/// Most names that meet are one and the same.
fn is_before(a: &Name, b: &Name) -> bool {
    !Arc::ptr_eq(a, b) && a < b
}

// Answers.
impl Channel {
    /// The client took a response; `false` if we know of none.
    pub(super) fn ack(&mut self, nonce: &str) -> bool {
        let Some(sent) = self.answered(nonce) else {
            return false;
        };
        for name in &sent.names {
            self.doubtful.remove(name);
        }
        self.forgive();
        if self.is_settled() {
            self.acknowledged = Some(sent.version);
        }
        let settled = self.in_flight.is_empty();
        self.owes_reply |= settled && std::mem::take(&mut self.recheck) && !self.doubtful.is_empty();
        true
    }

    /// The client refused a response, at least in part; `false` if we know of none.
    pub(super) fn nack(&mut self, nonce: &str, reason: String) -> bool {
        let Some(sent) = self.answered(nonce) else {
            return false;
        };
        let held = &self.held;
        self.doubtful
            .extend(sent.names.into_iter().filter(|name| held.contains_key(name)));
        self.refused = Some(clip(reason));
        self.recheck = !self.in_flight.is_empty();
        true
    }

    fn answered(&mut self, nonce: &str) -> Option<Sent> {
        let position = self.in_flight.iter().position(|sent| sent.nonce == nonce)?;
        self.in_flight.remove(position)
    }

    /// The nonce of the last response; empty if there was none.
    pub(super) fn last_nonce(&self) -> &str {
        &self.last_nonce
    }

    /// The last response carries everything held: its answer is the answer to all of it.
    pub(super) fn supersede(&mut self) {
        let last = self.in_flight.pop_back();
        self.in_flight.clear();
        let names = self.held_entries().map(|entry| entry.name.clone()).collect();
        self.in_flight.extend(last.map(|sent| Sent { names, ..sent }));
    }

    pub(super) fn awaits_answer(&self) -> bool {
        !self.in_flight.is_empty() || self.owes_reply
    }

    /// Whether everything sent was taken.
    pub(super) fn is_settled(&self) -> bool {
        !self.awaits_answer() && self.refused.is_none()
    }

    pub(super) fn refusal(&self, kind: ResourceType) -> Option<Refusal> {
        self.refused.as_ref().map(|reason| Refusal {
            resource_type: kind,
            names: self.doubtful.iter().cloned().collect(),
            reason: reason.clone(),
        })
    }

    pub(super) fn report(&self, kind: ResourceType) -> Option<Report> {
        self.opened.then(|| Report {
            resource_type: kind,
            acknowledged: self.acknowledged.clone(),
            resources: self.held.values().filter(|held| held.version().is_some()).count(),
            refused: self.refused.clone(),
        })
    }
}
