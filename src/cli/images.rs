//! The images of a pod, from the manifest's words to linked programs; all that are bad are reported at once.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::display::Display;
use super::progress::Spinner;
use super::{EXIT_HOST, EXIT_IMAGE, Failure, counted};
use crate::container::runner::{Hosts, LinkError, Program};
use crate::engine::Engines;
use crate::image::{self, CacheUse, Image, Reference};
use crate::paths::Paths;
use crate::spec::{Container, Pod, VolumeSource};
use crate::volume::{Bound, BoundDirectory};

/// Loads and links images, each once.
pub struct Images<'a> {
    display: &'a Display,
    build: bool,
    /// Where tools for that are kept.
    tools: PathBuf,
    /// Where image volumes are unpacked.
    cache: PathBuf,
    hosts: Arc<Hosts>,
    store: image::Store,
    linked: HashMap<Reference, Result<Program, Bad>>,
    /// When each was made ready.
    made: HashMap<Reference, Made>,
    compiled: usize,
}

/// How an image was made ready to run.
#[derive(Clone, Copy)]
pub struct Made {
    pub from: Instant,
    pub to: Instant,
    /// Whether it was compiled rather than found in the cache.
    pub compiled: bool,
}

/// Why an image cannot run, and the exit code that says so.
#[derive(Clone)]
struct Bad {
    code: u8,
    reason: String,
}

impl Bad {
    fn new(code: u8, error: impl std::fmt::Display) -> Self {
        Self { code, reason: error.to_string() }
    }
}

impl<'a> Images<'a> {
    /// `build`: whether directories of source are built.
    pub fn new(engines: &Engines, paths: &Paths, build: bool, display: &'a Display) -> Result<Self, Failure> {
        Ok(Self {
            display,
            build,
            tools: paths.tools(),
            cache: paths.cache.clone(),
            hosts: Arc::new(Hosts::new(engines)),
            store: image::Store::open(&paths.cache, engines)?,
            linked: HashMap::new(),
            made: HashMap::new(),
            compiled: 0,
        })
    }

    /// The program of every container, by its name; or everything that is wrong with the images, with the
    /// exit code of the first.
    pub fn programs(&mut self, pod: &Pod) -> Result<BTreeMap<String, Program>, Failure> {
        let mut programs = BTreeMap::new();
        let mut report = Report::default();
        for (path, container) in paths(pod) {
            match self.program(&container.image) {
                Ok(program) => {
                    programs.insert(container.name.clone(), program);
                }
                Err(bad) => report.add(&path, &container.image_name, bad),
            }
        }
        report.finish()?;
        Ok(programs)
    }

    /// The directories, or artifacts, of the pod's `image` volumes; or everything that is wrong with them, likewise.
    pub fn volumes(&self, pod: &Pod) -> Result<Bound, Failure> {
        let mut bound = Bound::new();
        let mut report = Report::default();
        for (index, volume) in pod.volumes.iter().enumerate() {
            let VolumeSource::Image { reference } = &volume.source else { continue };
            let spinner = Spinner::new(self.display);
            match image::volume::resolve(&self.cache, reference, &|event| spinner.show(event)) {
                Ok(path) => {
                    bound.insert(volume.name.clone(), BoundDirectory { path, is_the_hosts: true });
                }
                Err(error) => {
                    let field = format!("spec.volumes[{index}].image.reference");
                    report.add(&field, &volume.name, Bad::new(error.exit_code(), error));
                }
            }
        }
        report.finish()?;
        Ok(bound)
    }

    /// [`Images::programs`] for those who run nothing: directories of source pass, and are given back.
    pub fn check<'p>(&mut self, pod: &'p Pod) -> Result<Vec<&'p Container>, Failure> {
        let mut sources = Vec::new();
        let mut report = Report::default();
        for (path, container) in paths(pod) {
            if container.image.path().is_dir() {
                sources.push(container);
            } else if let Err(bad) = self.program(&container.image) {
                report.add(&path, &container.image_name, bad);
            }
        }
        report.finish()?;
        Ok(sources)
    }

    /// How a container's image was made ready.
    pub fn made(&self, container: &Container) -> Option<Made> {
        self.made.get(&container.image).copied()
    }

    /// Makes one image ready, so that whoever runs it finds its machine code; its file.
    pub fn prepare(&mut self, reference: &Reference) -> Result<PathBuf, Failure> {
        let image = self.image(reference).map_err(|error| Failure::new(error.exit_code(), error))?;
        self.hosts.link(&image).map_err(|error| Failure::new(EXIT_IMAGE, error))?;
        Ok(image.path)
    }

    /// How many there were, and how many had to be compiled.
    pub fn summary(&self) -> String {
        match (self.linked.len(), self.compiled) {
            (count, 0) => format!("{count} from cache"),
            (count, compiled) => format!("{count}, {compiled} compiled"),
        }
    }

    /// What they were linked against.
    pub fn hosts(&self) -> Arc<Hosts> {
        Arc::clone(&self.hosts)
    }

    fn program(&mut self, reference: &Reference) -> Result<Program, Bad> {
        if let Some(known) = self.linked.get(reference) {
            return known.clone();
        }
        let program = self.link(reference);
        self.linked.insert(reference.clone(), program.clone());
        program
    }

    fn link(&mut self, reference: &Reference) -> Result<Program, Bad> {
        let from = Instant::now();
        let image = self.image(reference).map_err(|error| Bad::new(error.exit_code(), error))?;
        let compiled = image.cache == CacheUse::Compiled;
        self.compiled += usize::from(compiled);
        let program = self.hosts.link(&image);
        self.made.insert(reference.clone(), Made { from, to: Instant::now(), compiled });
        program.map_err(|error| match error {
            LinkError::Hosts(_) => Bad::new(EXIT_HOST, error),
            _ => Bad::new(EXIT_IMAGE, error),
        })
    }

    fn image(&self, reference: &Reference) -> Result<Image, image::ImageError> {
        let spinner = Spinner::new(self.display);
        let progress = |event: image::Event<'_>| spinner.show(event);
        let file = image::build::prepare(reference, self.build, &self.tools, &progress)?;
        self.store.load_with(&Reference::Local(file), &progress)
    }
}

/// The field of each container's image, in the order of [`Pod::all_containers`].
fn paths(pod: &Pod) -> impl Iterator<Item = (String, &Container)> {
    let fields = |list: &'static str, containers| {
        let indexed = <[Container]>::iter(containers).enumerate();
        indexed.map(move |(index, container)| (format!("spec.{list}[{index}].image"), container))
    };
    fields("initContainers", &pod.init_containers).chain(fields("containers", &pod.containers))
}

/// What is wrong with the images.
#[derive(Default)]
struct Report {
    code: Option<u8>,
    lines: Vec<String>,
}

impl Report {
    fn add(&mut self, path: &str, name: &str, bad: Bad) {
        self.code.get_or_insert(bad.code);
        self.lines.push(format!("{path}: {name:?}: {}", bad.reason));
    }

    fn finish(self) -> Result<(), Failure> {
        let Some(code) = self.code else { return Ok(()) };
        let what = counted(self.lines.len(), "image");
        Err(Failure::new(code, anyhow::anyhow!("{what} cannot be used\n{}", self.lines.join("\n"))))
    }
}
