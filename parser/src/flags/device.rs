//! `RUN --device=...`.

use super::{FlagError, fields};
use crate::suggest::did_you_mean;

/// A decoded `--device` value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Name of the device: `vendor/class` with or without `=name`, where the name may be `*` or the
    /// value of a class annotation.
    pub name: String,
    /// That the device is missing is an error.
    pub required: bool,
}

/// Decodes the value of `--device`: `[name=]NAME[,required[=true|false]]`.
///
/// # Errors
/// On malformed CSV, unknown options, a second name, or none.
pub fn parse_device(value: &str) -> Result<DeviceSpec, FlagError> {
    let mut name: Option<String> = None;
    let mut required = false;
    for field in fields("device", value)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        match (key.to_ascii_lowercase().as_str(), value) {
            ("required", None | Some("1" | "t" | "T" | "true" | "TRUE" | "True")) => {
                required = true;
            }
            ("required", Some("0" | "f" | "F" | "false" | "FALSE" | "False")) => required = false,
            ("required", Some(other)) => {
                return Err(FlagError::new(format!(
                    "the device option `required` is neither true nor false: {other:?}"
                )));
            }
            ("name", Some(value)) if name.is_none() => name = Some(value.to_owned()),
            ("name", Some(value)) => {
                return Err(FlagError::new(format!("a second device name: `{value}`")));
            }
            // A name has an equals sign itself.
            _ if name.is_none() => name = Some(field),
            _ => {
                return Err(FlagError::new(format!("unknown device option `{key}`"))
                    .with_help(did_you_mean("", key, &["name", "required"])));
            }
        }
    }
    let name = name
        .filter(|name| !name.is_empty())
        .ok_or_else(|| FlagError::new("the device has no name"))?;
    let kind = name.split('=').next().unwrap_or_default();
    if !is_kind(kind) {
        return Err(
            FlagError::new(format!("`{name}` is not the name of a device"))
                .with_help(Some("write it as `vendor.com/class=name`".to_owned())),
        );
    }
    Ok(DeviceSpec { name, required })
}

/// Whether this is a vendor and a class, as the Container Device Interface has them.
fn is_kind(kind: &str) -> bool {
    let plain = |text: &str, others: &str| {
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let inside = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && ends(text.chars().last())
            && text.chars().all(inside)
    };
    kind.split_once('/')
        .is_some_and(|(vendor, class)| plain(vendor, "-_.") && plain(class, "-_."))
}
