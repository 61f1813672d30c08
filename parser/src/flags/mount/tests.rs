//! Mount options by type.

use super::{MountSpec, MountType, Sharing, parse_mount};

fn of(kind: MountType) -> MountSpec {
    MountSpec {
        kind,
        target: None,
        from: None,
        source: None,
        readonly: None,
        id: None,
        sharing: None,
        mode: None,
        uid: None,
        gid: None,
        size: None,
        required: false,
        env: None,
    }
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

#[test]
fn good_mounts() {
    let cases = [
        (
            "target=/a",
            MountSpec {
                target: text("/a"),
                ..of(MountType::Bind)
            },
        ),
        (
            "type=bind,src=.,dst=/a,from=b,rw",
            MountSpec {
                source: text("."),
                target: text("/a"),
                from: text("b"),
                readonly: Some(false),
                ..of(MountType::Bind)
            },
        ),
        (
            "destination=/a,RO=t",
            MountSpec {
                target: text("/a"),
                readonly: Some(true),
                ..of(MountType::Bind)
            },
        ),
        (
            "rw=false,target=/a",
            MountSpec {
                target: text("/a"),
                readonly: Some(true),
                ..of(MountType::Bind)
            },
        ),
        (
            "target=/c,type=CACHE,id=x,sharing=Locked,mode=0750,uid=1,gid=2,from=b,source=/s,readonly=0",
            MountSpec {
                target: text("/c"),
                id: text("x"),
                sharing: Some(Sharing::Locked),
                mode: Some(0o750),
                uid: Some(1),
                gid: Some(2),
                from: text("b"),
                source: text("/s"),
                readonly: Some(false),
                ..of(MountType::Cache)
            },
        ),
        (
            "type=tmpfs,target=/t,size=1.5m",
            MountSpec {
                target: text("/t"),
                size: Some(1_572_864),
                ..of(MountType::Tmpfs)
            },
        ),
        (
            "type=secret,id=k",
            MountSpec {
                id: text("k"),
                ..of(MountType::Secret)
            },
        ),
        (
            "type=secret,src=k,required",
            MountSpec {
                id: text("k"),
                required: true,
                ..of(MountType::Secret)
            },
        ),
        (
            "type=secret,target=/run/key,mode=0400",
            MountSpec {
                id: text("key"),
                target: text("/run/key"),
                mode: Some(0o400),
                ..of(MountType::Secret)
            },
        ),
        (
            "type=secret,id=k,env=KEY",
            MountSpec {
                id: text("k"),
                env: text("KEY"),
                ..of(MountType::Secret)
            },
        ),
        ("type=ssh", of(MountType::Ssh)),
        (
            "required=true,type=ssh,id=a",
            MountSpec {
                id: text("a"),
                required: true,
                ..of(MountType::Ssh)
            },
        ),
        (
            "\"source=a,b\",target=/a",
            MountSpec {
                source: text("a,b"),
                target: text("/a"),
                ..of(MountType::Bind)
            },
        ),
        (
            "\"source=a\"\"b\"",
            MountSpec {
                source: text("a\"b"),
                ..of(MountType::Bind)
            },
        ),
        (
            "target=/a,target=/b",
            MountSpec {
                target: text("/b"),
                ..of(MountType::Bind)
            },
        ),
    ];
    for (value, want) in cases {
        assert_eq!(parse_mount(value), Ok(want), "{value}");
    }
}

#[test]
fn sizes() {
    for (value, want) in [
        ("1", 1),
        ("1b", 1),
        ("2K", 2048),
        ("1kib", 1024),
        ("1MB", 1 << 20),
        ("1 GiB", 1 << 30),
        ("1t", 1 << 40),
    ] {
        assert_eq!(
            parse_mount(&format!("type=tmpfs,size={value}")).map(|m| m.size),
            Ok(Some(want)),
            "{value}"
        );
    }
    for value in [
        "",
        "x",
        "1x",
        "-1",
        "1.2.3",
        ".",
        "9999999p",
        "99999999999999999999999999999999999999999",
    ] {
        assert!(
            parse_mount(&format!("type=tmpfs,size={value}")).is_err(),
            "{value}"
        );
    }
}

#[test]
fn bad_mounts() {
    // Value, part of the message, part of the advice.
    for (value, message, help) in [
        ("", "empty", ""),
        ("type=bind,", "unknown mount option ``", ""),
        ("type=bnd", "unknown mount type `bnd`", "bind"),
        ("type=volume", "unknown mount type", "one of"),
        ("targt=/a", "unknown mount option `targt`", "`target`"),
        (
            "type=bind,bind-propagation=shared",
            "unknown mount option `bind-propagation`",
            "",
        ),
        ("target", "needs a value", "target=value"),
        ("type=bind,size=1", "of type bind has no option `size`", ""),
        ("type=bind,mode=0700", "has no option `mode`", ""),
        ("type=bind,id=x", "has no option `id`", ""),
        ("type=tmpfs,from=x", "has no option `from`", ""),
        ("type=secret,from=x", "has no option `from`", ""),
        ("type=ssh,env=A", "has no option `env`", ""),
        ("type=cache,required", "has no option `required`", ""),
        ("type=cache,sharing=none", "unknown sharing mode", "one of"),
        ("type=cache,mode=9", "`mode` is not an octal number", ""),
        ("type=cache,mode=+7", "`mode` is not an octal number", ""),
        ("type=cache,uid=x", "`uid` is not a number", ""),
        ("type=cache,gid=4294967296", "`gid` is not a number", ""),
        ("ro=maybe", "neither true nor false", ""),
        ("type=secret", "needs an `id`", ""),
        ("type=secret,target=/", "needs an `id`", ""),
        ("type=secret,id=a,source=b", "not both", ""),
        ("source=\"a,b\"", "quotes", ""),
        ("\"source=a", "quotes", ""),
    ] {
        let error = parse_mount(value).expect_err(value);
        assert!(
            error.message.contains(message),
            "{value}: {}",
            error.message
        );
        assert!(error.help.unwrap_or_default().contains(help), "{value}");
    }
}
