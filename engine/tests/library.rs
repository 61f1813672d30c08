//! The engine as a library: what a front does, without the command line.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use kiln_engine::solver::event::{Event as StepEvent, Outcome};
use kiln_engine::{
    ArchiveForm, BuildRequest, Config, Dest, Engine, Error, ErrorKind, Event, Events, Hint,
    ImportRequest, ImportSource, LoadSource, Output, OutputKind, Place, Platform, Prune, Reference,
    RunRequest, Spawner, host,
};
use kiln_testkit::RegistryProcess;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio_util::sync::CancellationToken;

/// A test with what starts sandboxes, if this process may have it.
type Test = fn(Option<Spawner>);

/// Name, body, and whether it needs root and Debian's packages.
const TESTS: &[(&str, Test, bool)] = &[
    (
        "an_image_goes_through_its_life_without_a_command_line",
        life_of_an_image,
        true,
    ),
    (
        "builds_and_collections_of_one_process_leave_each_other_alone",
        side_by_side,
        true,
    ),
    ("errors_have_kinds_and_hints", errors, false),
    ("a_token_that_is_cancelled_ends_a_build", cancellation, true),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // Before any thread is there.
    let spawner = host::start_spawner().ok();
    let trials = TESTS.iter().map(|(name, test, needs_root)| {
        let spawner = spawner.clone();
        let run = move || -> Result<(), Failed> {
            test(spawner);
            Ok(())
        };
        Trial::test(*name, run).with_ignored_flag(*needs_root)
    });
    let code = libtest_mimic::run(&arguments, trials.collect()).exit_code();
    if let Some(spawner) = spawner {
        spawner.stop();
    }
    code
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}

/// A store with an image `base` that has a shell, and a directory for contexts.
struct Fixture {
    dir: tempfile::TempDir,
    engine: Engine,
}

impl Fixture {
    fn new(spawner: Option<Spawner>, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path().join("store"));
        config.spawner = spawner;
        change(&mut config);
        let engine = Engine::open(config);
        Self { dir, engine }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Imports the image `base`: a static shell.
    async fn import_base(&self) {
        let tar = self.path("base.tar");
        let mut builder = tar::Builder::new(File::create(&tar).unwrap());
        builder
            .append_path_with_name("/bin/busybox", "bin/busybox")
            .unwrap();
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        for name in ["sh", "cat", "sleep", "echo", "mkdir"] {
            builder
                .append_link(&mut link, format!("bin/{name}"), "busybox")
                .unwrap();
        }
        builder.finish().unwrap();
        let request = ImportRequest {
            source: ImportSource::File(tar),
            changes: vec!["CMD [\"/bin/sh\"]".into()],
            message: None,
            platform: Platform::host(),
            epoch: Some(0),
            name: Some(name("base")),
        };
        let images = self.engine.images();
        images.import(request, &Events::none()).await.unwrap();
    }

    fn context(&self, folder: &str, files: &[(&str, &str)]) -> BuildRequest {
        let dir = self.path(folder);
        std::fs::create_dir_all(&dir).unwrap();
        for (file, text) in files {
            std::fs::write(dir.join(file), text).unwrap();
        }
        BuildRequest::new(Place::Directory(dir))
    }
}

fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

/// The outcomes of steps, in the order in which they came.
fn outcomes() -> (Events, Arc<Mutex<Vec<Outcome>>>) {
    let seen: Arc<Mutex<Vec<Outcome>>> = Arc::default();
    let kept = seen.clone();
    let events = Events::new(move |event| {
        if let Event::Step(StepEvent::Finished { outcome, .. }) = event {
            kept.lock().unwrap().push(outcome);
        }
    });
    (events, seen)
}

