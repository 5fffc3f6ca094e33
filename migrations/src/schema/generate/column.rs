//! Columns that come, change and go in tables that stay.
//!
//! `plan` calls it; it calls `types` for what becomes of values, and `text`.
//! It promises that nobody waits for a scan: `not null` is proved beforehand by a check that is
//! validated beside everybody else; that a column without values for the old rows is refused, and
//! that a cast which people have to choose is asked for.

use super::names::{joined, literal, short_type, unquoted};
use super::op::{Op, Phase, Statement};
use super::plan::Plan;
use super::text;
use super::types::{Fate, fate};
use crate::schema::catalog::{Column, Key};

const REWRITES: &str = "Writes the table and its indexes anew, under a lock that nobody gets past.";
const REINDEXES: &str = "Builds the column's indexes anew, under a lock that nobody gets past.";
const NOT_INVERSE: &str =
    "The way back is PostgreSQL's own cast, not the inverse of --using: read it.";
const OWN_CAST: &str =
    "The way back is PostgreSQL's own cast, which may refuse or change values: read it.";
const LESS_ROOM: &str = "The way back has less room: what does not fit is refused, or rounded.";
const PROVED: &str = "The validated check proves it: the table is not scanned under this lock.";

const GUARDS: &str = "From here on, rows without a value are refused.";

/// The functions of defaults that give each row a value of its own.
const VOLATILE: [&str; 11] = [
    "nextval",
    "random",
    "random_normal",
    "gen_random_uuid",
    "gen_random_bytes",
    "uuidv4",
    "uuidv7",
    "uuid_generate_v1",
    "uuid_generate_v4",
    "clock_timestamp",
    "timeofday",
];
const NO_VALUES: &str =
    "Refused while there are rows, which have no value for it: give it a default for them.";

