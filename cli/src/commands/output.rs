//! `--output`: where a build's result goes.

use std::collections::BTreeMap;

use kiln_executor::Engine;
use kiln_executor::export::Assembled;
use kiln_image::Reference;

use crate::errors::Failure;

/// One `--output`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// The store.
    Image,
}

impl Output {
    /// Whether the image goes into the store.
    pub(crate) fn is_image(&self) -> bool {
        matches!(self, Self::Image)
    }
}

/// Reads the options.
pub(crate) fn parse(list: &[String]) -> Result<Vec<Output>, Failure> {
    list.iter()
        .map(|text| match text.as_str() {
            "type=image" => Ok(Output::Image),
            _ => Err(Failure::usage(format!("--output `{text}`: unknown type"))),
        })
        .collect()
}

/// Writes the result.
pub(crate) fn write(
    _engine: &Engine,
    _output: &Output,
    _image: &Assembled,
    _names: &[Reference],
    _annotations: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    Ok(())
}
