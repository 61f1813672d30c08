//! What programs read: all JSON that is printed is as docs/json.md says.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::collections::BTreeSet;
use std::path::Path;

use boon::{Compiler, SchemaIndex, Schemas};
use kiln_tests::{Lab, Output};
use serde_json::Value;

fn schema(name: &str) -> Value {
    let at = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/schema")
        .join(name);
    serde_json::from_str(&std::fs::read_to_string(at).unwrap()).unwrap()
}

/// A schema that values are held against.
struct Validator(Schemas, SchemaIndex);

impl Validator {
    fn is_valid(&self, value: &Value) -> bool {
        self.0.validate(value, self.1).is_ok()
    }
}

fn validator(schema: &Value) -> Validator {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.enable_format_assertions();
    compiler
        .add_resource("schema.json", schema.clone())
        .unwrap();
    let index = compiler.compile("schema.json", &mut schemas).unwrap();
    Validator(schemas, index)
}

/// Holds every line of stderr against the schema; returns the kinds of events.
fn events(validator: &Validator, out: &Output, seen: &mut BTreeSet<String>) {
    for line in out.err.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(
            validator.is_valid(&event),
            "not in the schema: {line}\n{out}"
        );
        let reason = event["reason"].as_str().map(|reason| format!(" {reason}"));
        seen.insert(event["event"].as_str().unwrap().to_owned() + &reason.unwrap_or_default());
    }
}

#[test]
fn events_are_those_of_the_schema() {
    let schema = schema("events.json");
    let validator = validator(&schema);
    let lab = Lab::new();
    let context = lab.context("context", &[("f", "x"), ("g", "y")]);
    let mut seen = BTreeSet::new();
    let mut build = |text: &str, flags: &[&str]| {
        context.dockerfile(text);
        let out = lab.build(&context).args(flags).output();
        events(&validator, &out, &mut seen);
        out
    };
    let fine = "FROM busybox AS side\nRUN echo side\nFROM busybox\nARG N=1\nCOPY f /\nRUN echo $N; echo b >&2; touch /$N\n";
    build(fine, &["-t", "x", "--explain"]).ok();
    build(fine, &["--explain"]).ok();
    build(fine, &["--explain", "--build-arg=N=2"]).ok();
    build(fine, &["--explain", "--no-cache"]).ok();
    build(fine, &["--rerun", "5", "--compress"]).ok();
    build(fine, &["--cache-ttl", "0s"]).ok();
    let cache = format!("type=local,dest={}", lab.path("cache").display());
    build(fine, &["--cache-to", &cache]).ok();
    let mounts = format!("type=local,dest={}", lab.path("mounts").display());
    let mounted = "FROM busybox\nRUN --mount=type=cache,target=/c touch /c/x\n";
    build(mounted, &["--cache-mount-to", &mounts]).ok();
    let random = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /x\n";
    build(random, &["--check-reproducible"]).failed();
    let clamped = |text: &str| {
        context.dockerfile(text);
        let build = lab.build(&context).arg("--check-reproducible");
        build.env("SOURCE_DATE_EPOCH", "1").output().ok()
    };
    let same = clamped("FROM busybox\nRUN echo x > /x\n");
    let broken = [
        build("FROM busybox\nRUN exit 3\nRUN never\n", &[]),
        build("FROM busybox\nRUNN x\n", &[]),
        build("from busybox as a\nCOPY nothing /\n", &[]),
        build("FROM busybox\nCOPY --from=$X a b\n", &[]),
        build(
            "FROM busybox\nRUN echo x\n",
            &["--no-cache-filter", "nosuch", "--memory", "x"],
        ),
    ];
    events(&validator, &same, &mut seen);
    for out in broken {
        out.failed();
    }
    let missing = lab
        .kiln(["pull", "--progress=rawjson", "nosuch.example/x"])
        .output();
    events(&validator, &missing.failed(), &mut seen);
    let pulled = lab
        .kiln(["pull", "--progress=rawjson", "busybox"])
        .output()
        .ok();
    events(&validator, &pulled, &mut seen);
    // Each kind of event that there is was seen, but for those that need a race or a full disk.
    let known = schema["oneOf"].as_array().unwrap().iter().map(|event| {
        let reason = event["properties"]["reason"]["const"].as_str();
        let reason = reason.map(|reason| format!(" {reason}"));
        event["title"].as_str().unwrap().to_owned() + &reason.unwrap_or_default()
    });
    let rare = ["explained gone", "explained early"];
    let missed: Vec<String> = known
        .filter(|e| !seen.contains(e) && !rare.contains(&e.as_str()))
        .collect();
    assert!(missed.is_empty(), "not seen: {missed:?}");
}

