//! `USER`, `--user` and `--chown`: names and numbers, looked up in the image's own files.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::path::Path;

use kiln_sys::RootDir;

use crate::error::{Error, Result};

/// The most that is read of /etc/passwd or /etc/group.
const MAX_FILE: u64 = 16 << 20;

/// Who a process is.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, the primary one included.
    pub groups: Vec<u32>,
    /// Home directory, `/` where the image names none.
    pub home: String,
}

fn fail<T>(spec: &str, why: impl Into<String>) -> Result<T> {
    Err(Error::User {
        spec: spec.to_owned(),
        why: why.into(),
    })
}

/// A part that starts like a number must be a valid id: it is never taken for a name, so that a
/// number that is too large or oddly written cannot become root.
fn number(spec: &str, part: &str) -> Result<Option<u32>> {
    let digits = part.strip_prefix(['+', '-']).unwrap_or(part);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(None);
    }
    match part.parse::<u32>() {
        Ok(id) if id <= i32::MAX.cast_unsigned() && !part.starts_with('+') => Ok(Some(id)),
        _ => fail(
            spec,
            format!(
                "`{part}` is not an id from 0 to 2147483647, and names do not start like a number"
            ),
        ),
    }
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn passwd(text: &str) -> impl Iterator<Item = Passwd<'_>> {
    text.lines().filter_map(|line| {
        let mut f = line.split(':');
        let name = f.next()?;
        let uid = f.nth(1)?.parse().ok()?;
        let gid = f.next()?.parse().ok()?;
        let home = f.nth(1).unwrap_or("");
        Some(Passwd {
            name,
            uid,
            gid,
            home,
        })
    })
}

fn groups(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut f = line.split(':');
        let name = f.next()?;
        let gid = f.nth(1)?.parse().ok()?;
        Some((name, gid, f.next().unwrap_or("")))
    })
}

fn file(root: &RootDir, path: &str, spec: &str) -> Result<String> {
    match root.read(Path::new(path), MAX_FILE) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.is_not_found() => Ok(String::new()),
        Err(e) => fail(
            spec,
            format!("cannot read the image's /{path}: {}", e.source),
        ),
    }
}

/// The identity of `spec` (`user`, `uid`, `user:group`, …; empty means root) in the image at
/// `root`, with the supplementary groups that /etc/group gives the user.
///
/// # Errors
/// Unknown names, ids out of range, and files that are no regular files or too large.
pub fn resolve(root: &RootDir, spec: &str) -> Result<Identity> {
    let (user, group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (spec, None),
    };
    let users = file(root, "etc/passwd", spec)?;
    let wanted = if user.is_empty() {
        Some(0)
    } else {
        number(spec, user)?
    };
    // A name that consists of digits is a name only if no such id can be meant.
    let entry = passwd(&users).find(|p| wanted.map_or(p.name == user, |uid| p.uid == uid));
    let mut who = match (&entry, wanted) {
        (Some(p), _) => Identity {
            uid: p.uid,
            gid: p.gid,
            groups: vec![],
            home: p.home.into(),
        },
        (None, Some(uid)) => Identity {
            uid,
            ..Identity::default()
        },
        (None, None) => return fail(spec, "no such user in the image's /etc/passwd"),
    };
    let group_file = file(root, "etc/group", spec)?;
    match group.filter(|g| !g.is_empty()) {
        Some(group) => who.gid = group_id(&group_file, group, spec)?,
        None => {
            if let Some(p) = &entry {
                let member = |list: &str| list.split(',').any(|m| m == p.name);
                who.groups = groups(&group_file)
                    .filter(|(_, _, members)| member(members))
                    .map(|(_, gid, _)| gid)
                    .collect();
            }
        }
    }
    who.groups.push(who.gid);
    who.groups.sort_unstable();
    who.groups.dedup();
    if who.home.is_empty() {
        who.home = "/".into();
    }
    Ok(who)
}

