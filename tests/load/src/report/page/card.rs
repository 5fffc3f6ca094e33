//! The words around the charts: verdict, warnings, circumstances, how to repeat it, how to read it.

use super::markup::Tag;
use super::number;
use crate::report::model::{Card, Machine, Report, Series};

/// Said under a shortened measurement.
pub(crate) const QUICK: &str =
    "Quick look: shortened phases and rounds. Good for a first impression, not for a decision.";

/// Title, verdict, warnings.
pub(crate) fn header(report: &Report, verdict: &[String]) -> Tag {
    let card = &report.card;
    let day = card.started.split('T').next().unwrap_or_default();
    let above = format!("peace-loadtest · {} · {day}", card.scenario.name);
    let mut header = Tag::new("header").put(Tag::of("p", "above").text(&above));
    if card.is_quick {
        let badge = Tag::of("strong", "badge").text("quick");
        header = header.put(Tag::of("p", "quick").put(badge).text(&format!(" {QUICK}")));
    }
    header = header.put(Tag::new("h1").text("How many workers?"));
    if let Some((first, others)) = verdict.split_first() {
        header = header.put(Tag::of("p", "verdict").text(first));
        header = header.put_all(others.iter().map(|text| Tag::of("p", "also").text(text)));
    }
    match report.warnings.is_empty() {
        true => header,
        false => header.put(warnings(&report.warnings)),
    }
}

fn warnings(warnings: &[String]) -> Tag {
    let title = Tag::new("h2").text("Before believing a number");
    let list = Tag::new("ul").put_all(warnings.iter().map(|text| Tag::new("li").text(text)));
    Tag::of("section", "warnings").put(title).put(list)
}

/// Under which circumstances.
pub(crate) fn card(report: &Report) -> Tag {
    let card = &report.card;
    let machine = &card.machine;
    let mut facts = vec![
        ("Machine", machine_line(machine)),
        ("Kernel", machine.kernel.clone()),
        ("Load", load_line(card)),
        ("Phases", phases_line(card)),
        ("Scenario", format!("{}: {}", card.scenario.name, card.scenario.about)),
    ];
    if let Some(database) = database_line(card) {
        facts.push(("Database", database));
    }
    if !card.events.is_empty() {
        facts.push(("Events", card.events.join("; ")));
    }
    facts.extend(report.series.iter().map(|series| ("Server", server_line(series))));
    facts.push(("Measured", measured_line(card)));
    let list = facts.into_iter().map(|(name, fact)| {
        Tag::new("div").put(Tag::new("dt").text(name)).put(Tag::new("dd").text(&fact))
    });
    let section = Tag::of("section", "card").put(Tag::new("h2").text("Circumstances"));
    let section = section.put(Tag::new("dl").put_all(list));
    match machine.postgres_settings.is_empty() {
        true => section,
        false => section.put(settings(machine)),
    }
}

fn machine_line(machine: &Machine) -> String {
    let cpus = number::counted(machine.cpus as u64, "processor");
    let memory = machine.memory_bytes as f64 / f64::from(1 << 30);
    format!("{cpus}, {}, {}\u{a0}GiB", machine.cpu, number::plain(memory))
}

fn load_line(card: &Card) -> String {
    let connections = number::counted(card.connections as u64, "connection");
    let generators = match card.generators {
        1 => "1 generator process".to_owned(),
        count => format!("{count} generator processes"),
    };
    let timeout = number::plain(card.timeout_s);
    format!("{connections} from {generators}; an answer may take {timeout} s")
}

fn phases_line(card: &Card) -> String {
    let rounds = number::counted(u64::from(card.rounds), "round");
    let duration = number::plain(card.duration_s);
    format!("{rounds}, {duration} s a phase after {} s of warm-up", number::plain(card.warm_up_s))
}

fn database_line(card: &Card) -> Option<String> {
    let parts = [card.machine.postgres.clone(), card.database.clone()];
    let mut parts: Vec<String> = parts.into_iter().flatten().collect();
    if card.users + card.items > 0 {
        let (users, items) =
            (number::counted(card.users, "user"), number::counted(card.items, "item"));
        parts.push(format!("{users} and {items}"));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn server_line(series: &Series) -> String {
    let version = series.version.as_deref().map_or(String::new(), |version| format!(" {version}"));
    format!("{}{version}: {}", series.name, series.command)
}

fn measured_line(card: &Card) -> String {
    let commit =
        card.commit.as_deref().map_or(String::new(), |commit| format!(", commit {commit}"));
    let took = match card.took_s {
        took if took < 120.0 => format!("{took:.0} s"),
        took => format!("{:.0} minutes", took / 60.0),
    };
    format!("{}, in {took}, with peace-loadtest {}{commit}", card.started, card.version)
}

fn settings(machine: &Machine) -> Tag {
    let row = |(name, value): (&String, &String)| {
        let name = Tag::new("th").set("scope", "row").text(name);
        Tag::new("tr").put(name).put(Tag::new("td").text(value))
    };
    let rows = machine.postgres_settings.iter().map(row);
    let summary = Tag::new("summary").text("Settings of the database");
    let table = Tag::new("table").put(Tag::new("tbody").put_all(rows));
    Tag::new("details").put(summary).put(Tag::of("div", "scroll").put(table))
}

/// The command, and the scenario it reads.
pub(crate) fn repeat(card: &Card) -> Tag {
    let command = Tag::new("pre").set("tabindex", 0).put(Tag::new("code").text(&card.command));
    let scenario = Tag::new("details")
        .put(Tag::new("summary").text(&format!("Scenario {}", card.scenario.name)))
        .put(Tag::new("pre").set("tabindex", 0).put(Tag::new("code").text(&card.scenario.text)));
    Tag::of("section", "repeat")
        .put(Tag::new("h2").text("How to repeat it"))
        .put(command)
        .put(
            Tag::new("p")
                .text("All numbers, histograms included, are in report.json beside this page."),
        )
        .put(scenario)
}

/// Three sentences.
pub(crate) fn reading() -> Tag {
    let sentences = [
        "In a closed loop each connection sends its next request when it has its answer: that finds the \
         peak, but while the server stalls nobody asks, so a stall hardly shows.",
        "In an open loop requests are due at fixed instants and their latency counts from the instant \
         they were due, as it does for people who do not wait for one another.",
        "Rounds take turns between the numbers of workers and the servers, so that a machine that \
         becomes slower meets them all; a difference smaller than the spread of the rounds is none.",
    ];
    let section = Tag::of("section", "reading").put(Tag::new("h2").text("How to read it"));
    section.put_all(sentences.map(|text| Tag::new("p").text(text)))
}
