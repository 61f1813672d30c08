//! Results that an image takes along: `--cache-to type=inline`. A store of its own stands for a host.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::path::{Path, PathBuf};

use kiln_tests::place::{config, key_pair, on_host};
use kiln_tests::servers::empty_registry;
use kiln_tests::{Context, Kiln, Lab, skopeo_inspect, tool};
use serde_json::Value;

const FIELD: &str = "dev.kiln.cache.v1";
const STEPS: &str = "FROM busybox
WORKDIR /src
COPY words.txt .
RUN sort words.txt > sorted && head -c 300000 /dev/zero > large
ENV LANGUAGE=en
RUN wc -l < sorted > count
CMD [\"cat\", \"/src/sorted\"]
";

fn words(lab: &Lab, name: &str, steps: &str) -> Context {
    lab.context(name, &[("Dockerfile", steps), ("words.txt", "b\na\n")])
}

/// A build that puts its records into the image.
fn inline(lab: &Lab, host: &str, context: &Context) -> Kiln {
    on_host(lab, host, context).args(["--cache-to", "type=inline"])
}

/// The same, written to an archive, whose path this is.
fn archive(lab: &Lab, host: &str, context: &Context) -> (kiln_tests::Built, PathBuf) {
    let path = lab.path(&format!("{host}.tar"));
    let output = format!("type=oci,dest={}", path.display());
    let built = inline(lab, host, context).args(["-o", &output]).built();
    (built, path)
}

fn push(archive: &Path, image: &str, more: &[&str]) {
    let from = format!("oci-archive:{}", archive.display());
    let to = format!("docker://{image}");
    let all = ["copy", "--quiet", "--dest-tls-verify=false"];
    tool("skopeo", [&all, more, &[&from, &to]].concat());
}

/// The layers of an image in a host's store.
fn layers(lab: &Lab, host: &str) -> String {
    let inspected = lab.kiln(["inspect", "--format", "{{json .RootFS.Layers}}", "app"]);
    let inspected = inspected.env("KILN_ROOT", lab.path(host)).output();
    inspected.ok().stdout().to_owned()
}

#[test]
fn an_image_in_a_registry_is_a_cache() {
    let registry = empty_registry();
    let lab = Lab::new();
    let context = words(&lab, "one", STEPS);
    let (first, tar) = archive(&lab, "a", &context);
    assert_eq!(first.counts.1, 4, "{first:?}");
    for (image, more) in [
        ("team/app:1", &[][..]),
        // What the registry has is what counts: other compression, other media types.
        ("team/zstd:1", &["--dest-compress-format=zstd"][..]),
        ("team/docker:1", &["--format=v2s2"][..]),
    ] {
        let image = format!("{}/{image}", registry.address());
        push(&tar, &image, more);
        let config = skopeo_inspect(&format!("docker://{image}"));
        assert!(config[FIELD].is_object(), "{image}: {config}");
        for (number, from) in [image.clone(), format!("type=registry,ref={image}")]
            .iter()
            .enumerate()
        {
            let host = format!("b{number}-{}", image.replace([':', '/'], "-"));
            let again = words(&lab, &host, STEPS);
            let second = on_host(&lab, &host, &again).args(["--cache-from", from]);
            let second = second.built();
            assert_eq!(second.counts.1, 0, "{from}: {second:?}");
            assert_eq!(layers(&lab, &host), {
                inline(&lab, "a", &context).built();
                layers(&lab, "a")
            });
            assert!(second.warnings.is_empty(), "{second:?}");
            let run = lab.kiln(["run", "--rm", "app"]);
            let run = run.env("KILN_ROOT", lab.path(&host)).output();
            assert_eq!(run.ok().stdout(), "a\nb");
            // The image that takes them along again is the first one.
            let third = inline(&lab, &host, &again).built();
            assert_eq!((third.counts.1, &third.image), (0, &first.image));
            let check = lab.kiln(["fsck"]).env("KILN_ROOT", lab.path(&host));
            check.output().ok();
        }
    }
}

#[test]
fn only_what_comes_after_a_change_runs_and_only_what_it_needs_is_fetched() {
    let registry = empty_registry();
    let lab = Lab::new();
    let (_, tar) = archive(&lab, "a", &words(&lab, "one", STEPS));
    let image = format!("{}/app", registry.address());
    push(&tar, &image, &[]);
    let other = STEPS.replace("wc -l", "wc -c");
    let built = on_host(&lab, "b", &words(&lab, "two", &other)).args(["--cache-from", &image]);
    let built = built.built();
    built.assert_ran(&["RUN wc -c"]);
    // A run that another host told little of explains nothing.
    assert!(built.step("RUN wc -c").changes.is_empty(), "{built:?}");
}

#[test]
fn steps_of_other_stages_run_and_those_of_the_image_do_not() {
    let lab = Lab::new();
    let steps = "FROM busybox AS build
COPY words.txt /
RUN sort /words.txt > /sorted
FROM busybox
COPY --from=build /sorted /sorted
COPY --link words.txt /again
RUN wc -l < /sorted > /count
";
    let context = words(&lab, "one", steps);
    let dir = lab.path("layout").display().to_string();
    let output = format!("type=oci,tar=false,dest={dir}");
    let first = inline(&lab, "a", &context).args(["-o", &output]).built();
    assert_eq!(first.counts.1, 5, "{first:?}");
    let from = format!("type=local,src={dir}");
    let second = inline(&lab, "b", &context)
        .args(["--cache-from", &from])
        .built();
    second.assert_ran(&["COPY words.txt /", "RUN sort"]);
    assert_eq!(second.image, first.image);
}

#[test]
fn an_image_keeps_its_id_and_tells_no_times() {
    let lab = Lab::new();
    let context = words(&lab, "one", STEPS);
    let first = inline(&lab, "a", &context).built();
    let again = inline(&lab, "a", &context).built();
    assert_eq!((again.counts.1, &again.image), (0, &first.image));
    // From scratch, later, on another host.
    let elsewhere = inline(&lab, "b", &words(&lab, "two", STEPS)).built();
    assert_eq!((elsewhere.counts.1, &elsewhere.image), (4, &first.image));
    let forced = inline(&lab, "a", &context).arg("--no-cache").built();
    assert_eq!(forced.image, first.image);
    // Without a clamp of times, as long as nothing runs: here, and where the image was the cache.
    let now = words(&lab, "now", &STEPS.replace("/dev/zero", "/dev/urandom"));
    let dir = lab.path("now-layout").display().to_string();
    let unclamped = |host: &str| inline(&lab, host, &now).env("SOURCE_DATE_EPOCH", "");
    let output = format!("type=oci,tar=false,dest={dir}");
    let one = unclamped("x").args(["-o", &output]).built();
    let two = unclamped("x").built();
    assert_eq!((two.counts.1, &two.image), (0, &one.image));
    let from = format!("type=local,src={dir}");
    let three = unclamped("c").args(["--cache-from", &from]).built();
    assert_eq!((three.counts.1, &three.image), (0, &one.image));
    // Without it the image is another, with the same layers, and on top of one nothing is left of it.
    let before = layers(&lab, "a");
    let without = on_host(&lab, "a", &context).built();
    assert_ne!(without.image, first.image);
    assert_eq!(layers(&lab, "a"), before);
    let (_, tar) = archive(&lab, "a", &context);
    let config = skopeo_inspect(&format!("oci-archive:{}", tar.display()));
    let record: Value = serde_json::from_str(config[FIELD]["record"].as_str().unwrap()).unwrap();
    let records = record["records"].as_object().unwrap();
    assert_eq!(records.len(), 4, "{record}");
    let fields: Vec<&String> = records
        .values()
        .next()
        .unwrap()
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(fields, ["diffId", "tarSize", "tree"]);
}

/// An OCI layout in a directory, with its config changed by `change`.
fn layout(lab: &Lab, host: &str, context: &Context, change: impl FnOnce(&mut Value)) -> PathBuf {
    let dir = lab.path(&format!("{host}-layout"));
    let output = format!("type=oci,tar=false,dest={}", dir.display());
    inline(lab, host, context).args(["-o", &output]).built();
    let path = |digest: &Value| {
        let digest = digest.as_str().unwrap().replace(':', "/");
        dir.join("blobs").join(digest)
    };
    let read =
        |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let write = |value: &Value, to: &mut Value| {
        let new = dir.join("new");
        std::fs::write(&new, value.to_string()).unwrap();
        let sum = tool("sha256sum", [&new]);
        to["digest"] = format!("sha256:{}", sum.split(' ').next().unwrap()).into();
        to["size"] = value.to_string().len().into();
        std::fs::rename(new, path(&to["digest"])).unwrap();
    };
    let mut index = read(&dir.join("index.json"));
    let mut manifest = read(&path(&index["manifests"][0]["digest"]));
    let mut config = read(&path(&manifest["config"]["digest"]));
    change(&mut config);
    write(&config, &mut manifest["config"]);
    write(&manifest, &mut index["manifests"][0]);
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    dir
}

#[test]
fn a_layout_in_a_directory_is_a_cache() {
    let lab = Lab::new();
    let context = words(&lab, "one", STEPS);
    let dir = layout(&lab, "a", &context, |_| {});
    let from = format!("type=local,src={}", dir.display());
    let built = on_host(&lab, "b", &context)
        .args(["--cache-from", &from])
        .built();
    assert_eq!(built.counts.1, 0, "{built:?}");
}

#[test]
fn what_an_image_says_wrongly_is_found_out() {
    let lab = Lab::new();
    let context = words(&lab, "one", STEPS);
    let record = |config: &mut Value, change: &dyn Fn(&mut Value)| {
        let text = config[FIELD]["record"].as_str().unwrap().to_owned();
        let mut record: Value = serde_json::from_str(&text).unwrap();
        for one in record["records"].as_object_mut().unwrap().values_mut() {
            change(one);
        }
        config[FIELD]["record"] = record.to_string().into();
    };
    let tree = "ab".repeat(32);
    type Change<'a> = &'a dyn Fn(&mut Value);
    let changes: [(&str, Change<'_>); 5] = [
        ("tree", &|one| one["tree"] = tree.clone().into()),
        ("size", &|one| one["tarSize"] = 1.into()),
        ("malformed", &|one| one["tree"] = "xyz".into()),
        ("none", &|one| {
            one["diffId"] = format!("sha256:{tree}").into();
        }),
        ("form", &|one| *one = 7.into()),
    ];
    for (name, change) in changes {
        let dir = layout(&lab, name, &context, |config| record(config, change));
        let from = format!("type=local,src={}", dir.display());
        let host = format!("{name}-b");
        let built = on_host(&lab, &host, &context)
            .args(["--cache-from", &from])
            .built();
        assert!(built.counts.1 > 0, "{name}: {built:?}");
        let run = lab.kiln(["run", "--rm", "app"]);
        let run = run.env("KILN_ROOT", lab.path(&host)).output();
        assert_eq!(run.ok().stdout(), "a\nb", "{name}");
    }
    // The layers of two steps for one another: content decides.
    let dir = layout(&lab, "swapped", &context, |config| {
        let text = config[FIELD]["record"].as_str().unwrap().to_owned();
        let mut record: Value = serde_json::from_str(&text).unwrap();
        let records = record["records"].as_object_mut().unwrap();
        let mut values: Vec<Value> = records.values().cloned().collect();
        for value in &mut values {
            value["diffId"] = config["rootfs"]["diff_ids"][1].clone();
        }
        for (to, value) in records.values_mut().zip(values) {
            *to = value;
        }
        config[FIELD]["record"] = record.to_string().into();
    });
    let from = format!("type=local,src={}", dir.display());
    let built = on_host(&lab, "swapped-b", &context)
        .args(["--cache-from", &from])
        .built();
    assert!(built.counts.1 > 0, "{built:?}");
    let run = lab.kiln(["run", "--rm", "app"]);
    let run = run.env("KILN_ROOT", lab.path("swapped-b")).output();
    assert_eq!(run.ok().stdout(), "a\nb");
}

#[test]
fn images_are_believed_from_writers_that_are_accepted_and_in_their_namespace() {
    let lab = Lab::new();
    let context = words(&lab, "one", STEPS);
    let [good, good_public] = key_pair(&lab, "good");
    let [bad, _] = key_pair(&lab, "bad");
    let reading = "namespace = \"team\"\n";
    let accepting = config(
        &lab,
        "accepting.toml",
        &format!("{reading}accept-keys = [\"{good_public}\"]"),
    );
    let believing = config(&lab, "believing.toml", reading);
    for (number, (section, accepted, believed)) in [
        (reading.to_owned(), false, true),
        (format!("{reading}sign-key = \"{bad}\""), false, true),
        (format!("{reading}sign-key = \"{good}\""), true, true),
        (
            format!("namespace = \"other\"\nsign-key = \"{good}\""),
            false,
            false,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let writing = config(&lab, "writing.toml", &section);
        let dir = lab.path(&format!("layout{number}"));
        let output = format!("type=oci,tar=false,dest={}", dir.display());
        let first = inline(&lab, &format!("w{number}"), &context).args(["-o", &output]);
        first.env("KILN_CONFIG", &writing).built();
        let from = format!("type=local,src={}", dir.display());
        for (host, file, hit) in [("a", &accepting, accepted), ("b", &believing, believed)] {
            let built = on_host(&lab, &format!("{host}{number}"), &context)
                .env("KILN_CONFIG", file)
                .args(["--cache-from", &from])
                .built();
            assert_eq!(built.counts.1 == 0, hit, "{section} {host}: {built:?}");
            let told = format!("{}{}", built.other, built.warnings.join("\n"));
            let refused = told.matches("what the image says is refused").count();
            assert!(refused <= 1, "{told}");
        }
    }
}

#[test]
fn what_has_no_image_or_no_layers_is_refused_and_any_image_may_be_named() {
    let registry = empty_registry();
    let lab = Lab::new();
    let context = words(&lab, "one", STEPS);
    let out = lab.path("out").display().to_string();
    for (arguments, why) in [
        (&["-o", &*out][..], "no output of this build is an image"),
        (
            &["-o", "type=cacheonly"],
            "no output of this build is an image",
        ),
        (&["--squash"], "--squash leaves no layer"),
        (&["--cache-to", "type=inline,mode=max"], "mode=min only"),
        (&["--cache-from", "type=inline"], "type=registry,ref=IMAGE"),
        (
            &["--cache-mount-to", "type=inline"],
            "cache mounts are not inside",
        ),
    ] {
        let refused = inline(&lab, "a", &context).args(arguments).fails();
        assert!(refused.err.contains(why), "{arguments:?}: {refused}");
    }
    let read_only = config(&lab, "ro.toml", "read-only = true");
    let refused = inline(&lab, "a", &context)
        .env("KILN_CONFIG", read_only)
        .fails();
    assert!(refused.err.contains("set to read-only"), "{refused}");

    let tar = lab.path("plain.tar");
    let output = format!("type=oci,dest={}", tar.display());
    on_host(&lab, "a", &context).args(["-o", &output]).built();
    let image = format!("{}/plain:1", registry.address());
    push(&tar, &image, &[]);
    for image in [image, format!("{}/none:1", registry.address())] {
        let host = image.replace([':', '/'], "-");
        let built = on_host(&lab, &host, &context)
            .args(["--cache-from", &image])
            .built();
        assert_eq!(built.counts.1, 4, "{built:?}");
        assert!(!built.said().contains("cache"), "{built:?}");
    }
    // A directory with a file that is no layout's.
    let dir = lab.path("shared");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("index.json"), "{").unwrap();
    let [from, to] = ["src", "dest"].map(|name| format!("type=local,{name}={}", dir.display()));
    for (host, ran) in [("c", 4), ("d", 0)] {
        let built = on_host(&lab, host, &context).args(["--cache-from", &from, "--cache-to", &to]);
        assert_eq!(built.built().counts.1, ran);
    }
}
