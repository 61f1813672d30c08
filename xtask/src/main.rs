//! The project's chores: `cargo xtask demo`, `test`, `bench`, `conformance`, `compatibility`, `fuzz`,
//! `docs`, `dist`, `fixtures`, `deps`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a developer's terminal"
)]

mod bench;
mod compatibility;
mod conformance;
mod demo;
mod deps;
mod dist;
mod docs;
mod fixtures;
mod fuzz;
mod paths;
mod registry;
mod shell;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Chores of the kiln project")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Build a web server's image, run it, fetch its page and print it.
    Demo,
    /// Make the fixtures, start a registry and run every test.
    Test(test::Options),
    /// Measure kiln beside its peers and write tests/bench/RESULTS.md.
    Bench(Box<bench::Options>),
    /// Build the corpus with Docker and with kiln and compare.
    Conformance(conformance::Options),
    /// Give kiln's output to other tools and write docs/compatibility.md.
    Compatibility(compatibility::Options),
    /// Run the fuzz targets.
    Fuzz(fuzz::Options),
    /// Write the pages of the commands in docs/cli/ anew.
    Docs,
    /// Build the static binary and check that it is one.
    Dist,
    /// Make the base images that tests need.
    Fixtures,
    /// Install the Debian packages that the other chores need.
    Deps,
}

fn main() -> Result<()> {
    match Arguments::parse().chore {
        Chore::Demo => demo::run(),
        Chore::Test(options) => test::run(&options),
        Chore::Bench(options) => bench::run(&options),
        Chore::Conformance(options) => conformance::run(&options),
        Chore::Compatibility(options) => compatibility::run(&options),
        Chore::Fuzz(options) => fuzz::run(&options),
        Chore::Docs => docs::run(),
        Chore::Dist => dist::run().map(|path| println!("{}", path.display())),
        Chore::Fixtures => {
            deps::install(deps::FIXTURES)?;
            fixtures::make().map(|made| println!("{}", made.root.display()))
        }
        Chore::Deps => deps::install(deps::FIXTURES).and_then(|()| deps::install(deps::TESTS)),
    }
}