fn group_id(file: &str, group: &str, spec: &str) -> Result<u32> {
    if let Some(gid) = number(spec, group)? {
        return Ok(gid);
    }
    match groups(file).find(|(name, _, _)| *name == group) {
        Some((_, gid, _)) => Ok(gid),
        None => fail(
            spec,
            format!("no group `{group}` in the image's /etc/group"),
        ),
    }
}

/// Owner and group of `--chown`: like [`resolve`], but a user without a group given means the
/// group of the same number or the user's own, and a name that the image does not have means
/// root, as in Docker; `warn` is told so.
pub fn resolve_owner(root: &RootDir, spec: &str, warn: &dyn Fn(String)) -> Result<(u32, u32)> {
    let (user, group) = match spec.split_once(':') {
        Some((user, group)) => (user, group),
        None => (spec, ""),
    };
    let uid = match number(spec, user)? {
        Some(uid) => uid,
        None if user.is_empty() => 0,
        None => match passwd(&file(root, "etc/passwd", spec)?).find(|p| p.name == user) {
            Some(p) => p.uid,
            None => {
                warn(format!(
                    "the image has no user `{user}`: `{spec}` is taken as root's"
                ));
                0
            }
        },
    };
    let gid = match number(spec, group)? {
        Some(gid) => gid,
        None => {
            if !group.is_empty() {
                let found = group_id(&file(root, "etc/group", spec)?, group, spec);
                if let Ok(gid) = found {
                    return Ok((uid, gid));
                }
                warn(format!(
                    "the image has no group `{group}`: the user's is taken for `{spec}`"
                ));
            }
            // As BuildKit: without a group, the number of the user is the group's too, unless the
            // user has an entry by name.
            match number(spec, user)? {
                Some(uid) => uid,
                None => passwd(&file(root, "etc/passwd", spec)?)
                    .find(|p| p.name == user)
                    .map_or(uid, |p| p.gid),
            }
        }
    };
    Ok((uid, gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(dir: &Path) -> RootDir {
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        std::fs::write(
            dir.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\n0x0:x:0:0::/:\napp:x:1000:1001::/home/app:/bin/sh\n4294967296:x:0:0::/:\n",
        )
        .unwrap();
        std::fs::write(
            dir.join("etc/group"),
            "root:x:0:\nstaff:x:50:app,x\napp:x:1001:\nwheel:x:10:root,app\n",
        )
        .unwrap();
        RootDir::open_trusted(dir).unwrap()
    }

    #[test]
    fn names_numbers_and_groups() {
        let dir = tempfile::tempdir().unwrap();
        let root = image(dir.path());
        let cases: &[(&str, u32, u32, &[u32])] = &[
            ("", 0, 0, &[0, 10]),
            ("root", 0, 0, &[0, 10]),
            ("app", 1000, 1001, &[10, 50, 1001]),
            ("1000", 1000, 1001, &[10, 50, 1001]),
            ("app:staff", 1000, 50, &[50]),
            ("77:app", 77, 1001, &[1001]),
            ("77", 77, 0, &[0]),
            ("77:88", 77, 88, &[88]),
        ];
        for (spec, uid, gid, groups) in cases {
            let who = resolve(&root, spec).unwrap();
            assert_eq!(
                (who.uid, who.gid, &who.groups[..]),
                (*uid, *gid, *groups),
                "{spec}"
            );
        }
    }

    #[test]
    fn numbers_out_of_range_are_never_names_or_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = image(dir.path());
        for spec in [
            "4294967296",
            "2147483648",
            "-1",
            "+0",
            "0:4294967296",
            "0:-1",
            "nobody",
            "0x0",
            "app:none",
        ] {
            assert!(resolve(&root, spec).is_err(), "{spec} must be refused");
        }
    }

    #[test]
    fn passwd_that_is_a_pipe_or_a_device_is_refused_without_blocking() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let root = RootDir::open_trusted(dir.path()).unwrap();
        root.mknod(
            Path::new("etc/passwd"),
            kiln_sys::FileKind::Fifo,
            0o644,
            (0, 0),
        )
        .unwrap();
        assert!(resolve(&root, "app").is_err());
    }
}
