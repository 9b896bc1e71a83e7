//! One request's use of a connection.

use std::{error::Error, net::SocketAddr, rc::Rc};

use http::{Request, Response, Version, header};
use hyper::body::Incoming;

use super::host::{Connection, HostPool};
use crate::{
    drain::Drain,
    error::UpstreamReset,
    http::body::RequestBody,
    upstream::{balance::InFlight, breaker::Permit},
};

/// A connection, or a place on one, until the response has ended. Dropped before that, the exchange is given up: HTTP/1
/// closes the connection, HTTP/2 resets the stream.
pub(crate) struct Lease {
    connection: Option<Connection>,
    reused: bool,
    pool: Rc<HostPool>,
    _request: Permit,
    _flight: InFlight,
}

/// Why no response came.
pub(crate) struct SendError {
    pub(crate) reset: UpstreamReset,
    /// The request, if nothing of it was sent.
    pub(crate) unsent: Option<Request<RequestBody>>,
}

impl Lease {
    pub(super) fn new(
        connection: Connection,
        reused: bool,
        pool: Rc<HostPool>,
        request: Permit,
        flight: InFlight,
    ) -> Self {
        if let Connection::Http2(shared) = &connection {
            shared.enter();
        }
        Self {
            connection: Some(connection),
            reused,
            pool,
            _request: request,
            _flight: flight,
        }
    }

    /// Whether the connection served requests before this one.
    pub(crate) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Our address on the connection.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.connection.as_ref().map(|connection| match connection {
            Connection::Http1(connection) => connection.local,
            Connection::Http2(connection) => connection.local,
        })
    }

    /// Sends the request and waits for the response's headers.
    pub(crate) async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, SendError> {
        let sent = match self.connection.as_mut() {
            Some(Connection::Http1(connection)) => connection.sender.try_send_request(request).await,
            Some(Connection::Http2(connection)) => connection.sender.clone().try_send_request(request).await,
            None => {
                return Err(SendError {
                    reset: UpstreamReset::Closed,
                    unsent: Some(request),
                });
            }
        };
        match sent {
            Ok(response) if has_two_lengths(&response) => Err(SendError {
                unsent: None,
                reset: UpstreamReset::Protocol,
            }),
            Ok(response) => Ok(response),
            Err(mut error) => Err(SendError {
                unsent: error.take_message(),
                reset: reset(error.error()),
            }),
        }
    }

    /// How the upstream cut off a response that had begun.
    pub(crate) fn cut(&self, error: &hyper::Error) -> UpstreamReset {
        match (reset(error), &self.connection) {
            // HTTP/1 tells the end of a message by the message, never by the connection's unless that is what it said.
            (UpstreamReset::Closed, Some(Connection::Http1(_))) => UpstreamReset::Protocol,
            (reset, _) => reset,
        }
    }

    /// The response has ended, and with it the request if `request_ended`: the connection may serve another.
    pub(crate) fn release(mut self, request_ended: bool, drain: &Drain) {
        match self.connection.take() {
            Some(Connection::Http1(mut connection)) if request_ended => {
                let pool = self.pool.clone();
                if connection.sender.is_ready() {
                    pool.put_back(connection);
                } else {
                    drain.spawn(async move {
                        if connection.sender.ready().await.is_ok() {
                            pool.put_back(connection);
                        }
                    });
                }
            }
            shared => self.connection = shared,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(Connection::Http2(shared)) = &self.connection {
            shared.leave();
            self.pool.left();
        }
    }
}

/// Chunks and a length beside them: hyper reads the chunks, and who comes after us might read the length.
fn has_two_lengths(response: &Response<Incoming>) -> bool {
    let has = |name| response.headers().contains_key(name);
    response.version() < Version::HTTP_2 && has(header::TRANSFER_ENCODING) && has(header::CONTENT_LENGTH)
}

/// How the upstream ended the exchange.
fn reset(error: &hyper::Error) -> UpstreamReset {
    let http2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    match http2 {
        // A connection that we end by an error of ours ends for what the upstream sent.
        Some(error) if error.is_io() || error.is_go_away() && error.is_remote() => UpstreamReset::Closed,
        Some(error) if error.reason() == Some(h2::Reason::REFUSED_STREAM) => UpstreamReset::RefusedStream,
        Some(error) if error.is_remote() => UpstreamReset::Stream,
        Some(_) => UpstreamReset::Protocol,
        None if is_alert(error) => UpstreamReset::Closed,
        None if error.is_parse() || is_invalid_data(error) => UpstreamReset::Protocol,
        None => UpstreamReset::Closed,
    }
}

/// The TLS session was ended by an alert, as an upstream does that misses our certificate.
fn is_alert(error: &hyper::Error) -> bool {
    let io = error
        .source()
        .and_then(|source| source.downcast_ref::<std::io::Error>());
    io.is_some_and(certs::ended_by_alert)
}

/// Bad framing of a body, as hyper's decoder reports it.
fn is_invalid_data(error: &hyper::Error) -> bool {
    let io = error
        .source()
        .and_then(|source| source.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| {
        matches!(
            io.kind(),
            std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData
        )
    })
}
