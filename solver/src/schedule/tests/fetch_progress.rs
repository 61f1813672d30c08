//! Sources: whether they were fetched, also where that is not known at first.

use super::*;

/// Builds `commands` one after the other on a source, and gives the counts and what became of the
/// vertices in the order in which that was told. `files` of the result may be wanted.
async fn solved(
    source: &str,
    commands: &[&str],
    files: bool,
) -> (Result<Counts, SolveError>, Vec<(String, Outcome)>) {
    let mut graph = Graph::new();
    let mut last = graph.source(source);
    for command in commands {
        last = graph.run(command, &[last], false);
    }
    let names = graph.plan.clone();
    let seen: Arc<Mutex<Vec<(String, Outcome)>>> = Arc::default();
    let sink = seen.clone();
    let options = Options {
        shared: false,
        files,
        parallelism: 8,
        started: SystemTime::now(),
        ttl: None,
        unrecorded: false,
        events: Events::new(move |event| {
            if let Event::Finished {
                vertex, outcome, ..
            } = event
            {
                let name = names.vertex(vertex).name.clone();
                sink.lock().unwrap().push((name, outcome));
            }
        }),
        cancel: CancellationToken::new(),
        over: CancellationToken::new(),
    };
    let worker = Arc::new(Arc::new(Memory::default()));
    let solved = solve(Arc::new(graph.plan), &[last], worker, options).await;
    let seen = seen.lock().unwrap().clone();
    (solved.map(|s| s.counts), seen)
}

async fn told(source: &str, commands: &[&str]) -> (Option<Counts>, Vec<(String, Outcome)>) {
    let (solved, seen) = solved(source, commands, false).await;
    (solved.ok(), seen)
}

#[tokio::test]
async fn a_source_is_cached_only_if_nothing_was_transferred() {
    let cached = Outcome::Cached(Found::Local);
    for (source, command, outcome) in [
        ("here", "a", &cached),
        ("fetched", "a", &Outcome::Fetched),
        ("late", "fetch", &Outcome::Fetched),
        ("late", "find", &cached),
        ("late", "a", &cached),
    ] {
        let (counts, told) = told(source, &[command, "b"]).await;
        let is_source = |(name, _): &&(String, Outcome)| name == source;
        let of_source: Vec<_> = told.iter().filter(is_source).collect();
        assert_eq!(of_source.len(), 1, "{source} {command}: {told:?}");
        assert_eq!(&of_source[0].1, outcome, "{source} {command}");
        let fetched = usize::from(*outcome == Outcome::Fetched);
        let wanted = Counts {
            cached: 1 - fetched,
            fetched,
            ran: 2,
            ..Counts::default()
        };
        assert_eq!(counts, Some(wanted), "{source} {command}");
    }
    // Nobody needed it: that is known when all else is done, and not before.
    let (_, told) = told("late", &["a", "b"]).await;
    assert_eq!(told[2], ("late".into(), cached));
}

#[tokio::test]
async fn a_transfer_that_broke_off_is_neither_cached_nor_done() {
    let (counts, told) = told("late", &["begin", "b"]).await;
    assert!(counts.is_none());
    let outcome = |name: &str| told.iter().find(|(n, _)| n == name).map(|(_, o)| o.clone());
    assert_eq!(outcome("late"), Some(Outcome::Cancelled));
    assert_eq!(outcome("begin"), Some(Outcome::Failed));
    assert_eq!(outcome("b"), Some(Outcome::NotReached));
}

#[tokio::test]
async fn a_source_whose_files_only_the_result_needs_is_fetched_within_the_build() {
    for commands in [&["a", "b"][..], &[]] {
        let (counts, told) = solved("late", commands, true).await;
        let counts = counts.unwrap();
        assert_eq!((counts.fetched, counts.cached), (1, 0), "{commands:?}");
        assert_eq!(told.last(), Some(&("late".into(), Outcome::Fetched)));
        assert_eq!(told.len(), commands.len() + 1);
    }
    let (counts, _) = solved("here", &["a"], true).await;
    assert_eq!(counts.unwrap().cached, 1);
}

#[tokio::test]
async fn files_of_the_result_that_cannot_be_had_fail_the_build() {
    let (result, told) = solved("late", &["a", "cut"], true).await;
    let error = result.unwrap_err();
    assert!(matches!(&error, SolveError::Files(_)), "{error:?}");
    assert_eq!(error.to_string(), "it was cut off");
    assert_eq!(told.last(), Some(&("late".into(), Outcome::Cancelled)));
    // What fails earlier is what is told.
    let (result, _) = solved("late", &["fail", "a"], true).await;
    assert_eq!(result.unwrap_err().to_string(), "it failed");
}
