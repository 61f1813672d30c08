//! The scheduler with a worker in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::step::SMALL_LAYER;
use super::*;
use crate::FilesVersion;
use crate::explain::Reason;
use crate::explain::{Change, Earlier, Listing};
use crate::key::{Fingerprint, Identity, TreeDigest};
use crate::plan::{
    BuildPlatform, Command, Copy, Exec, ExecMount, File, Forced, Merge, Network, Origin, Security,
    Source, SourceKind,
};
use crate::ports::{
    FetchReporter, Fingerprints, Hit, Lookup, Made, PortErrorKind, Reading, Record, Results,
    Sources, Steps, Unused, WorkerTypes,
};

mod changes;
mod fetch_progress;

/// A tree is the list of commands that made it.
type Tree = Vec<String>;

#[derive(Clone)]
struct Kept {
    tree: Tree,
    digest: TreeDigest,
    ran_at: SystemTime,
}

/// Runs commands by writing them down. `fail` fails; `slow` waits for ever; `random N` makes
/// another tree each time it runs; `same N` makes the same tree whatever its name; `find` and
/// `fetch` have the one part of a late source come, without a transfer and with one, and `begin` only
/// begins to.
#[derive(Default)]
struct Memory {
    records: Mutex<BTreeMap<Key, Kept>>,
    ran: Mutex<Vec<String>>,
    count: AtomicUsize,
    cancelled: AtomicUsize,
    runs: Mutex<Vec<Earlier>>,
    /// Of the source named `late`.
    arriving: Mutex<Option<FetchReporter>>,
    /// Of mounted files at each look at them, the next one first; then nobody writes to them.
    versions: Mutex<VecDeque<FilesVersion>>,
    /// Keys of results that were found and used.
    used: Mutex<Vec<Key>>,
    /// How long a layer takes to be hashed.
    slow_hash: Option<Duration>,
}

fn digest(text: &str) -> TreeDigest {
    blake3::hash(text.as_bytes()).into()
}

impl WorkerTypes for Arc<Memory> {
    type Output = Tree;
    type Layer = String;
    type Flight = ();
}

impl Sources for Arc<Memory> {
    async fn source(&self, op: &Source, _: &Step) -> Result<Sourced<Tree>, PortError> {
        let SourceKind::Context { name } = &op.kind else {
            return Err(PortError::new("no source"));
        };
        let solved = Solved {
            output: vec![name.clone()],
            identity: Pending::ready(Identity::empty().with_layer(digest(name))),
        };
        let fetched = match name.as_str() {
            "late" => {
                let (arriving, arrival) = FetchProgress::of(1);
                *self.arriving.lock().unwrap() = Some(arriving);
                Fetched::WhenNeeded(arrival)
            }
            name => (name == "fetched").into(),
        };
        Ok(Sourced { solved, fetched })
    }
}

impl Fingerprints for Arc<Memory> {
    async fn fingerprint_copy(
        &self,
        _: &Copy,
        input: &Solved<Tree>,
        _: bool,
    ) -> Result<Reading, PortError> {
        let hash = blake3::hash(input.output.join("+").as_bytes());
        Ok(Reading::unchanging(hash.into()))
    }

    async fn fingerprint_path(
        &self,
        input: &Solved<Tree>,
        _: (&str, &str),
        _: bool,
        _: bool,
    ) -> Result<Reading, PortError> {
        let hash = blake3::hash(input.output.join("+").as_bytes());
        Ok(Reading {
            fingerprint: hash.into(),
            version: self.versions.lock().unwrap().pop_front(),
        })
    }

    async fn settle(&self) {}

    async fn listing(&self, _: Fingerprint) -> Result<Option<Listing>, PortError> {
        Ok(None)
    }
}

impl Results for Arc<Memory> {
    fn earlier(&self, origin: &Origin) -> Result<Vec<Earlier>, PortError> {
        let runs = self.runs.lock().unwrap();
        let same = |run: &&Earlier| {
            run.instruction == origin.instruction
                || run.project == origin.project && run.step == origin.step
        };
        Ok(runs.iter().filter(same).cloned().collect())
    }

