//! Where the circumstances of two reports differ, which makes their numbers another thing.
//!
//! Called by [`super`]. It compares run cards; it does not say how much a difference matters.

use crate::report::model::{Card, Machine, Report};

/// A sentence for everything that differs and was not to be compared. That the commits differ is no
/// surprise and told all the same: it is what the numbers are about.
pub(crate) fn differences(base: &Card, new: &Card) -> Vec<String> {
    let mut told = Vec::new();
    let mut differ = |what: &str, base: String, new: String| {
        if base != new {
            told.push(format!("{what}: {base}, then {new}."));
        }
    };
    let (a, b) = (base, new);
    differ("The scenario differs", a.scenario.name.clone(), b.scenario.name.clone());
    differ("Connections differ", a.connections.to_string(), b.connections.to_string());
    differ("Load generators differ", a.generators.to_string(), b.generators.to_string());
    differ("Rounds differ", a.rounds.to_string(), b.rounds.to_string());
    differ("Length of a phase differs", seconds(a.duration_s), seconds(b.duration_s));
    differ("Warm-up differs", seconds(a.warm_up_s), seconds(b.warm_up_s));
    differ("Timeout differs", seconds(a.timeout_s), seconds(b.timeout_s));
    differ("Seeded users differ", a.users.to_string(), b.users.to_string());
    differ("Seeded items differ", a.items.to_string(), b.items.to_string());
    differ("The database differs", known(&a.database), known(&b.database));
    differ("Events differ", events(a), events(b));
    differ("Commit", known(&a.commit), known(&b.commit));
    differ("Version of the tool differs", a.version.clone(), b.version.clone());
    machine(&mut differ, &a.machine, &b.machine);
    if a.scenario.name == b.scenario.name && a.scenario.text != b.scenario.text {
        told.push(format!("The file of the scenario {} has changed.", a.scenario.name));
    }
    if a.is_quick || b.is_quick {
        let text = "A run was shortened (--quick): a first look, not a measurement.";
        told.push(text.to_owned());
    }
    told
}

/// Whether rounds are missing, because a run was interrupted; `whose` begins the sentence.
pub(crate) fn interrupted(whose: &str, report: &Report) -> Option<String> {
    let (points, rounds) = (report.points(), report.card.rounds);
    let short = points.iter().filter(|point| point.runs.len() < rounds as usize).count();
    let (count, all) = (short, points.len());
    let which =
        if short == all { "all loads".to_owned() } else { format!("{count} of {all} loads") };
    (short > 0)
        .then(|| format!("{whose} was interrupted: {which} have fewer than its {rounds} rounds."))
}

fn machine(differ: &mut impl FnMut(&str, String, String), base: &Machine, new: &Machine) {
    differ("The processor differs", base.cpu.clone(), new.cpu.clone());
    differ("Processors differ", base.cpus.to_string(), new.cpus.to_string());
    differ("Memory differs", gibibytes(base), gibibytes(new));
    differ("The kernel differs", base.kernel.clone(), new.kernel.clone());
    differ("PostgreSQL differs", known(&base.postgres), known(&new.postgres));
    let (a, b) = (&base.postgres_settings, &new.postgres_settings);
    let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let what = format!("PostgreSQL's {name} differs");
        differ(&what, known(&a.get(name).cloned()), known(&b.get(name).cloned()));
    }
}

fn seconds(value: f64) -> String {
    format!("{value} s")
}

/// Rounded: a kernel keeps some of it, a little more or less each time.
fn gibibytes(machine: &Machine) -> String {
    format!("{:.1} GiB", machine.memory_bytes as f64 / f64::from(1 << 30))
}

fn events(card: &Card) -> String {
    if card.events.is_empty() { "none".to_owned() } else { card.events.join(", ") }
}

fn known(value: &Option<String>) -> String {
    value.clone().unwrap_or_else(|| "unknown".to_owned())
}
