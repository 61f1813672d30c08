//! The plan: a directed acyclic graph of ops.
//!
//! No op knows Dockerfiles: what an instruction means has been decided when it is lowered. Only what progress and
//! explanations say of a step ([`Origin`], [`Forced`]) names instructions and stages, and no key has it.

mod exec;
mod file;
mod glob;
mod json;
mod op;
mod origin;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

pub use exec::{
    CacheMount, Command, Exec, ExecDevice, ExecMount, MountKind, Network, SecretMount, Security,
    Sharing, SshMount, Ulimit, Variable, VariableRole,
};
pub use file::{Action, Copy, File, Merge, Mkdir, ModeChange, ModeFunction, PathFilter, WriteFile};
pub use glob::{Glob, has_wildcard};
pub use json::PLAN_JSON_VERSION;
pub use op::{BuildPlatform, DOWNLOADED, ImageName, Op, Source, SourceKind};
pub use origin::{Forced, Origin};

use crate::key::{ContentKey, Encoder, Key};

/// A vertex of a plan.
pub type VertexId = NodeIndex<u32>;

/// Lines of a source text that a vertex comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    /// First line, from 1.
    pub first: usize,
    /// Last line.
    pub last: usize,
}

/// An op with what a person wants to know of it.
#[derive(Clone, Debug)]
pub struct Vertex {
    /// What to do.
    pub op: Op,
    /// Its inputs, by slot.
    pub inputs: Vec<VertexId>,
    /// One line for progress, such as `[build 2/4] RUN make`.
    pub name: String,
    /// Where it comes from.
    pub lines: Option<Lines>,
    /// Results made before this build are not used, and why.
    pub ignore_cache: Option<Forced>,
    /// What explanations call it.
    pub origin: Origin,
}

/// A graph of ops without duplicates.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    graph: DiGraph<Vertex, usize, u32>,
    known: HashMap<[u8; 32], VertexId>,
    encoded: u64,
}

impl Plan {
    /// Adds a vertex, or finds the one that does the same with the same inputs.
    pub fn add(&mut self, vertex: Vertex) -> VertexId {
        let mut to = Encoder::new("vertex");
        vertex.op.encode(&mut to);
        vertex.op.encode_unkeyed(&mut to);
        vertex.ignore_cache.is_some().encode(&mut to);
        for input in &vertex.inputs {
            to.number(input.index() as u64);
        }
        self.encoded = self.encoded.saturating_add(to.len());
        let hash = *to.finish().as_bytes();
        if let Some(known) = self.known.get(&hash) {
            return *known;
        }
        let inputs = vertex.inputs.clone();
        let id = self.graph.add_node(vertex);
        for (slot, input) in inputs.into_iter().enumerate() {
            self.graph.add_edge(input, id, slot);
        }
        self.known.insert(hash, id);
        id
    }

    /// A vertex of this plan.
    pub fn vertex(&self, id: VertexId) -> &Vertex {
        &self.graph[id]
    }

    /// Bytes of the encodings of all ops that were added, also of those that were known.
    pub(crate) fn encoded(&self) -> u64 {
        self.encoded
    }

    /// Number of vertices.
    pub fn len(&self) -> usize {
        self.graph.node_count()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.graph.node_count() == 0
    }

    /// The vertices that `targets` need, inputs first.
    pub fn reachable(&self, targets: &[VertexId]) -> Vec<VertexId> {
        let mut seen = vec![false; self.graph.node_count()];
        let mut stack: Vec<VertexId> = targets.to_vec();
        while let Some(id) = stack.pop() {
            if !std::mem::replace(&mut seen[id.index()], true) {
                stack.extend(self.graph.neighbors_directed(id, Direction::Incoming));
            }
        }
        // Inputs exist before what uses them, so the order of indices is topological.
        self.graph
            .node_indices()
            .filter(|id| seen[id.index()])
            .collect()
    }

    /// The definitions of the vertices that `targets` need, inputs first: the op and the definitions of its
    /// inputs, without any content. They are known before anything is looked up.
    pub fn definitions(&self, targets: &[VertexId]) -> BTreeMap<VertexId, Key> {
        let mut all: BTreeMap<VertexId, Key> = BTreeMap::new();
        for id in self.reachable(targets) {
            let vertex = self.vertex(id);
            let mut to = Encoder::new("definition");
            vertex.op.encode(&mut to);
            for input in vertex.inputs.iter().filter_map(|input| all.get(input)) {
                to.bytes(&input.0);
            }
            all.insert(id, Key::from(to.finish()));
        }
        all
    }

    /// The definitions of the steps among them, whose results have keys.
    pub fn step_definitions(&self, targets: &[VertexId]) -> Vec<Key> {
        let all = self.definitions(targets).into_iter();
        let steps = all.filter(|(id, _)| !matches!(self.vertex(*id).op, Op::Source(_)));
        steps.map(|(_, definition)| definition).collect()
    }

    /// The vertices that use a vertex.
    pub fn users(&self, id: VertexId) -> impl Iterator<Item = &Vertex> {
        let users = self.graph.neighbors_directed(id, Direction::Outgoing);
        users.map(|user| &self.graph[user])
    }

    /// The graph in Graphviz's language.
    pub fn to_dot(&self) -> String {
        let mut out = String::from("digraph plan {\n  rankdir=LR;\n  node [shape=box];\n");
        for id in self.graph.node_indices() {
            let name = self.graph[id]
                .name
                .replace('\\', "\\\\")
                .replace('"', "\\\"");
            // Writing to a string cannot fail.
            let _ = writeln!(out, "  n{} [label=\"{name}\"];", id.index());
        }
        for edge in self.graph.edge_indices() {
            if let Some((from, to)) = self.graph.edge_endpoints(edge) {
                let _ = writeln!(out, "  n{} -> n{};", from.index(), to.index());
            }
        }
        out.push_str("}\n");
        out
    }
}
