//! The format of a case: one file, one question that is put to Envoy and to us.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::frames::Frame;

/// A case.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// What is asked, in one sentence.
    pub(crate) about: String,
    /// The listener that the clients connect to.
    #[serde(default)]
    pub(crate) listener: Shape,
    /// Istio's objects, in place of all that follows down to the upstreams.
    pub(crate) istio: Option<Istio>,
    /// Merged into the listener.
    #[serde(default)]
    pub(crate) socket: Value,
    /// Merged into the HTTP connection manager.
    #[serde(default)]
    pub(crate) http: Value,
    /// Routes of a virtual host for every domain. Default: everything to the cluster `upstream`.
    pub(crate) routes: Option<Vec<Value>>,
    /// Virtual hosts, in place of `routes`.
    pub(crate) virtual_hosts: Option<Vec<Value>>,
    /// Merged into the route configuration.
    #[serde(default)]
    pub(crate) route_config: Value,
    /// RBAC filters, in order.
    #[serde(default)]
    pub(crate) rbac: Vec<Value>,
    /// Merged into the downstream TLS context.
    #[serde(default)]
    pub(crate) tls: Value,
    /// Filter chains of a TCP listener. Default: one, to the cluster `upstream`.
    pub(crate) chains: Option<Vec<Chain>>,
    /// Merged into the clusters, of which there is one for each upstream.
    #[serde(default)]
    pub(crate) clusters: BTreeMap<String, Value>,
    /// Operators to log beside the usual ones.
    #[serde(default)]
    pub(crate) log: Vec<String>,
    /// The log's format, as `core.SubstitutionFormatString`, instead of one JSON member for each operator; `{}` is Envoy's default.
    pub(crate) log_format: Option<Value>,
    /// Words of a text line, counted from 0 and separated by blanks, of which only the shape is compared: times, ids.
    #[serde(default)]
    pub(crate) varying: Vec<usize>,
    /// Names that can be resolved.
    #[serde(default)]
    pub(crate) names: BTreeMap<String, Name>,
    /// Upstreams by name. Default: one of the name `upstream`.
    #[serde(default)]
    pub(crate) upstreams: BTreeMap<String, Upstream>,
    /// Connections that clients make, one after the other.
    pub(crate) client: Vec<Connection>,
    /// What Envoy must do, and ours with it unless `deliberate` says otherwise; a case that shows nothing is no case.
    pub(crate) expect: Expect,
    /// Differences that we mean.
    #[serde(default)]
    pub(crate) deliberate: Vec<Deliberate>,
}

/// A kind of listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Shape {
    /// HTTP in plaintext.
    #[default]
    Http,
    /// HTTP behind mutual TLS, as control configures a gateway's port.
    Mtls,
    /// TCP; connections are told apart by SNI if chains say so.
    Tcp,
}

/// What Istio's objects make of the tutorial's gateway.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Istio {
    /// Files below `examples`.
    #[serde(default)]
    pub(crate) examples: Vec<String>,
    /// More objects, as YAML.
    #[serde(default)]
    pub(crate) objects: String,
    /// The gateway's port whose listener is asked.
    pub(crate) port: u16,
    /// The upstream that stands at `host:port`.
    #[serde(default)]
    pub(crate) upstreams: BTreeMap<String, String>,
}

/// A filter chain of a TCP listener.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chain {
    /// `filter_chain_match`.
    #[serde(default, rename = "match")]
    pub(crate) matches: Value,
    /// RBAC filters, in order.
    #[serde(default)]
    pub(crate) rbac: Vec<Value>,
    /// Merged into the TCP proxy, whose cluster is `upstream` unless it says otherwise.
    #[serde(default)]
    pub(crate) tcp: Value,
    /// Merged into the filter chain.
    #[serde(default)]
    pub(crate) chain: Value,
}

/// What a name resolves to: addresses, or what the name server says instead.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Name {
    Addresses(Vec<std::net::Ipv4Addr>),
    Failure(Failure),
}

/// An answer without addresses.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Failure {
    Nxdomain,
    Servfail,
    Empty,
}

/// A server beyond the proxy.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Upstream {
    #[serde(default)]
    pub(crate) protocol: Protocol,
    /// It speaks TLS.
    pub(crate) tls: Option<UpstreamTls>,
    /// What it answers, request by request; the last one again and again. Default: 200 and a short text.
    #[serde(default)]
    pub(crate) replies: Vec<Reply>,
    /// Nothing listens.
    #[serde(default)]
    pub(crate) absent: bool,
    /// It listens and accepts nothing, and its queue is full: a connection never comes about.
    #[serde(default)]
    pub(crate) deaf: bool,
    /// Waits until the proxy has closed every connection, and tells how.
    #[serde(default)]
    pub(crate) watch_end: bool,
}

/// What an upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    #[default]
    H1,
    H2,
    /// Bytes. Each connection runs through the first reply's steps.
    Raw,
}

