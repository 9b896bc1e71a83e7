//! A response, judged resource by resource.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use prost::Message;

use super::Holdings;
use crate::{
    MAX_NAME,
    bundle::Bundle,
    xds::{
        Any, DecodeError, Resource, ResourceType,
        ads::{MAX_RESOURCES, Name, Rejection},
    },
};

/// A response in neutral form.
#[derive(Debug)]
pub struct Contents {
    pub(super) type_url: String,
    pub(super) nonce: String,
    pub(super) version: String,
    pub(super) parcels: Vec<Parcel>,
    pub(super) removed: Vec<String>,
    /// Clusters and listeners that are not in it are gone.
    pub(super) complete: bool,
}

/// One resource of a response, still packed.
#[derive(Debug)]
pub(super) struct Parcel {
    /// `None`: only the content tells.
    pub(super) name: Option<String>,
    pub(super) version: String,
    pub(super) any: Option<Any>,
    /// What is wrong with the packing.
    pub(super) problem: Option<&'static str>,
}

/// What a response would change, and what of it was refused so far.
#[derive(Debug)]
pub struct Offer {
    pub(super) resource_type: ResourceType,
    pub(super) nonce: String,
    pub(super) version: String,
    pub(super) rejections: Vec<Rejection>,
    pub(super) holdings: Holdings,
    pub(super) active: Arc<Bundle>,
    changed: BTreeSet<Name>,
}

/// How a resource appears in a rejection if its name cannot be read.
pub(super) const UNNAMED: &str = "without a name";

impl Offer {
    /// What should run if this is taken.
    pub fn bundle(&self) -> &Arc<Bundle> {
        &self.active
    }

    /// The type of its resources.
    pub fn resource_type(&self) -> ResourceType {
        self.resource_type
    }

    /// What was refused so far.
    pub fn rejections(&self) -> &[Rejection] {
        &self.rejections
    }

    pub(super) fn judge(
        resource_type: ResourceType,
        contents: Contents,
        wanted: impl Fn(&str) -> bool,
        holdings: &Holdings,
        active: &Arc<Bundle>,
    ) -> Self {
        let mut offer = Self {
            resource_type,
            nonce: contents.nonce,
            version: contents.version,
            rejections: Vec::new(),
            holdings: holdings.clone(),
            active: active.clone(),
            changed: BTreeSet::new(),
        };
        let parcels = offer.sort(contents.parcels);
        if resource_type.is_wildcard() {
            offer.remove(contents.complete, &parcels, contents.removed);
        }
        for (name, parcel) in parcels {
            if wanted(&name) {
                offer.take(name, parcel);
            }
        }
        let bundle = offer.holdings.runnable_after(resource_type, active);
        offer.offer(bundle, active);
        offer
    }

    /// Parcels by name; refuses those that have none. A name that occurs twice is refused too: `None`.
    fn sort(&mut self, parcels: Vec<Parcel>) -> BTreeMap<Name, Option<Parcel>> {
        let mut sorted = BTreeMap::new();
        for parcel in parcels {
            let name = parcel.name.clone().or_else(|| parcel.any.as_ref().and_then(peek_name));
            match name {
                Some(name) if (1..=MAX_NAME).contains(&name.len()) => {
                    let twice = sorted.contains_key(name.as_str());
                    sorted.insert(Name::from(name), (!twice).then_some(parcel));
                }
                Some(_) | None => self.refuse(UNNAMED.into(), format!("a name of 1 to {MAX_NAME} bytes is required")),
            }
        }
        sorted
    }

    /// Applies removals. A resource that is there but refused is not removed: its last good version stays.
    fn remove(&mut self, complete: bool, parcels: &BTreeMap<Name, Option<Parcel>>, removed: Vec<String>) {
        let mut gone: Vec<Name> = removed.into_iter().map(Name::from).collect();
        if complete {
            let held = self.holdings.names(self.resource_type);
            gone.extend(held.filter(|name| !parcels.contains_key(*name)).cloned());
        }
        for name in gone {
            self.holdings.remove(self.resource_type, &name);
        }
    }

    fn take(&mut self, name: Name, parcel: Option<Parcel>) {
        let known = self.holdings.version(self.resource_type, &name);
        if known.is_none() && self.holdings.len(self.resource_type) >= MAX_RESOURCES {
            return self.refuse(name, format!("more than {MAX_RESOURCES} resources of this type"));
        }
        match self.open(&name, parcel) {
            Ok((resource, version)) => {
                self.holdings.insert(resource, version);
                self.changed.insert(name);
            }
            Err(reason) => self.refuse(name, reason),
        }
    }

    /// Unpacks and decodes a resource.
    fn open(&mut self, name: &str, parcel: Option<Parcel>) -> Result<(Resource, Name), String> {
        let parcel = parcel.ok_or("the response has it twice")?;
        if let Some(problem) = parcel.problem {
            return Err(problem.to_owned());
        }
        let any = parcel.any.ok_or("the response names it without its content")?;
        let resource = self.decode(name, &any).map_err(|error| error.to_string())?;
        if resource.name() != name {
            return Err(format!("its content is named {:?}", resource.name()));
        }
        Ok((resource, parcel.version.into()))
    }

    fn decode(&mut self, name: &str, any: &Any) -> Result<Resource, DecodeError> {
        if self.resource_type != ResourceType::RouteConfig {
            return Resource::decode(self.resource_type.type_url(), any);
        }
        let (resource, hosts) = Resource::decode_routes(any, &self.holdings.hosts_of(name))?;
        self.holdings.note_hosts(name, hosts);
        Ok(resource)
    }

    fn refuse(&mut self, name: Name, reason: String) {
        self.rejections.push(Rejection {
            resource_type: self.resource_type,
            name,
            reason,
        });
    }

    fn offer(&mut self, bundle: Bundle, active: &Arc<Bundle>) {
        self.active = if bundle == **active {
            active.clone()
        } else {
            Arc::new(bundle)
        };
    }

    pub(super) fn reject(&mut self, rejections: Vec<Rejection>, former: &Holdings, active: &Arc<Bundle>) {
        let mut smaller = false;
        for rejection in &rejections {
            smaller |= self.take_out(rejection, former);
        }
        if !smaller {
            self.abandon(&rejections, former);
        }
        self.rejections.extend(rejections);
        let bundle = self.holdings.runnable(active);
        self.offer(bundle, active);
    }

    /// Takes out one resource; `false` if it was not in.
    fn take_out(&mut self, rejection: &Rejection, former: &Holdings) -> bool {
        let Rejection {
            resource_type, name, ..
        } = rejection;
        if *resource_type == self.resource_type && self.changed.remove(name) {
            self.holdings.restore(*resource_type, name, former);
            return true;
        }
        self.holdings.mark_unfit(*resource_type, name)
    }

    /// Takes everything back, because nobody can tell what is at fault.
    fn abandon(&mut self, rejections: &[Rejection], former: &Holdings) {
        self.holdings = former.clone();
        let reason = match rejections.first() {
            Some(rejection) => format!("cannot be run: {rejection}"),
            None => "cannot be run".to_owned(),
        };
        for name in std::mem::take(&mut self.changed) {
            self.refuse(name, reason.clone());
        }
    }
}

/// The name inside a resource that may be otherwise unreadable: the first field of all the types we know.
pub(super) fn peek_name(any: &Any) -> Option<String> {
    #[derive(Clone, PartialEq, Message)]
    struct Named {
        #[prost(string, tag = "1")]
        name: String,
    }
    Named::decode(any.value.as_slice()).ok().map(|named| named.name)
}
