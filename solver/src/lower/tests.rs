//! Dockerfiles in, steps, configs and errors out.

use super::*;
use crate::plan::{Action, ImageName, Op};
use crate::ports::PortError;

/// Knows images whose names are `base`, and one with triggers.
struct Images;

impl Resolver for Images {
    async fn resolve(
        &self,
        reference: &str,
        platform: &Platform,
    ) -> Result<ResolvedImage, PortError> {
        let mut config = ImageConfig::for_platform(platform);
        match reference {
            "base" => {}
            "trigger" => config.config.on_build = vec!["RUN echo triggered".into()],
            _ => return Err(PortError::new(format!("no image {reference}"))),
        }
        config.config.env = vec!["PATH=/bin".into(), "BASE=yes".into()];
        Ok(ResolvedImage {
            name: ImageName::Written(reference.into()),
            id: kiln_image::Digest::of(b""),
            config,
        })
    }

    async fn changed(&self, source: &SourceKind) -> Result<Option<u64>, PortError> {
        match source {
            SourceKind::Context { name } if name == "local" => Ok(None),
            SourceKind::Context { .. } => Ok(Some(1)),
            SourceKind::Http { url, .. } => Ok(url.rsplit('/').next().and_then(|n| n.parse().ok())),
            SourceKind::Git { .. } => Ok(Some(7)),
            SourceKind::Image { .. } => Err(PortError::new("an image has no time")),
        }
    }
}

