//! The proxies of the tutorial: who each of them is.

use std::net::IpAddr;

use mesh::xds::{
    bootstrap::Node,
    proxy::{Interception, Pod, Role},
};

use super::cluster;

/// Who a proxy is.
pub(super) struct Part {
    pub(super) role: Role,
    pub(super) name: &'static str,
    pub(super) namespace: &'static str,
    pub(super) service_account: &'static str,
    pub(super) labels: &'static [(&'static str, &'static str)],
    pub(super) address: IpAddr,
}

const SIDECAR: Role = Role::Sidecar {
    interception: Interception::Redirect,
    http_proxy_port: Some(cluster::EXPLICIT_PROXY.port()),
};

pub(super) const GATEWAY: Part = Part {
    role: Role::Gateway,
    name: "istio-egressgateway-754d9684d5-jjkdz",
    namespace: "istio-egress",
    service_account: "istio-egressgateway-service-account",
    labels: &[("app", "istio-egressgateway"), ("istio", "egressgateway")],
    address: cluster::GATEWAY,
};
pub(super) const TEAM_X: Part = Part {
    role: SIDECAR,
    name: "test-d5bdf6f4f-9nxfv",
    namespace: "team-x",
    service_account: "test",
    labels: &[("app", "test")],
    address: cluster::TEAM_X,
};
pub(super) const TEAM_Y: Part = Part {
    role: SIDECAR,
    name: "test-d5bdf6f4f-x2k8m",
    namespace: "team-y",
    service_account: "test",
    labels: &[("app", "test")],
    address: cluster::TEAM_Y,
};

impl Part {
    /// What control knows the proxy by.
    pub(super) fn node(&self) -> Node {
        self.pod().node(self.role)
    }

    /// Where it runs.
    pub(super) fn pod(&self) -> Pod {
        let labels = self
            .labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Pod {
            name: self.name.to_owned(),
            namespace: self.namespace.to_owned(),
            service_account: self.service_account.to_owned(),
            labels: labels.collect(),
            address: self.address,
        }
    }
}
