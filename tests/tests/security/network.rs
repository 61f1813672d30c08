//! What a step and a container can see of a network that they share with the host.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use kiln_tests::{Built, Lab, Network};

/// A program that tries to open sockets of family, type and protocol, and tells which it could.
const OPEN: &str = "use Socket; for (@ARGV) { my ($f, $t, $p) = split /,/; \
     print \"OPENED $_\\n\" if socket(my $s, $f, $t, $p) }";

/// Sockets that show or make packets of others: of devices, raw ones of both versions, the old packet
/// type, and those of other buses.
const RAW: [&str; 8] = [
    "17,3,768", "17,2,768", "2,3,1", "2,3,255", "2,10,768", "10,3,58", "29,3,1", "31,3,1",
];

/// Sockets that any program may have: TCP, UDP, Unix, netlink.
const USUAL: [&str; 6] = ["2,1,0", "2,2,0", "10,1,0", "1,1,0", "16,3,0", "16,524291,0"];

/// Which of `sockets` a step opens after `RUN` with these flags.
fn opened_by_step(lab: &Lab, flags: &str, sockets: &[&str]) -> Vec<String> {
    let context = lab.dockerfile(&format!(
        "FROM debian:bookworm\nRUN {flags} perl -e '{OPEN}' {}\n",
        sockets.join(" ")
    ));
    let build = lab.build(&context).arg("--no-cache");
    opened(&build.args(["--allow", "security.insecure"]).built().log())
}

fn opened_by_container(lab: &Lab, options: &[&str], sockets: &[&str]) -> Vec<String> {
    let run = lab.kiln(["run", "--rm"]).args(options);
    let run = run.args(["debian:bookworm", "perl", "-e", OPEN]);
    opened(run.args(sockets).output().ok().stdout())
}

fn opened(text: &str) -> Vec<String> {
    let found = text.lines().filter_map(|l| l.strip_prefix("OPENED "));
    found.map(str::to_owned).collect()
}

#[test]
fn packets_of_the_hosts_network_are_out_of_reach() {
    let lab = Lab::new();
    let all = [&RAW[..], &USUAL[..]].concat();
    for flags in ["", "--network=default", "--network=host"] {
        assert_eq!(opened_by_step(&lab, flags, &all), USUAL, "{flags}");
    }
    for options in [&[][..], &["--network", "default"]] {
        assert_eq!(opened_by_container(&lab, options, &all), USUAL);
    }
    // In a network of its own, and where all of the host's was asked for, as with Docker.
    let packets = ["17,3,768", "2,3,1"];
    for flags in ["--network=none", "--security=insecure"] {
        assert_eq!(opened_by_step(&lab, flags, &packets), packets, "{flags}");
    }
    for network in ["none", "host"] {
        let found = opened_by_container(&lab, &["--network", network], &packets);
        assert_eq!(found, packets, "{network}");
    }
    // The kernel's cryptography (CVE-2026-31431) and the machine around this one, anywhere.
    for flags in ["", "--network=none"] {
        assert!(opened_by_step(&lab, flags, &["38,5,0", "40,1,0"]).is_empty());
    }
}

/// Connects to an abstract socket by both kinds of sockets, and tells what came of it.
const CONNECT: &str = "use Socket; my $to = pack(\"S\", AF_UNIX) . \"\\0$ARGV[0]\"; \
     socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; \
     print connect($s, $to) ? \"REACHED\" : $! + 0, \"\\n\"; \
     socket(my $own, AF_UNIX, SOCK_STREAM, 0) or die; \
     bind($own, pack(\"S\", AF_UNIX) . \"\\0own$$\") && listen($own, 1) or die; \
     socket(my $t, AF_UNIX, SOCK_STREAM, 0) or die; \
     print connect($t, pack(\"S\", AF_UNIX) . \"\\0own$$\") ? \"OWN\" : $! + 0, \"\\n\";";

#[test]
fn abstract_sockets_of_the_host_are_out_of_reach() {
    let lab = Lab::new();
    let name = format!("kiln-test-{}", lab.dir().display());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let step = |flags: &str| {
        let context = lab.dockerfile(&format!(
            "FROM debian:bookworm\nRUN {flags} perl -e '{CONNECT}' {name}\n"
        ));
        let build = lab.build(&context).arg("--no-cache");
        let built = build.args(["--allow", "security.insecure"]).built();
        built.log().trim_end().to_owned()
    };
    let container = |options: &[&str]| {
        let run = lab.kiln(["run", "--rm"]).args(options);
        let run = run.args(["debian:bookworm", "perl", "-e", CONNECT, &name]);
        run.output().ok().stdout().to_owned()
    };
    // Before Linux 6.12 the kernel cannot keep them apart.
    let info = lab.kiln(["info", "--format", "{{.HostAbstractSockets}}"]);
    let guarded = match info.output().ok().stdout().trim_end() {
        "out of reach" => "1\nOWN",
        "in reach" => "REACHED\nOWN",
        other => panic!("{other}"),
    };
    for found in [step(""), step("--network=host"), container(&[])] {
        assert_eq!(found, guarded);
    }
    // Another network has other sockets; who was let out reaches all.
    assert_eq!(step("--network=none"), "111\nOWN");
    assert_eq!(container(&["--network", "none"]), "111\nOWN");
    assert_eq!(step("--security=insecure"), "REACHED\nOWN");
    assert_eq!(container(&["--network", "host"]), "REACHED\nOWN");
}

/// Sends an echo request as programs do that need no capability, and tells the type of the answer.
const PING: &str = "use Socket; socket(my $s, AF_INET, SOCK_DGRAM, 1) or do { print \"DENIED\"; exit }; \
     send($s, pack(\"CCnnn\", 8, 0, 0, 0, 1), 0, pack_sockaddr_in(0, inet_aton(\"127.0.0.1\"))) or die; \
     recv($s, my $answer, 64, 0); print \"ANSWER \", ord($answer)";

#[test]
fn ping_works_where_the_host_lets_groups_ping() {
    let lab = Lab::new();
    for image in ["debian:bookworm", "busybox"] {
        lab.run(image, &["true"]);
    }
    let network = Network::new();
    let let_all = "echo '0 2147483647' > /proc/sys/net/ipv4/ping_group_range";
    let step = lab.context("step", &[]);
    step.dockerfile(&format!("FROM debian:bookworm\nRUN perl -e '{PING}'\n"));
    let build = || lab.build(&step).arg("--no-cache");
    let run = ["run", "--rm", "debian:bookworm", "perl", "-e", PING];
    // A new network lets no group.
    for (script, said) in [(let_all, "ANSWER 0"), ("true", "DENIED")] {
        let out = network.host().start(build().after(script)).wait().ok();
        assert_eq!(Built::of(&out).log().trim_end(), said, "{out}");
        let out = network.host().start(lab.kiln(run).after(script)).wait();
        assert_eq!(out.ok().stdout(), said);
    }
    // Who needs raw packets is told what there is; a network of the step's own has them.
    let context = lab.dockerfile("FROM busybox\nRUN ping -c 1 127.0.0.1\n");
    let out = lab.build(&context).fails();
    out.says(&["net.ipv4.ping_group_range"]);
    let context = lab.dockerfile("FROM busybox\nRUN --network=none ping -c 1 127.0.0.1\n");
    lab.build(&context).built();
}
