//! Puts a case to both proxies and compares what they did.

use std::{collections::BTreeMap, env, fmt::Write as _, sync::OnceLock};

use sallyport::lab::dns::{Answer, NameServer, Zone};
use serde_json::{Value, json};

use crate::{
    case::{Case, Deliberate, Failure, Name, Named},
    client,
    config::{self, Places},
    istio,
    observation::{self, Flat},
    proxy::{Kind, Proxy},
    setting::Setting,
    tls::Client,
    upstream::Upstreams,
};

/// One for all: keys are slow to make.
static SETTING: OnceLock<Setting> = OnceLock::new();

/// What the cases share, made when it is first asked for.
pub(crate) fn setting() -> &'static Setting {
    SETTING.get_or_init(Setting::new)
}

/// Runs a case. The error says where the two differ, or what neither did.
pub(crate) fn case(named: &Named) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let envoy = runtime.block_on(observe(named, Kind::Envoy))?;
    let ours = runtime.block_on(observe(named, Kind::Ours))?;
    judge(&named.case, &envoy, &ours)
}

/// Runs in which the system gives one address to two connections, one after the other, before that is no chance any more.
const TRIES: usize = 3;

async fn observe(named: &Named, kind: Kind) -> Result<Value, String> {
    for _ in 0..TRIES {
        if let Some(observed) = observe_once(named, kind).await? {
            return Ok(observed);
        }
    }
    Err(format!("in {TRIES} runs two connections had the same address"))
}

async fn observe_once(named: &Named, kind: Kind) -> Result<Option<Value>, String> {
    let setting = setting();
    let case = &named.case;
    let scratch = setting.scratch(&format!("{}-{}-{kind:?}", named.area, named.name));
    let names = name_server(&case.names).await?;
    let upstreams = Upstreams::start(case.upstreams(), setting)
        .await
        .map_err(|error| error.to_string())?;
    let addresses = upstreams.addresses();
    let log = scratch.join("access.log");
    let places = Places {
        upstreams: &addresses,
        names: names.address(),
        pki: setting.path(),
        log: &log,
    };
    let config = match &case.istio {
        Some(objects) => istio::bootstrap(case, objects, &places)?,
        None => config::bootstrap(case, &places),
    };
    let proxy = match Proxy::start(kind, &config, &scratch, log.clone()).await {
        Ok(proxy) => proxy,
        Err(refused) => return Ok(Some(json!({"refused": refused}))),
    };
    let listener = proxy.address.to_string();
    let client = client::run(&case.client, proxy.address, &Client::new(setting), names.zone()).await;
    proxy.logged(case.log_lines()).await;
    let seen = upstreams.told().await;
    let mut log = proxy.stop().await;
    for line in &mut log {
        if let Value::String(text) = line {
            *text = observation::without_varying(text, &case.varying);
        }
    }
    let observed = json!({"client": client, "upstreams": seen, "log": log});
    let addresses: Vec<_> = addresses
        .into_iter()
        .map(|(name, address)| (name, address.to_string()))
        .collect();
    Ok(observation::comparable(observed, &listener, &addresses))
}

async fn name_server(names: &BTreeMap<String, Name>) -> Result<NameServer, String> {
    let server = NameServer::start().await.map_err(|error| error.to_string())?;
    resolve(names, server.zone());
    Ok(server)
}

/// Lets names resolve to something from now on.
pub(crate) fn resolve(names: &BTreeMap<String, Name>, zone: &Zone) {
    for (name, answer) in names {
        let answer = match answer {
            Name::Addresses(addresses) => Answer::Addresses(addresses.clone()),
            Name::Failure(Failure::Nxdomain) => Answer::NxDomain,
            Name::Failure(Failure::Servfail) => Answer::ServerFailure,
            Name::Failure(Failure::Empty) => Answer::Empty,
        };
        zone.set(name, answer);
    }
}

