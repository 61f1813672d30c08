//! Files that somebody writes to while a step reads them.

use super::*;
use crate::plan::MountKind;

/// A step with a mount of files, which are in these states at each look at them.
async fn run(states: &[i64]) -> (Vec<String>, Result<Solution<Tree>, SolveError>) {
    let memory = Arc::new(Memory::default());
    let versions = states.iter().map(|at| FilesVersion::of(&[1], (*at, 0)));
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
    (ran(&memory), solved)
}

#[tokio::test(start_paused = true)]
async fn what_was_written_to_meanwhile_is_read_again_though_its_content_is_the_same() {
    for (states, times) in [
        (&[1, 1][..], Ok(1)),
        (&[1, 2, 2], Ok(2)),
        (&[1, 2, 3, 3], Ok(3)),
        (
            &[1, 2, 3, 4, 5],
            Err("the files of the context keep changing"),
        ),
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
