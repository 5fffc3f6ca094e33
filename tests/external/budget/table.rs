//! `budgets.toml`, and what was measured held against it.
//!
//! The budgets' tests ask it last. Promises: what was measured is shown in the words of the file, so that a
//! budget is changed by copying a line; all complaints are told at once.

use std::collections::BTreeMap;

use toml::Table;

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
    let recorded = file["recorded"].as_str().expect("it says where it was recorded");
    let mut over = Vec::new();
    for (section, counts) in measured {
        let budgets = file.get(section).and_then(toml::Value::as_table);
        eprintln!("[\"{section}\"]");
        for (name, count) in counts {
            let budget = budgets.and_then(|budgets| budgets.get(name)).map_or(0.0, number);
            let is_over = *count > excess.limit(budget);
            let is_loose = *count < budget * LOOSE;
            let remark = match (is_over, is_loose) {
                (true, _) => format!("  # OVER the budget of {budget}"),
                (_, true) => format!("  # the budget of {budget} can be lowered"),
                _ => String::new(),
            };
            let line = format!("{name} = {}{remark}", shown(*count));
            eprintln!("{line}");
            over.extend(is_over.then(|| format!("{section}: {line}")));
        }
    }
    assert!(
        over.is_empty(),
        "{}\n{advice}\nOn purpose? Then write what was measured into tests/external/budget/budgets.toml, and why \
         into the commit. The budgets were recorded with {recorded}.",
        over.join("\n")
    );
}

fn number(value: &toml::Value) -> f64 {
    let number = value.as_float().or_else(|| Some(value.as_integer()? as f64));
    number.unwrap_or_else(|| panic!("a budget is a number, not {value:?}"))
}

/// Instructions are whole ones.
fn shown(count: f64) -> String {
    if count >= 1_000.0 { format!("{count:.0}") } else { format!("{count:.2}") }
}
