//! Pulling from registries and pushing to them: real ones, and servers that misbehave in a certain way.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod support;

mod registry {
    mod access;
    mod broken;
    mod fake;
    mod fixture;
    mod mirrors;
    mod pull;
    mod push;
    mod server;
    mod tokens;
}
