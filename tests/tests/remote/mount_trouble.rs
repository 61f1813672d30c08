//! Cache mounts that cannot be had, or that are not what a step expects: what is there is not lost.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kiln_tests::place::{Damage, Place, config, files_below, key_pair, on_host, sharing_mounts};
use kiln_tests::servers::{Running, empty_registry};
use kiln_tests::{Context, Fault, Kiln, Lab, Output, Proxy, SmallDisk};
use nix::sys::signal::Signal;

/// A step that tells what its mount has, and adds its host to that.
fn noting(lab: &Lab, host: &str) -> Context {
    let text = format!(
        "FROM busybox\nRUN --mount=type=cache,id=m,target=/c ls /c; touch /c/{host} /done\n"
    );
    lab.context(&format!("noting-{host}"), &[("Dockerfile", &text)])
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
    assert_eq!(
        sharing_mounts(&lab, "a", &large, &at)
            .built()
            .shared_mounts()
            .sent,
        1
    );
    let disk = SmallDisk::new(&lab);
    let small = sharing_mounts(&lab, "small/store", &noting(&lab, "small"), &at).built();
    assert_eq!(small.printed(), [""; 0], "{small:?}");
    let told = small.said();
    assert!(told.contains("the disk has less"), "{told}");
    assert!(told.contains("the cache mount `m` is not sent"), "{told}");
    let shared = small.shared_mounts();
    assert_eq!((shared.brought, shared.sent, shared.failed), (0, 0, 1));
    drop(disk);
    let other = sharing_mounts(&lab, "b", &noting(&lab, "b"), &at).built();
    assert_eq!(other.printed(), ["large"], "{other:?}");
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
    assert_eq!(build("unsigned", "").shared_mounts().sent, 1);
    let accepting = format!("accept-keys = [\"{good_public}\"]\n");
    // It would not believe itself.
    let reader = build("reader", &accepting);
    assert_eq!(reader.printed(), [""; 0], "{reader:?}");
    assert_eq!(
        (reader.shared_mounts().sent, reader.shared_mounts().failed),
        (0, 1)
    );
    assert_eq!(build("other", "").printed(), ["unsigned"]);
    let signing = format!("{accepting}sign-key = \"{good}\"\n");
    let signer = build("signer", &signing);
    assert_eq!(
        (signer.printed().len(), signer.shared_mounts().sent),
        (0, 1)
    );
    assert_eq!(build("last", &signing).printed(), ["signer"]);
}

#[test]
fn mounts_that_begin_empty_on_purpose_replace_nothing_unless_that_is_asked_for() {
    let lab = Lab::new();
    let [from, to] = Place::Directory.specs(&lab, None);
    let section = format!("mounts-from = [\"{from}\"]\nmounts-to = [\"{to}\"]\n");
    let file = config(&lab, "shared.toml", &section);
    let build = |host: &str| on_host(&lab, host, &noting(&lab, host)).env("KILN_CONFIG", &file);
    assert_eq!(build("a").built().shared_mounts().sent, 1);
    let empty = build("b").arg("--no-cache-mounts").built();
    assert_eq!(
        (empty.printed().len(), empty.mounts),
        (0, None),
        "{empty:?}"
    );
    assert_eq!(build("c").built().printed(), ["a"]);
    let asked = build("d").args(["--no-cache-mounts", "--cache-mount-to", &to]);
    assert_eq!(asked.built().shared_mounts().sent, 1);
    assert_eq!(build("e").built().printed(), ["d"]);
}

#[test]
fn the_source_of_a_mount_is_there_whoever_made_the_mount() {
    for how in ["shared", "private", "locked"] {
        let lab = Lab::new();
        let at = Place::Directory.specs(&lab, None);
        let context = |name: &str, options: &str, command: &str| {
            let text = format!(
                "FROM busybox\nUSER 1000\nRUN --mount=type=cache,id=m,target=/c,\
                 sharing={how}{options} {command}\n"
            );
            lab.context(name, &[("Dockerfile", &text)])
        };
        let whole = context("whole", "", "echo whole > /c/file");
        let part = |name: &str| context(name, ",source=/sub/part", "stat -c '%a %u' /c; ls /c");
        let first = sharing_mounts(&lab, "a", &whole, &at).built();
        assert_eq!(first.shared_mounts().sent, 1, "{how}: {first:?}");
        // One that was brought, one of this host, and a new one.
        let brought = sharing_mounts(&lab, "b", &part("brought"), &at).built();
        assert_eq!(brought.shared_mounts().brought, 1, "{how}: {brought:?}");
        let here = on_host(&lab, "a", &part("here")).built();
        let new = on_host(&lab, "c", &part("new")).built();
        for built in [brought, here, new] {
            assert_eq!(built.printed(), ["755 0"], "{how}: {built:?}");
        }
    }
}

