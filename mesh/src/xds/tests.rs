//! Tests of the wire form as a whole: inverse functions, strictness, hostile bytes, the table, and what Envoy says.

mod bootstrap;
mod bytes;
mod dns;
mod envoy;
mod istio;
mod render;
mod round_trip;
mod secret;
mod sharing;
mod strategies;
mod strictness;
mod table;
