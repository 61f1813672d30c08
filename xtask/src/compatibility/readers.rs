//! The readers, and how each is told to read a form.
//!
//! A script finds the sample at `$1` and unpacks all files of it, where the tool can, to `$2/root`;
//! `$2` is its own for the rest. `$3` is the registry's storage, `$4` its address.

use super::samples::Form;

/// Where a reader is found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On this machine.
    Here,
    /// Where KILN_COMPATIBILITY_RUN says.
    Container,
}

pub(crate) struct Reader {
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    /// Prints the version; fails, or prints nothing, where the tool is missing.
    pub(crate) version: &'static str,
    scripts: &'static [(Form, &'static str)],
}

impl Reader {
    pub(crate) fn script_for(&self, form: Form) -> Option<&'static str> {
        let found = self.scripts.iter().find(|(own, _)| *own == form);
        found.map(|(_, script)| *script)
    }
}

/// Why a reader may be missing: where no package of it was found.
pub(crate) const NOT_PACKAGED: &[(&str, &str)] = &[(
    "apptainer",
    "not in Debian from bullseye to sid and experimental, PyPI or npm",
)];

/// All readers, in the order of the page's columns.
pub(crate) const ALL: &[Reader] = &[
    Reader {
        name: "skopeo",
        place: Place::Container,
        version: "skopeo --version | awk '{print $NF}'",
        scripts: &[
            (Form::Layout, r#"skopeo copy -q "oci:$1:x" "dir:$2/copy""#),
            (
                Form::OciArchive,
                r#"skopeo copy -q "oci-archive:$1" "dir:$2/copy""#,
            ),
            (
                Form::DockerArchive,
                r#"skopeo copy -q "docker-archive:$1" "dir:$2/copy""#,
            ),
            (
                Form::Registry,
                r#"skopeo copy -q --src-tls-verify=false "docker://$1" "dir:$2/copy""#,
            ),
        ],
    },
    Reader {
        name: "umoci",
        place: Place::Container,
        version: "umoci --version | awk 'NR == 1 {print $3}'",
        scripts: &[(
            Form::Layout,
            r#"rmdir "$2/root"; umoci raw unpack --image "$1:x" "$2/root""#,
        )],
    },
    Reader {
        name: "podman",
        place: Place::Container,
        version: "podman --version | awk '{print $NF}'",
        scripts: &[
            (
                Form::Layout,
                r#"cd "${1%/*}"; podman pull -q "oci:${1##*/}:x" >"$2/id"; id=$(tail -n 1 "$2/id")
cp -a "$(podman image mount "$id")/." "$2/root"; podman image unmount -f "$id"; podman rmi -f "$id""#,
            ),
            (Form::OciArchive, PODMAN_LOAD),
            (Form::DockerArchive, PODMAN_LOAD),
            (
                Form::Registry,
                r#"podman pull -q --tls-verify=false "docker://$1"; podman rmi -f "$1""#,
            ),
        ],
    },
    Reader {
        name: "Docker",
        place: Place::Container,
        version: "docker version --format '{{.Server.Version}}'",
        scripts: &[
            (Form::OciArchive, DOCKER_LOAD),
            (Form::DockerArchive, DOCKER_LOAD),
            (
                Form::Registry,
                r#"docker pull -q "$1"; id=$(docker create "$1" none)
docker export "$id" | tar -C "$2/root" --xattrs --xattrs-include='*' --numeric-owner -xpf -
docker rm "$id"; docker rmi "$1""#,
            ),
        ],
    },
    Reader {
        name: "crane",
        place: Place::Container,
        version: "dpkg-query -W -f '${Version}' crane 2>/dev/null || crane version",
        scripts: &[
            (Form::Layout, r#"crane push --insecure "$1" "$4/crane:x""#),
            (Form::DockerArchive, r#"crane validate --tarball "$1""#),
            (
                Form::Registry,
                r#"crane export --insecure "$1" "$2/files.tar"; rm -rf "$2/root"; mkdir "$2/root"
tar -C "$2/root" --xattrs --xattrs-include='*' --numeric-owner -xpf "$2/files.tar"
crane validate --insecure --remote "$1""#,
            ),
        ],
    },
    Reader {
        name: "oras",
        place: Place::Container,
        version: "oras version | awk '$1 == \"Version:\" {print $2}'",
        scripts: &[
            (Form::Layout, ORAS_COPY),
            (Form::OciArchive, ORAS_COPY),
            (
                Form::Registry,
                r#"oras cp --from-plain-http "$1" --to-oci-layout "$2/copy:x""#,
            ),
        ],
    },
    Reader {
        name: "cosign",
        place: Place::Container,
        version: "dpkg-query -W -f '${Version}' cosign 2>/dev/null | sed 's/-.*//' | grep . || cosign version 2>&1 | awk '$1 == \"GitVersion:\" {print $2}'",
        scripts: &[(
            Form::Registry,
            r#"cd "$2"; export COSIGN_PASSWORD=
cosign generate-key-pair
cosign sign --yes --key cosign.key --use-signing-config=false --tlog-upload=false "$1"
cosign verify --key cosign.pub --insecure-ignore-tlog=true "$1""#,
        )],
    },
    Reader {
        name: "apptainer",
        place: Place::Here,
        version: "apptainer --version | awk '{print $NF}'",
        scripts: &[
            (
                Form::Layout,
                r#"rmdir "$2/root"; apptainer build --sandbox "$2/root" "oci:$1:x""#,
            ),
            (
                Form::OciArchive,
                r#"rmdir "$2/root"; apptainer build --sandbox "$2/root" "oci-archive:$1""#,
            ),
            (
                Form::DockerArchive,
                r#"rmdir "$2/root"; apptainer build --sandbox "$2/root" "docker-archive:$1""#,
            ),
        ],
    },
    Reader {
        name: "charliecloud",
        place: Place::Here,
        version: "export PATH=/usr/bin:$PATH USER=root; ch-image --version",
        scripts: &[(Form::Registry, CHARLIECLOUD)],
    },
    Reader {
        name: "GNU tar",
        place: Place::Here,
        version: "tar --version | awk 'NR == 1 {print $NF}'",
        scripts: &[
            (Form::Tar, GNU_TAR),
            (Form::GzipLayer, GNU_TAR),
            (Form::ZstdLayer, GNU_TAR),
        ],
    },
    Reader {
        name: "bsdtar",
        place: Place::Here,
        version: "bsdtar --version | awk '{print $2}'",
        scripts: &[
            (Form::Tar, BSDTAR),
            (Form::GzipLayer, BSDTAR),
            (Form::ZstdLayer, BSDTAR),
        ],
    },
    Reader {
        name: "busybox tar",
        place: Place::Here,
        version: "$(dpkg -L busybox-static | grep -m1 'bin/busybox$') | awk 'NR == 1 {print $2}'",
        scripts: &[
            (
                Form::Tar,
                r#"$(dpkg -L busybox-static | grep -m1 'bin/busybox$') \
tar -C "$2/root" --numeric-owner -xpf "$1""#,
            ),
            (
                Form::GzipLayer,
                r#"$(dpkg -L busybox-static | grep -m1 'bin/busybox$') \
tar -C "$2/root" --numeric-owner -xzpf "$1""#,
            ),
        ],
    },
    Reader {
        name: "Python tarfile",
        place: Place::Here,
        version: "python3 --version | awk '{print $NF}'",
        scripts: &[
            (Form::Tar, TARFILE),
            (Form::GzipLayer, TARFILE),
            (Form::ZstdLayer, TARFILE),
        ],
    },
    Reader {
        name: "npm tar",
        place: Place::Here,
        version: "npm install --silent --prefix \"$TOOLS/tar\" tar@7.5.23 >/dev/null && echo 7.5.23",
        scripts: &[
            (Form::Tar, NPM_TAR),
            (Form::GzipLayer, NPM_TAR),
            (Form::ZstdLayer, NPM_TAR),
        ],
    },
    Reader {
        name: "npm tar-stream",
        place: Place::Here,
        version: "npm install --silent --prefix \"$TOOLS/tar-fs\" tar-fs@3.1.3 tar-stream@3.2.2 >/dev/null && echo 3.2.2, tar-fs 3.1.3",
        scripts: &[
            (
                Form::Tar,
                r#"node -e "require('fs').createReadStream(process.argv[1])
.pipe(require('$TOOLS/tar-fs/node_modules/tar-fs').extract(process.argv[2] + '/root'))" "$1" "$2""#,
            ),
            (
                Form::GzipLayer,
                r#"node -e "require('fs').createReadStream(process.argv[1]).pipe(require('zlib').createGunzip())
.pipe(require('$TOOLS/tar-fs/node_modules/tar-fs').extract(process.argv[2] + '/root'))" "$1" "$2""#,
            ),
        ],
    },
];

const PODMAN_LOAD: &str = r#"podman load -q -i "$1" >"$2/name"
podman rmi -f "$(sed -n 's/^Loaded image: //p' "$2/name")""#;

const DOCKER_LOAD: &str = r#"docker load -q -i "$1"; docker rmi kiln-compatibility:x"#;

const ORAS_COPY: &str = r#"oras cp --from-oci-layout "$1:x" --to-oci-layout "$2/copy:x""#;

/// It pulls over TLS alone: the same storage is served a second time.
const CHARLIECLOUD: &str = r#"export PATH=/usr/bin:$PATH USER=root CH_IMAGE_STORAGE="$2/store"
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$2/key.pem" -out "$2/cert.pem" -days 2 \
  -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 2>/dev/null
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$2/registry.yml" <<EOF
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: '$3'}}
http: {addr: '127.0.0.1:$port', tls: {certificate: '$2/cert.pem', key: '$2/key.pem'}}
EOF
docker-registry serve "$2/registry.yml" >/dev/null 2>&1 &
trap "kill $!" EXIT
for i in $(seq 50); do curl -ks "https://127.0.0.1:$port/v2/" >/dev/null && break; sleep 0.1; done
REQUESTS_CA_BUNDLE="$2/cert.pem" ch-image --no-cache pull "127.0.0.1:$port/${1#*/}"
rmdir "$2/root"; cp -a "$2"/store/img/* "$2/root""#;

const GNU_TAR: &str = r#"tar -C "$2/root" --xattrs --xattrs-include='*' --numeric-owner -xpf "$1""#;

const BSDTAR: &str = r#"bsdtar -C "$2/root" --xattrs --numeric-owner -xpf "$1""#;

const TARFILE: &str = r#"python3 -c 'import sys, tarfile
with tarfile.open(sys.argv[1]) as archive:
    archive.extractall(sys.argv[2] + "/root", numeric_owner=True, filter="fully_trusted")' "$1" "$2""#;

const NPM_TAR: &str = r#"node -e "require('$TOOLS/tar/node_modules/tar')
.x({file: process.argv[1], cwd: process.argv[2] + '/root', sync: true, preserveOwner: true})" "$1" "$2""#;