fn build(text: &str, change: impl FnOnce(&mut Request<'_>)) -> Result<Lowered, LowerError> {
    let parsed = kiln_parser::parse(text);
    assert!(!parsed.has_errors(), "{:?}", parsed.diagnostics);
    let platform: Platform = "linux/amd64".parse().unwrap();
    let mut request = Request {
        dockerfile: &parsed.dockerfile,
        source: text,
        target: None,
        every_stage: false,
        without_images: false,
        build_args: BTreeMap::new(),
        labels: BTreeMap::new(),
        platform: platform.clone(),
        platform_given: false,
        build_platform: platform,
        contexts: BTreeMap::new(),
        context: SourceKind::Context {
            name: "context".into(),
        },
        no_cache: NoCache::default(),
        project: String::new(),
        network: Network::Default,
        extra_hosts: vec![],
        ulimits: vec![],
        shm_size: None,
        allow_insecure: false,
        policy: Default::default(),
    };
    change(&mut request);
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(lower(&request, &Images, &Findings::default()))
}

fn names(lowered: &Lowered) -> Vec<String> {
    let targets: Vec<_> = lowered.target.into_iter().collect();
    let order = lowered.plan.reachable(&targets);
    order
        .iter()
        .map(|id| lowered.plan.vertex(*id).name.clone())
        .collect()
}

/// The environment of the last command.
fn env(lowered: &Lowered) -> Vec<(String, String)> {
    match &lowered.plan.vertex(lowered.target.unwrap()).op {
        Op::Exec(exec) => {
            let env = exec.env.iter();
            env.map(|v| (v.name.clone(), v.value.clone())).collect()
        }
        _ => panic!("the target is no command"),
    }
}

#[test]
fn stages_that_the_target_does_not_reach_are_not_planned() {
    let text = "FROM base AS a\nRUN one\nFROM base AS b\nRUN two\nFROM base\nCOPY --from=a /x /\n";
    let all = names(&build(text, |_| {}).unwrap());
    assert!(
        all.iter().any(|n| n.contains("RUN one")) && !all.iter().any(|n| n.contains("RUN two"))
    );
    let only = names(&build(text, |r| r.target = Some("B".into())).unwrap());
    assert_eq!(only, ["[b 1/2] FROM base", "[b 2/2] RUN two"]);
    let numbered = names(&build(text, |r| r.target = Some("0".into())).unwrap());
    assert_eq!(numbered, ["[a 1/2] FROM base", "[a 2/2] RUN one"]);
}

#[test]
fn a_step_with_a_script_is_called_by_its_first_line() {
    for (text, want) in [
        (
            "RUN <<EOF\necho one\necho two\nEOF\n",
            "RUN <<EOF (echo one...)",
        ),
        ("RUN <<EOF\n\n  echo one  \n\nEOF\n", "RUN <<EOF (echo one)"),
        (
            "RUN <<-'X'\n\t#!/bin/sh\n\techo\nX\n",
            "RUN <<-'X' (#!/bin/sh...)",
        ),
        ("RUN <<EOF\nEOF\n", "RUN <<EOF"),
        ("RUN cat <<EOF\na\nb\nEOF\n", "RUN cat <<EOF"),
    ] {
        let lowered = build(&format!("FROM base\n{text}"), |_| {}).unwrap();
        let names = names(&lowered);
        let last = names.last().unwrap();
        assert_eq!(last.strip_prefix("[2/2] "), Some(want), "{text}");
    }
}

#[test]
fn metadata_makes_no_step_and_goes_into_config_and_history() {
    let text = "FROM base\nENV A=1\nLABEL l=2\nEXPOSE 80 8000-8001/udp\nUSER app\nVOLUME /v\nSTOPSIGNAL SIGINT\n\
                HEALTHCHECK --interval=5s CMD true\nENTRYPOINT [\"e\"]\nCMD c\n";
    let lowered = build(text, |_| {}).unwrap();
    assert_eq!(names(&lowered), ["[1/1] FROM base"]);
    let config = &lowered.config.config;
    assert_eq!(config.env, ["PATH=/bin", "BASE=yes", "A=1"]);
    assert_eq!(config.user, "app");
    assert_eq!(config.entrypoint, ["e"]);
    assert_eq!(config.cmd, ["/bin/sh", "-c", "c"]);
    assert!(config.exposed_ports.contains("80/tcp") && config.exposed_ports.contains("8001/udp"));
    let lines: Vec<&str> = lowered
        .history
        .iter()
        .map(|h| h.created_by.as_str())
        .collect();
    assert_eq!(
        lines,
        [
            "ENV A=1",
            "LABEL l=2",
            "EXPOSE [80/tcp 8000/udp 8001/udp]",
            "USER app",
            "VOLUME [/v]",
            "STOPSIGNAL SIGINT",
            "HEALTHCHECK &{[\"CMD-SHELL\" \"true\"] \"5s\" \"0s\" \"0s\" \"0s\" '\\x00'}",
            "ENTRYPOINT [\"e\"]",
            "CMD [\"/bin/sh\" \"-c\" \"c\"]",
        ]
    );
    assert!(lowered.history.iter().all(|h| h.empty));
}

#[test]
fn arguments_are_seen_from_where_they_are_declared() {
    let value = |text: &str, given: &[(&str, &str)], name: &str| {
        let args = given
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let lowered = build(text, |r| r.build_args = args).unwrap();
        env(&lowered)
            .into_iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v)
    };
    let some = |s: &str| Some(s.to_owned());
    type Case = (
        &'static str,
        &'static [(&'static str, &'static str)],
        &'static str,
        Option<String>,
    );
    let cases: &[Case] = &[
        ("FROM base\nARG A=1\nRUN x\n", &[], "A", some("1")),
        ("FROM base\nARG A=1\nRUN x\n", &[("A", "2")], "A", some("2")),
        ("FROM base\nARG A\nRUN x\n", &[], "A", None),
        ("FROM base\nRUN x\nARG A=1\n", &[], "A", None),
        ("ARG A=g\nFROM base\nRUN x\n", &[], "A", None),
        ("ARG A=g\nFROM base\nARG A\nRUN x\n", &[], "A", some("g")),
        ("ARG A=g\nFROM base\nARG A=s\nRUN x\n", &[], "A", some("s")),
        (
            "FROM base\nARG A=1\nENV A=e\nRUN x\n",
            &[("A", "2")],
            "A",
            some("e"),
        ),
        ("FROM base\nARG A=1\nENV B=$A\nRUN x\n", &[], "B", some("1")),
        (
            "FROM base AS p\nARG A=1\nFROM p\nRUN x\n",
            &[],
            "A",
            some("1"),
        ),
        (
            "FROM base\nARG TARGETARCH\nRUN x\n",
            &[],
            "TARGETARCH",
            some("amd64"),
        ),
        ("ARG N=base\nFROM ${N}\nRUN x\n", &[], "BASE", some("yes")),
    ];
    for (text, given, name, want) in cases {
        // Arguments declared after the command leave the target as it is.
        assert_eq!(value(text, given, name), *want, "{text} {given:?}");
    }
}

