//! Hosts that share results through servers which they reach by a network: each has a network namespace
//! and a store of its own, so that nothing is on loopback for anybody.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::path::PathBuf;

use kiln_tests::place::{Place, blob_bytes, on_host, sharing};
use kiln_tests::{Built, Context, Host, Kiln, Lab, Network, Relay};

/// Hosts, with the config file that they all have.
struct Hosts {
    network: Network,
    base_images: Relay,
}

impl Hosts {
    fn new() -> Self {
        let network = Network::new();
        let base_images = network.base_images();
        Self {
            network,
            base_images,
        }
    }

    /// A config file which says that these servers speak plain HTTP.
    fn config(&self, lab: &Lab, servers: &[String]) -> PathBuf {
        let mut text = format!(
            "[registries.\"docker.io\"]\nmirrors = [\"http://{}\"]\n",
            self.base_images.address()
        );
        for server in servers {
            text.push_str(&format!("[registries.\"{server}\"]\ninsecure = true\n"));
        }
        let path = lab.path("hosts.toml");
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn built(host: &Host, kiln: Kiln) -> Built {
    Built::of(&host.start(kiln).wait().ok())
}

#[test]
fn a_node_application_is_built_once_for_two_hosts() {
    let (lab, hosts) = (Lab::new(), Hosts::new());
    let place = Place::registry_in(&hosts.network);
    let config = hosts.config(&lab, &place.address().into_iter().collect::<Vec<_>>());
    let at = place.at(&lab, None);
    let outside = hosts.network.outside();
    let context = |name: &str| {
        let context = lab.context(name, &[]);
        context.copy_testdata("node");
        context
    };
    let build = |name: &str, context: &Context| {
        sharing(&lab, name, context, &at)
            .env("KILN_CONFIG", &config)
            .env("no_proxy", Network::ADDRESS)
    };
    // Only the first needs the packages, so only the first can reach them.
    let first =
        build("a", &context("one")).env("https_proxy", format!("http://{}", outside.address()));
    let first = built(&hosts.network.host(), first);
    assert!(
        first.ran().iter().any(|s| s.contains("npm ci")),
        "{:?}",
        first.ran()
    );
    let second = built(&hosts.network.host(), build("b", &context("two")));
    assert_eq!(
        (second.counts.1, &second.image),
        (0, &first.image),
        "{second:?}"
    );
    let [bytes, all] = ["b", "a"].map(|host| blob_bytes(&lab.path(host)));
    assert!(bytes * 10 < all, "{bytes} of {all} bytes were fetched");
    let page = lab
        .kiln(["run", "--rm", "app"])
        .env("KILN_ROOT", lab.path("b"));
    assert!(page.output().ok().stdout().contains("<h1>"));
}

#[test]
fn four_hosts_that_start_together_run_each_step_once() {
    let text = "FROM busybox AS one
RUN sleep 1; head -c 16 /dev/urandom | md5sum > /one
FROM busybox AS two
RUN sleep 1; head -c 16 /dev/urandom | md5sum > /two
FROM busybox
COPY --from=one /one /
COPY --from=two /two /
RUN cat /one /two > /both
";
    let hosts = Hosts::new();
    for place in Place::all_in(&hosts.network) {
        let lab = Lab::new();
        let config = hosts.config(&lab, &place.address().into_iter().collect::<Vec<_>>());
        let at = place.at(&lab, None);
        let context = lab.dockerfile(text);
        let at = [at[0].clone(), at[0].replace(",src=", ",dest=")];
        let builds = ["a", "b", "c", "d"].map(|name| {
            let build = on_host(&lab, name, &context)
                .env("KILN_CONFIG", &config)
                .args(["--cache-from", &at[0]])
                .arg("--cache-to")
                .arg(format!("{},mode=max", at[1]));
            hosts.network.host().start(build)
        });
        let built = builds.map(|b| Built::of(&b.wait().ok()));
        let ran: u64 = built.iter().map(|b| b.counts.1).sum();
        assert_eq!(ran, 5, "{built:?}");
        for other in &built[1..] {
            assert_eq!(other.image, built[0].image);
        }
    }
}

/// What the tests above rely on: a host reaches the servers of its network, and nobody else does.
#[test]
fn hosts_have_networks_of_their_own() {
    let (lab, hosts) = (Lab::new(), Hosts::new());
    let place = Place::registry_in(&hosts.network);
    let config = hosts.config(&lab, &place.address().into_iter().collect::<Vec<_>>());
    let image = format!("{}/nothing", place.address().unwrap());
    let pull = || lab.kiln(["pull", &image]).env("KILN_CONFIG", &config);
    let there = hosts.network.host().start(pull()).wait().failed();
    assert!(there.err.contains("404"), "{there}");
    let elsewhere = Network::new().host().start(pull()).wait().failed();
    assert!(!elsewhere.err.contains("404"), "{elsewhere}");
    let own = lab.kiln(["pull", "busybox"]);
    let own = hosts.network.host().start(own).wait().failed();
    assert!(own.err.contains("refused"), "{own}");
}
