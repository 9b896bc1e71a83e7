//! A server and a client against each other, over a link that delays and breaks, while the configuration changes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use proptest::prelude::*;

use super::{
    Entry, Name, ResourceSet,
    client::{Client, Delta, Protocol, Received, Sotw},
    fixtures::{cluster, endpoints, listener, routes, unsupported},
    server::{DeltaServer, Server, SotwServer, Status},
};
use crate::{
    bundle::Bundle,
    route::RouteAction,
    xds::{Resource, ResourceType},
};

/// What the server serves: per slot absent or a revision; some of them unsupported.
#[derive(Debug, Clone)]
struct World {
    clusters: [Option<Slot>; 4],
    /// Which cluster each of the listeners' routes goes to, modulo the clusters there are.
    listeners: [Option<(Slot, usize)>; 3],
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    revision: u8,
    eds: bool,
    bad: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Change(World),
    ServerReads,
    ServerWrites,
    ClientReads,
    Break,
}

impl World {
    fn entries(&self) -> Vec<(ResourceType, Arc<Entry>, Option<Resource>)> {
        let mut entries = Vec::new();
        let mut add = |resource: Resource, bad: bool| {
            let entry = if bad {
                unsupported(&resource)
            } else {
                Entry::encode(&resource)
            };
            entries.push((resource.resource_type(), Arc::new(entry), (!bad).then_some(resource)));
        };
        let clusters: Vec<_> = self
            .clusters
            .iter()
            .enumerate()
            .filter_map(|(i, slot)| Some((i, (*slot)?)))
            .collect();
        for (i, slot) in &clusters {
            let name = format!("cluster-{i}");
            add(cluster(&name, slot.revision, slot.eds), slot.bad);
            if slot.eds {
                add(endpoints(&name, slot.revision), false);
            }
        }
        for (i, slot) in self.listeners.iter().enumerate() {
            let (Some((slot, to)), false) = (slot, clusters.is_empty()) else {
                continue;
            };
            // The name of the route configuration changes with the revision, so that listeners warm.
            let route = format!("route-{i}-{}", slot.revision);
            let to = clusters[to % clusters.len()].0;
            add(listener(&format!("listener-{i}"), slot.revision, &route), slot.bad);
            add(routes(&route, slot.revision, &format!("cluster-{to}")), false);
        }
        entries
    }

    fn set(&self) -> ResourceSet {
        ResourceSet::new(self.entries().into_iter().map(|(kind, entry, _)| (kind, entry)))
    }
}

struct Simulation<S, P>
where
    S: Server,
    P: Protocol<Request = S::Request, Response = S::Response>,
{
    server: S,
    client: Client<P>,
    set: ResourceSet,
    world: World,
    up: VecDeque<S::Request>,
    down: VecDeque<S::Response>,
    /// Clusters of which an unsupported version was served at some time: these may dangle.
    spoilt: BTreeSet<Name>,
    /// Every supported content ever served.
    served: BTreeMap<(ResourceType, Name), Vec<Resource>>,
    /// Whether the client's clusters must exist whenever something points at them.
    strict: bool,
}

