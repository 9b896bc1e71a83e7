//! What a filesystem subscription reads: a file that holds a `DiscoveryResponse`, JSON or YAML, with resources of one type.
//!
//! Each resource is judged on its own, as over ADS. Invariant: a resource that cannot be taken is named with the reason and
//! hides no other. Stricter than Envoy: an unknown field is an error here too.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryResponse, Resource as Wrapper};
use prost::{Message, Name as _};
use serde_json::Value;

use super::{
    Any, Resource, ResourceType,
    ads::{MAX_RESOURCES, Name},
    json::{self, JsonError},
};

/// The resources of a file, by name; or, if the name cannot be read, by place (`resources[3]`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Contents {
    /// Each resource, or what is wrong with it.
    pub resources: BTreeMap<Name, Result<Resource, String>>,
}

/// Why a file is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It does not hold a `DiscoveryResponse`.
    #[error(transparent)]
    Text(#[from] JsonError),
    /// There is nothing in it.
    #[error("the file is empty; to have no resources, write `resources: []`")]
    Empty,
    /// More resources than we hold.
    #[error("the file has {0} resources, at most {MAX_RESOURCES} are accepted")]
    TooMany(usize),
}

impl Contents {
    /// Reads a file's text.
    ///
    /// # Errors
    /// Nothing in it can be taken.
    pub fn read(text: &str, kind: ResourceType) -> Result<Self, FileError> {
        let mut contents = Self::default();
        for (index, any) in resources(text)?.into_iter().enumerate() {
            let (name, resource) = match any {
                Ok((name, any)) => (
                    name,
                    Resource::decode(kind.type_url(), &any).map_err(|error| error.to_string()),
                ),
                Err((name, error)) => (name, Err(error)),
            };
            let name = match &resource {
                Ok(resource) => resource.name().into(),
                Err(_) => name.unwrap_or_else(|| format!("resources[{index}]").into()),
            };
            let twice = contents.resources.contains_key(&name);
            let resource = if twice {
                Err("the file has it twice".to_owned())
            } else {
                resource
            };
            contents.resources.insert(name, resource);
        }
        Ok(contents)
    }
}

/// A resource as a message, with its name if that can be seen from outside; or what is wrong with it.
pub type Parcel = Result<(Option<Name>, Any), (Option<Name>, String)>;

/// Reads a file's text as far as that goes without knowing what its resources are.
///
/// # Errors
/// It is not a `DiscoveryResponse`.
pub fn resources(text: &str) -> Result<Vec<Parcel>, FileError> {
    let _descriptors = json::Descriptors::hold();
    let mut value = match json::value(text)? {
        Value::Null => return Err(FileError::Empty),
        Value::Object(fields) if fields.is_empty() && text.trim().is_empty() => return Err(FileError::Empty),
        value => value,
    };
    let resources = match value.get_mut("resources").map(Value::take) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(resources)) => resources,
        Some(_) => return Err(JsonError::Syntax("resources: not a list".to_owned()).into()),
    };
    // What remains is checked like every message.
    json::from_value::<DiscoveryResponse>(value)?;
    if resources.len() > MAX_RESOURCES {
        return Err(FileError::TooMany(resources.len()));
    }
    Ok(resources.into_iter().map(parcel).collect())
}

fn parcel(value: Value) -> Parcel {
    let named = ["name", "cluster_name", "clusterName"].into_iter();
    let name = named
        .filter_map(|field| value.get(field)?.as_str())
        .next()
        .map(Name::from);
    match json::any_from_value(value)
        .map_err(|error| error.to_string())
        .and_then(unwrap)
    {
        Ok(any) => Ok((name, any)),
        Err(reason) => Err((name, reason)),
    }
}

/// A resource may come in the wrapper of the incremental protocol.
fn unwrap(any: Any) -> Result<Any, String> {
    if any.type_url != Wrapper::type_url() {
        return Ok(any);
    }
    let wrapper = Wrapper::decode(any.value.as_slice()).map_err(|error| error.to_string())?;
    if wrapper.ttl.is_some() {
        return Err("ttl is not supported, a resource stays until it is removed".to_owned());
    }
    wrapper.resource.ok_or_else(|| "resource is not set".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

    fn read(text: &str) -> Result<Vec<(String, Option<String>)>, String> {
        let contents = Contents::read(text, ResourceType::Cluster).map_err(|error| error.to_string())?;
        let judged = contents.resources.into_iter();
        Ok(judged
            .map(|(name, resource)| (name.to_string(), resource.err()))
            .collect())
    }

    fn cluster(fields: &str) -> String {
        format!("- {{\"@type\": {CLUSTER}, type: STATIC, {fields}}}\n")
    }

    fn file(resources: &[&str]) -> String {
        format!("version_info: '7'\nresources:\n{}", resources.concat())
    }

    #[test]
    fn every_resource_is_judged_on_its_own() {
        let [good, bad] = [
            cluster("name: a, load_assignment: {cluster_name: a}"),
            cluster("name: b, lb_policy: MAGLEV"),
        ];
        let judged = read(&file(&[
            &good,
            &bad,
            &cluster("nam: c"),
            &cluster("name: d, lb_polic: X"),
        ]))
        .unwrap();
        let [a, b, unnamed, d] = &judged[..] else {
            panic!("{judged:?}")
        };
        assert_eq!(*a, ("a".to_owned(), None));
        assert!(
            b.0 == "b" && b.1.as_ref().unwrap().contains("lb_policy: MAGLEV"),
            "{b:?}"
        );
        assert!(
            d.0 == "resources[2]" && d.1.as_ref().unwrap().contains("'nam'"),
            "{d:?}"
        );
        assert!(
            unnamed.0 == "d" && unnamed.1.as_ref().unwrap().contains("'lb_polic'"),
            "{unnamed:?}"
        );
    }

    #[test]
    fn a_resource_may_be_wrapped() {
        let wrapped = |more: &str| {
            let inner =
                format!("{{\"@type\": {CLUSTER}, type: STATIC, name: a, load_assignment: {{cluster_name: a}}}}");
            file(&[&format!(
                "- {{\"@type\": type.googleapis.com/envoy.service.discovery.v3.Resource, name: a, resource: {inner}{more}}}\n"
            )])
        };
        assert_eq!(read(&wrapped("")).unwrap(), [("a".to_owned(), None)]);
        assert!(
            read(&wrapped(", ttl: 1s")).unwrap()[0]
                .1
                .as_ref()
                .unwrap()
                .starts_with("ttl is not supported")
        );
    }

    #[test]
    fn a_name_is_there_once_and_of_the_right_type() {
        let a = cluster("name: a, load_assignment: {cluster_name: a}");
        assert_eq!(
            read(&file(&[&a, &a])).unwrap(),
            [("a".to_owned(), Some("the file has it twice".to_owned()))]
        );
        let listener = file(&["- {\"@type\": type.googleapis.com/envoy.config.listener.v3.Listener, name: l}\n"]);
        let judged = read(&listener).unwrap();
        assert!(judged[0].1.as_ref().unwrap().contains("@type"), "{judged:?}");
    }

    #[test]
    fn a_file_that_is_no_response_is_refused_as_a_whole() {
        for (text, expect) in [
            ("", "the file is empty"),
            ("   \n", "the file is empty"),
            ("resources: {a: b}", "resources: not a list"),
            ("resource: []", "unrecognized field name 'resource'"),
            ("resources: [", ""),
            ("[]", ""),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expect), "{text:?}: {error}");
        }
        assert_eq!(read("resources: []").unwrap(), []);
        assert_eq!(read("{}").unwrap(), []);
    }
}
