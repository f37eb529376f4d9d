//! A disk that is full.

use super::{
    archive::Archive,
    made::{Made, store},
    server::Server,
};
use crate::support::{Need, Run, Stack, needs};

#[test]
fn a_full_disk_is_named_and_nothing_half_done_is_kept() {
    needs!(
        Need::Root,
        Need::StaticBusybox,
        Need::Program("docker-registry"),
        Need::Program("skopeo"),
        Need::Program("unshare")
    );
    let server = Server::plain();
    let image = Made::busybox().layer(Archive::new().file("large", vec![b'x'; 6_000_000])).write();
    server.put(image.path(), "app", None);
    let stack = Stack::empty();
    let images = store(&stack, "");
    let data = stack.home().join("data");
    std::fs::create_dir(&data).unwrap();
    // The disk is there only in a mount namespace, which goes with the shell.
    let script = format!(
        r#"
set -u
mount -t tmpfs -o mode=700,size=$1 tmpfs {data}
nscompose() {{ {binary} --home {home} "$@"; }}
nscompose pull {host}/app; echo "pull $?"
nscompose images -a -q; echo "images $?"
nscompose images --check; echo "check $?"
for folder in names layers unpacking; do echo $folder: $(ls {images}/$folder); done
nscompose image prune; echo "prune $?"
echo left: $(find {images} -type f ! -name lock)
mount -o remount,size=64m {data}
nscompose pull {host}/app; echo "again $?"
nscompose images --check; echo "whole $?"
"#,
        data = data.display(),
        images = images.display(),
        binary = env!("CARGO_BIN_EXE_nscompose"),
        home = stack.home().display(),
        host = server.host(),
    );
    // Full with the first layer, with the blob of the second one, and with its files.
    for size in ["1500k", "8m", "14m"] {
        let run = Run::new("unshare").args(["-m", "--propagation", "private", "sh", "-c", &script, "sh", size]);
        let output = run.env("HOME", stack.user_home()).run().success();
        for line in ["pull 1", "images 0", "check 0", "prune 0", "again 0", "whole 0", "names:", "unpacking:", "left:"]
        {
            assert!(output.stdout.lines().any(|found| found == line), "{size}, {line}: {output}");
        }
        assert!(output.stderr.contains("No space left on device"), "{size}: {output}");
        assert!(
            output.stderr.contains(&images.display().to_string().trim_end_matches('/').to_owned()),
            "{size}: {output}"
        );
    }
}
