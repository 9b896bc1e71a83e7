//! Which filter chain a connection belongs to, in a few table lookups, however many chains there are.
//!
//! Source: Envoy's `FilterChainManagerImpl`. The criteria are compared one after the other: destination port, server name
//! (exact, then the longest suffix, then none), transport, application protocols. Once a criterion is decided there is no
//! way back: a connection whose server name has chains, none of which fits its transport, gets the default chain.

use std::collections::HashMap;

use mesh::{
    host::HostPattern,
    listener::{FilterChain, FilterChainMatch, Transport},
};

use crate::sniff::Inspected;

/// The filter chains of one listener, by their place in its configuration.
#[derive(Default)]
pub(crate) struct ChainIndex {
    ports: HashMap<u16, Names>,
    any_port: Option<Names>,
}

#[derive(Default)]
struct Names {
    exact: HashMap<Box<str>, Transports>,
    /// By suffix, dot first.
    suffixes: HashMap<Box<str>, Transports>,
    any: Option<Transports>,
}

#[derive(Default)]
struct Transports {
    plaintext: Option<Protocols>,
    tls: Option<Protocols>,
    any: Option<Protocols>,
}

#[derive(Default)]
struct Protocols {
    named: HashMap<Box<str>, usize>,
    any: Option<usize>,
}

/// Why a chain cannot be indexed.
enum Refused {
    /// Another chain, at this place, matches the same connections.
    SameAs(usize),
    /// A wildcard that does not stand for whole labels.
    PartialWildcard(HostPattern),
}

impl ChainIndex {
    /// Indexes chains.
    ///
    /// # Errors
    /// Two chains match the same connections, or a server name is a pattern Envoy does not have either.
    pub(crate) fn build(chains: &[FilterChain]) -> Result<Self, String> {
        let mut index = Self::default();
        for (at, chain) in chains.iter().enumerate() {
            let names = match chain.matches.destination_port {
                Some(port) => index.ports.entry(port).or_default(),
                None => index.any_port.get_or_insert_default(),
            };
            names
                .insert(&chain.matches, at)
                .map_err(|refused| refused.explain(chain, chains))?;
        }
        Ok(index)
    }

    /// The place of the chain for a connection to `port` of which `inspected` is known.
    pub(crate) fn choose(&self, port: u16, inspected: &Inspected) -> Option<usize> {
        let names = self.ports.get(&port).or(self.any_port.as_ref());
        names?.choose(inspected)
    }
}

impl Names {
    fn insert(&mut self, matches: &FilterChainMatch, at: usize) -> Result<(), Refused> {
        if matches.server_names.is_empty() {
            return self.any.get_or_insert_default().insert(matches, at);
        }
        for name in &matches.server_names {
            let transports = match name {
                HostPattern::Exact(host) => self.exact.entry(host.as_str().into()).or_default(),
                HostPattern::Suffix(suffix) if suffix.starts_with('.') => {
                    self.suffixes.entry((**suffix).into()).or_default()
                }
                HostPattern::Suffix(_) => return Err(Refused::PartialWildcard(name.clone())),
                HostPattern::Any => self.any.get_or_insert_default(),
            };
            transports.insert(matches, at)?;
        }
        Ok(())
    }

    fn choose(&self, inspected: &Inspected) -> Option<usize> {
        let name = inspected.server_name.as_ref().map_or("", |name| name.as_str());
        let transports = self.exact.get(name).or_else(|| self.by_suffix(name));
        transports.or(self.any.as_ref())?.choose(inspected)
    }

    fn by_suffix(&self, name: &str) -> Option<&Transports> {
        let dots = name.match_indices('.').skip_while(|(at, _)| *at == 0);
        dots.filter_map(|(at, _)| name.get(at..))
            .find_map(|suffix| self.suffixes.get(suffix))
    }
}

impl Transports {
    fn insert(&mut self, matches: &FilterChainMatch, at: usize) -> Result<(), Refused> {
        let protocols = match matches.transport {
            Some(Transport::Plaintext) => &mut self.plaintext,
            Some(Transport::Tls) => &mut self.tls,
            None => &mut self.any,
        };
        protocols.get_or_insert_default().insert(matches, at)
    }

    fn choose(&self, inspected: &Inspected) -> Option<usize> {
        let exact = match inspected.transport {
            Transport::Plaintext => &self.plaintext,
            Transport::Tls => &self.tls,
        };
        exact.as_ref().or(self.any.as_ref())?.choose(inspected)
    }
}

impl Protocols {
    fn insert(&mut self, matches: &FilterChainMatch, at: usize) -> Result<(), Refused> {
        if matches.application_protocols.is_empty() {
            return self.any.replace(at).map_or(Ok(()), |other| Err(Refused::SameAs(other)));
        }
        for protocol in &matches.application_protocols {
            if let Some(other) = self.named.insert(protocol.as_str().into(), at) {
                return Err(Refused::SameAs(other));
            }
        }
        Ok(())
    }

    fn choose(&self, inspected: &Inspected) -> Option<usize> {
        let mut offered = inspected.protocols.iter();
        let named = offered.find_map(|protocol| self.named.get(protocol.as_str()));
        named.copied().or(self.any)
    }
}