#[test]
fn metadata_and_answers_are_those_of_the_schemas() {
    let lab = Lab::new();
    let context = lab.context("context", &[("f", "x")]);
    context.dockerfile(
        "# syntax=docker/dockerfile:1\nARG A=1\nFROM busybox AS a\n# B says what\nARG B=2\nRUN --mount=type=secret,id=s,required --mount=type=ssh --mount=type=cache,id=c,target=/c true\nfrom a\nCOPY f /\n",
    );
    let metadata = validator(&schema("metadata.json"));
    let file = lab.path("metadata.json");
    let archive = format!("type=oci,dest={}", lab.path("x.tar").display());
    let text = "FROM busybox\nCOPY f /\n";
    let small = lab.context("small", &[("f", "x"), ("Dockerfile", text)]);
    for output in [&[][..], &["-t", "x"], &["-o", archive.as_str()]] {
        let build = lab.build(&small).args(output);
        build.arg("--metadata-file").arg(&file).output().ok();
        let facts: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        assert!(metadata.is_valid(&facts), "{facts:#}");
    }
    let call = schema("call.json");
    for what in ["check", "outline", "targets", "plan"] {
        let mut one = call.clone();
        one["anyOf"] = serde_json::json!([{ "$ref": format!("#/$defs/{what}") }]);
        let one = validator(&one);
        let ask = lab.kiln(["build", &format!("--call={what},format=json")]);
        let out = ask.last(context.path()).output();
        let answer: Value =
            serde_json::from_str(out.stdout()).unwrap_or_else(|e| panic!("{e}: {out}"));
        assert!(one.is_valid(&answer), "{what}: {answer:#}");
    }
}

/// What goes wrong beside a build is an event with a code, and the same warning in other forms of progress.
#[test]
fn a_warning_of_a_remote_cache_is_an_event() {
    let lab = Lab::new();
    let context = lab.dockerfile("FROM busybox\nARG N\nRUN echo $N\n");
    let from = ["--cache-from", "127.0.0.1:9/team/cache"];
    let raw = lab.build(&context).args(from).output().ok();
    let events = raw.err.lines();
    let events = events.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let warnings: Vec<Value> = events.filter(|e| e["event"] == "warning").collect();
    let [warning] = &warnings[..] else {
        panic!("{raw}");
    };
    assert_eq!(warning["code"], "remote-cache", "{warning}");
    let place = warning["place"].as_str().unwrap();
    assert!(place.contains("127.0.0.1:9/team/cache"), "{warning}");
    let text = warning["text"].as_str().unwrap();
    assert!(text.contains("it cannot be reached"), "{warning}");
    for how in ["plain", "tty", "quiet"] {
        let (progress, other) = (format!("--progress={how}"), format!("--build-arg=N={how}"));
        let build = lab.kiln(["build", &progress, &other]).args(from);
        let shown = build.last(context.path()).output().ok();
        let told = shown
            .err
            .lines()
            .filter(|l| *l == format!("warning: {text}"));
        assert_eq!(told.count(), 1, "{how}: {shown}");
    }
}

/// The page and the schema speak of the same events.
#[test]
fn the_page_names_every_event() {
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/json.md");
    let page = std::fs::read_to_string(at).unwrap();
    for event in schema("events.json")["oneOf"].as_array().unwrap() {
        let title = event["title"].as_str().unwrap();
        assert!(page.contains(&format!("| `{title}` |")), "{title}");
    }
}
