//! The same in a user namespace with one id.

use std::env;

use nscompose::image::unpack::{Limits, OWNER_ATTRIBUTE, OverlayAttributes, Ownership, UnpackOptions};

use super::{archive::Archive, place::Place};
use crate::support::{Need, Run, needs};

const INSIDE: &str = "NSCOMPOSE_TEST_INSIDE";

#[test]
fn root_of_a_user_namespace_unpacks_too() {
    needs!(Need::Namespaces, Need::Program("unshare"));
    let program = env::current_exe().expect("known");
    Run::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(program)
        .args(["--exact", "unpack::unprivileged::inside", "--nocapture"])
        .env(INSIDE, "1")
        .run()
        .success()
        .stdout_has("1 passed");
}

/// What the other test runs in a user namespace. Alone it does nothing.
#[test]
fn inside() {
    if env::var_os(INSIDE).is_none() {
        return;
    }
    let archive = Archive::new()
        .owner(12, 34)
        .mode(0o4755)
        .pax("SCHILY.xattr.security.capability", [1_u32 << 25, 1 << 13, 0, 0, 0].map(u32::to_le_bytes).concat())
        .file("program", "x")
        .file(".wh.gone", "")
        .file("d/.wh..wh..opq", "")
        .device("null", b'3', 1, 3)
        .pax("SCHILY.xattr.trusted.x", "y")
        .file("f", "")
        .owner(5, 5)
        .symlink("link", "x")
        .end();
    for ownership in [Ownership::Single, Ownership::Kept] {
        let attributes = OverlayAttributes::User;
        let place = Place::new();
        let options = UnpackOptions { ownership, attributes, limits: Limits::default() };
        let lost = place.unpack_with(&archive, &options).expect("unpacked").lost;
        assert_eq!(place.xattr("program", OWNER_ATTRIBUTE).as_deref(), Some(&b"12:34:4755"[..]), "{ownership:?}");
        assert_eq!(place.mode("program"), 0o755);
        assert!(place.xattr("program", "security.capability").is_some(), "the kernel notes whose it is");
        assert!(place.is_whiteout("gone"));
        assert_eq!(place.xattr("d", "user.overlay.opaque").as_deref(), Some(&b"y"[..]));
        let out_of_range = if ownership == Ownership::Kept { 2 } else { 0 };
        assert_eq!((lost.devices, lost.attributes, lost.ids_out_of_range), (1, 1, out_of_range));
        assert_eq!((lost.owners_noted, lost.owners), (1, 1));
    }
}
