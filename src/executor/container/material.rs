//! What a container is made of before it is started.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
};

use tokio::sync::mpsc::UnboundedSender;

use super::{files, picture::made};
use crate::{
    cgroup,
    executor::{
        Change, ExecutorError, Stack,
        facts::{self, LOCKS, of_service},
        mounts,
        operation::create_folder,
        root::{hold_images, root},
        stack::Created,
        volume::VolumeFolder,
    },
    image::store::InUse,
    plan::ContainerSpec,
    sandbox::Root,
};

/// The folder of a container, and what it has of images and volumes.
pub(super) struct Material {
    pub(super) folder: PathBuf,
    /// Keep its layers from being removed.
    pub(super) images: Vec<InUse>,
    pub(super) root: Root,
    /// By their places in the specification.
    pub(super) volumes: BTreeMap<usize, VolumeFolder>,
    pub(super) unfinished: Unfinished,
}

impl Material {
    /// Makes it ready. What one has that is started `again` was made before, and stays whatever becomes of this start.
    pub(super) async fn of(spec: &ContainerSpec, stack: &Stack, again: bool) -> Result<Self, ExecutorError> {
        let folder = stack.layout.container(&spec.service);
        let new = (!folder.exists()).then(|| folder.clone());
        let mut unfinished = Unfinished { folder: new, group: None, volumes: Vec::new() };
        create_folder(&folder).map_err(files(spec, "make the folder", &folder))?;
        mounts::forget_volumes(spec, &folder).map_err(files(spec, "remove old volumes in", &folder))?;
        let images = hold_images(spec, stack)?;
        let root = root(spec, stack, &folder).await?;
        let volumes = mounts::volumes(spec, stack, &folder);
        if !again {
            unfinished.volumes = mounts::new_anonymous(spec, &volumes);
        }
        Ok(Self { folder, images, root, volumes, unfinished })
    }
}

/// The locks of volumes and images, which stay while nobody is there to hold them but the keeper.
pub(super) fn locks(
    spec: &ContainerSpec,
    volumes: &[File],
    images: &[InUse],
) -> Result<Vec<(String, OwnedFd)>, ExecutorError> {
    let failed = |source| ExecutorError::Files {
        service: spec.service.clone(),
        what: "hold the volumes and images of",
        path: spec.name.as_str().into(),
        source,
    };
    let all = volumes.iter().map(AsFd::as_fd).chain(images.iter().map(InUse::lock)).enumerate();
    let named = all.map(|(i, lock)| {
        Ok((of_service(&spec.service, &format!("{LOCKS}{i}")), lock.try_clone_to_owned().map_err(failed)?))
    });
    named.collect()
}

/// Makes ready all that the container of `spec` is made of: its folder, the files of its root, its volumes, and what keeps
/// others from removing them. Its namespaces and its addresses are there already; its control group, its ports and what it
/// has mounted come when it is started.
pub(in crate::executor) async fn create(
    spec: &ContainerSpec,
    stack: &Stack,
    changes: &UnboundedSender<Change>,
) -> Result<(), ExecutorError> {
    let Material { folder, images, volumes, unfinished, .. } = Material::of(spec, stack, false).await?;
    for volume in volumes.values() {
        // What they begin with they get from the container that is started first.
        create_folder(&volume.path).map_err(files(spec, "make the folder", &volume.path))?;
    }
    let held: Vec<File> = volumes.values().filter_map(VolumeFolder::hold).collect();
    stack.record(&facts::spec(&spec.service), spec)?;
    let kept = stack.keeper.keep(locks(spec, &held, &images)?).await;
    kept.map_err(|source| ExecutorError::Keep { service: spec.service.clone(), source })?;
    stack.record(&facts::created(&spec.service), &true)?;
    let created = Created { folder, _volumes: held, _images: images };
    {
        let mut objects = stack.objects();
        objects.specs.insert(spec.service.clone(), Arc::new(spec.clone()));
        objects.created.insert(spec.service.clone(), created);
    }
    let new = unfinished.keep();
    stack.objects().new_volumes.insert(spec.service.clone(), new);
    let _ = changes.send(Change::Container(spec.service.clone(), Box::new(made(spec))));
    Ok(())
}

/// What a container that does not come about leaves; removed when this is dropped, unless the container is there.
pub(super) struct Unfinished {
    folder: Option<PathBuf>,
    pub(super) group: Option<Arc<cgroup::Group>>,
    /// Its anonymous volumes that were not there before.
    volumes: Vec<VolumeFolder>,
}
impl Unfinished {
    /// It stands; its new volumes come back, which go with it if the plan is taken back.
    pub(super) fn keep(mut self) -> Vec<VolumeFolder> {
        (self.folder, self.group) = (None, None);
        std::mem::take(&mut self.volumes)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir_all(folder);
        }
        for volume in &self.volumes {
            let _ = volume.remove();
        }
        if let Some(group) = &self.group {
            let _ = group.remove();
        }
    }
}