    async fn lookup(
        &self,
        key: Key,
        base: Option<&Solved<Tree>>,
        not_before: Option<SystemTime>,
    ) -> Result<Lookup<Tree>, PortError> {
        let found = self.records.lock().unwrap().get(&key).cloned();
        let Some(kept) = found else {
            return Ok(Lookup::Miss);
        };
        let ran_at = kept.ran_at;
        if not_before.is_some_and(|t| ran_at < t) {
            return Ok(Lookup::Expired { ran_at });
        }
        let below = match base {
            Some(base) => base.identity.wait().await?,
            None => Identity::empty(),
        };
        let identity = Pending::ready(below.with_layer(kept.digest));
        Ok(Lookup::Hit(Hit {
            took: Duration::ZERO,
            solved: Solved {
                output: kept.tree,
                identity,
            },
            ran_at,
            found: Found::Local,
        }))
    }

    fn used(&self, key: Key, _: &Solved<Tree>, _: &Step) {
        self.used.lock().unwrap().push(key);
    }

    async fn lookup_shared(
        &self,
        _: Key,
        _: Option<&Solved<Tree>>,
        _: &Step,
        _: &Origin,
    ) -> Result<Option<Hit<Tree>>, PortError> {
        Ok(None)
    }

    async fn flight(&self, _: &Step) -> Result<(), PortError> {
        Ok(())
    }

    async fn claim(
        &self,
        _: Key,
        (): &mut (),
        _: Option<&Solved<Tree>>,
        _: &Step,
        _: &Origin,
    ) -> Result<Option<Hit<Tree>>, PortError> {
        Ok(None)
    }

    fn commit(
        &self,
        made: Made<Tree, String>,
        record: Record<Tree>,
        (): (),
    ) -> impl Future<Output = Result<Committed<Tree>, PortError>> + Send + 'static {
        let memory = self.clone();
        async move {
            if let Some(slow) = memory.slow_hash {
                tokio::time::sleep(slow).await;
            }
            let (key, inputs) = record.key.await.map_err(|_| PortError::cancelled())?;
            let base = match &record.base {
                Some(base) => base.identity.wait().await?,
                None => Identity::empty(),
            };
            let digest = digest(&made.layer);
            let identity = base.with_layer(digest);
            let kept = Kept {
                tree: made.output.clone(),
                digest,
                ran_at: record.started,
            };
            memory.records.lock().unwrap().insert(key, kept);
            memory.runs.lock().unwrap().push(Earlier {
                removed: false,
                key,
                project: record.origin.project,
                step: record.origin.step,
                instruction: record.origin.instruction,
                ran_at: record.started,
                inputs,
            });
            Ok(Committed {
                output: made.output,
                identity,
            })
        }
    }
}

impl Steps for Arc<Memory> {
    async fn exec(
        &self,
        op: &Exec,
        inputs: &[Solved<Tree>],
        step: &Step,
    ) -> Result<Made<Tree, String>, PortError> {
        let command = op.command.argv().join(" ");
        self.ran.lock().unwrap().push(command.clone());
        let arriving = self.arriving.lock().unwrap().clone();
        if let ("fetch" | "begin", Some(arriving)) = (op.command.words[0].as_str(), &arriving) {
            arriving.transfer();
        }
        if let ("fetch" | "find", Some(arriving)) = (op.command.words[0].as_str(), &arriving) {
            arriving.part();
        }
        let layer = match op.command.words[0].as_str() {
            "begin" => return Err(PortError::new("it broke off")),
            "fail" => return Err(PortError::new("it failed")),
            "lose" => {
                let error = PortError::of(PortErrorKind::Lost, "it is gone");
                return Err(error);
            }
            "slow" => {
                step.cancel.cancelled().await;
                self.cancelled.fetch_add(1, Ordering::SeqCst);
                return Err(PortError::cancelled());
            }
            "random" => format!("{command} {}", self.count.fetch_add(1, Ordering::SeqCst)),
            "same" => "same".into(),
            _ => command,
        };
        let mut output = inputs.first().map_or(vec![], |i| i.output.clone());
        output.push(layer.clone());
        Ok(Made { output, layer })
    }

