//! The syntax tree of a Dockerfile.
//!
//! Nothing in it is expanded: every [`Text`] holds what was written, with quotes and escapes,
//! after continuation lines were joined.

use crate::span::{Span, Text};

/// A whole Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// Parser directives at the top of the file.
    pub directives: Directives,
    /// The well-formed instructions in order; malformed ones are only in the diagnostics.
    pub instructions: Vec<Instruction>,
}

/// Parser directives (`# name=value` before anything else).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// The escape character: a backslash unless `# escape=` says backtick.
    pub escape: char,
    /// `# syntax=`: the frontend image that was asked for.
    pub syntax: Option<Text>,
    /// `# check=`: options for build checks.
    pub check: Option<Text>,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            escape: '\\',
            syntax: None,
            check: None,
        }
    }
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The whole instruction, with its continuation lines and heredocs.
    pub span: Span,
    /// The keyword as typed.
    pub keyword: Text,
    /// `--name[=value]` flags in order, not yet interpreted.
    pub flags: Vec<Flag>,
    /// What the instruction says.
    pub kind: Kind,
    /// The comment lines directly before it, without the `#`.
    pub comments: Vec<Text>,
    /// The logical line, joined, with the keyword as typed: for history and progress.
    pub text: String,
}

impl Instruction {
    /// The here-documents that its line opens, in their order; those of its trigger for ONBUILD.
    pub fn heredocs(&self) -> Vec<&Heredoc> {
        match &self.kind {
            Kind::Run(command) => command.heredocs.iter().collect(),
            Kind::Copy(transfer) | Kind::Add(transfer) => {
                let sources = transfer.sources.iter();
                let documents = sources.filter_map(|s| match s {
                    SourceArg::Heredoc(document) => Some(document),
                    SourceArg::Path(_) => None,
                });
                documents.collect()
            }
            Kind::Onbuild { instruction } => instruction.heredocs(),
            _ => Vec::new(),
        }
    }
}

/// A `--name[=value]` flag.
///
/// Unlike other text, flags have lost their quotes and escapes: an escaped `$` is expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Name without the dashes.
    pub name: Text,
    /// Value after `=`; none for a bare flag.
    pub value: Option<Text>,
    /// The whole flag.
    pub span: Span,
}

/// The kinds of instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `FROM image [AS alias]`.
    From {
        /// Image reference or stage name.
        image: Text,
        /// The word `AS` as typed.
        as_word: Option<Text>,
        /// Stage name as typed (names compare without case).
        alias: Option<Text>,
    },
    /// `RUN command`.
    Run(Command),
    /// `CMD command`.
    Cmd(Command),
    /// `ENTRYPOINT command`.
    Entrypoint(Command),
    /// `SHELL ["program", "argument"]`.
    Shell(Vec<Text>),
    /// `LABEL key=value ...`.
    Label(Vec<KeyValue>),
    /// `ENV key=value ...`.
    Env(Vec<KeyValue>),
    /// `ARG name[=default] ...`.
    Arg(Vec<ArgDecl>),
    /// `MAINTAINER name` (deprecated).
    Maintainer(Text),
    /// `EXPOSE port[/protocol] ...`.
    Expose(Vec<Text>),
    /// `COPY source ... destination`.
    Copy(Transfer),
    /// `ADD source ... destination`.
    Add(Transfer),
    /// `VOLUME path ...` or its JSON form.
    Volume(Vec<Text>),
    /// `USER user[:group]`.
    User(Text),
    /// `WORKDIR path`.
    Workdir(Text),
    /// `ONBUILD instruction`.
    Onbuild {
        /// The instruction that a child build will run.
        instruction: Box<Instruction>,
    },
    /// `STOPSIGNAL signal`.
    Stopsignal(Text),
    /// `HEALTHCHECK NONE` or `HEALTHCHECK CMD command`.
    Healthcheck(Healthcheck),
}

/// One pair of `ENV` or `LABEL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// Raw key.
    pub key: Text,
    /// Raw value.
    pub value: Text,
    /// Written in the old form `ENV key value`.
    pub legacy: bool,
}

/// One declaration of `ARG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDecl {
    /// Argument name.
    pub name: Text,
    /// Raw default after `=`.
    pub default: Option<Text>,
}

/// The two ways to write a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// A JSON array, already decoded.
    Exec(Vec<Text>),
    /// Text for the shell.
    Shell(Text),
}

/// A command and the heredocs that its line opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The command itself.
    pub form: Form,
    /// Heredocs in the order of their markers (only `RUN` has them).
    pub heredocs: Vec<Heredoc>,
}

/// Arguments of `COPY` and `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// At least one source.
    pub sources: Vec<SourceArg>,
    /// The destination.
    pub dest: Text,
}

/// One source of `COPY` or `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceArg {
    /// A path, pattern or URL.
    Path(Text),
    /// An inline file.
    Heredoc(Heredoc),
}

/// A heredoc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// Delimiter without quotes; also the file name for `COPY` and `ADD`.
    pub name: String,
    /// The lines between marker and delimiter, line ends included. Leading tabs are gone already
    /// when `strip_tabs` is set.
    pub content: Text,
    /// Variables are expanded, as no part of the delimiter was quoted.
    pub expand: bool,
    /// Written as `<<-`.
    pub strip_tabs: bool,
    /// The file descriptor before `<<`; 0 unless given.
    pub fd: u32,
}

/// The two forms of `HEALTHCHECK`; timing flags are in [`Instruction::flags`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// Drops the check of the base image.
    None,
    /// Runs a command.
    Cmd(Command),
}