/// TLS of an upstream.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamTls {
    /// Which certificate it shows: a site or an identity of the setting. Default: `site`.
    pub(crate) site: Option<String>,
    /// Protocols it offers. Default: none.
    #[serde(default)]
    pub(crate) alpn: Vec<String>,
    /// Asks for a client certificate.
    #[serde(default)]
    pub(crate) asks: Asks,
    /// Newest version it speaks: `1.2` or `1.3`.
    pub(crate) max_version: Option<String>,
    /// Oldest version it speaks: `1.2` or `1.3`.
    pub(crate) min_version: Option<String>,
}

/// Whether a server asks for a client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Asks {
    #[default]
    No,
    Optional,
    Required,
}

/// What an upstream does with a request.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Reply {
    /// HTTP/1.1, after the whole request: a head with LF line ends, an empty line, a body.
    Text(String),
    /// Step by step.
    Steps {
        steps: Vec<Step>,
        /// Begins after the request's head.
        #[serde(default)]
        early: bool,
    },
    /// HTTP/2.
    Message(Box<Message>),
}

/// A step of a peer that speaks bytes.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Step {
    /// Sends these bytes.
    Send(String),
    /// Sends bytes given in hexadecimal, blanks between them ignored.
    Hex(String),
    /// Sends this text that many times, for long bodies.
    Repeat { text: String, times: usize },
    /// Sends the bytes in pieces of `size`, each in a segment of its own.
    Dribble { text: String, size: usize },
    /// Sends a `ClientHello` that is made by hand.
    Hello(CraftedHello),
    /// Begins HTTP/2 as a client, with these settings.
    Preface(Vec<(u16, u32)>),
    /// Begins HTTP/2 as a server: reads the client's preface, sends these settings.
    Serve(Vec<(u16, u32)>),
    /// Sends HTTP/2 frames.
    Frames(Vec<Frame>),
    /// Reads HTTP/2 frames until these streams or the connection have ended, and tells what came.
    Streams(Vec<u32>),
    /// Reads so many bytes and tells them.
    Read(usize),
    /// Reads a response to a request with this method.
    Response(String),
    /// Waits: milliseconds of time that is part of the question.
    Wait(u64),
    /// Ends its direction.
    HalfClose,
    /// Reads until the peer ends its direction, and tells what came and how it ended.
    Eof,
    /// Tells whether the peer has ended the connection after so many milliseconds.
    EndWithin(u64),
    /// Closes.
    Close,
    /// Resets.
    Reset,
}

/// A `ClientHello` made by hand: well formed, and no handshake will follow.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CraftedHello {
    /// The server name, as it is. Default: none.
    pub(crate) sni: Option<String>,
    #[serde(default)]
    pub(crate) alpn: Vec<String>,
    /// A padding extension of so many bytes.
    pub(crate) padding: Option<usize>,
    /// Written in TLS records of so many bytes.
    pub(crate) records: Option<usize>,
    /// Written in segments of so many bytes.
    pub(crate) segments: Option<usize>,
}

/// A request or response over HTTP/2.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Message {
    /// Pseudo-headers of a request; `GET`, `http`, `site.test` and `/` unless they say otherwise.
    pub(crate) method: Option<String>,
    pub(crate) scheme: Option<String>,
    pub(crate) authority: Option<String>,
    pub(crate) path: Option<String>,
    /// Status of a response. Default: 200.
    pub(crate) status: Option<u16>,
    #[serde(default)]
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<String>,
    /// A body of so many bytes instead.
    pub(crate) bytes: Option<usize>,
    #[serde(default)]
    pub(crate) trailers: Vec<(String, String)>,
    /// Resets the stream with this code after what is sent.
    pub(crate) reset: Option<String>,
    /// Milliseconds before a request, if it is one of several at once.
    pub(crate) after: Option<u64>,
    /// Milliseconds between head and body.
    pub(crate) pause: Option<u64>,
    /// Never ends the stream.
    #[serde(default)]
    pub(crate) unfinished: bool,
    /// Ends the whole connection instead of answering.
    #[serde(default)]
    pub(crate) close: bool,
}

/// A connection of a client, and what is done on it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connection {
    /// What names resolve to from now on, before anything else.
    #[serde(default)]
    pub(crate) names: BTreeMap<String, Name>,
    /// TLS, to the listener or through it.
    pub(crate) tls: Option<ClientTls>,
    /// HTTP/1.1 requests, each with its response before the next. Text as in [`Reply::Text`].
    #[serde(default)]
    pub(crate) h1: Vec<String>,
    /// HTTP/2 requests, each with its response before the next.
    #[serde(default)]
    pub(crate) h2: Vec<Message>,
    /// HTTP/2 requests at once, on one connection.
    #[serde(default)]
    pub(crate) together: Vec<Message>,
    /// Bytes, before anything else.
    #[serde(default)]
    pub(crate) steps: Vec<Step>,
    /// So many connections like this one, one after the other.
    pub(crate) times: Option<usize>,
}

