//! Options of `docker build` about the resources of steps, and those that have no meaning here.

use clap::builder::BoolishValueParser;
use kiln_engine::CgroupLimits;

use crate::build_options::size;
use crate::errors::Failure;
use crate::ui;

/// Limits of steps.
#[derive(Debug, clap::Args)]
pub(super) struct LimitArgs {
    /// Memory of each RUN step, with k, m or g
    #[arg(short = 'm', long, value_name = "SIZE")]
    memory: Option<String>,
    /// Memory and swap of each RUN step together; -1 is unlimited swap
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Weight of RUN steps when processors are short; 1024 is usual
    #[arg(short = 'c', long, value_name = "WEIGHT")]
    cpu_shares: Option<u64>,
    /// Microseconds in which --cpu-quota is counted [default: 100000]
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// Microseconds of processor time of each RUN step in a period
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Processors of RUN steps, such as 0-3,5
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes of RUN steps, such as 0,1
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Cgroup that those of RUN steps are made in
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
}

impl LimitArgs {
    /// The limits of each step.
    ///
    /// # Errors
    /// A value that no kernel would take.
    pub(super) fn limits(&self) -> Result<CgroupLimits, Failure> {
        // As to docker, zero is what is not given.
        let unset = |text: &String| text.is_empty() || text == "0";
        let given = |text: &Option<String>| text.clone().filter(|text| !unset(text));
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let cpu_period = self.cpu_period.filter(|n| *n != 0);
        let cpu_quota = self.cpu_quota.filter(|n| *n != 0);
        let cpu_shares = self.cpu_shares.filter(|n| *n != 0);
        let memory = match given(&self.memory) {
            Some(text) => Some(size("--memory", &text)?),
            None => None,
        };
        if memory.is_some_and(|bytes| bytes < MIN_MEMORY) {
            let text = "--memory: a step needs 6m at least";
            return Err(Failure::usage(text).with_hint("without a letter it is bytes"));
        }
        let memory_swap = match given(&self.memory_swap).as_deref() {
            None => None,
            Some("-1") => Some(-1),
            Some(text) => Some(i64::try_from(size("--memory-swap", text)?).unwrap_or(i64::MAX)),
        };
        match (memory, memory_swap) {
            (None, Some(_)) => {
                return Err(Failure::usage("--memory-swap needs --memory")
                    .with_hint("it is the limit of memory and swap together"));
            }
            (Some(memory), Some(both)) if u64::try_from(both).is_ok_and(|both| both < memory) => {
                let text = "--memory-swap is memory and swap together, and below --memory here";
                return Err(Failure::usage(text));
            }
            _ => {}
        }
        // What the kernel takes (Documentation/scheduler/sched-bwc.rst).
        if cpu_period.is_some_and(|n| !(1_000..=1_000_000).contains(&n)) {
            let text = "--cpu-period: a period has 1000 to 1000000 microseconds";
            return Err(Failure::usage(text));
        }
        if cpu_quota.is_some_and(|n| n != -1 && n < 1_000) {
            let text = "--cpu-quota: a quota has at least 1000 microseconds, or is -1";
            return Err(Failure::usage(text));
        }
        if cpu_shares.is_some_and(|n| !(2..=262_144).contains(&n)) {
            return Err(Failure::usage("--cpu-shares: a weight is 2 to 262144"));
        }
        for (flag, list) in [
            ("--cpuset-cpus", &self.cpuset_cpus),
            ("--cpuset-mems", &self.cpuset_mems),
        ] {
            if let Some(text) = list.as_deref().filter(|text| !is_list(text)) {
                return Err(Failure::usage(format!(
                    "{flag} `{text}`: write it as 0-3,5"
                )));
            }
        }
        if let Some(path) =
            (self.cgroup_parent.as_deref()).filter(|path| path.split('/').any(|part| part == ".."))
        {
            let text = format!("--cgroup-parent `{path}`: a cgroup is named without `..`");
            return Err(Failure::usage(text));
        }
        Ok(CgroupLimits {
            memory,
            memory_swap,
            cpu_shares,
            cpu_period,
            cpu_quota,
            cpuset_cpus: some(&self.cpuset_cpus),
            cpuset_mems: some(&self.cpuset_mems),
            parent: some(&self.cgroup_parent),
        })
    }
}

/// Whether this is a list as the kernel has it, such as `0-3,5` (cpuset(7), "List format"), or nothing.
fn is_list(text: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().ok();
    text.is_empty()
        || text.split(',').all(|part| match part.split_once('-') {
            None => number(part).is_some(),
            Some((from, to)) => match (number(from), number(to)) {
                (Some(from), Some(to)) => from <= to,
                _ => false,
            },
        })
}

/// Bytes of memory that docker gives a container at least.
const MIN_MEMORY: u64 = 6 << 20;