impl Plan<'_> {
    pub(super) fn new_column(&mut self, key: &Key, column: &Column) {
        let has_values = has_values(column);
        let fill = if has_values { None } else { self.backfill(key) };
        let not_null = column.not_null && !has_values;
        if not_null && fill.is_none() {
            self.ask(format!(
                "{key}: `not null` without a default, and the table may have rows: declare a \
                 default, or give --backfill {}.{}=EXPRESSION",
                key.of, key.name
            ));
        }
        let definition = text::column_definition(key, column, column.not_null && !not_null);
        let add = Statement::alter(&key.of, format!("add column {} {definition}", key.name));
        let options = text::serial_options(column).map(Statement::Whole);
        let up = std::iter::once(add).chain(options).collect();
        let op = Op::new(Phase::Main, up, vec![drop_column(key)]).note(written_anew(column));
        self.ops.push(op.brings(key.to_string()));
        if let Some(expression) = &fill {
            self.fill(key, expression);
        }
        if not_null {
            self.set_not_null(key, fill.as_deref());
        }
    }

    pub(super) fn gone_column(&mut self, key: &Key, column: &Column) {
        let add = format!("add column {}", text::column(key, column));
        let options = text::serial_options(column).map(Statement::Whole);
        let down = std::iter::once(Statement::alter(&key.of, add)).chain(options).collect();
        let op = Op::new(self.parting(), vec![drop_column(key)], down);
        let mut op = op.back_note(written_anew(column));
        if column.not_null && !has_values(column) {
            op = op.back_note([NO_VALUES]);
        }
        self.ops.push(op.loses(key.to_string()));
    }

    pub(super) fn changed_column(&mut self, key: &Key, from: &Column, to: &Column) {
        let is_required = to.not_null && !from.not_null;
        let fill = if is_required { self.backfill(key) } else { None };
        if is_required && !self.is_simple() {
            // An identity column has to be `not null` before.
            let mut plain = to.clone();
            if plain.identity.take().is_some() {
                plain.options = None;
            }
            self.redefined(key, from, &Column { not_null: false, ..plain.clone() });
            if let Some(expression) = &fill {
                self.fill(key, expression);
            }
            self.set_not_null(key, fill.as_deref());
            if plain != *to {
                let [up, down] = [(&plain, to), (to, &plain)];
                let [up, down] = [up, down].map(|(from, to)| steps(key, from, to, None));
                self.ops.push(Op::new(Phase::Finish, up, down));
            }
        } else {
            if let Some(expression) = &fill {
                self.fill(key, expression);
            }
            self.redefined(key, from, to);
        }
    }

    /// Whatever is done at once.
    fn redefined(&mut self, key: &Key, from: &Column, to: &Column) {
        let using = if is_retyped(from, to) { self.using(key) } else { None };
        let fate = kept(from, to);
        if fate == Fate::Unknown && using.is_none() {
            self.ask(format!(
                "{key}: {} does not become {} by itself: give --using {}.{}=EXPRESSION",
                from.data_type, to.data_type, key.of, key.name
            ));
        }
        let up = steps(key, from, to, using.as_deref());
        let sequence = Op::new(Phase::Main, sequence_steps(from, to), sequence_steps(to, from));
        if !sequence.up.is_empty() {
            // The statements about the table stay together.
            self.last.push(sequence);
        }
        if up.is_empty() {
            return;
        }
        let back = back(key, from, to);
        let op = Op::new(Phase::Main, up, steps(key, to, from, back.as_deref()));
        let op = op.note(cost(from, to)).back_note(cost(to, from));
        let op = op.back_note(way_back(from, to, using.is_some()));
        let is_replaced = using.is_some_and(|value| !text::mentions(&value, &key.name));
        self.ops.push(match fate {
            _ if is_replaced => op.loses(format!("{key}: its values are replaced")),
            Fate::Narrows => op.loses(format!("{key}: {} -> {}", from.data_type, to.data_type)),
            _ => op,
        });
    }

    /// Gives old rows a value.
    fn fill(&mut self, key: &Key, expression: &str) {
        let Key { of, name, .. } = key;
        let update = format!("update {of} set {name} = ({expression}) where {name} is null");
        let phase = self.phase(Phase::Fill);
        self.ops.push(Op::new(phase, vec![update.into()], Vec::new()));
    }

    /// Gives values to rows that came after the first time and before the checks. One statement for
    /// a table: a row that is written keeps all of its checks.
    pub(super) fn refill(&mut self) {
        for (table, values) in std::mem::take(&mut self.refills) {
            for (index, (name, expression)) in values.iter().enumerate() {
                let read =
                    values[..index].iter().find(|(other, _)| text::mentions(expression, other));
                if let Some((other, _)) = read {
                    self.ask(format!(
                        "--backfill {table}.{name} reads {other}, which is filled in the same run: \
                         repeat its expression, or make two revisions"
                    ));
                }
            }
            let set = |(name, expression): &(String, String)| match values.len() {
                1 => format!("{name} = ({expression})"),
                _ => format!("{name} = coalesce({name}, ({expression}))"),
            };
            let set: Vec<String> = values.iter().map(set).collect();
            let nulls: Vec<String> =
                values.iter().map(|(name, _)| format!("{name} is null")).collect();
            let [set, nulls] = [set.join(", "), nulls.join(" or ")];
            let update = format!("update {table} set {set} where {nulls}");
            self.ops.push(Op::new(Phase::Refill, vec![update.into()], Vec::new()));
        }
    }

    /// `not null` on a column that old rows have. `fill`: the values they got in this run.
    fn set_not_null(&mut self, key: &Key, fill: Option<&str>) {
        let Key { of, name, .. } = key;
        let set = Statement::alter(of, format!("alter column {name} set not null"));
        let unset = Statement::alter(of, format!("alter column {name} drop not null"));
        if self.is_simple() {
            self.ops.push(Op::of(Phase::Main, set, unset));
            return;
        }
        let check = joined(&[of, name], "_is_not_null");
        let add = format!("add constraint {check} check ({name} is not null) not valid");
        let drop = format!("drop constraint {check}");
        let [guard, unguard] = [&add, &drop].map(|action| Statement::alter(of, &**action));
        match fill {
            Some(expression) => {
                self.ops.push(Op::of(Phase::Guard, guard, unguard).note([GUARDS]));
                let values = self.refills.entry(of.clone()).or_default();
                values.push((name.clone(), expression.to_owned()));
            }
            None => self.ops.push(Op::of(Phase::Main, guard, unguard)),
        }
        self.validate(Phase::Validate, of, &check);
        self.ops.push(Op::of(Phase::Finish, set, unset).note([PROVED]));
        // Statements of their own: within one, the check would be gone before it is looked at.
        let [drop, add] = [drop, add].map(|action| format!("alter table {of} {action}"));
        self.last.push(Op::of(Phase::Finish, drop, add));
    }
}

