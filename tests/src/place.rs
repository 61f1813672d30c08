//! Places where hosts share results, of every kind that there is. A store of its own stands for a
//! host.

use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::kiln::Kiln;
use crate::lab::Lab;
use crate::network::Network;
use crate::servers::{Running, bucket_server, bucket_server_at, empty_registry, empty_registry_at};
use crate::setting;
use crate::tools::tool;

/// Where results are shared.
#[derive(Debug)]
pub enum Place {
    /// A repository of a registry of its own.
    Registry(Running),
    /// A directory of the lab.
    Directory,
    /// A bucket of a server of its own.
    Bucket(Running),
}

/// What is wrong with a layer's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// They are others.
    Other,
    /// Half of them are missing.
    Cut,
}

impl Damage {
    fn apply(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Other => vec![7; bytes.len()],
            Self::Cut => bytes[..bytes.len() / 2].to_vec(),
        }
    }
}

impl Place {
    /// One of each kind.
    #[must_use]
    pub fn all() -> [Self; 3] {
        [
            Self::Registry(empty_registry()),
            Self::Directory,
            Self::Bucket(bucket_server()),
        ]
    }

    /// One of each kind, for the hosts of a network.
    #[must_use]
    pub fn all_in(network: &Network) -> [Self; 3] {
        [
            Self::registry_in(network),
            Self::Directory,
            Self::Bucket(network.serve(bucket_server_at)),
        ]
    }

    /// An empty registry.
    #[must_use]
    pub fn registry() -> Self {
        Self::Registry(empty_registry())
    }

    /// A registry for the hosts of a network.
    #[must_use]
    pub fn registry_in(network: &Network) -> Self {
        Self::Registry(network.serve(empty_registry_at))
    }

    /// The address of its server.
    #[must_use]
    pub fn address(&self) -> Option<String> {
        match self {
            Self::Registry(server) | Self::Bucket(server) => Some(server.address()),
            Self::Directory => None,
        }
    }

    /// What `--cache-from` and `--cache-to` say of it; `address` takes the place of its server's.
    #[must_use]
    pub fn at(&self, lab: &Lab, address: Option<&str>) -> [String; 2] {
        let [from, to] = self.specs(lab, address);
        match self {
            Self::Registry(_) => [format!("{from},single-flight=true"), to],
            Self::Directory | Self::Bucket(_) => [from, to],
        }
    }

    /// The same without one flight for all hosts.
    #[must_use]
    pub fn specs(&self, lab: &Lab, address: Option<&str>) -> [String; 2] {
        match self {
            Self::Registry(server) => {
                let address = address.map_or(server.address(), str::to_owned);
                let spec = format!("type=registry,ref={address}/team/cache:main");
                [spec.clone(), spec]
            }
            Self::Directory => {
                let dir = lab.path("shared");
                [
                    format!("type=local,src={}", dir.display()),
                    format!("type=local,dest={}", dir.display()),
                ]
            }
            Self::Bucket(server) => {
                let address = address.map_or(server.address(), str::to_owned);
                let spec = format!(
                    "type=s3,bucket=bucket,region=us-east-1,prefix=p,endpoint_url=http://{address},\
                     access_key_id=a,secret_access_key=b"
                );
                [spec.clone(), spec]
            }
        }
    }

    /// How many steps hosts claim there.
    #[must_use]
    pub fn claims(&self, lab: &Lab) -> usize {
        match self {
            Self::Directory => files_below(&lab.path("shared/claims-v1")).len(),
            Self::Registry(server) => claims_of_registry(&server.dir().join("storage")),
            Self::Bucket(server) => {
                let list = "/bucket?list-type=2&prefix=p/claims-v1/";
                let list = server.request("GET", list, b"");
                String::from_utf8_lossy(&list).matches("<Key>").count()
            }
        }
    }

    /// Damages every layer that it holds, where its server keeps them. Returns how many.
    #[must_use]
    pub fn damage(&self, lab: &Lab, how: Damage) -> usize {
        self.damage_large(lab, 0, how)
    }