    async fn file(
        &self,
        _: &File,
        _: &[Solved<Tree>],
        _: &Step,
    ) -> Result<Made<Tree, String>, PortError> {
        Err(PortError::new("no files here"))
    }

    fn discard(&self, _: Made<Tree, String>) -> Result<(), PortError> {
        Ok(())
    }

    async fn merge(
        &self,
        lower: &Solved<Tree>,
        upper: &Solved<Tree>,
    ) -> Result<Option<Tree>, PortError> {
        Ok(Some([lower.output.clone(), upper.output.clone()].concat()))
    }

    async fn materialise(&self, output: &Tree) -> Result<(), PortError> {
        let arriving = self.arriving.lock().unwrap().clone();
        if let Some(arriving) = arriving {
            arriving.transfer();
            if output.iter().any(|o| o == "cut") {
                return Err(PortError::new("it was cut off"));
            }
            arriving.part();
        }
        Ok(())
    }
}

struct Graph {
    plan: Plan,
}

impl Graph {
    fn new() -> Self {
        Self {
            plan: Plan::default(),
        }
    }

    /// A context.
    fn source(&mut self, name: &str) -> VertexId {
        let kind = SourceKind::Context { name: name.into() };
        self.plan.add(Vertex {
            op: Op::Source(Source {
                kind,
                platform: BuildPlatform("linux/amd64".parse().unwrap()),
            }),
            inputs: vec![],
            name: name.into(),
            lines: None,
            ignore_cache: None,
            origin: Origin::default(),
        })
    }

    fn run(&mut self, command: &str, inputs: &[VertexId], ignore_cache: bool) -> VertexId {
        self.run_with(command, inputs, ignore_cache, vec![])
    }

    /// With mounts, there is no base.
    fn run_with(
        &mut self,
        command: &str,
        inputs: &[VertexId],
        ignore_cache: bool,
        mounts: Vec<ExecMount>,
    ) -> VertexId {
        let on_base = !inputs.is_empty() && mounts.is_empty();
        let op = Op::Exec(Exec {
            command: Command {
                shell: Vec::new(),
                words: command.split(' ').map(str::to_owned).collect(),
            },
            env: vec![],
            proxy_env: vec![],
            cwd: "/".into(),
            user: String::new(),
            hostname: String::new(),
            network: Network::Default,
            security: Security::Sandbox,
            mounts,
            devices: vec![],
            extra_hosts: vec![],
            ulimits: vec![],
            shm_size: None,
            platform: BuildPlatform("linux/amd64".parse().unwrap()),
            on_base,
            epoch: None,
        });
        let name = command.to_owned();
        let origin = Origin {
            project: "p".into(),
            step: self.plan.len().to_string(),
            instruction: name.clone(),
        };
        self.plan.add(Vertex {
            op,
            inputs: inputs.to_vec(),
            name,
            lines: None,
            ignore_cache: ignore_cache.then_some(Forced::NoCache),
            origin,
        })
    }

    /// One on top of the other, all of them.
    fn merge(&mut self, inputs: &[VertexId]) -> VertexId {
        let merge = |lower: VertexId, upper: &VertexId| {
            let otherwise = File {
                actions: vec![],
                on_base: true,
                epoch: None,
            };
            self.plan.add(Vertex {
                op: Op::Merge(Merge { otherwise }),
                inputs: vec![lower, *upper],
                name: "merge".into(),
                lines: None,
                ignore_cache: None,
                origin: Origin::default(),
            })
        };
        inputs.iter().skip(1).fold(inputs[0], merge)
    }
}

/// Solves, and gives why each vertex ran or did not.
async fn reasons(memory: &Arc<Memory>, graph: Graph, target: VertexId) -> BTreeMap<String, Reason> {
    let seen: Arc<Mutex<Vec<(VertexId, Reason)>>> = Arc::default();
    let names = graph.plan.clone();
    let sink = seen.clone();
    let events = Events::new(move |event| {
        if let Event::Explained { vertex, reason } = event {
            sink.lock().unwrap().push((vertex, reason));
        }
    });
    let options = Options {
        shared: false,
        files: false,
        parallelism: 8,
        started: SystemTime::now(),
        ttl: None,
        unrecorded: false,
        events,
        cancel: CancellationToken::new(),
        over: CancellationToken::new(),
    };
    let worker = Arc::new(memory.clone());
    solve(Arc::new(graph.plan), &[target], worker, options)
        .await
        .unwrap();
    let seen = seen.lock().unwrap();
    let named = seen
        .iter()
        .map(|(id, reason)| (names.vertex(*id).name.clone(), reason.clone()));
    named.collect()
}