/// What it costs to add a column whose value differs from row to row.
fn written_anew(column: &Column) -> Option<&'static str> {
    let default = column.default.as_deref().unwrap_or_default();
    let is_asked_each_time = column.generated.is_some()
        || column.identity.is_some()
        || column.sequence.is_some()
        || VOLATILE.iter().any(|name| text::mentions(default, name));
    is_asked_each_time.then_some(REWRITES)
}

/// Whether rows get a value by themselves.
fn has_values(column: &Column) -> bool {
    let is_null = |default: &str| default.split("::").next() == Some("NULL");
    column.default.as_deref().is_some_and(|default| !is_null(default))
        || column.generated.is_some()
        || column.identity.is_some()
        || column.sequence.is_some()
}

fn drop_column(key: &Key) -> Statement {
    Statement::alter(&key.of, format!("drop column {}", key.name))
}

pub(super) fn is_retyped(from: &Column, to: &Column) -> bool {
    from.data_type != to.data_type || from.collation != to.collation
}

/// The cast that the way back needs. Every type has one to and from text.
pub(super) fn back(key: &Key, from: &Column, to: &Column) -> Option<String> {
    if kept(to, from) != Fate::Unknown {
        return None;
    }
    let is_text = ["text", "character varying"].iter().any(|text| to.data_type.starts_with(text));
    let array = if to.data_type.ends_with("[]") { "[]" } else { "" };
    let by = if is_text { String::new() } else { format!("::text{array}") };
    Some(format!("{}{by}::{}", key.name, short_type(&from.data_type)))
}

/// What becomes of the values; those of an equal type stay.
fn kept(from: &Column, to: &Column) -> Fate {
    match from.data_type == to.data_type {
        true => Fate::Widens { rewrites: false },
        false => fate(&from.data_type, &to.data_type),
    }
}

/// What a change of type costs those who wait.
fn cost(from: &Column, to: &Column) -> Option<&'static str> {
    match kept(from, to) {
        Fate::Widens { rewrites: false } if from.collation == to.collation => None,
        Fate::Widens { rewrites: false } => Some(REINDEXES),
        _ => Some(REWRITES),
    }
}

/// What the way back of a change of type may do to values.
fn way_back(from: &Column, to: &Column, has_using: bool) -> Option<&'static str> {
    match kept(to, from) {
        _ if has_using => Some(NOT_INVERSE),
        Fate::Widens { .. } => None,
        Fate::Narrows => Some(LESS_ROOM),
        Fate::Unknown => Some(OWN_CAST),
    }
}

/// The statements from one definition of a column to another.
pub(super) fn steps(key: &Key, from: &Column, to: &Column, using: Option<&str>) -> Vec<Statement> {
    let (of, name) = (&key.of, &key.name);
    let actions = actions(from, to, using).into_iter();
    let mut steps: Vec<Statement> = actions
        .map(|action| Statement::alter(of, format!("alter column {name} {action}")))
        .collect();
    if let (None, Some(_)) = (&from.identity, &to.identity) {
        steps.push(Statement::Whole(going_on(key, to)));
    }
    steps
}

