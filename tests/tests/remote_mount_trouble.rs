//! Cache mounts that cannot be had, or that are not what a step expects: what is there is not lost.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::io::Read as _;

use kiln_tests::place::{Place, config, files_below, key_pair, on_host};
use kiln_tests::servers::empty_registry;
use kiln_tests::{Built, Context, Kiln, Lab, SharedMounts, SmallDisk};

/// A step that tells what its mount has, and adds its host to that.
fn noting(lab: &Lab, host: &str) -> Context {
    let text = format!(
        "FROM busybox\nRUN --mount=type=cache,id=m,target=/c ls /c; touch /c/{host} /done\n"
    );
    lab.context(&format!("noting-{host}"), &[("Dockerfile", &text)])
}

/// The build of a host, which reads mounts from and writes them to a place.
fn sharing(lab: &Lab, host: &str, context: &Context, [from, to]: &[String; 2]) -> Kiln {
    on_host(lab, host, context)
        .args(["--cache-mount-from", from])
        .args(["--cache-mount-to", to])
}

fn mounts(built: &Built) -> SharedMounts {
    built.mounts.unwrap_or_else(|| panic!("{built:?}"))
}

fn printed(built: &Built) -> Vec<String> {
    built.log().lines().map(str::to_owned).collect()
}

fn said(built: &Built) -> String {
    format!("{}{}", built.other, built.warnings.join("\n"))
}

#[test]
fn a_mount_that_does_not_fit_is_neither_brought_nor_replaced() {
    let lab = Lab::new();
    let at = Place::Directory.specs(&lab, None);
    let large = lab.dockerfile(
        "FROM busybox
RUN --mount=type=cache,id=m,target=/c head -c 100000000 /dev/zero > /c/large
",
    );
    assert_eq!(mounts(&sharing(&lab, "a", &large, &at).built()).sent, 1);
    let disk = SmallDisk::new(&lab);
    let small = sharing(&lab, "small/store", &noting(&lab, "small"), &at).built();
    assert_eq!(printed(&small), [""; 0], "{small:?}");
    let told = said(&small);
    assert!(told.contains("the disk has less"), "{told}");
    assert!(told.contains("the cache mount `m` is not sent"), "{told}");
    let shared = mounts(&small);
    assert_eq!((shared.brought, shared.sent, shared.failed), (0, 0, 1));
    drop(disk);
    let other = sharing(&lab, "b", &noting(&lab, "b"), &at).built();
    assert_eq!(printed(&other), ["large"], "{other:?}");
}

#[test]
fn a_mount_that_a_host_does_not_believe_is_replaced_only_by_one_that_it_would() {
    let lab = Lab::new();
    let dir = lab.path("shared").display().to_string();
    let remotes = format!(
        "mounts-from = [\"type=local,src={dir}\"]\nmounts-to = [\"type=local,dest={dir}\"]\n"
    );
    let [good, good_public] = key_pair(&lab, "good");
    let build = |host: &str, more: &str| {
        let file = config(&lab, &format!("{host}.toml"), &format!("{remotes}{more}"));
        let built = on_host(&lab, host, &noting(&lab, host)).env("KILN_CONFIG", file);
        built.built()
    };
    assert_eq!(mounts(&build("unsigned", "")).sent, 1);
    let accepting = format!("accept-keys = [\"{good_public}\"]\n");
    // It would not believe itself.
    let reader = build("reader", &accepting);
    assert_eq!(printed(&reader), [""; 0], "{reader:?}");
    assert_eq!((mounts(&reader).sent, mounts(&reader).failed), (0, 1));
    assert_eq!(printed(&build("other", "")), ["unsigned"]);
    let signing = format!("{accepting}sign-key = \"{good}\"\n");
    let signer = build("signer", &signing);
    assert_eq!((printed(&signer).len(), mounts(&signer).sent), (0, 1));
    assert_eq!(printed(&build("last", &signing)), ["signer"]);
}