async fn go(
    memory: &Arc<Memory>,
    graph: Graph,
    target: VertexId,
) -> Result<Solution<Tree>, SolveError> {
    let options = Options {
        shared: false,
        files: false,
        parallelism: 8,
        started: SystemTime::now(),
        ttl: None,
        unrecorded: false,
        events: Events::none(),
        cancel: CancellationToken::new(),
        over: CancellationToken::new(),
    };
    solve(
        Arc::new(graph.plan),
        &[target],
        Arc::new(memory.clone()),
        options,
    )
    .await
}

fn ran(memory: &Memory) -> Vec<String> {
    std::mem::take(&mut memory.ran.lock().unwrap())
}

#[tokio::test]
async fn a_second_solve_runs_nothing_and_gives_the_same() {
    let memory = Arc::new(Memory::default());
    let chain = || {
        let mut graph = Graph::new();
        let a = graph.run("a", &[], false);
        let b = graph.run("b", &[a], false);
        let c = graph.run("c", &[b], false);
        (graph, c)
    };
    let (graph, target) = chain();
    let first = go(&memory, graph, target).await.unwrap();
    assert_eq!(ran(&memory), ["a", "b", "c"]);
    assert_eq!(first.results[0].output, ["a", "b", "c"]);
    assert!(memory.used.lock().unwrap().is_empty());
    let (graph, target) = chain();
    let second = go(&memory, graph, target).await.unwrap();
    // What was found is told to be used, each result once.
    let mut used = std::mem::take(&mut *memory.used.lock().unwrap());
    used.sort_unstable();
    let kept: Vec<Key> = memory.records.lock().unwrap().keys().copied().collect();
    assert_eq!(used, kept);
    assert_eq!(ran(&memory), Vec::<String>::new());
    assert_eq!(second.results[0].identity, first.results[0].identity);
    assert_eq!(
        second.counts,
        Counts {
            cached: 3,
            ..Counts::default()
        }
    );
}

#[tokio::test]
async fn what_comes_after_a_changed_step_runs_and_what_does_not_depend_on_it_does_not() {
    let memory = Arc::new(Memory::default());
    let build = |first: &str| {
        let mut graph = Graph::new();
        let a = graph.run(first, &[], false);
        let b = graph.run("b", &[a], false);
        let other = graph.run("other", &[], false);
        let merged = graph.merge(&[b, other]);
        (graph, merged)
    };
    let (graph, target) = build("a1");
    go(&memory, graph, target).await.unwrap();
    ran(&memory);
    let (graph, target) = build("a2");
    go(&memory, graph, target).await.unwrap();
    assert_eq!(ran(&memory), ["a2", "b"]);
}

#[tokio::test]
async fn a_changed_step_that_makes_the_same_stops_the_change_there() {
    let memory = Arc::new(Memory::default());
    for (command, want) in [("same 1", vec!["same 1", "b"]), ("same 2", vec!["same 2"])] {
        let mut graph = Graph::new();
        let a = graph.run(command, &[], false);
        let b = graph.run("b", &[a], false);
        go(&memory, graph, b).await.unwrap();
        assert_eq!(ran(&memory), want);
    }
}

#[tokio::test]
async fn a_re_run_that_makes_something_else_reaches_what_depends_on_it_later() {
    let memory = Arc::new(Memory::default());
    let build = |fresh: bool, with_b: bool| {
        let mut graph = Graph::new();
        let a = graph.run("random", &[], fresh);
        let target = if with_b {
            graph.run("b", &[a], false)
        } else {
            a
        };
        (graph, target)
    };
    for (fresh, with_b, want) in [
        (false, true, vec!["random", "b"]),
        (true, false, vec!["random"]),
        // The result of `b` was made from the older `random`: it must not be used.
        (false, true, vec!["b"]),
    ] {
        let (graph, target) = build(fresh, with_b);
        go(&memory, graph, target).await.unwrap();
        assert_eq!(ran(&memory), want);
    }
}

