//! The receiving side of SDS: secrets by name, on a stream of their own or on the one of a control plane.
//!
//! Nothing is held here: what is taken is handed on, and a reconnecting client asks for everything again. Invariants: only
//! what was asked for is looked at; a secret that cannot be taken is refused by name, and hides no other; a server cannot
//! take a secret away.

use std::collections::BTreeSet;

use super::{
    Answer, Holdings, Name, Protocol, ProtocolError, Rejection, Subscription, nack,
    offer::{Contents, Parcel, UNNAMED, peek_name},
};
use crate::{
    secret::Secret,
    xds::{ResourceType, secret},
};

/// What a proxy asks of one source of secrets.
#[derive(Debug, Default)]
pub struct SecretClient<P> {
    protocol: P,
    names: BTreeSet<Name>,
}

/// A response, judged secret by secret.
#[derive(Debug)]
pub struct SecretOffer {
    nonce: String,
    version: String,
    secrets: Vec<Secret>,
    rejections: Vec<Rejection>,
}

impl<P: Protocol> SecretClient<P> {
    /// The first request of a new stream, for these names. `None`: there is nothing to ask for.
    pub fn connect(&mut self, names: BTreeSet<Name>) -> Option<P::Request> {
        self.protocol = P::default();
        self.names = names;
        (!self.names.is_empty()).then(|| self.protocol.open(&subscription(&self.names), &Holdings::default()))
    }

    /// Asks for these names from now on. `None`: that is what was asked for.
    pub fn want(&mut self, names: BTreeSet<Name>) -> Option<P::Request> {
        if names == self.names {
            return None;
        }
        let former = std::mem::replace(&mut self.names, names);
        let subscription = subscription(&self.names);
        if former.is_empty() {
            return Some(self.protocol.open(&subscription, &Holdings::default()));
        }
        Some(self.protocol.change(&subscription, &former))
    }

    /// Whether a response is for it.
    pub fn is_for(response: &P::Response) -> bool {
        P::type_url(response) == ResourceType::Secret.type_url()
    }

    /// Judges a response.
    ///
    /// # Errors
    /// The stream must be ended.
    pub fn receive(&mut self, response: P::Response) -> Result<SecretOffer, ProtocolError> {
        let contents = self.protocol.read(response)?;
        if contents.nonce.is_empty() {
            return Err(ProtocolError::NoNonce(ResourceType::Secret));
        }
        Ok(SecretOffer::judge(contents, &self.names))
    }

    /// Answers a response; to be called once what it offers has been taken or refused.
    pub fn conclude(&mut self, offer: SecretOffer) -> P::Request {
        let answer = Answer {
            nonce: offer.nonce,
            version: offer.version,
            error: nack(&offer.rejections),
        };
        self.protocol.answer(&subscription(&self.names), answer)
    }
}

impl SecretOffer {
    /// The secrets that can be read, each once.
    pub fn secrets(&self) -> &[Secret] {
        &self.secrets
    }

    /// What was refused so far.
    pub fn rejections(&self) -> &[Rejection] {
        &self.rejections
    }

    /// Refuses a secret that can be read but not used.
    pub fn refuse(&mut self, name: Name, reason: String) {
        self.rejections.push(Rejection {
            resource_type: ResourceType::Secret,
            name,
            reason,
        });
    }

    fn judge(contents: Contents, wanted: &BTreeSet<Name>) -> Self {
        let mut offer = Self {
            nonce: contents.nonce,
            version: contents.version,
            secrets: Vec::new(),
            rejections: Vec::new(),
        };
        let mut seen = BTreeSet::new();
        for parcel in contents.parcels {
            let name = parcel.name.clone().or_else(|| parcel.any.as_ref().and_then(peek_name));
            match name.as_deref().map(|name| wanted.get(name)) {
                None => offer.refuse(UNNAMED.into(), "its name cannot be read".to_owned()),
                Some(None) => {}
                Some(Some(name)) if !seen.insert(name) => {
                    offer.refuse(name.clone(), "the response has it twice".to_owned());
                }
                Some(Some(name)) => match open(name, parcel) {
                    Ok(secret) => offer.secrets.push(secret),
                    Err(reason) => offer.refuse(name.clone(), reason),
                },
            }
        }
        offer
    }
}

fn subscription(names: &BTreeSet<Name>) -> Subscription<'_> {
    Subscription {
        resource_type: ResourceType::Secret,
        names,
    }
}