/// What a serial column's own sequence has to follow.
pub(super) fn sequence_steps(from: &Column, to: &Column) -> Vec<Statement> {
    let mut steps = Vec::new();
    if let (Some(sequence), Some(_)) = (&to.sequence, &from.sequence) {
        if from.data_type != to.data_type {
            let data_type = &to.data_type;
            steps.push(Statement::Whole(format!("alter sequence {sequence} as {data_type}")));
        }
        if from.options != to.options {
            let options = text::changed_options(&text::own_options(to));
            steps.push(Statement::Whole(format!("alter sequence {sequence} {options}")));
        }
    }
    steps
}

/// Sets a new identity behind the numbers that rows have; without rows it begins where it says.
fn going_on(Key { of, name, .. }: &Key, to: &Column) -> String {
    let options = text::own_options(to);
    let number = |words: &str| {
        let (_, after) = options.split_once(words)?;
        after.split(' ').next()?.parse::<i64>().ok()
    };
    let [by, start] = ["increment by ", "start with "].map(|words| number(words).unwrap_or(1));
    let next = match by < 0 {
        true => format!("least(min({name}) - {}, {start})", by.unsigned_abs()),
        false => format!("greatest(max({name}) + {by}, {start})"),
    };
    let [table, column] = [literal(of), literal(&unquoted(name))];
    format!(
        "-- Numbers go on after those that are there.\n\
         select setval(pg_get_serial_sequence({table}, {column}), (select {next} from {of}), false)\n    \
         where exists (select from {of})"
    )
}

/// What follows `alter column`, in the order in which PostgreSQL wants it.
fn actions(from: &Column, to: &Column, using: Option<&str>) -> Vec<String> {
    let is_retyped = is_retyped(from, to);
    let has_other_default = from.default != to.default;
    let mut actions = Vec::new();
    // What the old default is in the new type need not exist.
    if from.default.is_some() && has_other_default && (to.default.is_none() || is_retyped) {
        actions.push("drop default".to_owned());
    }
    if from.identity.is_some() && to.identity.is_none() {
        actions.push("drop identity".to_owned());
    }
    if is_retyped {
        let collate = to.collation.as_ref().map(|name| format!(" collate {name}"));
        let using = using.map(|expression| format!(" using {expression}"));
        let more = collate.unwrap_or_default() + &using.unwrap_or_default();
        actions.push(format!("type {}{more}", short_type(&to.data_type)));
    }
    if let Some(default) = to.default.as_ref().filter(|_| has_other_default) {
        actions.push(format!("set default {}", super::names::lower(default)));
    }
    match (from.not_null, to.not_null) {
        (false, true) => actions.push("set not null".to_owned()),
        (true, false) => actions.push("drop not null".to_owned()),
        _ => {}
    }
    actions.extend(identity(from, to));
    actions
}

fn identity(from: &Column, to: &Column) -> Option<String> {
    let kind = to.identity.as_ref()?;
    if from.identity.is_none() {
        let options = text::identity_options(to.options.as_deref());
        return Some(format!("add generated {kind} as identity{options}"));
    }
    let mut set = Vec::new();
    if from.identity != to.identity {
        set.push(format!("set generated {kind}"));
    }
    if from.options != to.options {
        let options = text::changed_options(&text::own_options(to));
        set.push(set_each(text::without_type(&options)));
    }
    (!set.is_empty()).then(|| set.join(" "))
}

/// `increment by 1 no cycle` -> `set increment by 1 set no cycle`.
fn set_each(options: &str) -> String {
    let mut text = format!(" {options}");
    for word in [" increment", " minvalue", " maxvalue", " start", " cache", " no cycle", " cycle"]
    {
        text = text.replace(word, &format!(" set{word}"));
    }
    text.replace("no set cycle", "no cycle").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_an_identity_are_set_one_by_one() {
        let options = "increment by 1 minvalue 1 maxvalue 9 start with 1 cache 1";
        let set = "set increment by 1 set minvalue 1 set maxvalue 9 set start with 1 set cache 1";
        assert_eq!(set_each(&format!("{options} no cycle")), format!("{set} set no cycle"));
        assert_eq!(set_each(&format!("{options} cycle")), format!("{set} set cycle"));
    }
}
