//! Layers as they leave the store: their blobs as pulled, or their tars made again and compressed.

use std::fs::File;
use std::io::{BufReader, Read, Write as _};
use std::path::Path;

use kiln_image::compression::{Encoder, decoder, padding};
use kiln_image::{Algorithm, Compression, Descriptor, DiffId, VerifyingReader, media_type};

use crate::error::{Error, Result};
use crate::layers::{Layer, LayerId};
use crate::pack::{Packed, pack};
use crate::store::Store;

mod packing;

use packing::Packing;

/// Size of reads.
const READ: usize = 256 << 10;

/// How layers are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerForm {
    /// The compression.
    pub compression: Compression,
    /// The format's level; none is the usual one.
    pub level: Option<i32>,
    /// Layers of the base image too, which otherwise keep the form in which they were pulled.
    pub all: bool,
}

/// A layer that is ready to be written.
#[derive(Debug)]
pub struct LayerBlob {
    /// As it is written, with an OCI type.
    pub descriptor: Descriptor,
    /// Its tar, if it is not a blob of the store.
    tar: Option<Box<Tar>>,
}

/// Where the tar of a layer comes from.
#[derive(Clone, Debug)]
struct Tar {
    diff_id: DiffId,
    size: u64,
    /// A blob that holds it, else it is made from the layer's directory.
    blob: Option<Descriptor>,
    layer: Layer,
}

impl LayerBlob {
    /// The bytes.
    ///
    /// # Errors
    /// A file of the store cannot be opened.
    pub fn open(&self, store: &Store) -> Result<Box<dyn Read + Send>> {
        match &self.tar {
            None => {
                let path = store.blob_path(&self.descriptor.digest);
                let file = File::open(path).map_err(|e| Error::io("open layer blob", e))?;
                let file = BufReader::with_capacity(READ, file);
                // What has been damaged since it was stored goes nowhere.
                Ok(Box::new(VerifyingReader::new(file, &self.descriptor)))
            }
            Some(tar) => tar.open(store),
        }
    }

    /// Makes a blob of the store of it, if it is not one.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn into_stored(self, store: &Store) -> Result<Descriptor> {
        let Some(tar) = self.tar else {
            return Ok(self.descriptor);
        };
        let form = LayerForm {
            compression: Compression::None,
            level: None,
            all: false,
        };
        compress(store, &tar, form, None)
    }
}

impl Tar {
    /// Reads the tar; it is an error at the end if it is not what it was when it got its diff id.
    fn open(&self, store: &Store) -> Result<Box<dyn Read + Send>> {
        let Some(blob) = &self.blob else {
            return Ok(Box::new(Packing::start(store, &self.layer)?));
        };
        let file = File::open(store.blob_path(&blob.digest));
        let file = file.map_err(|e| Error::io("open layer blob", e))?;
        let (_, plain) = decoder(Box::new(file)).map_err(|e| Error::io("read layer blob", e))?;
        let wanted = Descriptor::new(
            media_type::OCI_LAYER,
            self.diff_id.digest().clone(),
            self.size,
        );
        Ok(Box::new(VerifyingReader::new(plain, &wanted)))
    }
}

/// A layer that is in the store.
#[derive(Clone, Debug)]
pub struct StoredLayer<'a> {
    /// Digest of its tar.
    pub diff_id: DiffId,
    /// Its name, where it is known.
    pub id: Option<&'a LayerId>,
    /// The blob as which it was pulled, if it belongs to an image.
    pub pulled: Option<&'a Descriptor>,
}

impl Store {
    /// Makes a layer ready to be written in this form.
    ///
    /// # Errors
    /// The layer is gone, or cannot be written in this form.
    pub fn layer_blob(&self, layer: &StoredLayer<'_>, form: LayerForm) -> Result<LayerBlob> {
        if let Some(pulled) = layer.pulled
            && !form.all
            && let Some(kind) = Compression::of_media_type(&pulled.media_type)
            && kind != Compression::None
            && let Some(descriptor) = stored(self, pulled, kind)
        {
            return Ok(LayerBlob {
                descriptor,
                tar: None,
            });
        }
        let known = self.blobs_of(&layer.diff_id)?;
        let same = known
            .iter()
            .find(|b| Compression::of_media_type(&b.media_type) == Some(form.compression));
        if form.level.is_none()
            && let Some(descriptor) = same.and_then(|b| stored(self, b, form.compression))
        {
            return Ok(LayerBlob {
                descriptor,
                tar: None,
            });
        }
        let tar = self.layer_tar(layer, known.into_iter().next())?;
        if form.compression == Compression::None {
            let kind = media_type::OCI_LAYER;
            let descriptor = Descriptor::new(kind, layer.diff_id.digest().clone(), tar.size);
            return Ok(LayerBlob {
                descriptor,
                tar: Some(Box::new(tar)),
            });
        }
        let descriptor = compress(self, &tar, form, None)?;
        Ok(LayerBlob {
            descriptor,
            tar: None,
        })
    }

