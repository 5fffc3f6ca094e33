//! One change of a schema with its inverse, and how changes share files.
//!
//! The rooms that plan make them, `generate` has them made into drafts. Pure.
//! It promises that a file's down statements are the inverses of its up statements, last first;
//! that as few files are made as the locks allow; that a statement which cannot run in a
//! transaction has a file of its own.
//! It does not know what a statement means.

/// A line longer than this is broken.
const LINE_LEN_MAX: usize = 100;

/// One statement, as it is put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Statement {
    /// `alter table {table} {action}`: neighbours on one table are written as one.
    Alter { table: String, action: String },
    /// Written as it is, without the `;`.
    Whole(String),
}

/// When a change happens. Whatever is on one line of `joins` shares a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Names first: everything after is about the new ones.
    Rename,
    /// Enum labels, which cannot be used in the transaction that adds them.
    Label,
    /// What holds on to an index that goes.
    Unlink,
    /// Indexes that go, each alone.
    DropIndex,
    /// Everything that is done in a moment, and whatever needs its lock in any case.
    Main,
    /// Values for old rows: their locks are given back before anything wants the table.
    Fill,
    /// Checks that new rows keep from now on.
    Guard,
    /// Values for rows that came between the two.
    Refill,
    /// Constraints that old rows have to keep too: a scan, beside everybody else.
    Validate,
    /// New indexes, each alone.
    Build,
    /// Indexes that have a successor by now, each alone.
    Replace,
    /// What the scans and builds were for.
    Finish,
    /// Foreign keys to what became unique only now.
    Verify,
    /// What goes, when values were made that may come from it.
    Drop,
}

/// What a file of the phase is among those of a change; the one that does most has no name.
const PARTS: [(Phase, &str); 13] = [
    (Phase::Rename, "rename"),
    (Phase::Label, "labels"),
    (Phase::Unlink, "unlink"),
    (Phase::DropIndex, "drop"),
    (Phase::Replace, "drop"),
    (Phase::Fill, "fill"),
    (Phase::Guard, "guard"),
    (Phase::Refill, "refill"),
    (Phase::Validate, "validate"),
    (Phase::Build, "build"),
    (Phase::Finish, "finish"),
    (Phase::Verify, "verify"),
    (Phase::Drop, "drop"),
];

/// Whether a draft may be called so: the name of a phase, and of what it is about.
pub(super) fn is_part(part: &str) -> bool {
    let first = part.split(' ').next().unwrap_or_default();
    PARTS.iter().any(|(_, name)| *name == first)
}

/// A change and its inverse.
#[derive(Debug, Clone)]
pub(super) struct Op {
    pub(super) phase: Phase,
    /// Lines for the reader of the file, above the first statement.
    pub(super) notes: Vec<&'static str>,
    /// The same in the down file.
    pub(super) back_notes: Vec<&'static str>,
    /// The data that goes on the way up.
    pub(super) loses: Option<String>,
    /// The data that goes on the way back.
    pub(super) brings: Option<String>,
    /// The object, for the name of a file that is about it alone.
    pub(super) subject: String,
    pub(super) up: Vec<Statement>,
    pub(super) down: Vec<Statement>,
}

/// The statements of one pair of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// What it is among several; empty for the one that does most.
    pub part: String,
    /// `transaction: yes` or `none`.
    pub transaction: bool,
    /// Whether data is lost on the way up.
    pub destructive: bool,
    /// Whether it goes through rows while others work, for as long as it takes.
    pub patient: bool,
    /// Each with its `;`, in order; a comment may stand above.
    pub up: Vec<String>,
    /// And back.
    pub down: Vec<String>,
}

impl Statement {
    pub(super) fn alter(table: &str, action: impl Into<String>) -> Self {
        Self::Alter { table: table.to_owned(), action: action.into() }
    }
}

impl std::fmt::Display for Statement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Alter { table, action } => write!(f, "alter table {table} {action}"),
            Self::Whole(text) => write!(f, "{text}"),
        }
    }
}

impl From<String> for Statement {
    fn from(text: String) -> Self {
        Self::Whole(text)
    }
}

