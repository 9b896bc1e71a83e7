//! Secrets in a file: a `DiscoveryResponse`, JSON or YAML, as a filesystem subscription reads it.

use std::sync::Arc;

use certs::{Live, files::Text};
use mesh::xds::{
    file::{Parcel, resources},
    secret,
};

use super::feed::Feed;

/// Hands what is wanted of a file to its feed, now and whenever the file or what is wanted changes, for ever.
pub(super) async fn follow(text: Arc<Live<Text>>, feed: Arc<Feed>) {
    let (mut texts, mut wanted) = (text.subscribe(), feed.wanted());
    loop {
        wanted.borrow_and_update();
        deliver(&text.load(), &feed);
        tokio::select! {
            Ok(()) = texts.changed() => {}
            Ok(()) = wanted.changed() => {}
            else => return,
        }
    }
}

fn deliver(text: &Text, feed: &Feed) {
    let wanted = feed.wanted().borrow().clone();
    let parcels = match resources(text.as_str()) {
        Ok(parcels) => parcels,
        Err(_) => {
            return refused(
                feed,
                "",
                "the file is no DiscoveryResponse in JSON or YAML; the reason could quote a key",
            );
        }
    };
    for parcel in parcels {
        match open(parcel) {
            Ok(secret) if wanted.contains(secret.name.as_str()) => {
                if let Err(reason) = feed.take(&secret) {
                    refused(feed, secret.name.as_str(), &reason);
                }
            }
            Ok(_) => {}
            Err((name, reason)) => refused(feed, &name, &reason),
        }
    }
}

fn open(parcel: Parcel) -> Result<mesh::secret::Secret, (String, String)> {
    let named =
        |name: Option<mesh::xds::ads::Name>| name.map_or_else(|| "without a name".to_owned(), |name| name.to_string());
    match parcel {
        Ok((name, any)) => secret::decode(&any).map_err(|error| (named(name), error.to_string())),
        Err((name, _)) => Err((named(name), "it is no Secret; the reason could quote a key".to_owned())),
    }
}

fn refused(feed: &Feed, secret: &str, reason: &str) {
    tracing::error!(secret, source = %feed.source(), reason, "a secret cannot be used; its last good version stays");
}
