//! Images for the services that are to be run.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    access::{access, install_failure, installer, pull_failure, with_room},
    broken, share, store,
};
use crate::{
    cli::settings::Settings,
    diagnostics::{Failure, FailureKind},
    image::{
        Found, ImageEvent, Installer, Puller,
        archive::{Archive, ArchiveKind},
        registry::Registry,
        store::{Store, StoreLock},
    },
    model::{
        Image, ImageMount, ImageRequest, ImageSource, MountSource, MountedImage, Observed, Platform, Project,
        PullPolicy, Rootfs, ServiceName,
    },
    sandbox::as_root_of_containers,
    ui::PullProgress,
};

/// A project whose images are here, and what keeps them from being removed until its containers hold them.
pub(in crate::cli) struct Provided {
    pub(in crate::cli) project: Project,
    pub(in crate::cli) held: Option<StoreLock>,
}

/// Finds the images of `wanted` services, or of all, and pulls what is missing or may be stale. `alone` leaves out those that
/// they depend on.
pub(in crate::cli) fn provide(
    project: Project,
    (wanted, alone): (&BTreeSet<ServiceName>, bool),
    policy: Option<PullPolicy>,
    settings: &Settings,
) -> Result<Provided, Failure> {
    let requests = requests(&project, (wanted, alone), policy);
    if requests.is_empty() {
        return Ok(Provided { project, held: None });
    }
    let store = store(settings);
    let held = share(settings)?;
    let here: Vec<Option<Image>> = look(&store, &requests)?.into_iter().map(Seen::certain).collect();
    let missing: Vec<&ImageRequest> =
        requests.iter().zip(&here).filter(|(_, image)| image.is_none()).map(|(request, _)| &request.image).collect();
    let mut pulled = if missing.is_empty() { Vec::new() } else { as_root_of_containers(|| pull(&missing, settings))? };
    pulled.reverse();
    let all = here.into_iter().filter_map(|image| image.or_else(|| pulled.pop()));
    let project = on_images(project, requests.iter().zip(all))?;
    Ok(Provided { project, held: Some(held) })
}

/// The project with those of its images that are here, without touching anything; what is not here, or may be stale, is
/// said to be pulled by `up`.
pub(in crate::cli) fn look_only(
    project: Project,
    (wanted, alone): (&BTreeSet<ServiceName>, bool),
    policy: Option<PullPolicy>,
    observed: &Observed,
    settings: &Settings,
) -> Result<Project, Failure> {
    let requests = requests(&project, (wanted, alone), policy);
    let store = store(settings);
    let here = look(&store, &requests)?;
    for (request, _) in requests.iter().zip(&here).filter(|(_, seen)| !matches!(seen, Seen::Certain(_))) {
        settings.printer.progress(&request.image.source.to_string(), "is looked for and pulled by `up`");
    }
    let entries = store.entries().map_err(|e| broken(&e))?;
    let runs = |request: &Request| {
        let id = request.services.iter().find_map(|service| observed.containers.get(service)?.image.as_ref())?;
        let entry = entries.iter().find(|entry| entry.id == *id)?;
        let image = store.open(entry.clone()).ok()?.image;
        Some(Image { name: request.image.source.to_string(), ..image })
    };
    // The best that is known: one that may be stale, and of a file, which is not looked into here, what was in it.
    let best = requests.iter().zip(here).filter_map(|(request, seen)| {
        let from_file = request.image.source.registry().is_none();
        let image = seen.any().or_else(|| runs(request).filter(|_| from_file))?;
        Some((request, image))
    });
    on_images(project, best)
}

fn on_images<'a>(project: Project, images: impl Iterator<Item = (&'a Request, Image)>) -> Result<Project, Failure> {
    let mut project = project;
    let mut of_services: BTreeMap<ServiceName, Image> = BTreeMap::new();
    for (request, image) in images {
        project = project.with_image_at(&image, &request.mounts).with_image_of_hooks(&image, &request.hooks);
        of_services.extend(request.services.iter().map(|service| (service.clone(), image.clone())));
    }
    let images = of_services;
    project
        .on_images(&images)
        .map_err(|e| Failure::from_error(FailureKind::Operation, &e).hint("say what to run with `command:`"))
}

/// One image, and who wants it.
struct Request {
    image: ImageRequest,
    /// Those that run on it.
    services: Vec<ServiceName>,
    /// What runs on it before services, by its place in `pre_start`.
    hooks: Vec<(ServiceName, usize)>,
    /// Where its files are mounted.
    mounts: Vec<(ServiceName, PathBuf)>,
}

fn requests(
    project: &Project,
    (wanted, alone): (&BTreeSet<ServiceName>, bool),
    policy: Option<PullPolicy>,
) -> Vec<Request> {
    let mut needed: Vec<&ServiceName> = Vec::new();
    let mut next: Vec<&ServiceName> =
        project.services.keys().filter(|name| wanted.is_empty() || wanted.contains(*name)).collect();
    while let Some(name) = next.pop() {
        if !needed.contains(&name) {
            needed.push(name);
            next.extend(project.services[name].dependencies().filter(|_| !alone));
        }
    }
    needed.sort();
    let mut requests: Vec<Request> = Vec::new();
    for name in needed {
        let service = &project.services[name];
        let mut request = |image: &ImageRequest| {
            let image = ImageRequest { pull_policy: policy.unwrap_or(image.pull_policy), ..image.clone() };
            let known = requests.iter().position(|request| request.image == image);
            known.unwrap_or_else(|| {
                requests.push(Request { image, services: Vec::new(), hooks: Vec::new(), mounts: Vec::new() });
                requests.len() - 1
            })
        };
        let rootfs = match &service.rootfs {
            Rootfs::Image(image) => Some(request(image)),
            _ => None,
        };
        let mounts = service.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Image(ImageMount { image: MountedImage::Wanted(image), .. }) => Some((mount, request(image))),
            _ => None,
        });
        let mounts: Vec<_> = mounts.collect();
        let hooks = service.pre_start.iter().enumerate().filter_map(|(place, hook)| match &hook.rootfs {
            Rootfs::Image(image) => Some((place, request(image))),
            _ => None,
        });
        let hooks: Vec<_> = hooks.collect();
        if let Some(index) = rootfs {
            requests[index].services.push(name.clone());
        }
        for (place, index) in hooks {
            requests[index].hooks.push((name.clone(), place));
        }
        for (mount, index) in mounts {
            requests[index].mounts.push((name.clone(), mount.target.clone()));
        }
    }
    requests
}