fn life_of_an_image(spawner: Option<Spawner>) {
    let registry = RegistryProcess::start().unwrap();
    let pushed = name(&format!("{}/team/app:1", registry.host()));
    let insecure = registry.host();
    let place = Fixture::new(spawner.clone(), |config| {
        config.registries.insecure.insert(insecure.clone());
    });
    wait(async {
        place.import_base().await;
        let files = [
            (
                "Dockerfile",
                "FROM base\nCOPY hello /hello\nRUN cat /hello /hello > /twice\nCMD cat /twice\n",
            ),
            ("hello", "hello\n"),
        ];
        let engine = &place.engine;
        let request = |names: Vec<Reference>| {
            let mut request = place.context("app", &files);
            request.names = names;
            request
                .build_args
                .insert("SOURCE_DATE_EPOCH".into(), "0".into());
            request
        };
        // Built once, pushed, and as an archive; then found in the cache.
        let (events, seen) = outcomes();
        let mut first = request(vec![name("app:1"), pushed.clone()]);
        first
            .outputs
            .list
            .push(Output::new(OutputKind::Image(Vec::new())));
        let cancel = CancellationToken::new();
        let built = engine.build(first, events, cancel.clone()).await.unwrap();
        assert!(built.manifest.is_none(), "nothing was written or pushed");
        assert!(seen.lock().unwrap().contains(&Outcome::Ran));
        let (events, seen) = outcomes();
        let mut second = request(vec![pushed.clone()]);
        second.push = true;
        let again = engine.build(second, events, cancel).await.unwrap();
        assert_eq!(again.image.id, built.image.id);
        assert!(!seen.lock().unwrap().contains(&Outcome::Ran));
        assert!(again.manifest.is_some(), "it was pushed");

        let images = engine.images();
        images.tag("app:1", &name("app:2")).unwrap();
        let listed = images.list(&[]).unwrap();
        let names: Vec<String> = listed
            .iter()
            .filter(|image| image.id == built.image.id)
            .filter_map(|image| Some(image.name.as_ref()?.familiar()))
            .collect();
        for wanted in ["app:1".to_owned(), "app:2".to_owned(), pushed.familiar()] {
            assert!(names.contains(&wanted), "{names:?} has no {wanted}");
        }
        assert_eq!(images.inspect("app:2").unwrap().id, built.image.id);
        let history = images.history("app:1").unwrap();
        assert!(
            history
                .lines
                .iter()
                .any(|line| line.created_by.contains("COPY hello"))
        );

        // Out as an archive, and into another store; from the registry into a third.
        let archive = Dest::File(place.path("app.tar"));
        let list = ["app:1".to_owned()];
        let (events, host) = (Events::none(), Platform::host());
        let saved = images.save(&list, ArchiveForm::Oci, &archive, None, &events);
        saved.await.unwrap();
        let other = Fixture::new(spawner.clone(), |_| {});
        let source = LoadSource::Path(place.path("app.tar"));
        let loaded = other.engine.images().load(source, &host, &events);
        assert_eq!(loaded.await.unwrap()[0].id, built.image.id);
        let third = Fixture::new(spawner, |config| {
            config.registries.insecure.insert(insecure.clone());
        });
        let cancel = CancellationToken::new();
        let pulls = third.engine.images();
        let pulled = pulls.pull(&pushed, &host, &events, &cancel);
        assert_eq!(pulled.await.unwrap().config_digest, built.image.id);
        let run = RunRequest::new(pushed.to_string());
        let exit = run_quietly(&third.engine, run, &third.path("out")).await;
        assert_eq!(exit, 0);
        let printed = std::fs::read_to_string(third.path("out")).unwrap();
        assert_eq!(printed, "hello\nhello\n");

        // Away with it: names first, then what the cache has.
        assert!(images.remove("app:1", false).unwrap().deleted.is_none());
        let pruned = images.prune(true, &[]).unwrap();
        assert!(pruned.deleted.contains(&built.image.id), "{pruned:?}");
        let everything = Prune {
            all: true,
            ..Prune::default()
        };
        let removed = engine.system().prune(&everything).unwrap();
        assert!(removed.bytes() > 0);
        engine.system().maintain().unwrap();
        let report = engine.system().fsck(false, &|_, _| {}).unwrap();
        assert!(report.findings.is_empty(), "{report:?}");
        assert!(images.list(&[]).unwrap().is_empty());
    });
}

async fn run_quietly(engine: &Engine, request: RunRequest, out: &Path) -> i32 {
    let file = |path: &Path| {
        File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
    };
    let stdio = kiln_engine::Stdio {
        stdin: File::open("/dev/null").unwrap().into(),
        stdout: file(out).unwrap().into(),
        stderr: file(Path::new("/dev/null")).unwrap().into(),
        console: None,
    };
    let cancel = CancellationToken::new();
    let events = Events::none();
    let container = engine.prepare_run(request, &events, &cancel);
    container.await.unwrap().run(stdio).await.unwrap().code()
}

