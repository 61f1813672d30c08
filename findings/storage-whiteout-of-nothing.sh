#!/usr/bin/env bash
# What:        a layer with a new directory in which a whiteout stands for a name that no lower layer has
# Behaviour:   the whiteout hides nothing and should not be seen. With the overlay driver of podman and
#              buildah it becomes a device 0:0, which overlayfs hides only in directories that it merges: in
#              a directory of one layer the name is listed, and opening or asking for it says that there is
#              no such file. Programs that walk the tree fail. With the vfs driver it is not there.
# Version:     skopeo 1.9.3+ds1-1+b10 (containers/storage), overlayfs of Linux 6.x
# Output seen: vfs: file   overlay: file gone, and `gone` cannot be looked at
set -euo pipefail
tmp=$(mktemp -d); trap 'umount "$tmp/overlay/overlay" 2>/dev/null || true; rm -rf "$tmp"' EXIT; cd "$tmp"
deb() { apt-get download -qq "$@" 2>/dev/null || exit 3; for f in *.deb; do dpkg -x "$f" deb; done; }
deb skopeo=1.9.3+ds1-1+b10 umoci=0.4.7+ds-3+b7 libgpgme11=1.18.0-3+deb12u1 libassuan0=2.5.5-5 \
  libdevmapper1.02.1=2:1.02.185-2
tool() { LD_LIBRARY_PATH=$(echo "$tmp"/deb/usr/lib/*-linux-gnu) "$tmp/deb/usr/bin/$1" "${@:2}"; }
image() { tool umoci init --layout image; tool umoci new --image image:x; for l; do tool umoci raw add-layer --image image:x "$l"; done; }
store() { tool skopeo --insecure-policy copy -q oci:image:x "containers-storage:[$1@$tmp/$1+$tmp/run]x:x" 2>&1; }
echo text >base; tar -cf lower.tar base
mkdir dir; echo text >dir/file; : >dir/.wh.gone; tar -cf upper.tar dir
image lower.tar upper.tar
store vfs; store overlay
upper=$(dirname overlay/overlay/*/diff/dir/file); upper=${upper%/dir}
lower=$(dirname overlay/overlay/*/diff/base)
mkdir merged; mount -t overlay -o "lowerdir=$tmp/$upper:$tmp/$lower" overlay merged
overlay=$(echo $(ls merged/dir 2>/dev/null)); stat merged/dir/gone >/dev/null 2>&1 || overlay="$overlay, and \`gone\` cannot be looked at"
umount merged
seen="vfs: $(echo $(ls vfs/vfs/dir/*/dir))   overlay: $overlay"
echo "$seen"
[ "$seen" = "vfs: file   overlay: file gone, and \`gone\` cannot be looked at" ] || { echo "the behaviour changed" >&2; exit 1; }