/// A build that fills its mount with bytes that cannot be compressed.
fn filling(lab: &Lab, megabytes: usize) -> Context {
    let context = lab.dockerfile(
        "FROM busybox
RUN --mount=type=bind,source=big,target=/big --mount=type=cache,id=m,target=/c \
    ls /c; cp -a /big /c/big
",
    );
    let mut big = vec![0; megabytes * 1_000_000];
    let random = std::fs::File::open("/dev/urandom").unwrap();
    (&random).read_exact(&mut big).unwrap();
    std::fs::write(context.path().join("big"), big).unwrap();
    context
}

/// The files of blobs of a registry, largest first.
fn blobs(registry: &Running) -> Vec<PathBuf> {
    let storage = registry.dir().join("storage/docker/registry/v2/blobs");
    let mut files = files_below(&storage);
    files.sort_by_key(|f| std::cmp::Reverse(f.metadata().unwrap().len()));
    files
}

/// Writes other bytes in place of a file's, as many.
fn spoil(file: &Path) {
    let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
    std::fs::write(file, vec![7; length]).unwrap();
}

/// Requests for what a registry has in these files.
fn asks_for(files: &[PathBuf]) -> impl Fn(&str) -> bool + Send + Sync + 'static {
    let name = |file: &PathBuf| {
        let dir = file.parent().unwrap().file_name().unwrap();
        dir.to_string_lossy().into_owned()
    };
    let digests: Vec<String> = files.iter().map(name).collect();
    move |line| line.starts_with("GET ") && digests.iter().any(|d| line.contains(d))
}

#[test]
fn a_registry_gets_another_piece_for_one_that_is_damaged_there() {
    let lab = Lab::new();
    let registry = empty_registry();
    let at = [0, 1].map(|_| format!("type=registry,ref={}/team/cache:main", registry.address()));
    let context = filling(&lab, 12);
    let first = sharing_mounts(&lab, "a", &context, &at).built();
    assert_eq!(first.shared_mounts().sent, 1, "{first:?}");
    spoil(&blobs(&registry)[0]);

    // It has the same content, which it finds damaged there.
    let mended = sharing_mounts(&lab, "b", &context, &at).built();
    assert!(mended.said().contains("is not used"), "{mended:?}");
    assert_eq!(
        (mended.shared_mounts().brought, mended.shared_mounts().sent),
        (0, 1)
    );
    assert!(mended.shared_mounts().bytes < 12_000_000, "{mended:?}");
    let third = sharing_mounts(&lab, "c", &noting(&lab, "c"), &at).built();
    assert_eq!(third.printed(), ["big"], "{third:?}");
    // Who changes the rest does not name the damaged one again.
    assert_eq!(
        (third.shared_mounts().brought, third.shared_mounts().sent),
        (1, 1)
    );
    assert!(third.shared_mounts().bytes < 4_000_000, "{third:?}");
    let fourth = sharing_mounts(&lab, "d", &noting(&lab, "d"), &at).built();
    assert_eq!(fourth.printed(), ["big", "c"], "{fourth:?}");
}

#[test]
fn all_pieces_that_are_damaged_are_mended_by_one_build() {
    for place in Place::all() {
        let lab = Lab::new();
        let at = place.specs(&lab, None);
        let context = filling(&lab, 12);
        let first = sharing_mounts(&lab, "a", &context, &at).built();
        let bytes = first.shared_mounts().bytes;
        // The index is whole.
        let pieces = place.damage_large(&lab, 100_000, Damage::Other);
        assert!(pieces > 8, "{pieces}");
        let mended = sharing_mounts(&lab, "b", &context, &at).built();
        assert!(mended.said().contains("is not used"), "{mended:?}");
        assert_eq!(
            (mended.shared_mounts().brought, mended.shared_mounts().sent),
            (0, 1)
        );
        assert!(mended.shared_mounts().bytes <= bytes + 10_000, "{mended:?}");
        let third = sharing_mounts(&lab, "c", &noting(&lab, "c"), &at).built();
        assert_eq!(third.printed(), ["big"], "{place:?}: {third:?}");
    }
}

