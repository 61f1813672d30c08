//! `COPY` and `ADD`.

use std::collections::BTreeMap;

use super::{Builder, Parts};
use crate::ast::{Heredoc, SourceArg, Transfer};
use crate::heredoc::marker;
use crate::span::Text;
use crate::words;

impl<'a> Builder<'a, '_> {
    pub(super) fn transfer(&mut self, parts: &Parts<'a>) -> Option<Transfer> {
        let (mut args, heredocs): (Vec<Text>, _) = match self.strings(parts.args).ok()? {
            Some(strings) => (strings, Vec::new()),
            None => {
                let heredocs = self.heredocs(parts, false)?;
                (
                    words::items(parts.args)
                        .into_iter()
                        .map(|item| self.text(item))
                        .collect(),
                    heredocs,
                )
            }
        };
        let count = args.len();
        let Some(dest) = args.pop().filter(|_| count >= 2) else {
            self.error(
                "missing-argument",
                format!(
                    "`{}` requires at least one source and a destination",
                    parts.keyword
                ),
                parts.span,
            );
            return None;
        };
        if marker(&dest.value).is_some() {
            self.error(
                "heredoc-destination",
                format!("the destination of `{}` cannot be a heredoc", parts.keyword),
                dest.span,
            );
            return None;
        }
        // Two heredocs of one name are one file: the last one counts, as it would on disk.
        let named: BTreeMap<&str, &Heredoc> = heredocs
            .iter()
            .map(|heredoc| (heredoc.name.as_str(), heredoc))
            .collect();
        let sources = args
            .into_iter()
            .map(
                |arg| match marker(&arg.value).and_then(|m| named.get(m.name.as_str()).copied()) {
                    Some(heredoc) => SourceArg::Heredoc(heredoc.clone()),
                    None => SourceArg::Path(arg),
                },
            )
            .collect();
        Some(Transfer { sources, dest })
    }
}
