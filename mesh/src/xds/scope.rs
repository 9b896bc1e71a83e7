//! Where decoding stands in a message, and the errors found so far.
//!
//! A [`Scope`] is a path made of borrowed steps: it costs nothing until an error is written. Errors are collected, not
//! thrown: a refused field leaves a [`Problem`] in the log, and whoever cannot go on returns [`Reported`], the proof that it
//! left one.

use std::{cell::RefCell, fmt, time::Duration};

use prost::{Message, Name};

use super::{
    error::{DecodeError, Problem},
    pb::protobuf,
    resource::ResourceType,
    support::Checked,
};

/// Proof that a problem was recorded.
#[derive(Debug)]
pub(crate) struct Reported(());

/// A decoded value, or the proof that its problem was recorded.
pub(crate) type Decoded<T> = Result<T, Reported>;

/// Problems reported of one resource; the rest is cut off.
const MAX_PROBLEMS: usize = 32;
/// Longest duration Envoy's protobuf validation takes, in seconds.
const MAX_SECONDS: u64 = 315_576_000_000;
/// Items of one repeated field.
const MAX_ITEMS: usize = 100_000;

type Log = RefCell<Vec<Problem>>;

/// A place in a message.
pub(crate) struct Scope<'a> {
    parent: Option<&'a Scope<'a>>,
    step: Step<'a>,
    log: &'a Log,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root(&'static str, &'a str),
    Field(&'a str),
    Index(&'a str, usize),
    Key(&'a str, &'a str),
}

/// Runs a decoder on one resource and returns its value only if nothing at all was reported.
pub(crate) fn decode_root<T>(
    resource_type: Option<ResourceType>,
    name: &str,
    decode: impl FnOnce(&Scope<'_>) -> Decoded<T>,
) -> Result<T, DecodeError> {
    let log = Log::default();
    let root = Scope {
        parent: None,
        step: Step::Root(resource_type.map_or("", ResourceType::path), name),
        log: &log,
    };
    let result = decode(&root);
    let problems = log.into_inner();
    match result {
        Ok(value) if problems.is_empty() => Ok(value),
        Ok(_) | Err(Reported(())) => Err(DecodeError {
            resource_type,
            name: name.to_owned(),
            problems,
        }),
    }
}

impl<'a> Scope<'a> {
    fn step(&'a self, step: Step<'a>) -> Self {
        Self {
            parent: Some(self),
            step,
            log: self.log,
        }
    }

    /// A field.
    pub(crate) fn field(&'a self, name: &'a str) -> Self {
        self.step(Step::Field(name))
    }

    /// An item of a repeated field.
    pub(crate) fn index(&'a self, name: &'a str, index: usize) -> Self {
        self.step(Step::Index(name, index))
    }

    /// A value of a map.
    pub(crate) fn key(&'a self, name: &'a str, key: &'a str) -> Self {
        self.step(Step::Key(name, key))
    }

    /// Records that `value` cannot be taken here, and what could.
    pub(crate) fn refuse(&self, value: impl fmt::Display, accepted: impl fmt::Display) -> Reported {
        let mut log = self.log.borrow_mut();
        if log.len() < MAX_PROBLEMS {
            log.push(Problem::new(self.to_string(), &value.to_string(), accepted.to_string()));
        }
        Reported(())
    }

    /// Records that a field must be set.
    pub(crate) fn missing(&self) -> Reported {
        self.refuse("not set", "required")
    }

    /// Refuses the fields of a message that we do not implement.
    pub(crate) fn check(&self, message: &impl Checked) {
        message.check(self);
    }

    /// Refuses a field that is not implemented, unless it is at its default.
    pub(crate) fn reject<T: Default + PartialEq>(&self, name: &'static str, value: &T, note: &'static str) {
        if *value != T::default() {
            let name = name.trim_start_matches("r#");
            let accepted = if note.is_empty() {
                "not supported, leave it unset"
            } else {
                note
            };
            self.field(name).refuse("set", accepted);
        }
    }

    /// The value of a field that must be set.
    pub(crate) fn required<'v, T>(&self, name: &'static str, value: &'v Option<T>) -> Decoded<&'v T> {
        value.as_ref().ok_or_else(|| self.field(name).missing())
    }

    /// Decodes every item of a repeated field, so that all of their problems are found.
    pub(crate) fn list<T, U>(
        &self,
        name: &'static str,
        items: &[T],
        decode: impl Fn(&Scope<'_>, &T) -> Decoded<U>,
    ) -> Decoded<Vec<U>> {
        if items.len() > MAX_ITEMS {
            return Err(self.field(name).refuse(
                format_args!("{} items", items.len()),
                format_args!("at most {MAX_ITEMS} are accepted"),
            ));
        }
        let decoded: Vec<_> = items
            .iter()
            .enumerate()
            .map(|(index, item)| decode(&self.index(name, index), item))
            .collect();
        decoded.into_iter().collect()
    }

    /// A value parsed from text by a fallible constructor.
    pub(crate) fn parse<T, E: fmt::Display>(&self, text: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Decoded<T> {
        parse(text).map_err(|error| self.refuse(format_args!("{text:?}"), error))
    }

    /// An enum value that envoy-types knows.
    pub(crate) fn enumeration<E: TryFrom<i32>>(&self, number: i32) -> Decoded<E> {
        E::try_from(number).map_err(|_| self.refuse(number, "not a value of this enum"))
    }

    /// A duration that is not negative.
    pub(crate) fn duration(&self, name: &'static str, value: &Option<protobuf::Duration>) -> Decoded<Option<Duration>> {
        let Some(value) = value else { return Ok(None) };
        let seconds = u64::try_from(value.seconds).ok().filter(|s| *s <= MAX_SECONDS);
        let nanos = u32::try_from(value.nanos).ok().filter(|n| *n < 1_000_000_000);
        match (seconds, nanos) {
            (Some(seconds), Some(nanos)) => Ok(Some(Duration::new(seconds, nanos))),
            _ => Err(self.field(name).refuse(
                format_args!("{} s {} ns", value.seconds, value.nanos),
                format_args!("a duration from 0 to {MAX_SECONDS} s"),
            )),
        }
    }

    /// A port.
    pub(crate) fn port(&self, name: &'static str, value: u32) -> Decoded<u16> {
        u16::try_from(value).map_err(|_| self.field(name).refuse(value, "a port, at most 65535"))
    }

    /// Refuses a switch that is on.
    pub(crate) fn off(&self, name: &'static str, value: Option<protobuf::BoolValue>) {
        if value.is_some_and(|value| value.value) {
            self.field(name).refuse("true", "only false is supported");
        }
    }

    /// The message inside an `Any` of a known type.
    pub(crate) fn unpack<M: Message + Name + Default>(&self, any: &protobuf::Any) -> Decoded<M> {
        if any.type_url != M::type_url() {
            return Err(self.field("@type").refuse(&any.type_url, M::type_url()));
        }
        self.bytes(&any.value)
    }

    /// A message from its bytes; prost bounds its nesting.
    pub(crate) fn bytes<M: Message + Default>(&self, bytes: &[u8]) -> Decoded<M> {
        M::decode(bytes).map_err(|error| self.refuse("malformed bytes", error))
    }
}

impl fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
            if !matches!(parent.step, Step::Root("", _)) {
                f.write_str(".")?;
            }
        }
        match self.step {
            Step::Root("", _) => Ok(()),
            Step::Root(kind, name) => write!(f, "{kind}[{name}]"),
            Step::Field(name) => f.write_str(name),
            Step::Index(name, index) => write!(f, "{name}[{index}]"),
            Step::Key(name, key) => write!(f, "{name}[{key}]"),
        }
    }
}
