//! Which filter chain a connection belongs to, in a few table lookups, however many chains there are.
//!
//! Source: Envoy's `FilterChainManagerImpl`. The criteria are compared one after the other: destination port, server name
//! (exact, then the longest suffix, then none), transport, application protocols. Once a criterion is decided there is no
//! way back: a connection whose server name has chains, none of which fits its transport, gets the default chain.

use std::{collections::HashMap, sync::Arc};

use mesh::{
    host::HostPattern,
    listener::{FilterChainMatch, Transport},
};

use super::Chain;
use crate::sniff::Inspected;

/// The filter chains of one listener.
#[derive(Default)]
pub(crate) struct ChainIndex {
    ports: HashMap<u16, Names>,
    any_port: Option<Names>,
    default: Option<Arc<Chain>>,
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
    named: HashMap<Box<str>, Arc<Chain>>,
    any: Option<Arc<Chain>>,
}

impl ChainIndex {
    /// Indexes chains; `default` takes what none of them matches.
    ///
    /// # Errors
    /// Two chains match the same connections, or a server name is a pattern Envoy does not have either.
    pub(crate) fn build<'a>(
        chains: impl IntoIterator<Item = (&'a FilterChainMatch, Arc<Chain>)>,
        default: Option<Arc<Chain>>,
    ) -> Result<Self, String> {
        let mut index = Self {
            default,
            ..Self::default()
        };
        for (matches, chain) in chains {
            let names = match matches.destination_port {
                Some(port) => index.ports.entry(port).or_default(),
                None => index.any_port.get_or_insert_default(),
            };
            names.insert(matches, &chain)?;
        }
        Ok(index)
    }

    /// The chain for a connection to `port` of which `inspected` is known.
    pub(crate) fn choose(&self, port: u16, inspected: &Inspected) -> Option<&Arc<Chain>> {
        let names = self.ports.get(&port).or(self.any_port.as_ref());
        let chosen = names.and_then(|names| names.choose(inspected));
        chosen.or(self.default.as_ref())
    }
}

impl Names {
    fn insert(&mut self, matches: &FilterChainMatch, chain: &Arc<Chain>) -> Result<(), String> {
        if matches.server_names.is_empty() {
            return self.any.get_or_insert_default().insert(matches, chain);
        }
        for name in &matches.server_names {
            let transports = match name {
                HostPattern::Exact(host) => self.exact.entry(host.as_str().into()).or_default(),
                HostPattern::Suffix(suffix) if suffix.starts_with('.') => {
                    self.suffixes.entry((**suffix).into()).or_default()
                }
                HostPattern::Suffix(_) => return Err(partial_wildcard(name)),
                HostPattern::Any => self.any.get_or_insert_default(),
            };
            transports.insert(matches, chain)?;
        }
        Ok(())
    }

    fn choose(&self, inspected: &Inspected) -> Option<&Arc<Chain>> {
        let name = inspected.server_name.as_ref().map_or("", |name| name.as_str());
        let transports = self
            .exact
            .get(name)
            .or_else(|| self.by_suffix(name))
            .or(self.any.as_ref());
        transports?.choose(inspected)
    }

    fn by_suffix(&self, name: &str) -> Option<&Transports> {
        let dots = name.match_indices('.').skip_while(|(at, _)| *at == 0);
        dots.filter_map(|(at, _)| name.get(at..))
            .find_map(|suffix| self.suffixes.get(suffix))
    }
}

impl Transports {
    fn insert(&mut self, matches: &FilterChainMatch, chain: &Arc<Chain>) -> Result<(), String> {
        let protocols = match matches.transport {
            Some(Transport::Plaintext) => &mut self.plaintext,
            Some(Transport::Tls) => &mut self.tls,
            None => &mut self.any,
        };
        protocols.get_or_insert_default().insert(matches, chain)
    }

    fn choose(&self, inspected: &Inspected) -> Option<&Arc<Chain>> {
        let exact = match inspected.transport {
            Transport::Plaintext => &self.plaintext,
            Transport::Tls => &self.tls,
        };
        exact.as_ref().or(self.any.as_ref())?.choose(inspected)
    }
}

impl Protocols {
    fn insert(&mut self, matches: &FilterChainMatch, chain: &Arc<Chain>) -> Result<(), String> {
        if matches.application_protocols.is_empty() {
            return match self.any.replace(chain.clone()) {
                Some(other) => Err(duplicate(chain, &other)),
                None => Ok(()),
            };
        }
        for protocol in &matches.application_protocols {
            if let Some(other) = self.named.insert(protocol.as_str().into(), chain.clone()) {
                return Err(duplicate(chain, &other));
            }
        }
        Ok(())
    }

