//! `budgets.toml`, and what was measured held against it.
//!
//! The budgets' tests ask it last. Promises: what was measured is shown in the words of the file, so that a
//! budget is changed by copying a line; all complaints are told at once.

use std::collections::BTreeMap;

use toml::{Table, Value};

const BUDGETS: &str = include_str!("budgets.toml");

/// What was measured, by the names of the file: section, then what is counted.
pub(super) type Measured = BTreeMap<String, BTreeMap<String, f64>>;

/// How much more than its budget something may be before the test fails.
pub(super) enum Excess {
    /// A part of the budget.
    Part(f64),
    /// So many, whatever the budget.
    Count(f64),
}

impl Excess {
    fn limit(&self, budget: f64) -> f64 {
        match self {
            Self::Part(part) => budget * (1.0 + part),
            Self::Count(count) => budget + count,
        }
    }
}

/// Below this part of its budget, something can have a smaller one.
const LOOSE: f64 = 0.95;

/// Shows what was measured and fails where it is over its budget. `advice` says how to see why.
pub(super) fn check(measured: &Measured, excess: &Excess, advice: &str) {
    let file: Table = BUDGETS.parse().expect("budgets.toml is TOML");
    let varying: Vec<&str> =
        file["varies"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let mut over = Vec::new();
    for (section, counts) in measured {
        let budgets = budgets(&file, section);
        eprintln!("[\"{section}\"]");
        for name in counts.keys().chain(budgets.keys().filter(|name| !counts.contains_key(*name))) {
            let (count, budget) =
                (counts.get(name).unwrap_or(&0.0), budgets.get(name).unwrap_or(&0.0));
            let is_over = *count > excess.limit(*budget);
            let is_loose = *count < budget * LOOSE && !varying.contains(&name.as_str());
            let line = format!("{} = {}", key(name), shown(*count));
            let remark = match (is_over, is_loose) {
                (true, _) => format!("  # over the budget of {}", shown(*budget)),
                (_, true) => format!("  # the budget of {} can be lowered", shown(*budget)),
                _ => String::new(),
            };
            eprintln!("{line}{remark}");
            over.extend(is_over.then(|| format!("{section}: {line}{remark}")));
        }
    }
    assert!(
        over.is_empty(),
        "{}\n{advice}\nOn purpose? Then copy the line into tests/external/budget/budgets.toml, and write why \
         into the commit.\nThe budgets were recorded with {}.",
        over.join("\n"),
        file["recorded"].as_str().unwrap_or_default()
    );
}

/// The budgets of one section; none where it has no budgets yet.
fn budgets(file: &Table, section: &str) -> BTreeMap<String, f64> {
    let budgets = file.get(section).and_then(Value::as_table).into_iter().flatten();
    budgets.map(|(name, value)| (name.clone(), number(value))).collect()
}

fn number(value: &Value) -> f64 {
    let number = value.as_float().or_else(|| Some(value.as_integer()? as f64));
    number.unwrap_or_else(|| panic!("a budget is a number, not {value:?}"))
}

/// A name as the file has it.
fn key(name: &str) -> String {
    let is_bare = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_bare { name.to_owned() } else { format!("\"{name}\"") }
}

/// Instructions are whole ones.
fn shown(count: f64) -> String {
    if count >= 1_000.0 { format!("{count:.0}") } else { format!("{count:.2}") }
}