#[test]
fn triggers_of_a_base_come_first_and_those_of_a_stage_fire_in_its_children() {
    let base = names(&build("FROM trigger\nRUN own\n", |_| {}).unwrap());
    assert_eq!(base[1..], ["[2/3] RUN echo triggered", "[3/3] RUN own"]);
    let stage = "FROM base AS p\nONBUILD RUN child\nFROM p\nRUN own\n";
    let lowered = build(stage, |_| {}).unwrap();
    assert!(names(&lowered).iter().any(|n| n.contains("RUN child")));
    assert!(lowered.config.config.on_build.is_empty());
}

#[test]
fn link_makes_a_layer_that_does_not_know_what_is_below() {
    let lowered = build("FROM base\nRUN x\nCOPY --link a /b\n", |_| {}).unwrap();
    let merge = lowered.plan.vertex(lowered.target.unwrap());
    assert!(matches!(merge.op, Op::Merge(_)));
    let Op::File(file) = &lowered.plan.vertex(merge.inputs[1]).op else {
        panic!("no copy")
    };
    assert!(!file.on_base);
    assert!(matches!(&file.actions[0], Action::Copy(c) if c.input == 0 && c.dest == "/b"));
}

#[test]
fn what_makes_no_sense_is_an_error_at_its_place() {
    let cases = [
        ("FROM nope\n", "no image nope"),
        ("FROM $X\n", "is empty after expansion"),
        (
            "FROM base AS a\nCOPY --from=b /x /\nFROM base AS b\n",
            "comes after this one",
        ),
        (
            "FROM base AS a\nCOPY --from=a /x /\n",
            "cannot copy from itself",
        ),
        (
            "FROM base\nCOPY --from=3 /x /\n",
            "is not before this stage",
        ),
        ("FROM base\nRUN --security=insecure x\n", "is not allowed"),
        (
            "FROM base\nRUN --network=moon x\n",
            "unsupported network `moon`",
        ),
        (
            "FROM base\nRUN --mount=type=tmpfs x\n",
            "a mount cannot be at `/`",
        ),
        (
            "FROM base\nCOPY --from=$X /x /\n",
            "`from` takes no variables",
        ),
        ("FROM base\nEXPOSE http\n", "is not a port"),
        ("FROM base\nSTOPSIGNAL SIGNOPE\n", "is not a signal"),
        (
            "FROM base\nADD --checksum=sha256:12 https://example.com/f /f\n",
            "--checksum",
        ),
        ("FROM base\nENV A=\"${B:?must be set}\"\n", "must be set"),
    ];
    for (text, want) in cases {
        let error = build(text, |r| r.target = Some("0".into())).unwrap_err();
        assert!(error.message.contains(want), "{text}: {}", error.message);
        assert!(error.span.is_some(), "{text} has no place");
    }
    let error = build("FROM base AS a\n", |r| r.target = Some("z".into())).unwrap_err();
    assert_eq!(error.help.as_deref(), Some("stages are: a"));
    let some = "FROM base AS a\nFROM a\nFROM a AS b\nFROM b\n";
    let error = build(some, |r| r.target = Some("z".into())).unwrap_err();
    let all = "stages are: a, 1 (without a name), b, 3 (without a name)";
    assert_eq!(error.help.as_deref(), Some(all));
    for text in [
        "FROM base AS builder\nFROM base\nCOPY --from=bulider /x /\n",
        "FROM base AS builder\nFROM bulider\n",
    ] {
        let error = build(text, |_| {}).unwrap_err();
        let help = "did you mean the stage `builder`?";
        assert_eq!(error.help.as_deref(), Some(help), "{text}");
    }
}

#[test]
fn an_argument_that_nothing_uses_is_a_warning() {
    let given = |r: &mut Request<'_>| {
        r.build_args = [("UNUSED", ""), ("HTTP_PROXY", "x")]
            .map(|(k, v)| (k.into(), v.into()))
            .into();
    };
    let lowered = build("FROM base\nRUN x\n", given).unwrap();
    let texts: Vec<_> = lowered
        .warnings
        .iter()
        .map(|w| w.message.as_str())
        .collect();
    assert_eq!(
        texts,
        ["build argument `UNUSED` was given and nothing uses it"]
    );
}

#[test]
fn ports_of_the_host_are_left_out() {
    let text = "FROM base\nEXPOSE 8080:80 127.0.0.1:1:81/UDP\n";
    let ports = build(text, |_| {}).unwrap().config.config.exposed_ports;
    assert_eq!(Vec::from_iter(ports), ["80/tcp", "81/udp"]);
}