#[test]
fn an_index_that_is_damaged_in_a_registry_is_replaced() {
    // Another index takes its place, and one with the same bytes.
    for same in [false, true] {
        let lab = Lab::new();
        let registry = empty_registry();
        let at =
            [0, 1].map(|_| format!("type=registry,ref={}/team/cache:main", registry.address()));
        let context = |host: &str| match same {
            true => lab.context(
                host,
                &[(
                    "Dockerfile",
                    "FROM busybox\nRUN --mount=type=cache,id=m,target=/c ls /c; touch /c/f; \
                     touch -d @0 /c/f /c\n",
                )],
            ),
            false => noting(&lab, host),
        };
        assert_eq!(
            sharing_mounts(&lab, "a", &context("a"), &at)
                .built()
                .shared_mounts()
                .sent,
            1
        );
        let manifests = blobs(&registry).into_iter();
        let manifests =
            manifests.filter_map(|f| serde_json::from_slice(&std::fs::read(f).ok()?).ok());
        let indexes: Vec<String> = manifests
            .filter(|m: &serde_json::Value| {
                m["layers"][0]["mediaType"] == "application/vnd.kiln.mount.v1+zstd"
            })
            .map(|m| m["layers"][0]["digest"].as_str().unwrap().to_owned())
            .collect();
        let [index] = &indexes[..] else {
            panic!("{indexes:?}");
        };
        let hex = index.strip_prefix("sha256:").unwrap();
        let files = blobs(&registry);
        let file = files.iter().find(|f| f.to_string_lossy().contains(hex));
        spoil(file.unwrap());

        let second = sharing_mounts(&lab, "b", &context("b"), &at).built();
        assert_eq!(second.printed(), [""; 0], "{second:?}");
        assert!(second.said().contains("look a result up"), "{second:?}");
        assert_eq!(
            (second.shared_mounts().brought, second.shared_mounts().sent),
            (0, 1)
        );
        let third = sharing_mounts(&lab, "c", &noting(&lab, "c"), &at).built();
        let expected = if same { "f" } else { "b" };
        assert_eq!(third.printed(), [expected], "{third:?}");
    }
}

/// However much a remote says that there is, it has to come at some speed.
#[test]
fn a_mount_that_trickles_in_is_given_up_and_not_replaced() {
    let lab = Lab::new();
    let registry = empty_registry();
    let at = |address: &str| [0, 1].map(|_| format!("type=registry,ref={address}/team/cache:main"));
    let direct = at(&registry.address());
    let first = sharing_mounts(&lab, "a", &filling(&lab, 12), &direct).built();
    assert_eq!(first.shared_mounts().sent, 1, "{first:?}");
    let large: Vec<PathBuf> = (blobs(&registry).into_iter())
        .filter(|f| f.metadata().unwrap().len() > 100_000)
        .collect();
    let proxy = Proxy::start_where(registry.address(), Fault::Trickle, asks_for(&large));
    let slow = sharing_mounts(&lab, "b", &noting(&lab, "b"), &at(&proxy.address())).built();
    assert_eq!(slow.printed(), [""; 0], "{slow:?}");
    let told = slow.said();
    assert!(told.contains("100 kB came in a second"), "{told}");
    assert!(told.contains("the cache mount `m` is not sent"), "{told}");
    let shared = slow.shared_mounts();
    assert_eq!((shared.brought, shared.sent, shared.failed), (0, 0, 1));
    let other = sharing_mounts(&lab, "c", &noting(&lab, "c"), &direct).built();
    assert_eq!(other.printed(), ["big"], "{other:?}");
}

