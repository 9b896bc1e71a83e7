//! Tests of the wire form as a whole.
