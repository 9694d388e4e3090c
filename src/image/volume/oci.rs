//! OCI image layouts: <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>.
//!
//! ```text
//! oci-layout, index.json ─► manifest of this machine's platform ─► layers: archives, in order, with whiteouts
//!                              (an index in the index is followed)           or files by their titles (an artifact)
//! ```
//!
//! Every blob is named by its digest, and what is read has that digest or is refused.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::meter::{Hashing, Ticking};
use super::unpack::{Kind, Unpacker};
use super::{Packing, Unfinished};
use crate::image::{Digest, ImageError};

/// Bytes of an index or a manifest (the OCI distribution specification asks registries to take 4 MiB).
const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// Indexes in indexes.
const MAX_DEPTH: usize = 4;

/// Layers of one image: overlay file systems do not take as many.
const MAX_LAYERS: usize = 512;

/// What names a layer that is no archive (annotations.md; ORAS writes it for every file).
const TITLE: &str = "org.opencontainers.image.title";

/// A layout whose manifest has been read.
pub(super) struct Layout<'p> {
    path: &'p Path,
    digest: Digest,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

/// Whether the directory says that it is one.
pub(super) fn is_layout(path: &Path) -> bool {
    path.join("oci-layout").is_file() && path.join("index.json").is_file()
}

impl<'p> Layout<'p> {
    /// Reads the manifest of the image for this machine.
    pub(super) fn open(path: &'p Path) -> Result<Self, ImageError> {
        let bytes = read(path, &path.join("index.json"))?;
        let mut index: Index = parse(path, "index.json", &bytes)?;
        for _ in 0..MAX_DEPTH {
            let chosen = choose(path, index.manifests)?;
            let digest = digest(path, &chosen)?;
            let bytes = read(path, &blob(path, &digest))?;
            if Digest::of(&bytes) != digest || bytes.len() as u64 != chosen.size {
                return Err(damaged(path, &chosen.digest));
            }
            if !chosen.media_type.contains("index") && !chosen.media_type.contains("manifest.list") {
                let manifest: Manifest = parse(path, &chosen.digest, &bytes)?;
                if manifest.layers.len() > MAX_LAYERS {
                    return Err(ImageError::rejected(path, format!("has more than {MAX_LAYERS} layers")));
                }
                return Ok(Self { path, digest, layers: manifest.layers });
            }
            index = parse(path, &chosen.digest, &bytes)?;
        }
        Err(ImageError::rejected(path, format!("has more than {MAX_DEPTH} indexes in each other")))
    }

    /// The manifest's, which stands for all the content.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// Fills a directory with the content.
    pub(super) fn unpack(&self, into: &mut Unfinished, tick: &dyn Fn()) -> Result<(), ImageError> {
        let dir = into.open()?;
        let mut unpacker = Unpacker::new(self.path, Kind::Layers);
        for layer in &self.layers {
            let digest = digest(self.path, layer)?;
            let file = open(self.path, &blob(self.path, &digest))?;
            let mut blob = Hashing::new(Ticking::new(file, tick));
            match (packing(&layer.media_type), layer.annotations.get(TITLE)) {
                (Some(packing), _) => unpacker.unpack(packing.unpacked(&mut blob), &dir)?,
                (None, Some(title)) => unpacker.place(title, &mut blob, &dir)?,
                (None, None) => {
                    let reason = format!(
                        "has a layer of type {:?}: peapod takes tar and tar+gzip, and files with the annotation {TITLE}",
                        layer.media_type
                    );
                    return Err(ImageError::rejected(self.path, reason));
                }
            }
            let rest = io::copy(&mut (&mut blob).take(layer.size), &mut io::sink());
            rest.map_err(|error| ImageError::read(self.path, "read", error))?;
            if blob.count() != layer.size || blob.digest() != digest {
                return Err(damaged(self.path, &layer.digest));
            }
        }
        Ok(())
    }
}

/// What a layer's media type says, of OCI and of Docker.
fn packing(media_type: &str) -> Option<Packing> {
    match () {
        () if media_type.ends_with(".tar") => Some(Packing::Tar),
        () if media_type.ends_with("tar+gzip") || media_type.ends_with("tar.gzip") => Some(Packing::TarGzip),
        () => None,
    }
}

/// The manifest for this machine: the only one, or that of its platform.
fn choose(path: &Path, mut manifests: Vec<Descriptor>) -> Result<Descriptor, ImageError> {
    // As the Go toolchain, and so OCI, calls it.
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let fits = |manifest: &Descriptor| {
        let platform = manifest.platform.as_ref();
        platform.is_some_and(|own| own.os == "linux" && own.architecture == architecture)
    };
    let chosen = match manifests.len() {
        1 => Some(0),
        _ => manifests.iter().position(fits),
    };
    match chosen {
        Some(chosen) => Ok(manifests.swap_remove(chosen)),
        None if manifests.is_empty() => Err(ImageError::rejected(path, "has no manifest in its index.json")),
        None => Err(ImageError::rejected(
            path,
            format!(
                "has {} manifests, none of them for linux/{architecture}; copy the one image into a \
                 layout of its own, for example with skopeo copy",
                manifests.len()
            ),
        )),
    }
}

fn digest(path: &Path, descriptor: &Descriptor) -> Result<Digest, ImageError> {
    let digest = descriptor.digest.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
    digest.ok_or_else(|| {
        let reason = format!("has the digest {:?}: sha256: and 64 digits are wanted", descriptor.digest);
        ImageError::rejected(path, reason)
    })
}

fn blob(path: &Path, digest: &Digest) -> PathBuf {
    path.join("blobs/sha256").join(digest.hex())
}

fn damaged(path: &Path, name: &str) -> ImageError {
    ImageError::rejected(path, format!("is damaged: blob {name} has another content or size; copy it again"))
}

/// A regular file of the layout. Nothing else is opened; links are, as people share blobs between layouts.
fn open(layout: &Path, file: &Path) -> Result<File, ImageError> {
    let mut options = std::fs::OpenOptions::new();
    let opened = options.read(true).custom_flags(libc::O_NONBLOCK).open(file);
    let opened = opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ImageError::rejected(layout, format!("has no file {}", file.display())),
        _ => ImageError::read(file, "open", error),
    })?;
    match opened.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(opened),
        _ => Err(ImageError::rejected(layout, format!("has {}, which is no file", file.display()))),
    }
}

fn read(layout: &Path, file: &Path) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    let opened = open(layout, file)?;
    let read = opened.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| ImageError::read(file, "read", error))?;
    if bytes.len() as u64 > MAX_MANIFEST_BYTES {
        let limit = MAX_MANIFEST_BYTES >> 20;
        return Err(ImageError::rejected(layout, format!("has {}, larger than {limit} MiB", file.display())));
    }
    Ok(bytes)
}

fn parse<'b, T: Deserialize<'b>>(layout: &Path, name: &str, bytes: &'b [u8]) -> Result<T, ImageError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ImageError::rejected(layout, format!("has {name}, which cannot be read: {error}")))
}