#[test]
fn what_a_stage_declares_again_counts_over_the_stage_below_it() {
    let text = "FROM base AS below\nARG T=v\nRUN x $T\nFROM below AS child\nARG T\nRUN y $T\n\
                FROM base\nCOPY --from=child / /\n";
    let outline = build(text, |_| {}).unwrap().outline;
    let args: Vec<_> = outline
        .args
        .iter()
        .map(|a| (a.name.as_str(), a.about.start))
        .collect();
    assert_eq!(args, [("T", text.find("ARG T\n").unwrap())]);
}

#[test]
fn an_outline_has_what_can_be_given_to_the_target() {
    let text = "\
# VERSION of the thing
ARG VERSION=1.2
ARG UNUSED=3
ARG SUFFIX=
ARG NAME=base${SUFFIX}
# first is the first stage
FROM ${NAME} AS first
# URL of the service
ARG URL=http://x
ARG VERSION
ARG NONE
ARG TARGETARCH
RUN --mount=type=secret,id=tok,required=true --mount=type=cache,target=/c x
RUN --mount=type=ssh --mount=type=secret,id=tok x
FROM base AS other
ARG OTHER=1
RUN --mount=type=secret,id=opt x
FROM base AS unused
ARG NOWHERE=1
FROM first AS Last
ARG URL=http://y
COPY --from=other /x /x
";
    let args = |outline: &Outline| {
        let show = |a: &OutlineArg| {
            let value = a.value.as_deref().unwrap_or("-");
            let description = a.description.as_deref().unwrap_or("-");
            format!("{} {value} {description}", a.name)
        };
        outline.args.iter().map(show).collect::<Vec<_>>()
    };
    let ids = |mounts: &[OutlineMount]| {
        let show = |m: &OutlineMount| format!("{} {}", m.id, m.required);
        mounts.iter().map(show).collect::<Vec<_>>()
    };
    let given = |r: &mut Request<'_>| {
        r.build_args = [("VERSION".to_owned(), "9".to_owned())].into();
    };
    let last = build(text, given).unwrap().outline;
    assert_eq!(
        (last.name.as_deref(), last.description.as_deref()),
        (Some("last"), None)
    );
    assert_eq!(
        args(&last),
        [
            "VERSION 9 of the thing",
            "SUFFIX  -",
            "NAME base -",
            "NONE - -",
            "OTHER 1 -",
            "URL http://y -",
        ]
    );
    assert_eq!(ids(&last.secrets), ["tok true", "opt false"]);
    assert_eq!(ids(&last.ssh), ["default false"]);
    assert_eq!(ids(&last.caches), ["/c false"]);
    let first = build(text, |r| r.target = Some("first".into()))
        .unwrap()
        .outline;
    assert_eq!(first.description.as_deref(), Some("is the first stage"));
    assert_eq!(args(&first)[3], "URL http://x of the service");
}

#[test]
fn targets_are_listed_as_written() {
    let text = "# a is it\nFROM --platform=$P base AS A\nFROM a\n";
    let list = targets(&kiln_parser::parse(text).dockerfile);
    let shown: Vec<_> = list
        .iter()
        .map(|t| (t.name.as_deref(), t.description.as_deref(), t.base.as_str()))
        .collect();
    assert_eq!(
        shown,
        [(Some("a"), Some("is it"), "base"), (None, None, "a")]
    );
    assert_eq!(list[0].platform.as_deref(), Some("$P"));
    assert_eq!([list[0].default, list[1].default], [false, true]);
}

#[test]
fn layers_know_their_instructions() {
    let text = "FROM base AS a\nRUN one\nENV A=b\nFROM a\nWORKDIR /x\nCOPY --link f /\nCMD c\n";
    let lowered = build(text, |_| {}).unwrap();
    let words: Vec<&str> = lowered
        .layers
        .iter()
        .map(|s| &text[s.start..s.end])
        .collect();
    assert_eq!(words, ["RUN one", "WORKDIR /x", "COPY --link f /"]);
    let layers = lowered.history.iter().filter(|h| !h.empty).count();
    assert_eq!(layers, words.len());
}

#[test]
fn stages_that_are_not_needed_are_lowered_when_asked() {
    let text = "FROM nope AS a\nFROM base\n";
    assert!(build(text, |_| {}).is_ok());
    assert!(build(text, |r| r.every_stage = true).is_err());
}

