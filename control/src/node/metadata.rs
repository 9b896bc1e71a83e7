//! The keys of a node's metadata that matter here.

use std::collections::BTreeMap;

use super::{Interception, IpAddr, NodeError, Value, ads, field};

/// What metadata says.
#[derive(Default)]
pub(super) struct Metadata {
    pub(super) namespace: Option<String>,
    pub(super) service_account: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) ips: Vec<IpAddr>,
    pub(super) interception: Interception,
    pub(super) http_proxy_port: Option<u16>,
}

/// Labels and addresses of one node.
const MAX_ENTRIES: usize = 256;

impl Metadata {
    /// Reads `metadata` of the node `id`.
    pub(super) fn parse(id: &str, metadata: Option<&ads::Struct>) -> Result<Self, NodeError> {
        let Some(metadata) = metadata else {
            return Ok(Self::default());
        };
        let reader = Reader { id, metadata };
        Ok(Self {
            namespace: reader.text("NAMESPACE")?,
            service_account: reader.text("SERVICE_ACCOUNT")?.unwrap_or_default(),
            labels: reader.labels()?,
            ips: reader.ips()?,
            interception: reader.interception()?,
            http_proxy_port: reader.port()?,
        })
    }
}

struct Reader<'a> {
    id: &'a str,
    metadata: &'a ads::Struct,
}

impl Reader<'_> {
    fn value(&self, key: &str) -> Value {
        ads::json_of(self.metadata.fields.get(key))
    }

    fn refuse(&self, key: &'static str, value: &Value, accepted: &'static str) -> NodeError {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        field(self.id, key, value.chars().take(256).collect::<String>(), accepted)
    }

    fn text(&self, key: &'static str) -> Result<Option<String>, NodeError> {
        match self.value(key) {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text)),
            value => Err(self.refuse(key, &value, "a string is required")),
        }
    }

    fn labels(&self) -> Result<BTreeMap<String, String>, NodeError> {
        const ACCEPTED: &str = "at most 256 pairs of strings are accepted";
        let value = self.value("LABELS");
        let labels = match &value {
            Value::Null => return Ok(BTreeMap::new()),
            Value::Object(labels) if labels.len() <= MAX_ENTRIES => labels,
            _ => return Err(self.refuse("LABELS", &value, ACCEPTED)),
        };
        let pairs = labels
            .iter()
            .map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        pairs
            .collect::<Option<_>>()
            .ok_or_else(|| self.refuse("LABELS", &value, ACCEPTED))
    }

    fn ips(&self) -> Result<Vec<IpAddr>, NodeError> {
        let Some(text) = self.text("INSTANCE_IPS")?.filter(|text| !text.is_empty()) else {
            return Ok(Vec::new());
        };
        let ips = text
            .split(',')
            .take(MAX_ENTRIES)
            .map(str::parse)
            .collect::<Result<_, _>>();
        ips.map_err(|_| {
            self.refuse(
                "INSTANCE_IPS",
                &Value::String(text),
                "IP addresses separated by commas are required",
            )
        })
    }

    fn interception(&self) -> Result<Interception, NodeError> {
        match self.text("INTERCEPTION_MODE")?.as_deref() {
            None | Some("" | "REDIRECT") => Ok(Interception::Redirect),
            Some("NONE") => Ok(Interception::None),
            Some(other) => Err(self.refuse(
                "INTERCEPTION_MODE",
                &other.into(),
                "only REDIRECT and NONE are supported",
            )),
        }
    }

    /// Istio writes numbers as strings here.
    fn port(&self) -> Result<Option<u16>, NodeError> {
        const KEY: &str = "HTTP_PROXY_PORT";
        let value = self.value(KEY);
        let number = match &value {
            Value::Null => return Ok(None),
            Value::String(text) => text.parse().ok(),
            // Protobuf knows floating-point numbers only.
            value => value.as_f64().and_then(|number| format!("{number}").parse().ok()),
        };
        match number {
            Some(port @ 1..) => Ok(Some(port)),
            Some(0) | None => Err(self.refuse(KEY, &value, "a port from 1 to 65535 is required")),
        }
    }
}

#[cfg(test)]
pub(in crate::node) mod tests {
    use super::{Value, ads};

    /// A JSON object as protobuf has it.
    pub(in crate::node) fn to_struct(value: &Value) -> ads::Struct {
        ads::struct_of(value.as_object().unwrap())
    }
}
