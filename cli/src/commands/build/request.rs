//! From the command line and the environment to a request of the engine.

use std::path::{Path, PathBuf};

use kiln_engine::host::{Pipes, read_named};
use kiln_engine::solver::lower::{self, NoCache};
use kiln_engine::solver::plan::Network;
use kiln_engine::solver::policy::Policy;
use kiln_engine::{BuildRequest, DockerfileAt, Input, NamedSource, Place, Reference};

use super::super::output::OutputOptions;
use super::{Args, StepNetwork};
use crate::build_options::{self as options, Allow};
use crate::errors::Failure;
use crate::ssh_agent::Agent;

/// The variable by which `docker buildx build` is given a policy.
const POLICY: &str = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY";

/// The largest policy file, in bytes.
const MAX_POLICY_BYTES: u64 = 4 << 20;

/// The variable that is a build argument as well.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The request, and whether `type=docker` without a file asks for the store. SSH agents that are started for it
/// are put into `agents`, and end with it.
pub(super) fn of(args: &Args, agents: &mut Vec<Agent>) -> Result<(BuildRequest, bool), Failure> {
    let mut request = BuildRequest::new(Place::parse(&args.context));
    let names = args.tag.iter().map(|text| {
        Reference::parse_new(text).map_err(|e| Failure::usage(format!("--tag `{text}`: {e}")))
    });
    request.names = names.collect::<Result<_, _>>()?;
    let outputs = OutputOptions::parse(&args.output, args.load, &args.annotation)?;
    request.outputs = outputs.outputs;
    request.push = args.push;
    request.outputs.destinations(args.push, &request.names)?;
    for (flag, list) in [
        ("--provenance", &args.provenance),
        ("--sbom", &args.sbom),
        ("--attest", &args.attest),
    ] {
        for text in list {
            options::no_attestations(flag, text)?;
        }
    }
    args.docker.tell()?;
    request.limits = args.limits.limits()?;
    request.max_download = sized("--max-download", args.max_download.as_deref())?;
    for text in &args.secret {
        let (id, source) = options::secret(text)?;
        request.secrets.insert(id, source);
    }
    request.devices = options::devices(&args.allow);
    for text in &args.ssh {
        let (id, agent) = options::ssh(text, agents)?;
        request.ssh.insert(id, agent);
    }
    request.policy = policy(args.source_policy_file.as_deref())?;
    files(args, &mut request)?;
    request.build_args = build_args(args)?;
    request.target = args.target.clone().filter(|target| !target.is_empty());
    request.labels = options::labels(&args.label)?;
    let platform = args.platform.as_deref().filter(|text| !text.is_empty());
    request.platform = match platform {
        None => None,
        Some(text) => {
            let parsed = text.parse();
            Some(parsed.map_err(|e| Failure::usage(format!("--platform `{text}`: {e}")))?)
        }
    };
    let steps = args.rerun.iter().map(|text| options::step(text));
    request.no_cache = NoCache {
        all: args.no_cache,
        stages: args.no_cache_filter.iter().cloned().collect(),
        steps: steps.collect::<Result<_, _>>()?,
    };
    request.clear_cache_mounts = args.no_cache_mounts;
    request.cache_ttl = args
        .cache_ttl
        .as_deref()
        .map(options::duration)
        .transpose()?;
    request.check_reproducible = args.check_reproducible;
    request.pull = args.pull;
    request.network = match args.network {
        StepNetwork::Default => Network::Default,
        StepNetwork::None => Network::None,
        StepNetwork::Host => Network::Host,
    };
    let hosts = args.add_host.iter().map(|text| options::host(text));
    request.extra_hosts = hosts.collect::<Result<_, _>>()?;
    let ulimits = args.ulimit.iter().map(|text| options::ulimit(text));
    request.ulimits = ulimits.collect::<Result<_, _>>()?;
    request.shm_size = sized("--shm-size", args.shm_size.as_deref())?;
    request.allow_insecure = args.allow.contains(&Allow::SecurityInsecure);
    request.squash = args.squash;
    let inline = request.build_args.get("BUILDKIT_INLINE_CACHE");
    let inline = inline.is_some_and(|value| matches!(value.as_str(), "1" | "true"));
    request.remote_caches = args.share.request(inline)?;
    Ok((request, outputs.loads))
}

fn sized(flag: &str, text: Option<&str>) -> Result<Option<u64>, Failure> {
    text.map(|text| options::size(flag, text)).transpose()
}

/// The Dockerfile, standard input, and the contexts with names.
fn files(args: &Args, request: &mut BuildRequest) -> Result<(), Failure> {
    request.dockerfile = match args.file.as_deref() {
        None => DockerfileAt::Default,
        Some("-") => DockerfileAt::Input,
        Some(path) => DockerfileAt::File(path.into()),
    };
    if request.dockerfile == DockerfileAt::Input || request.context == Place::Input {
        request.input = Some(Input {
            name: "standard input".into(),
            stream: Box::new(std::io::stdin()),
        });
    }
    for text in &args.build_context {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--build-context `{text}`: write NAME=VALUE")))?;
        let name = name.to_lowercase();
        let source = NamedSource::parse(value);
        if source == NamedSource::Place(Place::Input) {
            return Err(Failure::usage(format!(
                "--build-context `{text}`: it cannot be standard input"
            )));
        }
        request.contexts.push((name, source));
    }
    Ok(())
}

/// The build arguments, with those of the environment that every build has.
fn build_args(args: &Args) -> Result<std::collections::BTreeMap<String, String>, Failure> {
    let mut build_args = options::assignments(&args.build_arg)?;
    for name in lower::PROXY_ARGS {
        if let Ok(value) = std::env::var(name) {
            build_args.entry(name.to_owned()).or_insert(value);
        }
    }
    let epoch = std::env::var(EPOCH).ok().filter(|text| !text.is_empty());
    if let Some(text) = epoch {
        build_args.entry(EPOCH.to_owned()).or_insert(text);
    }
    Ok(build_args)
}

/// `--source-policy-file`, or the file of the variable.
fn policy(file: Option<&Path>) -> Result<Policy, Failure> {
    let given = std::env::var_os(POLICY).filter(|path| !path.is_empty());
    let Some(path) = file.map(Path::to_owned).or(given.map(PathBuf::from)) else {
        return Ok(Policy::default());
    };
    let shown = path.display();
    // A policy that was read in part would allow what the rest denies.
    let json = read_named(&path, MAX_POLICY_BYTES, Pipes::Taken)
        .map_err(|e| Failure::new(format!("cannot read source policy `{shown}`: {}", e.source)))?;
    Policy::parse(&json).map_err(|e| Failure::new(format!("source policy `{shown}`: {e}")))
}