impl<S, P> Simulation<S, P>
where
    S: Server,
    P: Protocol<Request = S::Request, Response = S::Response>,
{
    fn new(world: World, strict: bool) -> Self {
        let mut simulation = Self {
            server: S::default(),
            client: Client::default(),
            set: ResourceSet::default(),
            world: world.clone(),
            up: VecDeque::new(),
            down: VecDeque::new(),
            spoilt: BTreeSet::new(),
            served: BTreeMap::new(),
            strict,
        };
        simulation.change(world);
        simulation.up = simulation.client.connect().into();
        simulation
    }

    fn change(&mut self, world: World) {
        for (kind, entry, resource) in world.entries() {
            match resource {
                Some(resource) => self
                    .served
                    .entry((kind, entry.name.clone()))
                    .or_default()
                    .push(resource),
                None => drop(self.spoilt.insert(entry.name.clone())),
            }
        }
        self.set = world.set();
        self.world = world;
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Change(world) => self.change(world),
            Step::ServerReads => drop(self.server_reads()),
            Step::ServerWrites => drop(self.server_writes()),
            Step::ClientReads => drop(self.client_reads()),
            Step::Break => {
                self.server = S::default();
                self.down.clear();
                self.up = self.client.connect().into();
            }
        }
        self.check_references();
    }

    fn server_reads(&mut self) -> bool {
        let request = self.up.pop_front();
        request.map(|request| self.server.receive(request).unwrap()).is_some()
    }

    fn server_writes(&mut self) -> bool {
        let response = self.server.next(&self.set);
        let wrote = response.is_some();
        self.down.extend(response);
        wrote
    }

    fn client_reads(&mut self) -> bool {
        let Some(response) = self.down.pop_front() else {
            return false;
        };
        let Received::Offer(offer) = self.client.receive(response).unwrap() else {
            panic!("the server sent a type nobody knows");
        };
        self.up.extend(self.client.conclude(*offer));
        true
    }

    /// Lets everything that is under way arrive.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            if !(self.server_reads() | self.server_writes() | self.client_reads()) {
                return;
            }
            self.check_references();
        }
        panic!("client and server never come to rest");
    }

    /// Make before break: whatever runs finds what it points at.
    fn check_references(&self) {
        let active = self.client.active();
        for listener in active.listeners.values() {
            for name in super::types::routes_of(listener) {
                assert!(active.routes.contains_key(name), "{} lacks {name}", listener.name);
            }
        }
        for cluster in targets(active) {
            let known = active.clusters.contains_key(cluster.as_str());
            assert!(
                !self.strict || known || self.spoilt.contains(cluster.as_str()),
                "nothing is called {cluster}"
            );
        }
    }

    fn check_outcome(&self) {
        let active = self.client.active();
        let mut refused = BTreeSet::new();
        for (kind, entry, resource) in self.world.entries() {
            let running = running(active, kind, &entry.name);
            match resource {
                Some(resource) if self.is_reachable(kind, &entry.name) => assert_eq!(running, Some(resource)),
                Some(_) => {}
                None => {
                    refused.insert(entry.name.clone());
                    let past = self.served.get(&(kind, entry.name.clone()));
                    assert!(running.is_none_or(|running| past.is_some_and(|past| past.contains(&running))));
                }
            }
        }
        self.check_status(&refused);
        if refused.is_empty() {
            let names: BTreeSet<_> = self.set.iter(ResourceType::Cluster).map(|entry| &*entry.name).collect();
            assert_eq!(
                active
                    .clusters
                    .keys()
                    .map(|name| name.as_str())
                    .collect::<BTreeSet<_>>(),
                names
            );
            let names: BTreeSet<_> = self
                .set
                .iter(ResourceType::Listener)
                .map(|entry| &*entry.name)
                .collect();
            assert_eq!(
                active
                    .listeners
                    .keys()
                    .map(|name| name.as_str())
                    .collect::<BTreeSet<_>>(),
                names
            );
        }
    }

    /// Whether the client has a reason to ask for it: the resource that points at it was not refused.
    fn is_reachable(&self, kind: ResourceType, name: &str) -> bool {
        let pointing = |kind| {
            self.world
                .entries()
                .into_iter()
                .filter(move |(pointer, ..)| *pointer == kind)
        };
        match kind {
            ResourceType::Endpoints => pointing(ResourceType::Cluster)
                .any(|(_, entry, good)| good.is_some() && entry.requires.iter().any(|wanted| **wanted == *name)),
            ResourceType::RouteConfig => pointing(ResourceType::Listener)
                .any(|(_, entry, good)| good.is_some() && entry.requires.iter().any(|wanted| **wanted == *name)),
            ResourceType::Cluster | ResourceType::Listener | ResourceType::Secret => true,
        }
    }

    fn check_status(&self, refused: &BTreeSet<Name>) {
        match self.server.status(&self.set) {
            Status::Acknowledged => assert!(refused.is_empty(), "{refused:?} was not refused"),
            Status::Pending => panic!("pending after everything arrived: {:?}", self.server.report()),
            Status::Rejected(refusals) => {
                let text: String = refusals.iter().map(|refusal| refusal.reason.as_str()).collect();
                assert!(!refused.is_empty(), "refused for no reason: {text}");
                for name in refused {
                    assert!(text.contains(&**name), "{name} is not named in {text:?}");
                }
            }
        }
    }
}

