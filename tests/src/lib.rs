//! What integration tests share: upstreams that misbehave on purpose.

pub mod upstream;