    /// A layer as a compressed blob of a digest that no blob had before.
    ///
    /// # Errors
    /// The layer is gone, or cannot be written in this form.
    pub fn new_layer_blob(&self, layer: &StoredLayer<'_>, form: LayerForm) -> Result<Descriptor> {
        let blob = self.blobs_of(&layer.diff_id)?.into_iter().next();
        let tar = self.layer_tar(layer, blob)?;
        let mut salt = [0; 16];
        kiln_sys::system::random(&mut salt)?;
        compress(self, &tar, form, Some(salt))
    }

    fn layer_tar(&self, layer: &StoredLayer<'_>, blob: Option<Descriptor>) -> Result<Tar> {
        let row = match layer.id {
            Some(id) => self.layer(id.as_str())?,
            None => self.layer_by_diff(&layer.diff_id)?,
        };
        let row = row.ok_or_else(|| Error::LayerGone(layer.diff_id.clone()))?;
        Ok(Tar {
            diff_id: layer.diff_id.clone(),
            size: row.tar_size,
            blob,
            layer: row,
        })
    }

    /// Packs a new layer for somebody who will want its blob: makes that on the way, so that the files are
    /// read once. Only for a form of the usual level.
    ///
    /// # Errors
    /// A file cannot be read, or the blob cannot be written.
    pub fn pack_with_blob(
        &self,
        dir: &Path,
        epoch: Option<u64>,
        compression: Compression,
    ) -> Result<Packed> {
        let media_type = layer_type(compression)?;
        let failed = |e| Error::io("compress layer", e);
        let writer = self.blob_writer(Algorithm::Sha256)?;
        let mut encoder = Encoder::new(writer, compression, None, threads()).map_err(failed)?;
        let packed = pack(dir, epoch, &mut encoder)?;
        let writer = encoder.finish().map_err(failed)?;
        let size = writer.size();
        let blob = Descriptor::new(media_type, writer.finish(None)?, size);
        self.note_blob(&packed.diff_id, &blob)?;
        Ok(packed)
    }
}

/// The descriptor of a blob that is in the store, with OCI's type.
fn stored(store: &Store, blob: &Descriptor, kind: Compression) -> Option<Descriptor> {
    let media_type = kind.oci_layer_type()?;
    let there = store.has_blob(&blob.digest);
    there.then(|| Descriptor::new(media_type, blob.digest.clone(), blob.size))
}

fn layer_type(compression: Compression) -> Result<&'static str> {
    let kind = compression.oci_layer_type();
    kind.ok_or(Error::NoLayerForm(compression))
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

/// Compresses a tar into a blob of the store. A salt makes its digest another.
fn compress(
    store: &Store,
    tar: &Tar,
    form: LayerForm,
    salt: Option<[u8; 16]>,
) -> Result<Descriptor> {
    let media_type = layer_type(form.compression)?;
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::InvalidData => Error::LayerNotRepeatable {
            diff_id: tar.diff_id.clone(),
            why: e,
        },
        _ => Error::io("compress layer", e),
    };
    let writer = store.blob_writer(Algorithm::Sha256)?;
    let mut encoder =
        Encoder::new(writer, form.compression, form.level, threads()).map_err(failed)?;
    let mut input = BufReader::with_capacity(READ, tar.open(store)?);
    std::io::copy(&mut input, &mut encoder).map_err(failed)?;
    let mut writer = encoder.finish().map_err(failed)?;
    if let Some(padding) = salt.and_then(|salt| padding(form.compression, salt)) {
        writer.write_all(&padding).map_err(failed)?;
    }
    let size = writer.size();
    let blob = Descriptor::new(media_type, writer.finish(None)?, size);
    if form.level.is_none() && salt.is_none() {
        store.note_blob(&tar.diff_id, &blob)?;
    }
    Ok(blob)
}
