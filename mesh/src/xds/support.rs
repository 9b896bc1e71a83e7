//! The table of what xDS-lite supports, ignores and rejects: every field of every message we read.
//!
//! The `messages!` macro makes a message's row of the table and its check from the same lines. The check destructures the
//! message exhaustively, so a field that is new in envoy-types does not compile until somebody decided about it.

use std::fmt::Write as _;

use super::{decode, scope::Scope};

/// A message we read.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    /// Its full name: `envoy.config.cluster.v3.Cluster`.
    pub name: fn() -> String,
    /// All of its fields; a oneof counts as one.
    pub fields: &'static [Field],
}

/// A field of a message.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name in the proto file.
    pub name: &'static str,
    /// What becomes of it.
    pub status: Status,
    /// Which of its values are supported, why it is ignored, or what to use instead.
    pub note: &'static str,
}

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Read and acted upon; values that are not supported are errors.
    Supported,
    /// Read over, for the reason given.
    Ignored,
    /// An error unless it is at its default.
    Rejected,
}

/// An extension that is accepted by its type and changes nothing here.
#[derive(Debug, Clone, Copy)]
pub struct IgnoredExtension {
    /// Full name of its configuration message.
    pub message: &'static str,
    /// Why leaving it out is right.
    pub reason: &'static str,
}

/// A message that can refuse the fields we do not implement.
pub(crate) trait Checked {
    /// Reports every rejected field that is set.
    fn check(&self, scope: &Scope<'_>);
}

/// Declares messages: the table rows and the checks.
macro_rules! messages {
    ($(#[$doc:meta])* $table:ident: $(
        $message:ty {
            $(supported { $($supported:ident $(= $supported_note:literal)?),* $(,)? })?
            $(ignored { $($ignored:ident = $ignored_note:literal),* $(,)? })?
            $(rejected { $($rejected:ident $(= $rejected_note:literal)?),* $(,)? })?
        }
    )*) => {
        $(#[$doc])*
        pub(crate) const $table: &[crate::xds::support::Message] = &[$(crate::xds::support::Message {
            name: <$message as prost::Name>::full_name,
            fields: &[
                $($(crate::xds::support::Field {
                    name: stringify!($supported),
                    status: crate::xds::support::Status::Supported,
                    note: concat!("" $(, $supported_note)?),
                },)*)?
                $($(crate::xds::support::Field {
                    name: stringify!($ignored),
                    status: crate::xds::support::Status::Ignored,
                    note: $ignored_note,
                },)*)?
                $($(crate::xds::support::Field {
                    name: stringify!($rejected),
                    status: crate::xds::support::Status::Rejected,
                    note: concat!("" $(, $rejected_note)?),
                },)*)?
            ],
        }),*];
        $(
            // Deprecated fields are fields too: they must be listed and checked.
            #[allow(deprecated)]
            impl crate::xds::support::Checked for $message {
                fn check(&self, scope: &crate::xds::scope::Scope<'_>) {
                    let Self { $($($supported: _,)*)? $($($ignored: _,)*)? $($($rejected,)*)? } = self;
                    let _ = scope;
                    $($(scope.reject(stringify!($rejected), $rejected, concat!("" $(, $rejected_note)?));)*)?
                }
            }
        )*
    };
}
pub(crate) use messages;

/// Every message we read, by file of declaration.
pub const MESSAGES: &[&[Message]] = &[
    decode::LISTENER,
    decode::HTTP,
    decode::TCP,
    decode::ROUTE,
    decode::CLUSTER,
    decode::DNS,
    decode::ENDPOINT,
    decode::TLS,
    decode::SECRET,
    decode::RBAC,
    decode::LOG,
    decode::MATCHER,
    decode::COMMON,
    decode::BOOTSTRAP,
];

/// Filters and other extensions that are accepted and left out.
pub const IGNORED_EXTENSIONS: &[&[IgnoredExtension]] = &[
    decode::IGNORED_NETWORK_FILTERS,
    decode::IGNORED_HTTP_FILTERS,
    decode::IGNORED_BOOTSTRAP_EXTENSIONS,
];

/// The table as a Markdown document.
pub fn render() -> String {
    let mut out = String::from(INTRODUCTION);
    render_extensions(&mut out);
    for message in MESSAGES.iter().copied().flatten() {
        render_message(&mut out, message);
    }
    out
}

const INTRODUCTION: &str = "\
# xDS-lite

What Sallyport reads of Envoy's v3 xDS, field by field. This file is generated from the tables in `mesh/src/xds/`; run
`UPDATE_GOLDEN=1 cargo test -p mesh the_document_is_current` after a change.

* **supported**: read and acted upon. A value that is not supported is an error that names the field and what is accepted.
* **ignored**: read over, for the reason given.
* **rejected**: an error (a NACK, over ADS) unless the field is at its default.

A message that is not listed is rejected wherever it could appear. A oneof is listed under its own name, with its supported
cases.

";

fn render_extensions(out: &mut String) {
    out.push_str("## Filters and extensions that are accepted and left out\n\n| Configuration | Reason |\n|---|---|\n");
    for extension in IGNORED_EXTENSIONS.iter().copied().flatten() {
        let _ = writeln!(out, "| `{}` | {} |", extension.message, extension.reason);
    }
}

fn render_message(out: &mut String, message: &Message) {
    let _ = write!(
        out,
        "\n## {}\n\n| Field | Status | Note |\n|---|---|---|\n",
        (message.name)()
    );
    for field in message.fields {
        let _ = writeln!(
            out,
            "| `{}` | {} | {} |",
            field.proto_name(),
            field.status.as_str(),
            field.note
        );
    }
}

impl Field {
    /// The name without Rust's escape.
    pub fn proto_name(&self) -> &'static str {
        self.name.trim_start_matches("r#")
    }
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Ignored => "ignored",
            Self::Rejected => "rejected",
        }
    }
}