#[tokio::test]
async fn a_failure_stops_the_others_and_is_the_error() {
    let memory = Arc::new(Memory::default());
    let mut graph = Graph::new();
    let slow: Vec<VertexId> = (0..5)
        .map(|n| graph.run(&format!("slow {n}"), &[], false))
        .collect();
    let fail = graph.run("fail", &[], false);
    let target = graph.merge(&[&slow[..], &[fail]].concat());
    let error = go(&memory, graph, target).await.unwrap_err();
    assert!(
        matches!(error, SolveError::Vertex { vertex, .. } if vertex == fail),
        "{error}"
    );
    assert_eq!(memory.cancelled.load(Ordering::SeqCst), 5);
}

/// Transfers go on where the plan will be walked again, and stop where the build has failed.
#[tokio::test]
async fn a_failure_stops_transfers_and_a_lost_result_does_not() {
    for (command, stops) in [("fail", true), ("lose", false)] {
        let memory = Arc::new(Memory::default());
        let mut graph = Graph::new();
        let target = graph.run(command, &[], false);
        let over = CancellationToken::new();
        let options = Options {
            shared: false,
            files: false,
            parallelism: 1,
            started: SystemTime::now(),
            ttl: None,
            unrecorded: false,
            events: Events::none(),
            cancel: CancellationToken::new(),
            over: over.clone(),
        };
        let targets = [target];
        let solving = solve(Arc::new(graph.plan), &targets, Arc::new(memory), options);
        assert!(solving.await.is_err());
        assert_eq!(over.is_cancelled(), stops, "{command}");
    }
}

#[tokio::test]
async fn an_interruption_stops_everything() {
    let memory = Arc::new(Memory::default());
    let mut graph = Graph::new();
    let slow = graph.run("slow", &[], false);
    let target = graph.run("after", &[slow], false);
    let cancel = CancellationToken::new();
    let options = Options {
        shared: false,
        files: false,
        parallelism: 1,
        started: SystemTime::now(),
        ttl: None,
        unrecorded: false,
        events: Events::none(),
        cancel: cancel.clone(),
        over: CancellationToken::new(),
    };
    let targets = [target];
    let solving = solve(
        Arc::new(graph.plan),
        &targets,
        Arc::new(memory.clone()),
        options,
    );
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        cancel.cancel();
    };
    let (solved, ()) = tokio::join!(solving, stopping);
    assert!(matches!(solved, Err(SolveError::Cancelled)));
    assert_eq!(ran(&memory), ["slow"]);
}

#[tokio::test]
async fn a_thousand_steps_in_a_row_and_side_by_side() {
    let memory = Arc::new(Memory::default());
    let build = || {
        let mut graph = Graph::new();
        let mut last = graph.run("start", &[], false);
        for n in 0..500 {
            last = graph.run(&format!("row {n}"), &[last], false);
        }
        let mut all: Vec<VertexId> = (0..500)
            .map(|n| graph.run(&format!("side {n}"), &[], false))
            .collect();
        all.push(last);
        let target = graph.merge(&all);
        (graph, target)
    };
    let (graph, target) = build();
    let first = go(&memory, graph, target).await.unwrap();
    assert_eq!(ran(&memory).len(), 1001);
    let (graph, target) = build();
    let second = go(&memory, graph, target).await.unwrap();
    assert_eq!(ran(&memory).len(), 0);
    assert_eq!(first.results[0].identity, second.results[0].identity);
}

fn changed(reason: &Reason) -> Vec<String> {
    match reason {
        Reason::Changed { changes, .. } => changes.iter().map(Change::to_string).collect(),
        other => panic!("not changed: {other:?}"),
    }
}