#[test]
fn the_epoch_is_a_number_or_what_was_last_changed_then() {
    let plain = "FROM base\nARG SOURCE_DATE_EPOCH\nRUN x\n";
    let stage = "FROM scratch AS Time\nARG V=5\nADD https://h/$V /\nFROM base\nARG SOURCE_DATE_EPOCH\nRUN x\n";
    let default = |value: &str, text: &str| format!("ARG SOURCE_DATE_EPOCH={value}\n{text}");
    let git =
        "FROM scratch AS src\nADD --checksum=0123456 https://h/r.git#v1 /\nFROM base\nRUN x\n";
    type Want = Result<Option<u64>, &'static str>;
    let cases: Vec<(String, Option<&str>, Want)> = vec![
        (plain.into(), None, Ok(None)),
        (plain.into(), Some(""), Ok(None)),
        (plain.into(), Some("0"), Ok(Some(0))),
        (plain.into(), Some("12"), Ok(Some(12))),
        (plain.into(), Some("context"), Ok(Some(1))),
        (plain.into(), Some("named"), Ok(Some(1))),
        (plain.into(), Some("image"), Ok(None)),
        (plain.into(), Some("nowhere"), Ok(None)),
        (default("3", plain), None, Ok(Some(3))),
        (default("3", plain), Some("4"), Ok(Some(4))),
        (default("3", plain), Some(""), Ok(None)),
        (default("context", plain), None, Ok(Some(1))),
        (stage.into(), Some("time"), Ok(Some(5))),
        (default("TIME", stage), None, Ok(Some(5))),
        (git.into(), Some("src"), Ok(Some(7))),
        // Only what stands before the first stage is a default.
        (
            "FROM base\nARG SOURCE_DATE_EPOCH=3\nRUN x\n".into(),
            None,
            Ok(None),
        ),
        (
            plain.into(),
            Some("-1"),
            Err("`-1` is neither a number of seconds nor a context nor a stage"),
        ),
        (
            plain.into(),
            Some("+1"),
            Err("`+1` is neither a number of seconds nor a context nor a stage"),
        ),
        (
            plain.into(),
            Some("1.5"),
            Err("`1.5` is neither a number of seconds nor a context nor a stage"),
        ),
        (
            plain.into(),
            Some("yesterday"),
            Err("`yesterday` is neither a number of seconds nor a context nor a stage"),
        ),
        (
            plain.into(),
            Some("99999999999999"),
            Err("later than the year 9999"),
        ),
        (
            default("tiem", stage),
            None,
            Err("`tiem` is neither a number of seconds nor a context nor a stage"),
        ),
        (
            "FROM base AS s\nADD https://h/5 /\n".into(),
            Some("s"),
            Err("the stage `s`, which does not start from `scratch`"),
        ),
        (
            "FROM scratch AS s\n".into(),
            Some("s"),
            Err("which has no ADD"),
        ),
        (
            "FROM scratch AS s\nADD f /\n".into(),
            Some("s"),
            Err("whose ADD has no address"),
        ),
        (
            "FROM scratch AS s\nADD https://h/5 https://h/6 /x/\n".into(),
            Some("s"),
            Err("whose ADD has no address"),
        ),
        (
            "FROM scratch AS s\nADD https://h/5 /\nENV A=1\n".into(),
            Some("s"),
            Err("which has more than an ADD: ENV"),
        ),
    ];
    for (text, given, want) in cases {
        let lowered = build(&text, |r| {
            let named =
                |name: &str| NamedContext::Source(SourceKind::Context { name: name.into() });
            r.contexts = [
                ("named".to_owned(), named("named")),
                ("nowhere".to_owned(), named("local")),
                ("image".to_owned(), NamedContext::Image("base".into())),
            ]
            .into();
            let given = given.map(|given| ("SOURCE_DATE_EPOCH".to_owned(), given.to_owned()));
            r.build_args.extend(given);
        });
        match (lowered, want) {
            (Ok(lowered), Ok(want)) => {
                assert_eq!(lowered.epoch, want, "{given:?} {text}");
                let step = lowered.plan.vertex(lowered.target.unwrap());
                let Op::Exec(exec) = &step.op else { continue };
                assert_eq!(exec.epoch, want, "{given:?} {text}");
                if text.contains("ARG SOURCE_DATE_EPOCH\n") {
                    let seen = exec.env.iter().find(|v| v.name == "SOURCE_DATE_EPOCH");
                    let seen = seen.map(|v| v.value.clone());
                    assert_eq!(seen, want.map(|w| w.to_string()), "{given:?} {text}");
                }
            }
            (Err(error), Err(want)) => {
                assert!(error.message.contains(want), "{given:?} {text}: {error}");
            }
            (found, want) => panic!(
                "{given:?} {text}: {want:?}, and it is {:?}",
                found.map(|l| l.epoch)
            ),
        }
    }
}

