//! `sallyport certs`: a mesh CA in a directory, and what it issues.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use ::certs::{CaRequest, CertificateAuthority, LeafRequest, files};
use anyhow::Context as _;
use clap::Subcommand;
use mesh::{
    host::Host,
    id::{SpiffeId, TrustDomain},
};

use super::{duration, serving};

mod agent;
mod show;

const EXAMPLES: &str = "\
Examples:
  # a CA for a mesh of its own
  sallyport certs init-ca ca --trust-domain cluster.local

  # the identity of a service account: cert-chain.pem, key.pem, root-cert.pem
  sallyport certs issue spiffe://cluster.local/ns/team-x/sa/test --ca ca --out team-x

  # an ordinary server certificate
  sallyport certs issue example.com --ca ca --out example-com --lifetime 30d

  # the same as Istio's agent does for an Envoy beside it: issued, renewed and served on a socket
  sallyport certs agent spiffe://cluster.local/ns/team-x/sa/test --ca ca

  # what is in a directory or a PEM file
  sallyport certs show team-x
  sallyport certs show team-x/cert-chain.pem --json";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a mesh CA: a root certificate and its key
    InitCa {
        /// Directory to write ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem to
        directory: PathBuf,
        /// Trust domain of the mesh
        #[arg(long, default_value = "cluster.local", value_parser = serving::trust_domain)]
        trust_domain: TrustDomain,
        /// How long the root is valid [default: 3650d]
        #[arg(long, value_name = "TIME", value_parser = duration::parse)]
        lifetime: Option<Duration>,
    },
    /// Issue a certificate for a workload or a server
    Issue {
        /// A SPIFFE ID (`spiffe://<trust domain>/ns/<namespace>/sa/<service account>`) or a host name or address
        name: String,
        /// Directory of the CA
        #[arg(long, value_name = "DIR")]
        ca: PathBuf,
        /// Directory to write cert-chain.pem, key.pem and root-cert.pem to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// How long the certificate is valid [default: 24h]
        #[arg(long, value_name = "TIME", value_parser = duration::parse)]
        lifetime: Option<Duration>,
    },
    /// Serve an identity to the proxy beside us over SDS, as Istio's agent does
    Agent(agent::Args),
    /// Show the certificates of a directory or a PEM file; private keys are not read
    Show {
        /// Directory with cert-chain.pem, or a PEM file
        path: PathBuf,
        /// One JSON array instead of text
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    match &args.action {
        Action::InitCa {
            directory,
            trust_domain,
            lifetime,
        } => init_ca(directory, trust_domain, *lifetime, out),
        Action::Issue {
            name,
            ca,
            out: to,
            lifetime,
        } => issue(name, ca, to, *lifetime, out),
        Action::Agent(args) => agent::run(args),
        Action::Show { path, json } => show::run(path, *json, out),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn init_ca(
    directory: &Path,
    domain: &TrustDomain,
    lifetime: Option<Duration>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut request = CaRequest::mesh(domain);
    if let Some(lifetime) = lifetime {
        request = request.lifetime(lifetime);
    }
    let authority = CertificateAuthority::root(&request, SystemTime::now())?;
    authority.save(directory)?;
    let key = directory.join(files::CA_KEY);
    writeln!(
        out,
        "CA of trust domain {domain} in {}; keep {} secret",
        directory.display(),
        key.display()
    )?;
    Ok(())
}

fn issue(name: &str, ca: &Path, to: &Path, lifetime: Option<Duration>, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut request = request(name)?;
    if let Some(lifetime) = lifetime {
        request = request.lifetime(lifetime);
    }
    let now = SystemTime::now();
    let authority = CertificateAuthority::load(ca, now).with_context(|| {
        format!(
            "no CA in {} (create one: sallyport certs init-ca {})",
            ca.display(),
            ca.display()
        )
    })?;
    let identity = authority.issue(&request, now)?;
    identity.save(to, authority.roots())?;
    let until = show::time(identity.leaf().not_after);
    writeln!(out, "{name} in {}, valid until {until}", to.display())?;
    Ok(())
}

fn request(name: &str) -> anyhow::Result<LeafRequest> {
    if name.contains("://") {
        return Ok(LeafRequest::svid(&SpiffeId::parse(name)?));
    }
    let host = Host::parse(name).with_context(|| format!("{name:?} is neither a SPIFFE ID nor a host"))?;
    Ok(LeafRequest::server(&host))
}

#[cfg(test)]
mod tests;
