//! What can be given to a target: arguments, secrets, agents, caches.

use std::collections::{BTreeMap, BTreeSet};

use kiln_parser::flags::{MountSpec, MountType};
use kiln_parser::{ArgDecl, Instruction, Kind, Lookup, Span};

use super::stage::{Build, Place};
use super::stages::Stage;
use super::variables::Variables;
use crate::lint::description;
use crate::plan::MountKind;

/// What can be given to a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Name of the stage, if it has one.
    pub name: Option<String>,
    /// What the comment above the stage says of it.
    pub description: Option<String>,
    /// Arguments in the order of the file.
    pub args: Vec<OutlineArg>,
    /// Secrets by id.
    pub secrets: Vec<OutlineMount>,
    /// Agents by id.
    pub ssh: Vec<OutlineMount>,
    /// Cache mounts by id.
    pub caches: Vec<OutlineMount>,
}

/// An argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// What the comment above its declaration says of it.
    pub description: Option<String>,
    /// Its value in this build.
    pub value: Option<String>,
    /// Its declaration.
    pub about: Span,
}

/// Something that a RUN has mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineMount {
    /// Its id.
    pub id: String,
    /// The build fails without it.
    pub required: bool,
    /// The first RUN that has it.
    pub about: Span,
}

/// What one stage takes.
#[derive(Debug, Default)]
pub(super) struct OutlineInputs {
    /// Arguments that the stage itself declares with a value, or that nothing else declares.
    args: BTreeMap<String, OutlineArg>,
    /// Arguments that stand before the first stage.
    globals: BTreeSet<String>,
    secrets: Mounts,
    ssh: Mounts,
    caches: Mounts,
}

/// Mounts by their ids.
type Mounts = Variables<OutlineMount>;

/// Adds a mount, or makes a known one required.
fn add(mounts: &mut Mounts, mount: OutlineMount) {
    match mounts.get_mut(&mount.id) {
        Some(known) => known.required |= mount.required,
        None => {
            let id = mount.id.clone();
            mounts.set(&id, mount);
        }
    }
}

impl Build<'_> {
    /// A stage begins: notes the arguments that its FROM uses.
    pub(super) fn take_in_from(&mut self, stage: &Stage, index: usize) {
        let mut words = Vec::new();
        if let Kind::From { image, .. } = &stage.from.kind {
            words.push(image.value.as_str());
        }
        let values = stage.from.flags.iter().filter_map(|f| f.value.as_ref());
        words.extend(values.map(|v| v.value.as_str()));
        let mut used = Vec::new();
        for word in words {
            // What cannot be expanded has been reported.
            let from = stage.from.span;
            if let Ok(expanded) = self.budget.word(word, self.escape(), self.globals, from) {
                let set = |name: &String| self.globals.get(name).is_some();
                used.extend(expanded.used.into_iter().filter(set));
            }
        }
        self.intake.entry(index).or_default().globals.extend(used);
    }

    /// An ARG comes; `own` is its value unless that comes from before the first stage.
    pub(super) fn take_in_arg(
        &mut self,
        place: Place<'_>,
        instruction: &Instruction,
        arg: &ArgDecl,
        name: &str,
        own: Option<&str>,
    ) {
        let intake = self.intake.entry(place.stage).or_default();
        // Without a default of its own it is the one that was declared earlier.
        if arg.default.is_none() && self.globals.get(name).is_some() {
            intake.globals.insert(name.to_owned());
            return;
        }
        let arg = OutlineArg {
            name: name.to_owned(),
            description: description(&instruction.comments, name),
            value: own.map(str::to_owned),
            about: instruction.span,
        };
        intake.args.insert(name.to_owned(), arg);
    }

    /// A mount of a RUN comes.
    pub(super) fn take_in_mount(
        &mut self,
        place: Place<'_>,
        about: Span,
        spec: &MountSpec,
        kind: &MountKind,
    ) {
        let intake = self.intake.entry(place.stage).or_default();
        let (list, id) = match kind {
            MountKind::Secret(secret) => (&mut intake.secrets, &secret.id),
            MountKind::Ssh(agent) => (&mut intake.ssh, &agent.id),
            MountKind::Cache(cache) if spec.kind == MountType::Cache => {
                (&mut intake.caches, &cache.id)
            }
            _ => return,
        };
        let mount = OutlineMount {
            id: id.clone(),
            required: spec.required,
            about,
        };
        add(list, mount);
    }

    /// What the first stage of `chain` takes, with all that it needs. Of arguments that several
    /// stages declare, those of the nearest stage count.
    pub(super) fn outline(&self, stages: &[Stage], chain: &[usize]) -> Outline {
        let mut outline = Outline::default();
        if let Some(stage) = chain.first().and_then(|target| stages.get(*target)) {
            outline.name.clone_from(&stage.name);
            outline.description = stage
                .name
                .as_ref()
                .and_then(|name| description(&stage.from.comments, name));
        }
        // A stage comes behind the one that it is built on, whose declarations it may repeat.
        let others = self.intake.keys().rev();
        let of_chain: BTreeSet<usize> = chain.iter().copied().collect();
        let others = others.filter(|index| !of_chain.contains(index));
        let order: Vec<&usize> = chain.iter().chain(others).collect();
        let mut args: BTreeMap<&str, OutlineArg> = BTreeMap::new();
        let mut mounts: [Mounts; 3] = Default::default();
        for intake in order.iter().filter_map(|index| self.intake.get(index)) {
            for (name, arg) in &intake.args {
                args.entry(name).or_insert_with(|| arg.clone());
            }
            for name in &intake.globals {
                self.add_global(name, &mut args);
            }
            let lists = [&intake.secrets, &intake.ssh, &intake.caches];
            for (to, from) in mounts.iter_mut().zip(lists) {
                let all = from.in_order().into_iter();
                all.for_each(|(_, mount)| add(to, mount.clone()));
            }
        }
        outline.args = args.into_values().collect();
        outline.args.sort_by_key(|arg| arg.about.start);
        [outline.secrets, outline.ssh, outline.caches] = mounts.map(|mounts| {
            let all = mounts.in_order().into_iter();
            let mut list: Vec<OutlineMount> = all.map(|(_, mount)| mount.clone()).collect();
            list.sort_by_key(|mount| mount.about.start);
            list
        });
        outline
    }

    /// Adds an argument from before the first stage, and those that its default uses.
    fn add_global<'a>(&'a self, name: &'a str, args: &mut BTreeMap<&'a str, OutlineArg>) {
        let mut open = vec![name];
        while let Some(name) = open.pop() {
            // Those that kiln gives have no declaration.
            let Some(origin) = self.globals.origins.get(name) else {
                continue;
            };
            if args.contains_key(name) {
                continue;
            }
            let arg = OutlineArg {
                name: name.to_owned(),
                description: origin.description.clone(),
                value: self.globals.get(name),
                about: origin.about,
            };
            args.insert(name, arg);
            open.extend(origin.uses.iter().map(String::as_str));
        }
    }
}
