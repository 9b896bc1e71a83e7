//! What is not supported is refused by name; what means the same is taken.