impl Op {
    pub(super) fn new(phase: Phase, up: Vec<Statement>, down: Vec<Statement>) -> Self {
        Self {
            phase,
            notes: Vec::new(),
            back_notes: Vec::new(),
            loses: None,
            brings: None,
            subject: String::new(),
            up,
            down,
        }
    }

    /// A change of one statement each way.
    pub(super) fn of(phase: Phase, up: impl Into<Statement>, down: impl Into<Statement>) -> Self {
        Self::new(phase, vec![up.into()], vec![down.into()])
    }

    pub(super) fn note(mut self, note: impl IntoIterator<Item = &'static str>) -> Self {
        self.notes.extend(note);
        self
    }

    pub(super) fn back_note(mut self, note: impl IntoIterator<Item = &'static str>) -> Self {
        self.back_notes.extend(note);
        self
    }

    pub(super) fn loses(self, what: String) -> Self {
        Self { loses: Some(what), ..self }
    }

    pub(super) fn brings(self, what: String) -> Self {
        Self { brings: Some(what), ..self }
    }

    pub(super) fn about(self, subject: &str) -> Self {
        Self { subject: subject.to_owned(), ..self }
    }

    /// The same change the other way round.
    pub(super) fn inverse(self) -> Self {
        Self {
            up: self.down,
            down: self.up,
            notes: self.back_notes,
            back_notes: self.notes,
            loses: self.brings,
            brings: self.loses,
            ..self
        }
    }
}

impl Phase {
    /// Whether a statement of this phase cannot run in a transaction.
    fn is_alone(self) -> bool {
        matches!(self, Self::DropIndex | Self::Build | Self::Replace)
    }

    /// Whether it goes through rows under no lock of the table: others read, and write other rows.
    fn is_patient(self) -> bool {
        matches!(self, Self::Fill | Self::Refill | Self::Validate | Self::Verify)
    }

    /// Whether a change of this phase may stand in one file with the one before it.
    fn joins(self, before: Self) -> bool {
        match before {
            Self::Rename => matches!(self, Self::Rename | Self::Label | Self::Unlink | Self::Main),
            Self::Unlink => matches!(self, Self::Unlink | Self::Main),
            _ => self == before && !self.is_alone(),
        }
    }

    fn part(self) -> &'static str {
        PARTS.iter().find(|(phase, _)| *phase == self).map_or("", |(_, part)| part)
    }
}

/// Puts the changes into files: in the order of their phases, then as they come.
pub(super) fn drafts(mut ops: Vec<Op>) -> Vec<Draft> {
    ops.sort_by_key(|op| op.phase);
    let files = ops.chunk_by(|before, op| op.phase.joins(before.phase));
    files.map(draft).collect()
}

fn draft(ops: &[Op]) -> Draft {
    let mut up = Script::default();
    for op in ops {
        up.add(&op.notes, &op.up);
    }
    let mut down = Script::default();
    for op in ops.iter().rev() {
        down.add(&op.back_notes, &op.down);
    }
    let phase = ops.iter().map(|op| op.phase).max().unwrap_or(Phase::Main);
    let subject = ops.first().filter(|_| phase.is_alone()).map_or("", |op| &op.subject);
    Draft {
        part: format!("{} {subject}", phase.part()).trim().to_owned(),
        transaction: !phase.is_alone(),
        destructive: ops.iter().any(|op| op.loses.is_some()),
        patient: phase.is_patient(),
        up: up.written(),
        down: down.written(),
    }
}

