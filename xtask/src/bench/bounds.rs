//! What must be reached, and whether it is.

/// Memory of kiln's processes where a row names no other bound, in MB.
pub(super) const MEMORY_MB: u64 = 150;

/// What kiln must reach: at most this.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Kiln's time, in seconds.
    pub(super) seconds: Option<f64>,
    /// Kiln's time over Docker's.
    pub(super) to_docker: Option<f64>,
    /// Kiln's time over buildah's.
    pub(super) to_buildah: Option<f64>,
    /// Kiln's time over that of a former build.
    pub(super) to_before: Option<f64>,
    /// Kiln's time over what it takes without an engine.
    pub(super) to_bare: Option<f64>,
    /// Seconds that kiln takes beyond that.
    pub(super) beyond_bare: Option<f64>,
    /// The peak of its memory, in MB.
    pub(super) memory_mb: u64,
}

/// None but that of memory.
pub(super) const UNBOUND: Bounds = Bounds {
    seconds: None,
    to_docker: None,
    to_buildah: None,
    to_before: None,
    to_bare: None,
    beyond_bare: None,
    memory_mb: MEMORY_MB,
};

/// So many seconds at most.
pub(super) const fn within(seconds: f64) -> Bounds {
    Bounds {
        seconds: Some(seconds),
        ..UNBOUND
    }
}

/// How a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Every bound that was measured is kept, and all were measured.
    Reached,
    /// Those that were measured are kept; what another one compares with was not there.
    NotCompared,
    /// A bound is not kept.
    Missed,
}

impl Verdict {
    /// For a table.
    pub(super) fn shown(self) -> &'static str {
        match self {
            Self::Reached => "yes",
            Self::NotCompared => "not compared",
            Self::Missed => "**no**",
        }
    }
}

impl Bounds {
    /// The bound of kiln's time over that of the engine with this title.
    pub(super) fn to(&self, engine: &str) -> Option<f64> {
        match engine {
            "Docker" => self.to_docker,
            "buildah" => self.to_buildah,
            "before" => self.to_before,
            _ => None,
        }
    }

    /// Whether what was measured keeps to them: kiln's seconds, those of other engines, those without
    /// one, and the peak of memory.
    pub(super) fn judge(
        &self,
        kiln: f64,
        others: &[(&str, f64)],
        bare: Option<f64>,
        peak_kb: u64,
    ) -> Verdict {
        let mut checks = vec![
            self.seconds.map(|most| Some(kiln <= most)),
            self.to_bare.map(|most| bare.map(|b| kiln <= most * b)),
            self.beyond_bare.map(|most| bare.map(|b| kiln - b <= most)),
            Some(Some(peak_kb <= self.memory_mb * 1024)),
        ];
        for engine in ["Docker", "buildah", "before"] {
            let other = others.iter().find(|(title, _)| *title == engine);
            let kept = |most: f64| other.map(|(_, time)| kiln <= most * time);
            checks.push(self.to(engine).map(kept));
        }
        let checks: Vec<Option<bool>> = checks.into_iter().flatten().collect();
        if checks.contains(&Some(false)) {
            Verdict::Missed
        } else if checks.contains(&None) {
            Verdict::NotCompared
        } else {
            Verdict::Reached
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_judged_by_all_of_its_bounds() {
        let docker = Bounds {
            to_docker: Some(0.1),
            ..UNBOUND
        };
        let bare = Bounds {
            to_bare: Some(1.25),
            ..UNBOUND
        };
        let beyond = Bounds {
            beyond_bare: Some(0.008),
            ..UNBOUND
        };
        let small = Bounds {
            memory_mb: 1,
            ..UNBOUND
        };
        let peers: &[(&str, f64)] = &[("Docker", 10.0), ("buildah", 0.1)];
        for (bounds, kiln, others, bare, expected) in [
            (UNBOUND, 9.0, peers, None, Verdict::Reached),
            (within(1.0), 1.0, peers, None, Verdict::Reached),
            (within(1.0), 1.1, peers, None, Verdict::Missed),
            (docker, 1.0, peers, None, Verdict::Reached),
            (docker, 1.1, peers, None, Verdict::Missed),
            (docker, 1.1, &[], None, Verdict::NotCompared),
            (bare, 1.2, &[], Some(1.0), Verdict::Reached),
            (bare, 1.3, &[], Some(1.0), Verdict::Missed),
            (beyond, 0.018, &[], Some(0.011), Verdict::Reached),
            (beyond, 0.020, &[], Some(0.011), Verdict::Missed),
            (small, 0.0, &[], None, Verdict::Missed),
        ] {
            let verdict = bounds.judge(kiln, others, bare, 2000);
            assert_eq!(verdict, expected, "{bounds:?} {kiln} {others:?} {bare:?}");
        }
    }
}