fn targets(bundle: &Bundle) -> impl Iterator<Item = &crate::ClusterName> {
    let hosts = bundle.routes.values().flat_map(|routes| &routes.virtual_hosts);
    hosts
        .flat_map(|host| &host.routes)
        .filter_map(|route| match &route.action {
            RouteAction::Forward(forward) => Some(forward.clusters.first()),
            RouteAction::Redirect(_) | RouteAction::Direct(_) => None,
        })
}

fn running(bundle: &Bundle, kind: ResourceType, name: &str) -> Option<Resource> {
    match kind {
        ResourceType::Cluster => bundle.clusters.get(name).cloned().map(Resource::Cluster),
        ResourceType::Listener => bundle.listeners.get(name).cloned().map(Resource::Listener),
        ResourceType::RouteConfig => bundle.routes.get(name).cloned().map(Resource::RouteConfig),
        ResourceType::Endpoints => {
            let found = bundle.endpoints.get_key_value(name);
            found.map(|(name, endpoints)| Resource::Endpoints(name.clone(), endpoints.clone()))
        }
        ResourceType::Secret => None,
    }
}

fn slot() -> impl Strategy<Value = Slot> {
    (0..4u8, any::<bool>(), prop::bool::weighted(0.1)).prop_map(|(revision, eds, bad)| Slot { revision, eds, bad })
}

fn world() -> impl Strategy<Value = World> {
    let clusters = prop::array::uniform4(prop::option::weighted(0.7, slot()));
    let listeners = prop::array::uniform3(prop::option::weighted(0.7, (slot(), 0..4usize)));
    (clusters, listeners).prop_map(|(clusters, listeners)| World { clusters, listeners })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => world().prop_map(Step::Change),
        6 => Just(Step::ServerReads),
        6 => Just(Step::ServerWrites),
        6 => Just(Step::ClientReads),
        1 => Just(Step::Break),
    ]
}

fn run<S, P>(world: World, steps: Vec<Step>, strict: bool)
where
    S: Server,
    P: Protocol<Request = S::Request, Response = S::Response>,
{
    let mut simulation = Simulation::<S, P>::new(world, strict);
    for step in steps {
        simulation.step(step);
    }
    simulation.settle();
    simulation.check_outcome();
}

/// The client asks for endpoints of a new cluster while others, of which it does not know yet, are under way to it: the
/// server must ignore the request for its old nonce, and yet not take the answer about the clusters for all it will hear.
#[test]
fn a_route_waits_for_its_cluster_whose_endpoints_were_asked_for_with_an_old_nonce() {
    use Step::{Change, ClientReads, ServerReads, ServerWrites};
    let slot = |revision, eds| Slot {
        revision,
        eds,
        bad: false,
    };
    let world = |clusters, to| World {
        clusters,
        listeners: [None, None, Some((slot(2, false), to))],
    };
    let first = world([None, None, Some(slot(1, true)), None], 0);
    let clusters = [slot(0, false), slot(0, true), slot(0, true)].map(Some);
    let second = world([clusters[0], clusters[1], clusters[2], None], 1);
    let steps = [
        ServerReads,
        ServerWrites,
        ServerReads,
        ClientReads,
        ServerReads,
        ServerWrites,
        ServerWrites,
        Change(second),
        ServerReads,
    ];
    run::<SotwServer, Sotw>(first, steps.into(), true);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn delta_ends_at_what_is_served_and_never_dangles(world in world(), steps in prop::collection::vec(step(), 0..120)) {
        run::<DeltaServer, Delta>(world, steps, true);
    }

    /// A reconnecting client cannot say what it holds, so that a server may take away what is still pointed at: no promise
    /// of make-before-break across streams.
    #[test]
    fn state_of_the_world_ends_at_what_is_served(world in world(), steps in prop::collection::vec(step(), 0..120)) {
        run::<SotwServer, Sotw>(world, steps, false);
    }

    #[test]
    fn state_of_the_world_never_dangles_on_one_stream(world in world(), steps in prop::collection::vec(step(), 0..120)) {
        let steps = steps.into_iter().filter(|step| !matches!(step, Step::Break)).collect();
        run::<SotwServer, Sotw>(world, steps, true);
    }
}