/// Statements in order, neighbours on one table together.
#[derive(Default)]
struct Script {
    statements: Vec<(Vec<&'static str>, Statement, Vec<String>)>,
}

impl Script {
    fn add(&mut self, notes: &[&'static str], statements: &[Statement]) {
        for (index, statement) in statements.iter().enumerate() {
            let notes = if index == 0 { notes } else { &[] };
            // What the linter is told is about one statement.
            let is_open = !notes.iter().any(|note| note.contains("squawk-ignore"));
            if let Statement::Alter { table, action } = statement
                && let Some((last, Statement::Alter { table: before, .. }, more)) =
                    self.statements.last_mut()
                && before == table
                && (is_open || notes == *last)
            {
                let is_new = |note: &&'static str| !last.contains(note);
                let new: Vec<_> = notes.iter().copied().filter(is_new).collect();
                // What the linter is told stays next to the statement.
                let at = last.iter().position(|note| note.contains("squawk-ignore"));
                let at = at.unwrap_or(last.len());
                last.splice(at..at, new);
                more.push(action.clone());
                continue;
            }
            self.statements.push((notes.to_vec(), statement.clone(), Vec::new()));
        }
    }

    fn written(self) -> Vec<String> {
        let write = |(notes, statement, more): (Vec<&str>, Statement, Vec<String>)| {
            let text = match &statement {
                Statement::Alter { table, action } => alter(table, action, &more),
                whole => whole.to_string(),
            };
            let notes: String = notes.iter().map(|note| format!("-- {note}\n")).collect();
            format!("{notes}{text};")
        };
        self.statements.into_iter().map(write).collect()
    }
}

fn alter(table: &str, action: &str, more: &[String]) -> String {
    let line = Statement::alter(table, action).to_string();
    if more.is_empty() && line.len() < LINE_LEN_MAX {
        return line;
    }
    let actions: Vec<&str> =
        std::iter::once(action).chain(more.iter().map(String::as_str)).collect();
    format!("alter table {table}\n    {}", actions.join(",\n    "))
}

/// The body of a file: an empty line where a statement is more than a line.
pub(super) fn body(statements: &[String]) -> String {
    let mut text = String::new();
    for (index, statement) in statements.iter().enumerate() {
        let is_long = |index: usize| statements.get(index).is_some_and(|one| one.contains('\n'));
        if index > 0 && (is_long(index) || is_long(index - 1)) {
            text.push('\n');
        }
        text.push_str(statement);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(phase: Phase, table: &str, column: &str) -> Op {
        Op::of(
            phase,
            Statement::alter(table, format!("add column {column} int")),
            Statement::alter(table, format!("drop column {column}")),
        )
    }

    #[test]
    fn neighbours_on_one_table_are_one_statement_and_down_runs_backwards() {
        let ops = ["a", "b"].map(|column| add(Phase::Main, "item", column)).to_vec();
        let ops = [ops, vec![add(Phase::Main, "thing", "c")]].concat();
        let [draft] = &drafts(ops)[..] else { panic!("one file") };
        assert_eq!(
            draft.up,
            [
                "alter table item\n    add column a int,\n    add column b int;",
                "alter table thing add column c int;"
            ]
        );
        assert_eq!(
            draft.down,
            [
                "alter table thing drop column c;",
                "alter table item\n    drop column b,\n    drop column a;"
            ]
        );
    }

    #[test]
    fn what_cannot_share_a_transaction_has_files_of_its_own() {
        let phases = [
            Phase::Build,
            Phase::Build,
            Phase::Main,
            Phase::Rename,
            Phase::Validate,
            Phase::Finish,
            Phase::Unlink,
        ];
        let drafts = drafts(phases.map(|phase| add(phase, "t", "c").about("i")).to_vec());
        let parts: Vec<(&str, bool)> =
            drafts.iter().map(|draft| (draft.part.as_str(), draft.transaction)).collect();
        let expected = [
            ("", true),
            ("validate", true),
            ("build i", false),
            ("build i", false),
            ("finish", true),
        ];
        assert_eq!(parts, expected);
    }

    #[test]
    fn a_label_is_used_in_a_later_file() {
        let labels = [Phase::Rename, Phase::Label, Phase::Label, Phase::Main];
        let drafts = drafts(labels.map(|phase| add(phase, "t", "c")).to_vec());
        let parts: Vec<&str> = drafts.iter().map(|draft| draft.part.as_str()).collect();
        assert_eq!(parts, ["labels", ""]);
    }

    #[test]
    fn a_body_has_an_empty_line_around_what_is_long() {
        let lines = ["a;", "b;", "c\n    d;", "e;"].map(str::to_owned);
        assert_eq!(body(&lines), "a;\nb;\n\nc\n    d;\n\ne;\n");
        assert_eq!(body(&[]), "");
    }
}
