//! Every field of an op changes its key, but those that are left out on purpose.

use std::sync::Arc;

use super::*;
use crate::explain::inputs_of;
use crate::key::{ContentKey, Fingerprint, digest_of};

fn variable(name: &str, value: &str) -> Variable {
    Variable {
        name: name.into(),
        value: value.into(),
        role: VariableRole::Environment,
    }
}

fn exec() -> Exec {
    Exec {
        command: Command {
            shell: vec!["sh".into(), "-c".into()],
            words: vec!["true".into()],
        },
        env: vec![variable("A", "1")],
        proxy_env: vec![],
        cwd: "/".into(),
        user: String::new(),
        hostname: "box".into(),
        network: Network::Default,
        security: Security::Sandbox,
        devices: vec![],
        mounts: vec![ExecMount {
            target: "/c".into(),
            kind: MountKind::Cache(CacheMount {
                id: "c".into(),
                sharing: Sharing::Shared,
                base: None,
                source: "/".into(),
                mode: None,
                uid: None,
                gid: None,
                read_only: false,
            }),
            place: String::new(),
        }],
        extra_hosts: vec![],
        ulimits: vec![],
        shm_size: None,
        platform: BuildPlatform("linux/amd64".parse().unwrap()),
        on_base: true,
        epoch: None,
    }
}

fn cache(exec: &mut Exec) -> &mut CacheMount {
    match &mut exec.mounts[0].kind {
        MountKind::Cache(cache) => cache,
        _ => unreachable!(),
    }
}

/// Results that are stored are found by it: where it changes, `key::VERSION` does.
#[test]
fn the_key_of_a_command_in_this_version() {
    let mut to = Encoder::new("golden");
    inputs_of(&Op::Exec(exec())).encode(&mut to);
    assert_eq!(
        to.finish().to_hex().as_str(),
        "c2ed9f8ad4bcfe4b5944f3f1180c6b391ff01d090ad3015db596a598f3447ca8"
    );
}