#[test]
fn mounts_that_begin_empty_on_purpose_replace_nothing_unless_that_is_asked_for() {
    let lab = Lab::new();
    let [from, to] = Place::Directory.specs(&lab, None);
    let section = format!("mounts-from = [\"{from}\"]\nmounts-to = [\"{to}\"]\n");
    let file = config(&lab, "shared.toml", &section);
    let build = |host: &str| on_host(&lab, host, &noting(&lab, host)).env("KILN_CONFIG", &file);
    assert_eq!(mounts(&build("a").built()).sent, 1);
    let empty = build("b").arg("--no-cache-mounts").built();
    assert_eq!(
        (printed(&empty).len(), empty.mounts),
        (0, None),
        "{empty:?}"
    );
    assert_eq!(printed(&build("c").built()), ["a"]);
    let asked = build("d").args(["--no-cache-mounts", "--cache-mount-to", &to]);
    assert_eq!(mounts(&asked.built()).sent, 1);
    assert_eq!(printed(&build("e").built()), ["d"]);
}

#[test]
fn the_source_of_a_mount_is_there_whoever_made_the_mount() {
    for how in ["shared", "private", "locked"] {
        let lab = Lab::new();
        let at = Place::Directory.specs(&lab, None);
        let context = |name: &str, options: &str, command: &str| {
            let text = format!(
                "FROM busybox\nUSER 1000\nRUN --mount=type=cache,id=m,target=/c,mode=0777,\
                 sharing={how}{options} {command}\n"
            );
            lab.context(name, &[("Dockerfile", &text)])
        };
        let whole = context("whole", "", "echo whole > /c/file");
        let part = |name: &str| context(name, ",source=/sub/part", "stat -c '%a %u' /c; ls /c");
        let first = sharing(&lab, "a", &whole, &at).built();
        assert_eq!(mounts(&first).sent, 1, "{how}: {first:?}");
        // One that was brought, one of this host, and a new one.
        let brought = sharing(&lab, "b", &part("brought"), &at).built();
        assert_eq!(mounts(&brought).brought, 1, "{how}: {brought:?}");
        let here = on_host(&lab, "a", &part("here")).built();
        let new = on_host(&lab, "c", &part("new")).built();
        for built in [brought, here, new] {
            assert_eq!(printed(&built), ["755 0"], "{how}: {built:?}");
        }
    }
}

#[test]
fn a_registry_gets_another_piece_for_one_that_is_damaged_there() {
    let lab = Lab::new();
    let registry = empty_registry();
    let storage = registry.dir().join("storage/docker/registry/v2/blobs");
    let place = Place::Registry(registry);
    let at = place.specs(&lab, None);
    let context = lab.dockerfile(
        "FROM busybox
RUN --mount=type=bind,source=big,target=/big --mount=type=cache,id=m,target=/c \
    ls /c; cp -a /big /c/big
",
    );
    let mut big = vec![0; 12_000_000];
    let random = std::fs::File::open("/dev/urandom").unwrap();
    (&random).read_exact(&mut big).unwrap();
    std::fs::write(context.path().join("big"), big).unwrap();
    let first = sharing(&lab, "a", &context, &at).built();
    assert_eq!(mounts(&first).sent, 1, "{first:?}");
    let files = files_below(&storage).into_iter();
    let piece = files.max_by_key(|f| f.metadata().unwrap().len()).unwrap();
    let length = usize::try_from(piece.metadata().unwrap().len()).unwrap();
    std::fs::write(&piece, vec![7; length]).unwrap();

    // It has the same content, which it finds damaged there.
    let mended = sharing(&lab, "b", &context, &at).built();
    assert!(said(&mended).contains("is not used"), "{mended:?}");
    assert_eq!((mounts(&mended).brought, mounts(&mended).sent), (0, 1));
    assert!(mounts(&mended).bytes < 12_000_000, "{mended:?}");
    let third = sharing(&lab, "c", &noting(&lab, "c"), &at).built();
    assert_eq!(printed(&third), ["big"], "{third:?}");
    // Who changes the rest does not name the damaged one again.
    assert_eq!((mounts(&third).brought, mounts(&third).sent), (1, 1));
    assert!(mounts(&third).bytes < 4_000_000, "{third:?}");
    let fourth = sharing(&lab, "d", &noting(&lab, "d"), &at).built();
    assert_eq!(printed(&fourth), ["big", "c"], "{fourth:?}");
}