/// What is here of a request.
enum Seen {
    /// It need not be looked for.
    Certain(Image),
    /// Its registry may have another one.
    Perhaps(Image),
    /// Nothing.
    Nothing,
}

impl Seen {
    fn certain(self) -> Option<Image> {
        match self {
            Self::Certain(image) => Some(image),
            Self::Perhaps(_) | Self::Nothing => None,
        }
    }

    fn any(self) -> Option<Image> {
        match self {
            Self::Certain(image) | Self::Perhaps(image) => Some(image),
            Self::Nothing => None,
        }
    }
}

/// What is here, for each request.
fn look(store: &Store, requests: &[Request]) -> Result<Vec<Seen>, Failure> {
    let now = jiff::Timestamp::now().as_second();
    let one = |Request { image, services, hooks, mounts }: &Request| match store
        .look_for(image, now)
        .map_err(|e| broken(&e))?
    {
        Found::Here(stored) => Ok(Seen::Certain(stored.image)),
        Found::Missing if image.pull_policy == PullPolicy::Never && image.source.registry().is_some() => {
            let hook = hooks.first().map(|(service, _)| service);
            let service = services.first().or(hook).or(mounts.first().map(|(service, _)| service));
            let service = service.map(ToString::to_string).unwrap_or_default();
            let what = format!("image `{}` of service `{service}` is not here", image.source);
            Err(Failure::operation(what)
                .hint("its pull policy is `never`: pull it with `nscompose pull`, or load it with `nscompose load`"))
        }
        Found::Stale(stored) => Ok(Seen::Perhaps(stored.image)),
        Found::Missing => Ok(Seen::Nothing),
    };
    requests.iter().map(one).collect()
}

/// Pulls, or takes from files, all of these at the same time. To be called as root of the containers' ids.
pub(super) fn pull(requests: &[&ImageRequest], settings: &Settings) -> Result<Vec<Image>, Failure> {
    let installer = installer(settings)?;
    let access = access(settings)?;
    let progress = Mutex::new(PullProgress::new(settings.printer, "pulled"));
    let event: Arc<dyn Fn(ImageEvent) + Send + Sync> =
        Arc::new(move |event| progress.lock().unwrap_or_else(PoisonError::into_inner).show(&event));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::host("cannot start the event loop").caused_by(&e))?;
    let pulled = runtime.block_on(async {
        let told = event.clone();
        let registry = Registry::new(access, move |news| told(ImageEvent::Warning(news.to_string())));
        let puller = Puller::new(installer.clone(), registry, event.clone());
        let one = async |request: &ImageRequest| match &request.source {
            ImageSource::Registry(name) => {
                let pulled = puller.pull(name, request.platform.as_ref()).await;
                let failed = |e| with_room(pull_failure(&name.to_string(), &e), &e, installer.store());
                pulled.map(|stored| stored.image).map_err(failed)
            }
            ImageSource::OciLayout(_) | ImageSource::OciArchive(_) | ImageSource::DockerArchive(_) => {
                let (installer, request, event) = (installer.clone(), request.clone(), event.clone());
                let taken = tokio::task::spawn_blocking(move || take(&installer, &request, &*event)).await;
                taken.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
            }
        };
        futures_util::future::try_join_all(requests.iter().map(|request| one(request))).await
    });
    // What is being unpacked for an image that is not wanted any more is taken away. But a thread that waits for another
    // process, as long as that takes, does not keep the failure back: this process ends soon.
    runtime.shutdown_timeout(Duration::from_secs(1));
    pulled
}

/// Takes an image from a folder or file. What is there of it already is not read again.
fn take(installer: &Installer, request: &ImageRequest, event: &(dyn Fn(ImageEvent) + Sync)) -> Result<Image, Failure> {
    let (place, kind) = match &request.source {
        ImageSource::Registry(_) => return Err(Failure::internal("an image of a registry is no file")),
        ImageSource::OciLayout(place) => (place, ArchiveKind::OciLayout),
        ImageSource::OciArchive(place) => (place, ArchiveKind::OciArchive),
        ImageSource::DockerArchive(place) => (place, ArchiveKind::DockerArchive),
    };
    let what = request.source.to_string();
    let platform = request.platform.clone().unwrap_or_else(Platform::host);
    let imported = Archive::open(&place.path, kind, installer.store())
        .and_then(|archive| archive.import(archive.find(place.name.as_deref())?, &platform, installer.store()))
        .map_err(|e| {
            with_room(Failure::operation(format!("cannot take `{what}`")).caused_by(&e), &e, installer.store())
        })?;
    let failed = |e| with_room(install_failure(&format!("`{what}`"), &e), &e, installer.store());
    let stored = installer.install(&imported, &[], event).map_err(failed)?;
    Ok(Image { name: what, ..stored.image })
}
