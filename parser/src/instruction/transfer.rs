//! `COPY` and `ADD`.

use std::collections::BTreeMap;

use super::{Builder, Parts};
use crate::ast::{Heredoc, SourceArg, Transfer};
use crate::heredoc::marker;
use crate::words;

impl<'a> Builder<'a, '_> {
    pub(super) fn transfer(&mut self, parts: &Parts<'a>) -> Option<Transfer> {
        let (mut args, heredocs): (Vec<SourceArg>, _) = match self.strings(parts.args).ok()? {
            Some(strings) => (
                strings.into_iter().map(SourceArg::Path).collect(),
                Vec::new(),
            ),
            None => {
                let heredocs = self.heredocs(parts, false)?;
                let items = words::items(parts.args);
                (
                    items.map(|item| SourceArg::Path(self.text(item))).collect(),
                    heredocs,
                )
            }
        };
        let dest = match args.pop() {
            Some(SourceArg::Path(dest)) if !args.is_empty() => dest,
            _ => {
                self.error("missing-argument", parts.span, || {
                    format!(
                        "`{}` requires at least one source and a destination",
                        parts.keyword
                    )
                });
                return None;
            }
        };
        if marker(&dest.value).is_some() {
            self.error("heredoc-destination", dest.span, || {
                format!("the destination of `{}` cannot be a heredoc", parts.keyword)
            });
            return None;
        }
        Some(Transfer {
            sources: with_heredocs(args, &heredocs),
            dest,
        })
    }
}

/// Puts heredocs in the place of the arguments that name them.
///
/// Two heredocs of one name are one file: the last one counts, as it would on disk. A third of
/// that name says nothing new, and is left out so that text cannot be multiplied.
fn with_heredocs(args: Vec<SourceArg>, heredocs: &[Heredoc]) -> Vec<SourceArg> {
    if heredocs.is_empty() {
        return args;
    }
    let mut named: BTreeMap<&str, (&Heredoc, usize)> = heredocs
        .iter()
        .map(|heredoc| (heredoc.name.as_str(), (heredoc, 0)))
        .collect();
    let heredoc = |arg: SourceArg| {
        let SourceArg::Path(text) = &arg else {
            return Some(arg);
        };
        match marker(&text.value).and_then(|m| named.get_mut(m.name.as_str())) {
            Some((heredoc, count)) => {
                *count += 1;
                (*count <= 2).then(|| SourceArg::Heredoc((*heredoc).clone()))
            }
            None => Some(arg),
        }
    };
    args.into_iter().filter_map(heredoc).collect()
}