impl Refused {
    fn explain(&self, chain: &FilterChain, chains: &[FilterChain]) -> String {
        let name = |chain: &FilterChain| chain.name.clone().unwrap_or_else(|| "without a name".to_owned());
        match self {
            Self::SameAs(other) => format!(
                "filter chains {} and {} match the same connections: make their filter_chain_match differ",
                chains.get(*other).map(name).unwrap_or_default(),
                name(chain)
            ),
            Self::PartialWildcard(pattern) => format!(
                "filter chain {}: server name {pattern} is not supported: a wildcard stands for whole labels, as in *.example.com",
                name(chain)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh::{
        ClusterName,
        host::Sni,
        listener::{Protocol, TcpProxy},
        route::WeightedClusters,
    };

    use super::*;

    fn chain(name: &str, matches: &FilterChainMatch) -> FilterChain {
        FilterChain {
            name: Some(name.to_owned()),
            matches: matches.clone(),
            tls: None,
            handshake_timeout: None,
            rbac: Vec::new(),
            protocol: Protocol::Tcp(TcpProxy {
                stat_prefix: String::new(),
                clusters: WeightedClusters::one(ClusterName::parse("c").unwrap()),
                idle_timeout: None,
                max_connection_duration: None,
                access_logs: Vec::new(),
            }),
        }
    }

    fn matching(
        port: Option<u16>,
        names: &[&str],
        transport: Option<Transport>,
        protocols: &[&str],
    ) -> FilterChainMatch {
        FilterChainMatch {
            destination_port: port,
            server_names: names.iter().map(|name| HostPattern::parse(name).unwrap()).collect(),
            transport,
            application_protocols: protocols.iter().map(ToString::to_string).collect(),
        }
    }

    /// An index and the names of its chains.
    struct Indexed(ChainIndex, Vec<String>);

    fn index(chains: &[(&str, FilterChainMatch)]) -> Result<Indexed, String> {
        let chains: Vec<_> = chains.iter().map(|(name, matches)| chain(name, matches)).collect();
        let index = ChainIndex::build(&chains)?;
        Ok(Indexed(
            index,
            chains.into_iter().filter_map(|chain| chain.name).collect(),
        ))
    }

    struct Asked<'a>(u16, &'a str, Transport, &'a [&'a str]);

    #[track_caller]
    fn check(
        Indexed(index, names): &Indexed,
        Asked(port, name, transport, protocols): Asked<'_>,
        expect: Option<&str>,
    ) {
        let inspected = Inspected {
            transport,
            server_name: Sni::parse(name).ok(),
            protocols: protocols.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(index.choose(port, &inspected).map(|at| names[at].as_str()), expect);
    }

    #[test]
    fn the_most_specific_server_name_wins() {
        let names = |names: &[&str]| matching(None, names, None, &[]);
        let chains = [
            ("exact", names(&["a.example.com", "other.test"])),
            ("long", names(&["*.b.example.com"])),
            ("short", names(&["*.example.com"])),
            ("any", names(&[])),
        ];
        let index = index(&chains).unwrap();
        let ask = |name, expect| check(&index, Asked(443, name, Transport::Tls, &[]), Some(expect));
        ask("a.example.com", "exact");
        ask("other.test", "exact");
        ask("x.b.example.com", "long");
        ask("y.x.b.example.com", "long");
        ask("b.example.com", "short");
        ask("example.com", "any");
        ask("", "any");
        ask(".example.com", "any");
    }

    #[test]
    fn nothing_is_chosen_without_a_match() {
        let chains = [("one", matching(None, &["a.test"], None, &[]))];
        check(&index(&chains).unwrap(), Asked(1, "b.test", Transport::Tls, &[]), None);
        check(&index(&[]).unwrap(), Asked(1, "", Transport::Plaintext, &[]), None);
    }

    #[test]
    fn criteria_are_decided_in_order_without_going_back() {
        let chains = [
            ("port", matching(Some(15001), &[], Some(Transport::Tls), &[])),
            ("name", matching(None, &["a.test"], Some(Transport::Tls), &["h2"])),
            (
                "plain",
                matching(None, &[], Some(Transport::Plaintext), &["http/1.1", "h2c"]),
            ),
            ("tls", matching(None, &[], Some(Transport::Tls), &[])),
        ];
        let index = index(&chains).unwrap();
        let ask = |asked, expect| check(&index, asked, expect);
        ask(Asked(15001, "a.test", Transport::Tls, &["h2"]), Some("port"));
        ask(Asked(15001, "", Transport::Plaintext, &["h2c"]), None);
        ask(Asked(443, "a.test", Transport::Tls, &["istio", "h2"]), Some("name"));
        ask(Asked(443, "a.test", Transport::Tls, &["http/1.1"]), None);
        ask(Asked(443, "b.test", Transport::Tls, &["h2"]), Some("tls"));
        ask(Asked(80, "", Transport::Plaintext, &["h2c"]), Some("plain"));
        ask(Asked(80, "", Transport::Plaintext, &[]), None);
    }

    #[test]
    fn the_clients_first_protocol_decides() {
        let chains = [
            ("h2", matching(None, &[], None, &["h2"])),
            ("h1", matching(None, &[], None, &["http/1.1"])),
            ("any", matching(None, &[], None, &[])),
        ];
        let index = index(&chains).unwrap();
        check(&index, Asked(1, "", Transport::Tls, &["http/1.1", "h2"]), Some("h1"));
        check(&index, Asked(1, "", Transport::Tls, &["spdy"]), Some("any"));
    }

    #[test]
    fn ambiguous_or_unsupported_matches_are_refused() {
        let same = [
            ("one", matching(None, &["a.test", "b.test"], None, &[])),
            ("two", matching(None, &["b.test"], None, &[])),
        ];
        let error = index(&same).err().unwrap();
        assert!(error.contains("one and two match the same connections"), "{error}");
        let error = index(&[("x", matching(None, &["*-a.test"], None, &[]))]).err().unwrap();
        assert!(error.contains("*-a.test"), "{error}");
    }
}