#[tokio::test]
async fn a_step_that_runs_again_says_what_has_changed() {
    let memory = Arc::new(Memory::default());
    let build = |first: &str, fresh: bool| {
        let mut graph = Graph::new();
        let a = graph.run(first, &[], fresh);
        let b = graph.run("b", &[a], false);
        (graph, b)
    };
    let (graph, target) = build("a1", false);
    let first = reasons(&memory, graph, target).await;
    assert_eq!((&first["a1"], &first["b"]), (&Reason::New, &Reason::New));
    let (graph, target) = build("a1", false);
    let again = reasons(&memory, graph, target).await;
    assert!(matches!(again["b"], Reason::Hit { .. }), "{again:?}");
    let (graph, target) = build("a2", false);
    let other = reasons(&memory, graph, target).await;
    assert_eq!(changed(&other["a2"]), ["command"]);
    assert_eq!(changed(&other["b"]), ["it comes after a2 instead of a1"]);
    let (graph, target) = build("a2", true);
    let forced = reasons(&memory, graph, target).await;
    assert_eq!(forced["a2"], Reason::Forced(Forced::NoCache));
    assert!(matches!(forced["b"], Reason::Hit { .. }), "{forced:?}");
}

#[tokio::test(start_paused = true)]
async fn only_what_could_be_cached_waits_for_the_hash_of_what_runs_again() {
    const HOUR: Duration = Duration::from_secs(3600);
    for (follower_runs_again, hours) in [(true, 1), (false, 2)] {
        let memory = Arc::new(Memory {
            slow_hash: Some(HOUR),
            ..Memory::default()
        });
        let mut graph = Graph::new();
        let a = graph.run("a", &[], true);
        let b = graph.run("b", &[a], follower_runs_again);
        let begun = tokio::time::Instant::now();
        reasons(&memory, graph, b).await;
        assert_eq!(begun.elapsed().as_secs() / HOUR.as_secs(), hours);
    }
}

#[test]
fn a_new_layer_is_used_or_replaced_and_never_both() {
    let always = Unused::new(false);
    assert!((always.used(), always.replaced(), always.used()) == (true, false, true));
    let first = Unused::new(true);
    assert!((first.used(), first.replaced(), first.used()) == (true, false, true));
    let other = Unused::new(true);
    assert!((other.replaced(), other.used(), other.replaced()) == (true, false, true));
}

#[tokio::test]
async fn a_step_that_starts_without_a_key_is_explained_when_it_has_one() {
    let memory = Arc::new(Memory {
        slow_hash: Some(SMALL_LAYER * 4),
        ..Memory::default()
    });
    let build = |first: &str| {
        let mut graph = Graph::new();
        let a = graph.run(first, &[], false);
        let b = graph.run("b", &[a], false);
        (graph, b)
    };
    for (first, want) in [
        ("random 1", None),
        (
            "random 2",
            Some("it comes after random 2 instead of random 1"),
        ),
    ] {
        let (graph, target) = build(first);
        let told = reasons(&memory, graph, target).await;
        match want {
            None => assert_eq!(told["b"], Reason::New),
            Some(want) => assert_eq!(changed(&told["b"]), [want]),
        }
    }
    // The same tree as before: the result was known, and nobody could tell in time.
    for (first, early) in [("same 1", false), ("same 2", true)] {
        let (graph, target) = build(first);
        let told = reasons(&memory, graph, target).await;
        assert_eq!(matches!(told["b"], Reason::Early { .. }), early, "{told:?}");
    }
}

#[tokio::test]
async fn results_that_are_too_old_run_again_and_say_so() {
    let memory = Arc::new(Memory::default());
    let mut graph = Graph::new();
    let a = graph.run("a", &[], false);
    go(&memory, graph, a).await.unwrap();
    ran(&memory);
    for (ttl, want) in [(Duration::from_secs(3600), 0), (Duration::ZERO, 1)] {
        let mut graph = Graph::new();
        let a = graph.run("a", &[], false);
        let options = Options {
            shared: false,
            files: false,
            parallelism: 1,
            started: SystemTime::now(),
            ttl: Some(ttl),
            unrecorded: false,
            events: Events::none(),
            cancel: CancellationToken::new(),
            over: CancellationToken::new(),
        };
        let worker = Arc::new(memory.clone());
        let solved = solve(Arc::new(graph.plan), &[a], worker, options).await;
        assert_eq!(solved.unwrap().counts.ran, want, "{ttl:?}");
    }
}