fn judge(case: &Case, envoy: &Value, ours: &Value) -> Result<(), String> {
    if !case.expect.shares.is_empty() {
        expected_shares(case, "Envoy", envoy)?;
        return expected_shares(case, "ours", ours);
    }
    let (envoy_flat, ours_flat) = (observation::flat(envoy), observation::flat(ours));
    let differences = observation::differences(&envoy_flat, &ours_flat);
    let mut complaints = unmet(case, envoy, &envoy_flat);
    let mut used = vec![false; case.deliberate.len()];
    for (path, envoy, ours) in &differences {
        let meant = case
            .deliberate
            .iter()
            .position(|meant| meant.covers(path, envoy.as_ref(), ours.as_ref()));
        match meant {
            Some(index) => used[index] = true,
            None => {
                let _ = write!(
                    complaints,
                    "\n  {path}\n    envoy {}\n    ours  {}",
                    show(envoy.as_ref()),
                    show(ours.as_ref())
                );
            }
        }
    }
    for (meant, used) in case.deliberate.iter().zip(used) {
        if !used {
            let _ = write!(
                complaints,
                "\n  deliberate difference at {:?}: there is none (any more)",
                meant.at
            );
        }
    }
    if complaints.is_empty() {
        return Ok(());
    }
    if env::var_os("PARITY_SHOW").is_some() {
        let _ = write!(complaints, "\n\nenvoy: {envoy:#}\n\nours: {ours:#}");
    }
    Err(complaints)
}

/// What Envoy did not do that the case expects.
fn unmet(case: &Case, envoy: &Value, flat: &Flat) -> String {
    let mut complaints = String::new();
    if let Some(expected) = &case.expect.status {
        let statuses = statuses(envoy);
        if statuses != *expected {
            let _ = write!(
                complaints,
                "\n  expect.status: {expected:?}, but Envoy answers {statuses:?}"
            );
        }
    }
    for (path, expected) in &case.expect.at {
        let found = flat.get(path);
        if found != Some(expected) {
            let _ = write!(
                complaints,
                "\n  expect.at {path}: {expected}, but with Envoy it is {}",
                show(found)
            );
        }
    }
    complaints
}

/// The status of every response, in order.
fn statuses(observed: &Value) -> Vec<u16> {
    let connections = observed["client"].as_array().into_iter().flatten();
    let responses = connections.flat_map(|connection| {
        let responses = connection["responses"].as_array().into_iter().flatten();
        let events = connection["events"].as_array().into_iter().flatten();
        responses.chain(events.filter_map(|event| event.get("response")))
    });
    let status = |response: &Value| u16::try_from(response["status"].as_u64()?).ok();
    responses.filter_map(status).collect()
}

fn expected_shares(case: &Case, who: &str, observed: &Value) -> Result<(), String> {
    let count = |name: &str| {
        let connections = observed["upstreams"][name].as_array().into_iter().flatten();
        connections
            .map(|connection| connection["requests"].as_array().map_or(0, Vec::len))
            .sum::<usize>()
    };
    let total: usize = case.expect.shares.keys().map(|name| count(name)).sum();
    if case
        .expect
        .status
        .as_ref()
        .is_some_and(|expected| statuses(observed) != *expected)
    {
        return Err(format!("{who}: the statuses are {:?}", statuses(observed)));
    }
    for (name, (least, most)) in &case.expect.shares {
        #[allow(clippy::cast_precision_loss)] // a few hundred
        let share = count(name) as f64 / total.max(1) as f64;
        if share < *least || share > *most {
            return Err(format!(
                "{who}: {name} has {share:.3} of {total} requests, expected {least} to {most}"
            ));
        }
    }
    Ok(())
}

impl Deliberate {
    fn covers(&self, path: &str, envoy: Option<&Value>, ours: Option<&Value>) -> bool {
        let here = match self.at.strip_suffix('*') {
            Some(beginning) => path.starts_with(beginning),
            None => path == self.at,
        };
        let holds =
            |wanted: &Option<Value>, found: Option<&Value>| wanted.as_ref().is_none_or(|wanted| found == Some(wanted));
        here && holds(&self.envoy, envoy) && holds(&self.ours, ours)
    }
}

fn show(value: Option<&Value>) -> String {
    value.map_or_else(|| "(nothing)".to_owned(), Value::to_string)
}