type Change<T> = (&'static str, fn(&mut T));

#[test]
fn every_input_of_a_command_is_in_its_key() {
    let changes: &[Change<Exec>] = &[
        ("argument", |e| e.command.words[0] = "false".into()),
        ("argument split", |e| {
            e.command.shell.pop();
            e.command.words[0] = "-ctrue".into();
        }),
        ("variable", |e| e.env[0].value = "2".into()),
        ("role of a variable", |e| {
            e.env[0].role = VariableRole::Argument;
        }),
        ("variable name", |e| e.env[0].name = "B".into()),
        ("variable added", |e| {
            e.env.push(variable("B", ""));
        }),
        ("directory", |e| e.cwd = "/x".into()),
        ("user", |e| e.user = "app".into()),
        ("host name", |e| e.hostname = "other".into()),
        ("network none", |e| e.network = Network::None),
        ("network host", |e| e.network = Network::Host),
        ("security", |e| e.security = Security::Insecure),
        ("device", |e| {
            e.devices.push(ExecDevice {
                name: "v/c=n".into(),
                required: false,
            });
        }),
        ("mount target", |e| e.mounts[0].target = "/d".into()),
        ("mount gone", |e| e.mounts.clear()),
        ("mount kind", |e| {
            e.mounts[0].kind = MountKind::Tmpfs { size: None };
        }),
        ("tmpfs size", |e| {
            e.mounts[0].kind = MountKind::Tmpfs { size: Some(1) };
        }),
        ("cache id", |e| cache(e).id = "d".into()),
        ("cache sharing", |e| cache(e).sharing = Sharing::Locked),
        ("cache base", |e| cache(e).base = Some(0)),
        ("cache source", |e| cache(e).source = "/s".into()),
        ("cache mode", |e| cache(e).mode = Some(0o700)),
        ("cache user", |e| cache(e).uid = Some(1)),
        ("cache group", |e| cache(e).gid = Some(1)),
        ("cache read-only", |e| cache(e).read_only = true),
        ("hosts", |e| e.extra_hosts.push(("a".into(), "::1".into()))),
        ("platform", |e| {
            e.platform = BuildPlatform("linux/arm64".parse().unwrap());
        }),
        ("base", |e| e.on_base = false),
        ("epoch", |e| e.epoch = Some(0)),
    ];
    assert_all_differ(exec, changes);
    // Whether there is a base at all is told by the base's own label.
    assert_all_are_told(exec, changes, Op::Exec, &[]);
}

#[test]
fn proxies_limits_and_words_are_not_in_the_key() {
    let changes: &[Change<Exec>] = &[
        ("proxy", |e| {
            e.proxy_env.push(("HTTP_PROXY".into(), "x".into()));
        }),
        ("limit", |e| {
            e.ulimits.push(Ulimit {
                name: "nofile".into(),
                soft: 1,
                hard: 1,
            });
        }),
        ("shared memory", |e| e.shm_size = Some(1)),
        ("words", |e| e.mounts[0].place = "stage `a`".into()),
    ];
    for (what, change) in changes {
        let mut changed = exec();
        change(&mut changed);
        assert_eq!(digest_of(&exec()), digest_of(&changed), "{what}");
    }
    let mut renamed = copy();
    renamed.place = "stage `a`".into();
    assert_eq!(digest_of(&copy()), digest_of(&renamed));
}

fn copy() -> Copy {
    Copy {
        input: 1,
        sources: vec!["a".into()],
        dest: "/d".into(),
        chown: None,
        chmod: None,
        unpack: false,
        exclude: None,
        parents: false,
        reset_owner: true,
        rename_to: None,
        place: String::new(),
    }
}

#[derive(Debug)]
struct Patterns(Vec<String>);

impl PathFilter for Patterns {
    fn excludes(&self, _: &str) -> bool {
        false
    }
    fn may_include_below(&self, _: &str) -> bool {
        false
    }
    fn patterns(&self) -> Vec<String> {
        self.0.clone()
    }
}

#[test]
fn every_input_of_a_copy_is_in_its_key() {
    let changes: &[Change<Copy>] = &[
        ("input", |c| c.input = 2),
        ("source", |c| c.sources[0] = "b".into()),
        ("second source", |c| c.sources.push("b".into())),
        ("destination", |c| c.dest = "/d/".into()),
        ("owner", |c| c.chown = Some("1".into())),
        ("mode", |c| {
            c.chmod = Some(ModeChange {
                text: "0644".into(),
                apply: Arc::new(|m, _| m),
            });
        }),
        ("other mode", |c| {
            c.chmod = Some(ModeChange {
                text: "u+x".into(),
                apply: Arc::new(|m, _| m),
            });
        }),
        ("unpack", |c| c.unpack = true),
        ("exclude", |c| {
            c.exclude = Some(Arc::new(Patterns(vec!["*.o".into()])));
        }),
        ("other exclude", |c| {
            c.exclude = Some(Arc::new(Patterns(vec!["*.a".into()])));
        }),
        ("parents", |c| c.parents = true),
        ("owners kept", |c| c.reset_owner = false),
        ("name", |c| c.rename_to = Some("n".into())),
    ];
    assert_all_differ(copy, changes);
    let file = |copy| {
        Op::File(File {
            actions: vec![Action::Copy(copy)],
            on_base: true,
            epoch: None,
        })
    };
    // What is in an input is told by the label of what is read from it.
    assert_all_are_told(copy, changes, file, &["input"]);
}

/// Each change can be explained: some label has another digest.
fn assert_all_are_told<T>(
    make: fn() -> T,
    changes: &[Change<T>],
    op: impl Fn(T) -> Op,
    except: &[&str],
) {
    let labels = |value: T| inputs_of(&op(value));
    for (what, change) in changes {
        let mut changed = make();
        change(&mut changed);
        let told = labels(changed) != labels(make());
        assert_eq!(told, !except.contains(what), "{what}");
    }
}

/// Each change gives a key of its own.
fn assert_all_differ<T: ContentKey>(make: fn() -> T, changes: &[Change<T>]) {
    let mut seen = std::collections::HashMap::from([(digest_of(&make()), "unchanged")]);
    for (what, change) in changes {
        let mut changed = make();
        change(&mut changed);
        if let Some(other) = seen.insert(digest_of(&changed), what) {
            panic!("{what} has the key of: {other}");
        }
    }
}

#[test]
fn the_same_op_on_the_same_inputs_is_one_vertex() {
    let vertex = |op: Op, inputs: Vec<VertexId>| Vertex {
        op,
        inputs,
        name: "n".into(),
        lines: None,
        ignore_cache: None,
        origin: crate::plan::Origin::default(),
    };
    let mut plan = Plan::default();
    let a = plan.add(vertex(Op::Exec(exec()), vec![]));
    let b = plan.add(vertex(Op::Exec(exec()), vec![a]));
    assert_eq!(plan.add(vertex(Op::Exec(exec()), vec![])), a);
    assert_eq!(plan.add(vertex(Op::Exec(exec()), vec![a])), b);
    let mut with_proxy = exec();
    with_proxy.proxy_env.push(("HTTP_PROXY".into(), "x".into()));
    let c = plan.add(vertex(Op::Exec(with_proxy), vec![]));
    assert_ne!(
        c, a,
        "it runs in another way, though its result counts as the same"
    );
    assert_eq!(plan.reachable(&[b]), [a, b]);
    assert_eq!(plan.len(), 3);
    assert!(plan.to_dot().contains("n0 -> n1"));
}

#[test]
fn one_cache_id_stands_for_several_directories() {
    let mut exec = exec();
    let mount = cache(&mut exec);
    let base = Fingerprint([0xab; 32]);
    let cases = [
        ((None, None, None), None, "c"),
        ((Some(0o700), None, None), None, "c#mode=0700"),
        ((None, Some(1), None), None, "c#uid=1,gid=0,mode=0755"),
        (
            (Some(0o755), Some(1), Some(0)),
            None,
            "c#uid=1,gid=0,mode=0755",
        ),
        ((None, None, None), Some(base), "c#from=abababababababab"),
        (
            (None, None, Some(2)),
            Some(base),
            "c#uid=0,gid=2,mode=0755#from=abababababababab",
        ),
    ];
    for ((mode, uid, gid), base, want) in cases {
        (mount.mode, mount.uid, mount.gid) = (mode, uid, gid);
        mount.base = base.map(|_| 0);
        assert_eq!(mount.name(base), want);
        assert!(CacheMount::has("c", want) && mount.may_be(&mount.name(None), want));
    }
    assert!(!CacheMount::has("c", "cc") && !CacheMount::has("c", "c#other"));
    // The owner of a part of a cache is that of the cache.
    (mount.source, mount.base) = ("/sub".into(), None);
    assert_eq!(mount.name(None), "c");
}
