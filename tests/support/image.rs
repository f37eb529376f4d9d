//! Images that are put together by hand, and stacks that run on them, in the place of a registry and a puller.

use std::{
    ffi::CString,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use nscompose::{
    diagnostics::Failure,
    image::store::Store,
    load::{LoadOptions, load},
    model::{Digest, Image, ImageConfig, Project, Rootfs, ServiceName},
    plan::{self, Intent},
    state::{Layout, StackLayout},
    supervisor::{Connection, Reply, Request, observe},
};

use super::{Stack, is_root, program};

/// An image in the store of a stack's home.
pub(crate) struct ImageBuilder {
    store: Store,
    layers: Vec<Digest>,
}

impl ImageBuilder {
    /// One without layers.
    pub(crate) fn new(stack: &Stack) -> Self {
        let store = Store::new(layout(stack).images());
        drop(store.share().expect("folders of the store"));
        Self { store, layers: Vec::new() }
    }

    /// Adds a layer over those that there are; `fill` gets its empty folder.
    pub(crate) fn layer(mut self, fill: impl FnOnce(&Path)) -> Self {
        let id = Digest::of(format!("layer {}", self.layers.len()).as_bytes());
        let folder = self.store.layer(&id);
        fs::create_dir(&folder).expect("a folder");
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("its mode");
        fill(&folder);
        self.layers.push(id);
        self
    }

    /// Adds a layer with a busybox and what is needed to call it.
    pub(crate) fn busybox(self) -> Self {
        self.layer(busybox_root)
    }

    /// What a plan has to know of it.
    pub(crate) fn build(&self) -> Image {
        let id = self.store.write_blob(format!("{:?}", self.layers).as_bytes()).expect("a configuration");
        Image { name: "image:test".into(), id, layers: self.layers.clone(), config: ImageConfig::default() }
    }

    /// The store that it is in.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The folder of a layer, counted from the lowest.
    pub(crate) fn folder(&self, layer: usize) -> PathBuf {
        self.store.layer(&self.layers[layer])
    }
}

/// A root with a busybox and what is needed to call it.
pub(crate) fn busybox_root(folder: &Path) {
    for part in ["bin", "etc", "tmp"] {
        fs::create_dir_all(folder.join(part)).expect("folders");
    }
    fs::copy(program("busybox").expect("declared"), folder.join("bin/busybox")).expect("a copy");
    for applet in ["sh", "sleep", "cat", "ls", "touch", "id", "stat", "mount", "readlink", "rm", "mkdir", "chown"] {
        std::os::unix::fs::symlink("busybox", folder.join("bin").join(applet)).expect("a link");
    }
    fs::write(folder.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nworker:x:1000:1000::/tmp:/bin/sh\n").expect("a file");
    fs::write(folder.join("etc/marker"), "from the root\n").expect("a file");
}

/// Marks a file as deleted in a layer, as unpacking does: a character device without numbers.
pub(crate) fn whiteout(path: &Path) {
    let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::empty());
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).expect("a whiteout");
}

/// Marks a folder as one that hides what lower layers have in it.
pub(crate) fn opaque(path: &Path) {
    let name = if is_root() { c"trusted.overlay.opaque" } else { c"user.overlay.opaque" };
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path");
    rustix::fs::setxattr(path.as_c_str(), name, b"y", rustix::fs::XattrFlags::empty()).expect("an attribute");
}

fn layout(stack: &Stack) -> Layout {
    Layout::new(&stack.home().join("run"), &stack.home().join("data"))
}

/// The file of a stack, loaded.
pub(crate) fn project(stack: &Stack) -> Project {
    let options = LoadOptions {
        files: vec![stack.path("stack.yaml")],
        directory: stack.path(""),
        project_name: Some(stack.project().to_owned()),
        ..LoadOptions::default()
    };
    load(&options).unwrap_or_else(|e| panic!("{}", e.render(false))).project
}

/// Brings everything up, with an image in the place of the root of these services. The stack has a supervisor already, that
/// is, something in it runs: [`KEEP`] is for that.
#[track_caller]
pub(crate) fn up_on(stack: &Stack, rootfs: &Rootfs, services: &[&str]) -> Result<(), Failure> {
    let mut project = project(stack);
    for name in services {
        let name: ServiceName = name.parse().expect("a name");
        project.services.get_mut(&name).expect("a service").rootfs = rootfs.clone();
        if let Rootfs::Layers(image) = rootfs {
            project = project.on_images(&[(name, (**image).clone())].into()).unwrap_or_else(|e| panic!("{e}"));
        }
    }
    up_with(stack, &project)
}

/// Brings everything of a project up. The stack has a supervisor already, as for [`up_on`].
#[track_caller]
pub(crate) fn up_with(stack: &Stack, project: &Project) -> Result<(), Failure> {
    let places: StackLayout = layout(stack).stack(&project.name);
    let stream = places.connect().expect("a supervisor");
    let snapshot = observe(&stream).expect("an answer").expect("a supervisor");
    let plan = plan::up(project, &snapshot.observed, &Intent::default()).unwrap_or_else(|e| panic!("{e}"));
    let request =
        Request::Apply { plan, generation: snapshot.generation, files: project.files.clone(), foreground: false };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut connection = Connection::new(stream).expect("a connection");
        connection.send(&request, &[]).await.expect("sent");
        loop {
            match connection.next().await.expect("a reply") {
                Some(Reply::Accepted | Reply::Event(_)) => {}
                Some(Reply::Done) => return Ok(()),
                Some(Reply::Failed(failure)) => return Err(failure),
                Some(other) => panic!("{other:?}"),
                None => return Err(Failure::internal("the supervisor has gone")),
            }
        }
    })
}

/// A service that runs for as long as the stack does, before others come and when they have gone.
pub(crate) const KEEP: &str = "keep: {rootfs: host, command: [sleep, infinity]}";
