//! Images from end to end: the binary as a person drives it, a registry of the Distribution project on the loopback, and
//! images that the tests write themselves. In the middle there is a door that can be shut: so a pull is stopped where a
//! test wants it, and what goes over the wire can be counted.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what went wrong by panicking")]

mod support;

mod images {
    #[allow(dead_code, reason = "the tests of layers use all of it")]
    #[path = "../unpack/archive.rs"]
    mod archive;
    mod check;
    mod commit;
    mod disk;
    mod door;
    mod files;
    mod hostile;
    mod killed;
    mod made;
    mod odd;
    mod owners;
    mod parallel;
    mod policy;
    mod pull;
    mod push;
    mod remove;
    #[allow(dead_code, reason = "the tests of registries use all of it")]
    #[path = "../registry/server.rs"]
    mod server;
}
