//! Files that somebody writes to while a step reads them.

use super::*;
use crate::plan::MountKind;

/// One for each: of the files, and of their directory.
type States = [(i64, i64)];

/// A step with a mount of files, which are in these states at each look at them.
async fn run(states: &States) -> (Vec<String>, Result<Solution<Tree>, SolveError>) {
    let (memory, solved) = solve_with(states).await;
    (ran(&memory), solved)
}

/// The keys under which results are kept.
async fn run_and_keep(states: &States) -> Vec<Key> {
    let (memory, solved) = solve_with(states).await;
    let Solution { .. } = solved.unwrap();
    // It is written down beside the result.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let records = memory.records.lock().unwrap();
    records.keys().copied().collect()
}

async fn solve_with(states: &States) -> (Arc<Memory>, Result<Solution<Tree>, SolveError>) {
    let memory = Arc::new(Memory::default());
    let versions = states.iter().map(|(files, directory)| {
        let mut version = FilesVersion::of(&[1], (*files, 0));
        version.add(FilesVersion::of_directory(&[2], (*directory, 0)));
        version
    });
    *memory.versions.lock().unwrap() = versions.collect();
    let mut graph = Graph::new();
    let files = graph.source("files");
    let mount = ExecMount {
        target: "/files".into(),
        kind: MountKind::Bind {
            input: Some(0),
            source: String::new(),
            writable: false,
        },
        place: String::new(),
    };
    let step = graph.run_with("step", &[files], false, vec![mount]);
    let solved = go(&memory, graph, step).await;
    (memory, solved)
}

#[tokio::test(start_paused = true)]
async fn what_was_written_to_meanwhile_is_read_again_though_its_content_is_the_same() {
    let keep_changing = Err("the files of the context keep changing");
    for (states, times) in [
        (&[(1, 1), (1, 1)][..], Ok(1)),
        (&[(1, 1), (2, 1), (2, 1)], Ok(2)),
        (&[(1, 1), (2, 1), (3, 1), (3, 1)], Ok(3)),
        (&[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)], keep_changing),
        // A command does not run again for what came and went.
        (&[(1, 1), (1, 2)], Ok(1)),
    ] {
        let (ran, solved) = run(states).await;
        match times {
            Ok(times) => {
                solved.unwrap();
                assert_eq!(ran.len(), times, "{states:?}");
            }
            Err(why) => assert!(solved.unwrap_err().to_string().contains(why), "{states:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_files_came_and_went_beside_is_not_used_again() {
    for (states, keys) in [(&[(1, 1), (1, 1)], 1), (&[(1, 1), (1, 2)], 2)] {
        let mut kept = std::collections::BTreeSet::new();
        for _ in 0..2 {
            kept.extend(run_and_keep(states).await);
        }
        assert_eq!(kept.len(), keys, "{states:?}");
    }
}
