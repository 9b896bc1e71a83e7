//! A stub resolver: what `getaddrinfo` is to an application, asking the lab's name server.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use hickory_server::proto::{
    op::{Message, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use tokio::{net::UdpSocket, time::timeout};

/// How long an answer may take. The server is in this process.
const DEADLINE: Duration = Duration::from_secs(5);
/// RFC 1035 section 4.2.1: the largest answer over UDP without EDNS.
const MAX_ANSWER: usize = 512;

/// The addresses of a name, in the order of the answer; never empty.
///
/// # Errors
/// `NotFound` if the name does not exist or has no address, `TimedOut`, or that the server failed.
pub(super) async fn resolve(server: SocketAddr, name: &str) -> io::Result<Vec<Ipv4Addr>> {
    let answer = timeout(DEADLINE, ask(server, name))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let not_found = |why: &str| io::Error::new(io::ErrorKind::NotFound, format!("{name}: {why}"));
    match answer.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => return Err(not_found("no such host")),
        code => return Err(io::Error::other(format!("{name}: the name server answered {code}"))),
    }
    let addresses: Vec<_> = answer
        .answers
        .iter()
        .filter_map(|record| address(&record.data))
        .collect();
    if addresses.is_empty() {
        return Err(not_found("no address"));
    }
    Ok(addresses)
}

async fn ask(server: SocketAddr, name: &str) -> io::Result<Message> {
    let name = Name::from_ascii(name).map_err(io::Error::other)?;
    let mut message = Message::query();
    message.add_query(Query::query(name, RecordType::A));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(server).await?;
    socket.send(&message.to_vec().map_err(io::Error::other)?).await?;
    let mut answer = [0; MAX_ANSWER];
    loop {
        let length = socket.recv(&mut answer).await?;
        let bytes = answer.get(..length).unwrap_or_default();
        let answer = Message::from_vec(bytes).map_err(io::Error::other)?;
        if answer.id == message.id {
            return Ok(answer);
        }
    }
}

fn address(data: &RData) -> Option<Ipv4Addr> {
    match data {
        RData::A(address) => Some(address.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::dns::{Answer, NameServer};

    #[tokio::test]
    async fn the_zone_decides_and_may_change() {
        let server = NameServer::start().await.unwrap();
        let address = Ipv4Addr::new(93, 184, 216, 34);
        for (answer, expect) in [
            (
                Answer::Addresses(vec![address, Ipv4Addr::LOCALHOST]),
                Ok(vec![address, Ipv4Addr::LOCALHOST]),
            ),
            (Answer::Empty, Err("example.com: no address")),
            (Answer::NxDomain, Err("example.com: no such host")),
            (
                Answer::ServerFailure,
                Err("example.com: the name server answered Server Failure"),
            ),
        ] {
            server.zone().set("example.com", answer);
            let got = resolve(server.address(), "example.com")
                .await
                .map_err(|error| error.to_string());
            assert_eq!(got, expect.map_err(str::to_owned));
        }
    }

    #[tokio::test]
    async fn an_unknown_name_does_not_exist() {
        let server = NameServer::start().await.unwrap();
        let error = resolve(server.address(), "nowhere.test").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
