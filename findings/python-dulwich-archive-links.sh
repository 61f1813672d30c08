#!/usr/bin/env bash
# What:        a commit with a file, a symbolic link and a submodule, made into an archive by git and by `dulwich
#              archive` (Git in pure Python)
# Behaviour:   dulwich writes a link as a plain file that holds the link's target, with no permission at all: its
#              bits are taken from Git's mode for links, 120000. A submodule, which git makes an empty
#              directory, is left out.
# Version:     dulwich 1.2.21
# Output seen: git: file -rw-rw-r--, link lrwxrwxrwx, sub drwxrwxr-x   dulwich: file -rw-r--r--, link ---------- (file)
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
{ python3 -m venv v && v/bin/pip -q install --no-input dulwich==1.2.21; } || exit 3
export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a
git init -q other; git -C other commit -q --allow-empty -m other
git init -q repo; cd repo
echo text >file; ln -s file link
git add file link
git update-index --add --cacheinfo "160000,$(git -C ../other rev-parse HEAD),sub"
git commit -q -m one
git archive HEAD >../git.tar
../v/bin/dulwich archive HEAD >../dulwich.tar
cd ..
list() {
  python3 - "$1" <<'P'
import stat, sys, tarfile
archive = tarfile.open(sys.argv[1] + ".tar")
kinds = {tarfile.DIRTYPE: stat.S_IFDIR, tarfile.SYMTYPE: stat.S_IFLNK, tarfile.REGTYPE: stat.S_IFREG}
for entry in archive:
    text = f" ({archive.extractfile(entry).read().decode()})" if entry.isreg() and entry.name == "link" else ""
    print(entry.name, stat.filemode(kinds[entry.type] | entry.mode & 0o7777) + text, end=", ")
P
}
git=$(list git) dulwich=$(list dulwich)
seen="git: ${git%, }   dulwich: ${dulwich%, }"
echo "$seen"
[ "$seen" = "git: file -rw-rw-r--, link lrwxrwxrwx, sub drwxrwxr-x   dulwich: file -rw-r--r--, link ---------- (file)" ] ||
  { echo "the behaviour changed" >&2; exit 1; }
