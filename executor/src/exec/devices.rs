//! `RUN --device`: what a step gets of the devices of this machine.

use kiln_sandbox::cdi::{self, CdiError, Registry};
use kiln_solver::Hint;
use kiln_solver::plan::ExecDevice;

use super::StepRunner;
use crate::error::{Error, Result};

impl StepRunner {
    /// What the sandbox of a step needs for its devices. One that is missing and not required is
    /// left out.
    pub(super) fn devices(&self, wanted: &[ExecDevice]) -> Result<cdi::Edits> {
        if wanted.is_empty() {
            return Ok(cdi::Edits::default());
        }
        let registry = Registry::read(&self.settings.device_dirs);
        let mut given = Vec::new();
        for device in wanted {
            let found = registry.find(&device.name).map_err(|e| unusable(&e))?;
            if found.is_empty() && device.required {
                return Err(self.unknown(&registry, &device.name));
            }
            for found in found {
                if !found.auto_allow && !self.settings.inputs.devices.has(&found.name) {
                    return Err(Error::Missing {
                        text: format!("device `{}` is not allowed", found.name),
                        hint: Hint::AllowDevice {
                            name: found.name.clone(),
                        },
                    });
                }
                // Several names may stand for one device.
                if !given.iter().any(|d: &&cdi::Device| d.name == found.name) {
                    given.push(found);
                }
            }
        }
        cdi::edits(&given).map_err(|e| unusable(&e))
    }

    fn unknown(&self, registry: &Registry, name: &str) -> Error {
        let dirs: Vec<_> = self
            .settings
            .device_dirs
            .iter()
            .map(|d| d.display().to_string())
            .collect();
        let hint = match registry.broken() {
            [] => Hint::DeviceDirectories(dirs),
            broken => Hint::DeviceFiles(broken.iter().map(ToString::to_string).collect()),
        };
        Error::Missing {
            text: format!("device `{name}` is not known on this machine"),
            hint,
        }
    }
}

fn unusable(error: &CdiError) -> Error {
    Error::Missing {
        text: error.to_string(),
        hint: Hint::SeeDeviceFiles,
    }
}
