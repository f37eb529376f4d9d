//! Unpacking of layers: what comes out, and what archives of strangers cannot do.
//!
//! Archives are made by the tests, byte by byte where no program would make them so. Beside the folder that is unpacked
//! into there is always another one, which has to stay as it is.

#![expect(clippy::expect_used, reason = "a test")]

mod support;

mod unpack {
    mod archive;
    mod compression;
    mod escapes;
    mod fuzz;
    mod limits;
    mod place;
    mod reference;
    mod semantics;
    mod unprivileged;
}