fn side_by_side(spawner: Option<Spawner>) {
    let place = Fixture::new(spawner, |_| {});
    wait(async {
        place.import_base().await;
        let slow =
            "FROM base\nRUN mkdir /a && sleep 1 && echo a > /a/file\nRUN sleep 1; echo b > /b\n";
        let engine = &place.engine;
        let mut compared = place.context("one", &[("Dockerfile", slow)]);
        compared.check_reproducible = true;
        compared.names = vec![name("one")];
        compared
            .build_args
            .insert("SOURCE_DATE_EPOCH".into(), "0".into());
        let mut plain = place.context("two", &[("Dockerfile", &slow.replace("/a", "/c"))]);
        plain.names = vec![name("two")];
        // An older build, whose results nobody holds any more.
        let mut old = place.context("old", &[("Dockerfile", "FROM base\nRUN echo old > /old\n")]);
        old.outputs.list.push(Output::new(OutputKind::CacheOnly));
        let token = CancellationToken::new;
        engine.build(old, Events::none(), token()).await.unwrap();

        let collections = async {
            let mut freed = 0;
            for _ in 0..20 {
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                let engine = engine.clone();
                let removed = tokio::task::spawn_blocking(move || {
                    let removed = engine.system().prune(&Prune::default()).unwrap();
                    engine.system().maintain().unwrap();
                    removed.bytes()
                });
                freed += removed.await.unwrap();
            }
            freed
        };
        let (one, two, freed) = tokio::join!(
            engine.build(compared, Events::none(), token()),
            engine.build(plain, Events::none(), token()),
            collections
        );
        one.unwrap();
        two.unwrap();
        assert!(freed > 0, "what the finished build used was collected");
        for (image, file) in [("one", "/a/file"), ("two", "/c/file")] {
            let mut request = RunRequest::new(image);
            request.command = vec!["cat".into(), file.into(), "/b".into()];
            let exit = run_quietly(engine, request, &place.path("out")).await;
            assert_eq!(exit, 0, "{image}");
        }
        let report = engine.system().fsck(false, &|_, _| {}).unwrap();
        assert!(report.findings.is_empty(), "{report:?}");
    });
}

fn cancellation(spawner: Option<Spawner>) {
    let place = Fixture::new(spawner, |_| {});
    wait(async {
        place.import_base().await;
        let request = place.context("slow", &[("Dockerfile", "FROM base\nRUN sleep 600\n")]);
        let cancel = CancellationToken::new();
        let (stop, engine) = (cancel.clone(), &place.engine);
        let begun = Arc::new(tokio::sync::Notify::new());
        let told = begun.clone();
        let events = Events::new(move |event| {
            if let Event::Step(StepEvent::Began { .. }) = event {
                told.notify_one();
            }
        });
        let stopping = async {
            begun.notified().await;
            stop.cancel();
        };
        let (built, ()) = tokio::join!(engine.build(request, events, cancel), stopping);
        assert_eq!(built.unwrap_err().kind(), ErrorKind::Cancelled);
    });
}

fn errors(_: Option<Spawner>) {
    let place = Fixture::new(None, |_| {});
    let engine = &place.engine;
    let missing = engine.images().inspect("nothing").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert_eq!(missing.hint(), Some(Hint::ListImages));
    let no_mount = engine.cache_mounts().remove(&["m".into()]).unwrap_err();
    assert_eq!(no_mount.kind(), ErrorKind::NotFound);
    assert_eq!(no_mount.hint(), Some(Hint::ListCacheMounts));
    wait(async {
        let build = |request| async {
            let cancel = CancellationToken::new();
            engine.build(request, Events::none(), cancel).await
        };
        let wrong = place.context("wrong", &[("Dockerfile", "FROM scratch\nWRKDIR /x\n")]);
        let error = build(wrong).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Dockerfile, "{error}");
        let mut nameless = place.context("nameless", &[("Dockerfile", "FROM scratch\n")]);
        nameless.push = true;
        let error = build(nameless).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request);
        assert_eq!(error.hint(), Some(Hint::NameImage));
        let none = BuildRequest::new(Place::Directory(place.path("none")));
        let error = build(none).await.unwrap_err();
        assert!(
            matches!(error, Error::Failed { .. } | Error::Files(_)),
            "{error:?}"
        );
    });
}
