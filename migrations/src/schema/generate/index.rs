//! Indexes that come, change and go on tables that stay.
//!
//! `plan` calls it; it calls `text`.
//! It promises that nobody waits for a build, on the way up and on the way back, and that an index
//! which changes is there in its old form until the new one is ready.

use super::names::{joined, prefix};
use super::op::{Op, Phase};
use super::plan::Plan;
use super::text;
use crate::schema::catalog::{Index, Key};

impl Plan<'_> {
    pub(super) fn changed_index(&mut self, key: &Key, from: Option<&Index>, to: Option<&Index>) {
        let targets = from.into_iter().chain(to).map(|index| format!("index {}", index.qualified));
        self.handled.extend(targets);
        match (from, to) {
            (Some(from), Some(to))
                if self.is_simple() || self.loses_a_column(&key.of, &from.text) =>
            {
                self.gone_index(key, from);
                self.new_index(key, to);
            }
            (Some(from), Some(to)) => self.swap(key, from, to),
            (Some(from), None) => self.gone_index(key, from),
            (None, Some(to)) => self.new_index(key, to),
            (None, None) => {}
        }
    }

    fn new_index(&mut self, key: &Key, to: &Index) {
        let op = self.build(Phase::Build, key, &key.name, to);
        self.ops.push(op);
        self.ops.extend(self.comment_of_index(self.phase(Phase::Finish), key, to, false));
    }

    fn gone_index(&mut self, key: &Key, from: &Index) {
        self.ops.extend(self.comment_of_index(self.phase(Phase::Unlink), key, from, true));
        let op = self.build(Phase::DropIndex, key, &key.name, from).inverse();
        self.ops.push(op);
    }

    /// The new one under another name, then the old one goes, then the name.
    fn swap(&mut self, key: &Key, from: &Index, to: &Index) {
        let name = joined(&[&key.name], "_new");
        let qualified = format!("{}{name}", prefix(&from.qualified));
        self.ops.extend(self.comment_of_index(Phase::Unlink, key, from, true));
        let successor = Index { qualified: qualified.clone(), ..to.clone() };
        let build = self.build(Phase::Build, key, &name, &successor);
        let replace = self.build(Phase::Replace, key, &key.name, from).inverse();
        let rename = format!("alter index {qualified} rename to {}", key.name);
        let back = format!("alter index {} rename to {name}", from.qualified);
        self.ops.extend([build, replace, Op::of(Phase::Finish, rename, back)]);
        self.ops.extend(self.comment_of_index(Phase::Finish, key, to, false));
    }

    /// Makes an index; takes it away on the way back.
    fn build(&self, phase: Phase, key: &Key, name: &str, index: &Index) -> Op {
        let (how, gone) = match self.is_simple() {
            true => ("", "drop index"),
            // An interrupted statement is run again.
            false => ("concurrently ", "drop index concurrently if exists"),
        };
        let create = text::index_as(index, how, name, &key.of);
        Op::of(self.phase(phase), create, format!("{gone} {}", index.qualified)).about(name)
    }

    /// The comment on an index, which cannot share the file of its build.
    fn comment_of_index(&self, phase: Phase, key: &Key, index: &Index, goes: bool) -> Option<Op> {
        let target = format!("index {}", index.qualified);
        let side = if goes { self.have } else { self.want };
        let comment = text::comment(side, &key.of, &target)?;
        let op = Op::new(phase, vec![comment], vec![text::no_comment(&target)]);
        Some(if goes { op.inverse() } else { op })
    }
}
