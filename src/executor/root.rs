//! What a container's root is made of: the host's files, a folder, an archive, layers of an image.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd,
    path::Path,
};

use super::{ExecutorError, Stack, operation::create_folder};
use crate::{
    image::{
        store::{InUse, Store},
        unpack::{self, Limits, OverlayAttributes, Ownership, UnpackOptions},
    },
    model::{Image, ImageMount, MountSource, MountedImage, Rootfs},
    plan::{ContainerSpec, Source},
    sandbox::{HostView, Root, StackIds, in_initial_user_namespace},
    sys::NamespaceKind,
};

/// Keeps the images of a container from being removed.
pub(super) fn hold_images(spec: &ContainerSpec, stack: &Stack) -> Result<Vec<InUse>, ExecutorError> {
    let store = Store::new(stack.layout.layout().images());
    let rootfs = match &spec.files.rootfs {
        Rootfs::Layers(image) => Some(image),
        _ => None,
    };
    let mounted = spec.files.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Image(ImageMount { image: MountedImage::Here(image), .. }) => Some(image),
        _ => None,
    });
    let of_volumes = spec.files.volumes_image.iter();
    let hold = |image: &Image| {
        let failed = |source| ExecutorError::Image { service: spec.service.clone(), image: image.name.clone(), source };
        store.hold(&image.id).map_err(failed)
    };
    rootfs.into_iter().chain(mounted).chain(of_volumes).map(|image| hold(image)).collect()
}

/// Makes ready what the root is made of; the sandbox mounts it.
pub(super) async fn root(spec: &ContainerSpec, stack: &Stack, folder: &Path) -> Result<Root, ExecutorError> {
    let files = |what, path: &Path| {
        let path = path.to_owned();
        move |source| ExecutorError::Files { service: spec.service.clone(), what, path, source }
    };
    match &spec.files.rootfs {
        Rootfs::Directory(path) => Ok(Root::Directory(path.clone())),
        Rootfs::Layers(image) => Ok(layers(image, stack)),
        Rootfs::Image(image) => Err(ExecutorError::Missing(format!("image `{}` in the store", image.source))),
        Rootfs::Host => {
            let hidden = stack.layout.layout().folders().map(Path::to_owned).into();
            Ok(Root::Host { view: host_view(spec, stack)?, hidden })
        }
        Rootfs::Tar(archive) => {
            let unpacked = folder.join("rootfs");
            if !unpacked.is_dir() {
                let (archive, new) = (archive.clone(), folder.join("rootfs.new"));
                let (single, target) = (spec.ids.count == 1, unpacked.clone());
                let task = tokio::task::spawn_blocking(move || {
                    let _ = fs::remove_dir_all(&new);
                    unpack(&archive, &new, single)?;
                    fs::rename(&new, &target)
                });
                let done = task.await.map_err(io::Error::other).and_then(|done| done);
                let Rootfs::Tar(archive) = &spec.files.rootfs else { return Ok(Root::Directory(unpacked)) };
                done.map_err(files("unpack", archive))?;
            }
            Ok(Root::Directory(unpacked))
        }
    }
}

/// What the facts have them under.
pub(super) const HOST_VIEWS: &str = "host-view/";

/// The layers of an image as a root.
pub(super) fn layers(image: &Image, stack: &Stack) -> Root {
    // The manifest has the lowest first.
    let layers = image.layers.iter().rev().map(|layer| layer.hex().to_owned()).collect();
    Root::Layers { store: Store::new(stack.layout.layout().images()).layers(), layers }
}

/// How containers of the stack see the host's files, found out once.
fn host_view(spec: &ContainerSpec, stack: &Stack) -> Result<HostView, ExecutorError> {
    let of_machine = spec.namespaces.user == Source::Host && stack.ids == StackIds::Root;
    if let Some(view) = stack.objects().host_views.get(&of_machine) {
        return Ok(view.clone());
    }
    let user = match &spec.namespaces.user {
        Source::Of(owner) if spec.ids.outside != 0 => Some(stack.pinned(owner, NamespaceKind::User)?),
        Source::Of(_) | Source::New | Source::Host => None,
    };
    let path = stack.layout.private().join("skeleton");
    let view = match of_machine {
        true => HostView::as_it_is(),
        false => {
            // A supervisor that died may have begun it; what containers have is written down.
            let _ = fs::remove_dir_all(&path);
            HostView::make(user.as_ref().map(AsFd::as_fd), &path)
        }
    };
    let view = view.map_err(|source| ExecutorError::Files {
        service: spec.service.clone(),
        what: "make folders in",
        path,
        source,
    })?;
    stack.record(&format!("{HOST_VIEWS}{of_machine}"), &view)?;
    stack.objects().host_views.insert(of_machine, view.clone());
    Ok(view)
}

/// Unpacks an archive into a new folder, which no path or link in it leaves.
fn unpack(archive: &Path, folder: &Path, single_id: bool) -> io::Result<()> {
    create_folder(folder)?;
    let options = UnpackOptions {
        // With one id everything is the user's, which is root of the container.
        ownership: if single_id { Ownership::Single } else { Ownership::Kept },
        attributes: match in_initial_user_namespace() {
            true => OverlayAttributes::Trusted,
            false => OverlayAttributes::User,
        },
        limits: Limits::default(),
    };
    unpack::unpack(File::open(archive)?, folder, &options).map(drop).map_err(io::Error::other)
}