/// TLS of a client.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientTls {
    /// Whose certificate it shows. Default: `team-x`; `nobody` shows none.
    pub(crate) identity: Option<String>,
    /// Default: `site.test`; empty sends none.
    pub(crate) sni: Option<String>,
    #[serde(default)]
    pub(crate) alpn: Vec<String>,
    /// Only this version: `1.2` or `1.3`.
    pub(crate) version: Option<String>,
    /// Only these cipher suites, in the TLS library's names.
    #[serde(default)]
    pub(crate) ciphers: Vec<String>,
    /// Only these key exchange groups.
    #[serde(default)]
    pub(crate) groups: Vec<String>,
    /// Writes the hello in segments of so many bytes.
    pub(crate) segments: Option<usize>,
    /// Milliseconds between segments. Default: just enough for each to travel alone.
    pub(crate) pause: Option<u64>,
    /// Writes the hello in TLS records of so many bytes.
    pub(crate) records: Option<usize>,
    /// May resume the session of the connection before.
    #[serde(default)]
    pub(crate) resume: bool,
}

/// What Envoy must do. Ours is compared with it, so that it must do the same unless a difference is meant.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    /// The status of each response, in order.
    pub(crate) status: Option<Vec<u16>>,
    /// Lines in the access log. Default: one for each response that was asked for.
    pub(crate) log: Option<usize>,
    /// Values by path in what was observed of Envoy.
    #[serde(default)]
    pub(crate) at: BTreeMap<String, Value>,
    /// The share of requests that each upstream gets, least and most. Only this and the statuses are compared then.
    #[serde(default)]
    pub(crate) shares: BTreeMap<String, (f64, f64)>,
}

/// A difference that we mean.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deliberate {
    /// Where: a path in what was observed, or the beginning of several, ending in `*`.
    pub(crate) at: String,
    /// What Envoy has there, if that is to be held.
    pub(crate) envoy: Option<Value>,
    /// What we have there, if that is to be held.
    pub(crate) ours: Option<Value>,
    /// Why.
    pub(crate) because: String,
    /// Where that is explained: a file of the tree, with a section if need be.
    pub(crate) see: String,
}

/// A case with its name: area and file.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) area: String,
    pub(crate) name: String,
    pub(crate) case: Case,
}

/// Where cases are.
pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("parity")
}

/// Reads every case, in order of their names.
///
/// # Errors
/// A file is not a case; every wrong file is named.
pub(crate) fn all() -> Result<Vec<Named>, Vec<String>> {
    let (mut cases, mut wrong) = (Vec::new(), Vec::new());
    for area in entries(&directory()) {
        for file in entries(&area) {
            match read(&file) {
                Ok(case) => cases.push(Named {
                    area: stem(&area),
                    name: stem(&file),
                    case,
                }),
                Err(error) => wrong.push(format!("{}: {error}", file.display())),
            }
        }
    }
    if wrong.is_empty() { Ok(cases) } else { Err(wrong) }
}

fn read(file: &Path) -> Result<Case, String> {
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let tree = mesh::xds::json::value(&text).map_err(|error| error.to_string())?;
    let case: Case = serde_path_to_error::deserialize(tree).map_err(|error| error.to_string())?;
    let expect = &case.expect;
    if expect.status.is_none() && expect.at.is_empty() && expect.shares.is_empty() {
        return Err("expect: nothing is expected, so nothing is shown".to_owned());
    }
    Ok(case)
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let read = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = read.map(|entry| entry.expect("a readable entry").path()).collect();
    paths.sort();
    paths
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

impl Case {
    /// Its upstreams, of which there is at least one.
    pub(crate) fn upstreams(&self) -> BTreeMap<String, Upstream> {
        if self.upstreams.is_empty() {
            return BTreeMap::from([("upstream".to_owned(), Upstream::default())]);
        }
        self.upstreams.clone()
    }

    /// Lines that will be in the access log.
    pub(crate) fn log_lines(&self) -> usize {
        self.expect
            .log
            .unwrap_or_else(|| self.client.iter().map(Connection::answers).sum())
    }
}

impl Connection {
    /// Log lines that follow from it: one for each response asked for.
    fn answers(&self) -> usize {
        let read = |step: &Step| match step {
            Step::Response(_) => 1,
            Step::Streams(streams) => streams.len(),
            _ => 0,
        };
        let read: usize = self.steps.iter().map(read).sum();
        let asked = self.h1.len() + self.h2.len() + self.together.len() + read;
        asked * self.times.unwrap_or(1)
    }
}

/// What stands for a member that is to be taken away.
const ABSENT: &str = "{{absent}}";

/// Merges objects member by member; anything else replaces what was there, and `{{absent}}` takes it away.
pub(crate) fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (_, Value::Null) => {}
        (Value::Object(into), Value::Object(from)) => merge_members(into, from),
        (into, from) => *into = from.clone(),
    }
}

fn merge_members(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (name, value) in from {
        if value == ABSENT {
            into.remove(name);
        } else {
            merge(into.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}