    /// Damages what has at least so many bytes of what hosts have left there.
    #[must_use]
    pub fn damage_large(&self, lab: &Lab, least: usize, how: Damage) -> usize {
        match self {
            Self::Directory => damage_files(&lab.path("shared/blobs"), least, how),
            Self::Registry(server) => {
                let blobs = server.dir().join("storage/docker/registry/v2/blobs");
                damage_files(&blobs, least, how)
            }
            Self::Bucket(server) => {
                let list = server.request("GET", "/bucket?list-type=2&prefix=p/blobs/", b"");
                let list = String::from_utf8(list).unwrap();
                let keys = list.split("<Key>").skip(1);
                let keys = keys.map(|k| k.split("</Key>").next().unwrap());
                let mut count = 0;
                for key in keys {
                    let path = format!("/bucket/{key}");
                    let bytes = server.request("GET", &path, b"");
                    if bytes.len() < least {
                        continue;
                    }
                    let _ = server.request("PUT", &path, &how.apply(&bytes));
                    count += 1;
                }
                count
            }
        }
    }
}

/// How many names are claimed in a repository of a registry that keeps its files here: a claim that was
/// given back has no owner.
fn claims_of_registry(storage: &Path) -> usize {
    let root = storage.join("docker/registry/v2");
    let tags = root.join("repositories/team/cache/_manifests/tags");
    let tags = std::fs::read_dir(tags).into_iter().flatten().flatten();
    let tags = tags.filter(|t| t.file_name().to_string_lossy().starts_with("c1-"));
    let is_claimed = |tag: &Path| -> Option<bool> {
        // Files are empty for a moment before they are written.
        let digest = std::fs::read_to_string(tag.join("current/link")).ok()?;
        let hex = digest.strip_prefix("sha256:")?;
        let blob = root.join("blobs/sha256").join(hex.get(..2)?).join(hex);
        let manifest = std::fs::read(blob.join("data")).ok()?;
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).ok()?;
        let note = manifest["annotations"]["dev.kiln.cache.record"].as_str()?;
        let note: serde_json::Value = serde_json::from_str(note).ok()?;
        Some(note["owner"] != "")
    };
    tags.filter(|t| is_claimed(&t.path()) == Some(true)).count()
}

/// Damages every file below a directory that is compressed as kiln compresses layers.
fn damage_files(dir: &Path, least: usize, how: Damage) -> usize {
    let mut count = 0;
    for file in files_below(dir) {
        let bytes = std::fs::read(&file).unwrap();
        if bytes.len() >= least && bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            std::fs::write(&file, how.apply(&bytes)).unwrap();
            count += 1;
        }
    }
    count
}

/// All files at or below a path.
#[must_use]
pub fn files_below(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.flat_map(|e| files_below(&e.path())).collect()
}

/// `kiln build` of a host of this name.
pub fn on_host(lab: &Lab, host: &str, context: &Context) -> Kiln {
    lab.build(context)
        .tag("app")
        .env("KILN_ROOT", lab.path(host))
        .env("SOURCE_DATE_EPOCH", "1000000000")
}

/// The same, which reads from and writes to a place.
pub fn sharing(lab: &Lab, host: &str, context: &Context, [from, to]: &[String; 2]) -> Kiln {
    on_host(lab, host, context)
        .args(["--cache-from", from])
        .arg("--cache-to")
        .arg(format!("{to},mode=max").replace(",single-flight=true", ""))
}

/// The build of a host, which reads cache mounts from and writes them to a place.
pub fn sharing_mounts(lab: &Lab, host: &str, context: &Context, [from, to]: &[String; 2]) -> Kiln {
    on_host(lab, host, context)
        .args(["--cache-mount-from", from])
        .args(["--cache-mount-to", to])
}

/// Bytes of all blobs of a host.
#[must_use]
pub fn blob_bytes(store: &Path) -> u64 {
    let blobs = files_below(&store.join("content-v1/sha256")).into_iter();
    blobs.map(|b| b.metadata().unwrap().len()).sum()
}

/// Files with a new private key and with its public key.
#[must_use]
pub fn key_pair(lab: &Lab, name: &str) -> [String; 2] {
    let [private, public] =
        ["key", "pub"].map(|kind| lab.path(&format!("{name}.{kind}")).display().to_string());
    tool(
        "openssl",
        ["genpkey", "-algorithm", "ed25519", "-out", &private],
    );
    tool(
        "openssl",
        ["pkey", "-in", &private, "-pubout", "-out", &public],
    );
    [private, public]
}

/// A config file with what the tests' own has, and a section on caches.
#[must_use]
pub fn config(lab: &Lab, name: &str, section: &str) -> PathBuf {
    let base = std::fs::read_to_string(setting("KILN_TEST_CONFIG")).unwrap();
    let path = lab.path(name);
    std::fs::write(&path, format!("{base}\n[cache]\n{section}\n")).unwrap();
    path
}