    fn choose(&self, inspected: &Inspected) -> Option<&Arc<Chain>> {
        let mut offered = inspected.protocols.iter();
        let named = offered.find_map(|protocol| self.named.get(protocol.as_str()));
        named.or(self.any.as_ref())
    }
}

fn duplicate(one: &Chain, other: &Chain) -> String {
    let name = |chain: &Chain| chain.name.as_deref().unwrap_or("without a name").to_owned();
    format!(
        "filter chains {} and {} match the same connections: make their filter_chain_match differ",
        name(other),
        name(one)
    )
}

fn partial_wildcard(name: &HostPattern) -> String {
    format!("server name {name} is not supported: a wildcard stands for whole labels, as in *.example.com")
}

#[cfg(test)]
mod tests {
    use mesh::host::Sni;

    use super::{
        super::{Chain, ChainId},
        *,
    };

    fn chain(name: &str) -> Arc<Chain> {
        Arc::new(Chain::for_tests(ChainId(0), name))
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

    fn index(chains: &[(&str, FilterChainMatch)], default: Option<&str>) -> Result<ChainIndex, String> {
        ChainIndex::build(
            chains.iter().map(|(name, matches)| (matches, chain(name))),
            default.map(chain),
        )
    }

    struct Asked<'a>(u16, &'a str, Transport, &'a [&'a str]);

    #[track_caller]
    fn check(index: &ChainIndex, Asked(port, name, transport, protocols): Asked<'_>, expect: Option<&str>) {
        let inspected = Inspected {
            transport,
            server_name: Sni::parse(name).ok(),
            protocols: protocols.iter().map(ToString::to_string).collect(),
        };
        let chosen = index.choose(port, &inspected).and_then(|chain| chain.name.as_deref());
        assert_eq!(chosen, expect);
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
        let index = index(&chains, None).unwrap();
        let mut ask = |name, expect| check(&index, Asked(443, name, Transport::Tls, &[]), Some(expect));
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
    fn without_a_match_the_default_chain_serves() {
        let chains = [("one", matching(None, &["a.test"], None, &[]))];
        check(
            &index(&chains, None).unwrap(),
            Asked(1, "b.test", Transport::Tls, &[]),
            None,
        );
        check(
            &index(&chains, Some("rest")).unwrap(),
            Asked(1, "b.test", Transport::Tls, &[]),
            Some("rest"),
        );
        check(&ChainIndex::default(), Asked(1, "", Transport::Plaintext, &[]), None);
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
        let index = index(&chains, Some("rest")).unwrap();
        let ask = |asked, expect| check(&index, asked, Some(expect));
        ask(Asked(15001, "a.test", Transport::Tls, &["h2"]), "port");
        ask(Asked(15001, "", Transport::Plaintext, &["h2c"]), "rest");
        ask(Asked(443, "a.test", Transport::Tls, &["istio", "h2"]), "name");
        ask(Asked(443, "a.test", Transport::Tls, &["http/1.1"]), "rest");
        ask(Asked(443, "b.test", Transport::Tls, &["h2"]), "tls");
        ask(Asked(80, "", Transport::Plaintext, &["h2c"]), "plain");
        ask(Asked(80, "", Transport::Plaintext, &[]), "rest");
    }

    #[test]
    fn the_clients_first_protocol_decides() {
        let chains = [
            ("h2", matching(None, &[], None, &["h2"])),
            ("h1", matching(None, &[], None, &["http/1.1"])),
            ("any", matching(None, &[], None, &[])),
        ];
        let index = index(&chains, None).unwrap();
        check(&index, Asked(1, "", Transport::Tls, &["http/1.1", "h2"]), Some("h1"));
        check(&index, Asked(1, "", Transport::Tls, &["spdy"]), Some("any"));
    }

    #[test]
    fn ambiguous_or_unsupported_matches_are_refused() {
        let same = [
            ("one", matching(None, &["a.test", "b.test"], None, &[])),
            ("two", matching(None, &["b.test"], None, &[])),
        ];
        let error = index(&same, None).err().unwrap();
        assert!(error.contains("one and two match the same connections"), "{error}");
        let error = index(&[("x", matching(None, &["*-a.test"], None, &[]))], None)
            .err()
            .unwrap();
        assert!(error.contains("*-a.test"), "{error}");
    }
}