fn open(name: &str, parcel: Parcel) -> Result<Secret, String> {
    if let Some(problem) = parcel.problem {
        return Err(problem.to_owned());
    }
    let any = parcel.any.ok_or("the response names it without its content")?;
    let secret = secret::decode(&any).map_err(|error| error.to_string())?;
    if secret.name.as_str() != name {
        return Err(format!("its content is named {:?}", secret.name.as_str()));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        SecretName,
        secret::{Material, SecretContent},
        xds::ads::{
            Entry, ResourceSet,
            client::{Delta, Sotw},
            server::{DeltaServer, Received, Server, SotwServer, Status},
        },
    };

    fn roots(name: &str, text: &str) -> Secret {
        Secret {
            name: SecretName::parse(name).unwrap(),
            content: SecretContent::Trust(Material::Inline(text.into())),
        }
    }

    fn names(names: &[&str]) -> BTreeSet<Name> {
        names.iter().map(|name| Name::from(*name)).collect()
    }

    /// `broken`: secrets whose content nobody can read.
    fn set(secrets: &[Secret], broken: &[&str]) -> ResourceSet {
        let entry = |secret: &Secret| {
            let mut entry = Entry::secret(secret);
            if broken.contains(&secret.name.as_str()) {
                // The type's oneof loses its content.
                entry.any.value.truncate(secret.name.as_str().len() + 2);
            }
            (ResourceType::Secret, Arc::new(entry))
        };
        ResourceSet::new(secrets.iter().map(entry))
    }

    /// Everything the server has to say, taken by the client. Returns what it took, by name.
    fn settle<P, S>(client: &mut SecretClient<P>, server: &mut S, set: &ResourceSet) -> Vec<String>
    where
        P: Protocol,
        S: Server<Request = P::Request, Response = P::Response>,
    {
        let mut taken = Vec::new();
        while let Some(response) = server.next(set) {
            assert!(SecretClient::<P>::is_for(&response));
            let offer = client.receive(response).unwrap();
            taken.extend(offer.secrets().iter().map(|secret| secret.name.to_string()));
            server.receive(client.conclude(offer)).unwrap();
        }
        taken
    }

    fn a_client_follows<P, S>()
    where
        P: Protocol,
        S: Server<Request = P::Request, Response = P::Response>,
    {
        let (mut client, mut server) = (SecretClient::<P>::default(), S::default());
        assert!(client.connect(BTreeSet::new()).is_none());
        let first = client.want(names(&["a", "b"])).unwrap();
        assert_eq!(server.receive(first), Ok(Received::Subscription(ResourceType::Secret)));
        let one = set(&[roots("a", "1"), roots("b", "1"), roots("c", "1")], &[]);
        assert_eq!(settle(&mut client, &mut server, &one), ["a", "b"]);
        assert_eq!(server.status(&one), Status::Acknowledged);
        assert!(client.want(names(&["a", "b"])).is_none());

        server.receive(client.want(names(&["b", "c"])).unwrap()).unwrap();
        let two = set(&[roots("a", "2"), roots("b", "1"), roots("c", "1")], &[]);
        assert!(settle(&mut client, &mut server, &two).contains(&"c".to_owned()));
        assert_eq!(server.status(&two), Status::Acknowledged);

        server = S::default();
        server.receive(client.connect(names(&["a"])).unwrap()).unwrap();
        assert_eq!(settle(&mut client, &mut server, &two), ["a"]);
    }

    #[test]
    fn a_client_follows_what_it_asks_for() {
        a_client_follows::<Sotw, SotwServer>();
        a_client_follows::<Delta, DeltaServer>();
    }

    fn refusals_are_by_name<P, S>()
    where
        P: Protocol,
        S: Server<Request = P::Request, Response = P::Response>,
    {
        let (mut client, mut server) = (SecretClient::<P>::default(), S::default());
        server
            .receive(client.connect(names(&["a", "b", "c"])).unwrap())
            .unwrap();
        let secrets = [roots("a", "1"), roots("b", "1"), roots("c", "1")];
        let mut offer = client.receive(server.next(&set(&secrets, &["b"])).unwrap()).unwrap();
        let read: Vec<_> = offer.secrets().iter().map(|secret| secret.name.to_string()).collect();
        assert_eq!(read, ["a", "c"]);
        offer.refuse("c".into(), "of no use".to_owned());
        let answer = server.receive(client.conclude(offer)).unwrap();
        let expect = "secret b: secrets[b].type: not set: required; secret c: of no use";
        assert_eq!(answer, Received::Nack(ResourceType::Secret, expect.to_owned()));
    }

    #[test]
    fn what_cannot_be_taken_is_refused_by_name() {
        refusals_are_by_name::<Sotw, SotwServer>();
        refusals_are_by_name::<Delta, DeltaServer>();
    }
}