/// Nor is the end of a build held up by a remote that takes next to nothing.
#[test]
fn a_mount_that_is_hardly_taken_is_not_sent() {
    let lab = Lab::new();
    let registry = empty_registry();
    let at = |address: &str| [0, 1].map(|_| format!("type=registry,ref={address}/team/cache:main"));
    let sends = |line: &str| line.starts_with("PATCH ");
    let proxy = Proxy::start_where(registry.address(), Fault::Sip, sends);
    let built = sharing_mounts(&lab, "a", &filling(&lab, 12), &at(&proxy.address())).built();
    let told = built.said();
    let why = "cannot send a cache mount: it took less than 100 kB in a second";
    assert!(told.contains(why), "{told}");
    assert_eq!(
        (built.shared_mounts().sent, built.shared_mounts().failed),
        (0, 1)
    );
    let other = sharing_mounts(&lab, "b", &noting(&lab, "b"), &at(&registry.address())).built();
    assert_eq!(other.printed(), [""; 0], "{other:?}");
}

/// Whoever cannot be asked what it has may have it.
#[test]
fn a_mount_that_cannot_be_looked_up_is_not_replaced() {
    let lab = Lab::new();
    let registry = empty_registry();
    let at = |address: &str| [0, 1].map(|_| format!("type=registry,ref={address}/team/cache:main"));
    let direct = at(&registry.address());
    let other = Place::Directory.specs(&lab, None);
    assert_eq!(
        sharing_mounts(&lab, "a", &noting(&lab, "a"), &direct)
            .built()
            .shared_mounts()
            .sent,
        1
    );
    // It is well again when the step is over.
    let first = std::sync::atomic::AtomicU64::new(0);
    let lookup = move |line: &str| {
        let is_one = line.starts_with("GET ") && line.contains("/manifests/k1-");
        is_one && first.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 2
    };
    let proxy = Proxy::start_where(registry.address(), Fault::Status(500), lookup);
    let ill = sharing_mounts(&lab, "b", &noting(&lab, "b"), &at(&proxy.address()))
        .args(["--cache-mount-to", &other[1]])
        .built();
    assert_eq!(proxy.spoiled(), 2);
    assert_eq!(ill.printed(), [""; 0], "{ill:?}");
    // Another place has what this host made.
    assert_eq!(
        (ill.shared_mounts().sent, ill.shared_mounts().failed),
        (1, 1),
        "{ill:?}"
    );
    let third = sharing_mounts(&lab, "c", &noting(&lab, "c"), &direct).built();
    assert_eq!(third.printed(), ["a"], "{third:?}");
    let fourth = on_host(&lab, "d", &noting(&lab, "d")).args(["--cache-mount-from", &other[0]]);
    assert_eq!(fourth.built().printed(), ["b"]);
}

/// Interrupts a build as soon as a proxy holds one of its requests.
fn interrupted_at(proxy: &Proxy, build: Kiln) -> Output {
    let mut build = build.start();
    let limit = Instant::now() + Duration::from_secs(60);
    while proxy.spoiled() == 0 {
        assert!(build.is_running() && Instant::now() < limit);
        std::thread::sleep(Duration::from_millis(5));
    }
    build.signal(Signal::SIGINT);
    build.wait().orderly()
}

#[test]
fn an_interrupted_build_says_nothing_of_its_mounts() {
    let lab = Lab::new();
    let registry = empty_registry();
    let at = |address: &str| [0, 1].map(|_| format!("type=registry,ref={address}/team/cache:main"));
    let direct = at(&registry.address());
    let context = filling(&lab, 3);
    let sends = |line: &str| line.starts_with("POST ");
    let proxy = Proxy::start_where(registry.address(), Fault::Held, sends);
    let sending = sharing_mounts(&lab, "a", &context, &at(&proxy.address()));
    let sent = interrupted_at(&proxy, sending);
    assert_eq!(
        sharing_mounts(&lab, "b", &context, &direct)
            .built()
            .shared_mounts()
            .sent,
        1
    );
    let proxy = Proxy::start_where(registry.address(), Fault::Held, asks_for(&blobs(&registry)));
    let bringing = sharing_mounts(&lab, "c", &noting(&lab, "c"), &at(&proxy.address()));
    let brought = interrupted_at(&proxy, bringing);
    // The image was made when its mounts were sent.
    assert_eq!((sent.code(), brought.code()), (Some(0), Some(130)));
    for out in [sent, brought] {
        assert!(!out.err.contains("warning: cache"), "{out}");
        assert!(!out.err.contains("the cache mount `m`"), "{out}");
    }
}
