//! What a walk leaves behind in the access logs, without what differs from run to run.
//!
//! Whoever the proxies are, it is the same, line by line and field by field: it is in `lines.golden`.

use std::{env, fs, path::Path};

use sallyport::{
    demo::claim::Evidence,
    lab::log::{Field, Line},
};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/netns/lines.golden");
const ANY: &str = "*";
const FIELDS: [Field; 22] = [
    Field::StartTime,
    Field::Request,
    Field::Code,
    Field::Flags,
    Field::Details,
    Field::Termination,
    Field::TransportFailure,
    Field::BytesReceived,
    Field::BytesSent,
    Field::Duration,
    Field::ServiceTime,
    Field::ForwardedFor,
    Field::UserAgent,
    Field::RequestId,
    Field::Authority,
    Field::UpstreamHost,
    Field::Cluster,
    Field::UpstreamLocal,
    Field::Local,
    Field::Remote,
    Field::Sni,
    Field::Route,
];

/// The lines so far, by claim.
#[derive(Default)]
pub(crate) struct Record(String);

impl Record {
    pub(crate) fn add(&mut self, claim: &str, evidence: &Evidence) {
        self.0.push_str(&format!("# {claim}\n"));
        for (who, lines) in [("sidecar", &evidence.sidecar), ("gateway", &evidence.gateway)] {
            for line in lines {
                self.0.push_str(&format!("{who} {}\n", constant(line)));
            }
        }
    }

    /// Compares with the golden file, which UPDATE_GOLDEN=1 rewrites.
    #[track_caller]
    pub(crate) fn check(&self, what: &str) {
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(GOLDEN, &self.0).unwrap();
        }
        let golden = fs::read_to_string(GOLDEN).unwrap();
        let differs: Vec<_> = golden
            .lines()
            .zip(self.0.lines())
            .filter(|(expected, got)| expected != got)
            .map(|(expected, got)| format!("- {expected}\n+ {got}"))
            .collect();
        assert!(
            differs.is_empty(),
            "{what} log otherwise than {}:\n{}",
            Path::new(GOLDEN).display(),
            differs.join("\n")
        );
        assert_eq!(golden.lines().count(), self.0.lines().count(), "lines of {what}");
    }
}

/// A line with everything in it that another run, or another version of curl, would change.
fn constant(text: &str) -> String {
    let Some(line) = Line::parse(text) else {
        return format!("no line: {text}");
    };
    let is_tls = line.get(Field::Request).starts_with("- ") || line.get(Field::Request).starts_with("CONNECT ");
    let value = |field| {
        let value = line.get(field);
        match field {
            _ if value == "-" => value.to_owned(),
            Field::StartTime | Field::Duration | Field::ServiceTime | Field::RequestId | Field::UserAgent => {
                ANY.to_owned()
            }
            Field::UpstreamLocal | Field::Remote => without_port(value),
            // How long a TLS handshake is depends on its signatures.
            Field::BytesReceived | Field::BytesSent if is_tls && value != "0" => ANY.to_owned(),
            Field::Details | Field::TransportFailure => without_reason(value),
            _ => value.to_owned(),
        }
    };
    FIELDS.map(value).join(" | ")
}

/// Without the port, which the kernel chose.
fn without_port(address: &str) -> String {
    address
        .rsplit_once(':')
        .map_or_else(|| address.to_owned(), |(ip, _)| format!("{ip}:{ANY}"))
}

/// Why a certificate was not accepted is said in the words of the library that looked at it.
fn without_reason(details: &str) -> String {
    const REFUSED: &str = "CERTIFICATE_VERIFY_FAILED:";
    let cut = details
        .split_once(REFUSED)
        .and_then(|(before, rest)| Some((before, rest.rsplit_once(":TLS_error_end")?.1)));
    cut.map_or_else(
        || details.to_owned(),
        |(before, after)| format!("{before}{REFUSED}{ANY}:TLS_error_end{after}"),
    )
}