/// What scripts written for docker may say.
#[derive(Debug, clap::Args)]
pub(super) struct DockerArgs {
    /// As Docker has it: remove the containers of steps, of which kiln keeps none anyway
    #[arg(long, alias = "force-rm", hide = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new())]
    rm: Option<bool>,
    /// As Docker has it: compress the context, which kiln reads in place
    #[arg(long, hide = true)]
    compress: bool,
    /// As Docker has it: how containers are isolated
    #[arg(long, hide = true, value_name = "default")]
    isolation: Option<String>,
    /// As Docker has it: skip the verification of signatures
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new())]
    disable_content_trust: Option<bool>,
    /// As buildx has it: which builder builds
    #[arg(
        long,
        hide = true,
        value_name = "NAME",
        env = "BUILDX_BUILDER",
        hide_env = true
    )]
    builder: Option<String>,
    /// As Docker has it: options of security
    #[arg(long, hide = true, value_name = "OPTION")]
    security_opt: Vec<String>,
}

impl DockerArgs {
    /// Says what has no meaning here, a line each.
    ///
    /// # Errors
    /// Something is asked for that kiln does not do.
    pub(super) fn tell(&self) -> Result<(), Failure> {
        if self.rm == Some(false) {
            let text = "--rm=false: kiln keeps no containers of steps";
            return Err(Failure::usage(text));
        }
        if let Some(text) = (self.isolation.as_deref()).filter(|t| !matches!(*t, "" | "default")) {
            let text = format!("--isolation `{text}`: there is one kind, `default`");
            return Err(Failure::usage(text));
        }
        if let Some(text) = self.security_opt.first() {
            return Err(Failure::usage(format!(
                "--security-opt `{text}`: options of security are not supported"
            ))
            .with_hint(
                "RUN --security=insecure with --allow security.insecure lifts the sandbox",
            ));
        }
        if self.disable_content_trust == Some(false) {
            let text = "--disable-content-trust=false: kiln verifies no signatures of images";
            return Err(Failure::usage(text));
        }
        let told = [
            (self.compress, "--compress: a context is read in place"),
            (self.isolation.is_some(), "--isolation: there is one kind"),
            (
                self.disable_content_trust.is_some(),
                "--disable-content-trust: signatures of images are not looked at",
            ),
            (
                self.builder.as_ref().is_some_and(|name| !name.is_empty()),
                "--builder: there is one builder, this kiln",
            ),
            (
                std::env::var("DOCKER_BUILDKIT").is_ok_and(|v| matches!(v.as_str(), "0" | "false")),
                "DOCKER_BUILDKIT=0: there is one builder, this kiln",
            ),
        ];
        ui::no_effect(&told);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    #[command(args_override_self = true)]
    struct Line {
        #[command(flatten)]
        limits: LimitArgs,
        #[command(flatten)]
        docker: DockerArgs,
    }

    fn limits(line: &str) -> Result<CgroupLimits, Failure> {
        let words = std::iter::once("x").chain(line.split(' ').filter(|w| !w.is_empty()));
        Line::try_parse_from(words).unwrap().limits.limits()
    }

    #[test]
    fn limits_are_read_or_refused() {
        let all = limits(
            "-m 64m --memory-swap 1g -c 512 --cpu-period 50000 --cpu-quota 25000 \
             --cpuset-cpus 0-1 --cpuset-mems 0 --cgroup-parent /a/b",
        )
        .unwrap();
        assert_eq!(all.memory, Some(64 << 20));
        assert_eq!(all.memory_swap, Some(1 << 30));
        assert_eq!((all.cpu_shares, all.cpu_period), (Some(512), Some(50_000)));
        assert_eq!(all.parent.as_deref(), Some("/a/b"));
        assert!(limits("").unwrap().is_empty());
        let zeros = "-m 0 --memory-swap 0 -c 0 --cpu-period 0 --cpu-quota 0";
        assert!(limits(zeros).unwrap().is_empty());
        assert_eq!(
            limits("-m 1g --memory-swap -1").unwrap().memory_swap,
            Some(-1)
        );
        for bad in [
            "--memory-swap 1g",
            "-m 1g --memory-swap 1m",
            "-m much",
            "-m 20",
            "--cpu-period 10",
            "--cpu-quota 1",
            "-c 1",
            "--cpuset-cpus a",
            "--cpuset-cpus 3-1",
            "--cpuset-mems 1,",
            "--cgroup-parent ../x",
        ] {
            assert!(limits(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_docker_takes_is_taken_or_refused_by_name() {
        for (line, fine) in [
            ("--compress --isolation=default --rm --force-rm=true", true),
            ("--disable-content-trust --builder x", true),
            ("--isolation=hyperv", false),
            ("--security-opt seccomp=unconfined", false),
            ("--rm=false", false),
            ("--disable-content-trust=false", false),
        ] {
            let words = std::iter::once("x").chain(line.split(' '));
            let told = Line::try_parse_from(words).unwrap().docker.tell();
            assert_eq!(told.is_ok(), fine, "{line}");
        }
    }
}