/// A value of `2^doublings` times 32 bytes, and 40 lines after it.
fn grown(doublings: usize, line: impl Fn(usize) -> String) -> String {
    let mut text = String::from("FROM scratch AS s\nENV a=0123456789abcdef0123456789abcdef\n");
    text.push_str(&"ENV a=$a$a\n".repeat(doublings));
    text.extend((0..40).map(line));
    text
}

#[test]
fn what_a_file_makes_of_its_text_is_bounded() {
    type Line = fn(usize) -> String;
    let lines: [(&str, Line); 9] = [
        ("variables", |n| format!("ENV v{n}=$a\n")),
        ("arguments", |n| format!("ARG v{n}=$a\n")),
        ("labels", |n| format!("LABEL v{n}=$a\n")),
        ("documents", |n| format!("COPY <<E /{n}\n$a\nE\n")),
        ("stages", |n| format!("FROM s\nENV v{n}=1\n")),
        ("commands", |n| format!("RUN {n}\n")),
        ("directories", |_| "WORKDIR $a\n".into()),
        ("sources", |n| format!("COPY $a /{n}\n")),
        ("mounts", |n| format!("RUN --mount=target=/$a {n}\n")),
    ];
    for (what, line) in lines {
        // A few kilobytes are nobody's concern.
        let small = build(&grown(5, line), |r| r.every_stage = true);
        assert!(small.is_ok(), "{what}: {small:?}");
        let error = build(&grown(17, line), |r| r.every_stage = true).unwrap_err();
        assert!(
            error.message.contains("take more than 128 MiB"),
            "{what}: {error}"
        );
        assert!(error.span.is_some() && error.help.is_some(), "{what}");
    }
    // Before the first stage, in the triggers of one, and in its name.
    let globals = grown(17, |n| format!("ARG v{n}=$a\n"));
    let (_, globals) = globals.split_once('\n').unwrap();
    let globals = globals.replace("ENV", "ARG") + "FROM scratch\n";
    let body = "x".repeat(100 << 10);
    let triggers = format!(
        "FROM scratch AS s\nONBUILD RUN {body}\n{}",
        "FROM s\n".repeat(2000)
    );
    let name = format!("FROM scratch AS {body}\n{}", "RUN x\n".repeat(2000));
    for text in [globals, triggers, name] {
        let error = build(&text, |r| r.every_stage = true).unwrap_err();
        assert!(error.message.contains("take more than 128 MiB"), "{error}");
    }
}

/// Each of these takes a step for each pair of its lines.
#[test]
fn the_work_of_a_file_is_bounded() {
    let searched = grown(17, |_| String::new()) + &"ENV b=${a#*x*y}\n".repeat(1000);
    let stages = "FROM scratch\n".repeat(30_000);
    for text in [searched, stages] {
        let error = build(&text, |_| {}).unwrap_err();
        let is_told = ["handle more than 1024 MiB", "take more than 128 MiB"];
        assert!(
            is_told.iter().any(|told| error.message.contains(told)),
            "{error}"
        );
    }
}

#[test]
fn a_long_chain_of_stages_shares_what_they_have_in_common() {
    let last = 3000;
    let mut text = String::from("FROM base AS s0\nENV A=1\n");
    for n in 0..last {
        text.push_str(&format!("FROM s{n} AS s{}\nLABEL l{n}=1\nRUN {n}\n", n + 1));
    }
    let lowered = build(&text, |_| {}).unwrap();
    assert_eq!(lowered.config.config.labels.len(), last);
    assert_eq!(lowered.history.len(), 2 * last + 1);
    assert_eq!(lowered.layers.len(), last);
    assert_eq!(lowered.history[2].created_by, "RUN /bin/sh -c 0 # buildkit");
    // What starts from the same stage does not see what others make of it.
    let text = "FROM base AS s\nENV A=1\nFROM s AS x\nENV A=2 B=2\nFROM s AS y\nRUN y\nFROM s\nCOPY --from=x / /\nRUN z\n";
    let lowered = build(text, |_| {}).unwrap();
    assert_eq!(env(&lowered).last(), Some(&("A".into(), "1".into())));
    assert_eq!(lowered.history.len(), 3);
}
