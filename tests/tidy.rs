//! The rules of ARCHITECTURE.md, as tests over the source text.
//!
//! Each rule is a function from a text to complaints, and is tried on a small bad text of its own
//! before it is trusted with the tree. Comments do not count as code. Does not replace reading: it
//! guards what a reviewer would have to look up.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use toml::{Table, Value};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The only file that may be unsafe.
const FENCE: &str = "supervisor/src/sys.rs";
const MEMBERS: [&str; 8] = [
    "",
    "supervisor/",
    "worker/",
    "migrations/",
    "tests/e2e/",
    "tests/load/",
    // A workspace of their own.
    "tests/load/peers/axum/",
    "tests/load/peers/hyper/",
];

/// What a rule complains about in a text.
type Rule = fn(&str) -> Vec<String>;

/// A file of the repository; its path begins at the root.
struct File {
    path: String,
    text: String,
}

/// Every text file of the repository with one of these endings.
fn files(endings: &[&str]) -> Vec<File> {
    let (mut found, mut folders) = (Vec::new(), vec![PathBuf::from(ROOT)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name().into_string().unwrap();
            if path.is_dir() {
                let is_ours = !["target", ".git", ".peace"].contains(&name.as_str());
                folders.extend(is_ours.then_some(path));
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(ROOT).unwrap().to_str().unwrap().to_owned();
                found.push(File { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Applies a rule to every Rust file that `applies`, and fails with all its complaints.
fn check(rule: Rule, applies: impl Fn(&str) -> bool) {
    let complaints: Vec<String> = files(&[".rs"])
        .iter()
        .filter(|file| applies(&file.path))
        .flat_map(|file| rule(&file.text).into_iter().map(|line| format!("{}: {line}", file.path)))
        .collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// The lines of code with their numbers, comments taken away.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let without_comment = |line| str::split(line, "//").next().unwrap_or_default();
    text.lines().map(without_comment).enumerate().map(|(index, line)| (index + 1, line))
}

/// A line of code with what stands in its strings taken away.
fn without_strings(line: &str) -> String {
    line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
}

/// The file without its unit tests, which stand at the end.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]").next().unwrap_or_default()
}

/// Words of code: letters, digits and underscores.
fn tokens(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|token| !token.is_empty())
}

// The rules: a text in, complaints out.

fn lacks_its_purpose(text: &str) -> Vec<String> {
    let first = text.lines().find(|line| !line.starts_with("#!")).unwrap_or_default();
    if first.starts_with("//! ") { vec![] } else { vec!["begins without `//! what it is`".into()] }
}

fn uses_of_unsafe(text: &str) -> impl Iterator<Item = usize> {
    let is_use = |line: &str| tokens(&without_strings(line)).any(|token| token == "unsafe");
    code(text).filter(move |(_, line)| is_use(line)).map(|(number, _)| number)
}

fn is_unsafe(text: &str) -> Vec<String> {
    uses_of_unsafe(text).map(|number| format!("{number}: unsafe outside {FENCE}")).collect()
}

/// Inside the fence: directly above each use stands why it is sound, in numbered premises.
fn is_unsafe_without_premises(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let has_premises = |number: usize| {
        let above = lines[..number - 1].iter().rev().map(|line| line.trim_start());
        let comment: Vec<&str> = above.take_while(|line| line.starts_with("//")).collect();
        comment.iter().any(|line| line.starts_with("// SAFETY:"))
            && comment.iter().any(|line| line.starts_with("// 1. "))
    };
    uses_of_unsafe(text)
        .filter(|number| !has_premises(*number))
        .map(|number| format!("{number}: unsafe without `SAFETY:` and premises above it"))
        .collect()
}

fn sleeps_or_skips(text: &str) -> Vec<String> {
    let bad = [concat!("thread::", "sleep"), concat!("#[", "ignore")];
    let found = code(text).filter(|(_, line)| bad.iter().any(|bad| line.contains(bad)));
    found.map(|(number, line)| format!("{number}: {}", line.trim())).collect()
}

fn listens(text: &str) -> Vec<String> {
    let bad = ["Listener::bind", "UdpSocket::bind", "Socket::new", "Datagram::bind", ".listen("];
    let found = code(without_tests(text)).filter(|(_, line)| bad.iter().any(|b| line.contains(b)));
    found.map(|(number, _)| format!("{number}: opens a socket; the supervisor does")).collect()
}

/// `users`, `items`, and types named after one of them.
fn names_a_resource(text: &str) -> Vec<String> {
    let is_resource = |token: &str| {
        let is_plural = token.split('_').any(|part| ["users", "items"].contains(&part));
        let is_type = ["User", "Item"].iter().any(|name| token.starts_with(name));
        // The associated type of iterators.
        (is_plural || is_type) && token != "Item"
    };
    code(without_tests(text))
        .flat_map(|(number, line)| tokens(line).map(move |token| (number, token)))
        .filter(|(_, token)| is_resource(token))
        .map(|(number, token)| format!("{number}: names a resource: {token}"))
        .collect()
}

fn allows_without_reason(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let allows = lines.iter().enumerate().filter(|(_, line)| {
        let code = without_strings(line.split("//").next().unwrap_or_default());
        code.contains("#[allow(") || code.contains("#![allow(")
    });
    let is_reasoned = |index: usize| {
        let end = (index + 5).min(lines.len());
        let attribute = lines[index..end].join(" ");
        let attribute = attribute.split(")]").next().unwrap_or_default();
        attribute.contains("reason =") || lines[index].contains(")] // ")
    };
    allows
        .filter(|(index, _)| !is_reasoned(*index))
        .map(|(index, _)| format!("{}: allow without a reason", index + 1))
        .collect()
}

/// The application's tables are declared with `table!`, and made by the revisions.
fn makes_a_table(text: &str) -> Vec<String> {
    let bad = ["create table", "alter table", "drop table"];
    let found = code(without_tests(text)).filter(|(_, line)| {
        let line = line.to_ascii_lowercase();
        bad.iter().any(|bad| line.contains(bad))
    });
    found.map(|(number, _)| format!("{number}: makes a table; a revision does")).collect()
}

fn names_a_machine(text: &str) -> Vec<String> {
    let places = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let found =
        text.lines().enumerate().filter(|(_, line)| places.iter().any(|p| line.contains(p)));
    found.map(|(index, line)| format!("{}: a machine's path: {}", index + 1, line.trim())).collect()
}

/// What is copied to make another resource must be read before.
fn is_long_for_a_resource(text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines > 250 { vec![format!("{lines} lines, more than 250: split it")] } else { vec![] }
}

/// The dependencies of a manifest that begin with one of these names.
fn forbidden_dependencies(manifest: &str, forbidden: &[&str]) -> Vec<String> {
    let manifest: Table = manifest.parse().unwrap();
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .iter()
        .filter_map(|kind| manifest.get(*kind)?.as_table())
        .flat_map(Table::keys)
        .filter(|name| forbidden.iter().any(|bad| name.starts_with(bad)))
        .cloned()
        .collect()
}

/// Names of the modules that a file declares in files of their own. One that is reached by a
/// `#[path]` belongs to another crate, which has to declare it too.
fn modules(text: &str) -> impl Iterator<Item = &str> {
    let mut is_elsewhere = false;
    code(text).filter_map(move |(_, line)| {
        let was_elsewhere = std::mem::replace(&mut is_elsewhere, line.starts_with("#[path = "));
        let declared = line.trim().strip_suffix(';')?;
        let (before, name) = declared.rsplit_once("mod ")?;
        (!was_elsewhere && (before.is_empty() || before.starts_with("pub"))).then_some(name)
    })
}

#[test]
fn the_rules_see_small_sins() {
    let long = "\n".repeat(251);
    let bad: [(Rule, &str); 16] = [
        (lacks_its_purpose, "use std::fs;\n"),
        (lacks_its_purpose, "// not a doc comment\n"),
        (is_unsafe, "fn f() { unsafe { g() } }"),
        (is_unsafe_without_premises, "// SAFETY: trust me\nlet x = unsafe { g() };"),
        (is_unsafe_without_premises, "// 1. It is so.\nf();\nlet x = unsafe { g() };"),
        (sleeps_or_skips, concat!("    thread::", "sleep(second);")),
        (sleeps_or_skips, concat!("#[", "ignore = \"slow\"]")),
        (listens, "let l = TcpListener::bind(address)?;"),
        (names_a_resource, "let count_of_users = 1;"),
        (names_a_resource, "route(\"/items\")"),
        (names_a_resource, "struct UserRow;"),
        (allows_without_reason, "#[allow(dead_code)]\nfn f() {}"),
        (allows_without_reason, "#![allow(\n    unused\n)]\nreason = 1"),
        (makes_a_table, "const SQL: &str = \"CREATE TABLE thing ()\";"),
        (names_a_machine, concat!("cd /ro", "ot/peace")),
        (is_long_for_a_resource, &long),
    ];
    for (index, (rule, text)) in bad.iter().enumerate() {
        assert_eq!(rule(text).len(), 1, "number {index} is not seen: {text}");
    }
    let manifest = "[dependencies]\nnix = \"1\"\ntokio-postgres = { version = \"1\" }\n";
    assert_eq!(forbidden_dependencies(manifest, &["tokio", "hyper"]), ["tokio-postgres"]);
    assert_eq!(
        modules("mod a;\n#[path = \"x.rs\"]\nmod e;\npub mod b;\nmod c { }\n// mod d;\n")
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
    let bodies = "fn short() {\n}\nfn long() {\n    one();\n    two();\n}\n";
    assert_eq!(functions(bodies), [("short".to_owned(), 2), ("long".to_owned(), 4)]);
}

#[test]
fn the_rules_let_pass_what_is_right() {
    let long = "\n".repeat(250);
    let good: [(Rule, &str); 10] = [
        (lacks_its_purpose, "#![allow(x)] // why\n//! What it is.\n"),
        (is_unsafe, "// unsafe is not needed here\n#![deny(unsafe_code)]"),
        (is_unsafe_without_premises, "// SAFETY:\n// 1. It is so.\nlet x = unsafe { g() };"),
        (sleeps_or_skips, "// never ignore a test\ntokio::time::sleep(pause).await"),
        (listens, "fn f() {}\n#[cfg(test)]\nmod tests { TcpListener::bind(a); }"),
        (names_a_resource, "impl Iterator<Item = u8> + tcp_user_timeout // users"),
        (makes_a_table, "also \"create index on thing (id)\"; // create table makes none"),
        (allows_without_reason, "#[allow(dead_code, reason = \"held\")]"),
        (allows_without_reason, "#![allow(unsafe_code)] // The fence."),
        (is_long_for_a_resource, &long),
    ];
    for (rule, text) in good {
        assert_eq!(rule(text), Vec::<String>::new(), "{text}");
    }
}

// The tree.

#[test]
fn every_file_says_what_it_is() {
    check(lacks_its_purpose, |_| true);
}

#[test]
fn unsafe_stays_inside_its_fence() {
    check(is_unsafe, |path| path != FENCE);
    check(is_unsafe_without_premises, |path| path == FENCE);
}

#[test]
fn no_test_sleeps_or_is_skipped() {
    check(sleeps_or_skips, |_| true);
}

#[test]
fn the_application_opens_no_socket() {
    check(listens, |path| path.starts_with("src/"));
}

#[test]
fn the_rooms_of_the_migrations_know_only_those_below() {
    let rooms = ["cli", "schema", "database", "files"];
    for (below, room) in rooms.iter().enumerate() {
        let is_inside = |path: &str| path.starts_with(&format!("migrations/src/{room}"));
        for file in files(&[".rs"]).iter().filter(|file| is_inside(&file.path)) {
            let above = rooms[..below].iter().map(|above| format!("crate::{above}::"));
            let known: Vec<String> = above.filter(|above| file.text.contains(above)).collect();
            assert!(known.is_empty(), "{} knows {known:?}", file.path);
        }
    }
}

#[test]
fn the_worker_knows_no_resource() {
    check(names_a_resource, |path| {
        path.starts_with("worker/src/") && !path.starts_with("worker/src/tests")
    });
}

#[test]
fn a_resource_fits_into_250_lines() {
    check(is_long_for_a_resource, |path| path.starts_with("src/resources/"));
}

#[test]
fn only_revisions_make_tables() {
    check(makes_a_table, |path| path.starts_with("src/") || path.starts_with("worker/src/"));
}

#[test]
fn exceptions_from_lints_have_reasons() {
    check(allows_without_reason, |_| true);
}

#[test]
fn dependencies_point_one_way() {
    let async_and_wire = ["hyper", "http", "tokio", "futures", "bb8", "postgres", "signal-hook"];
    let supervisor = [&async_and_wire[..], &["worker", "migrations", "peace", "tracing"]].concat();
    for (member, forbidden) in [
        ("supervisor", &supervisor[..]),
        (
            "worker",
            &["supervisor", "migrations", "peace", "clap", "toml", "jsonwebtoken", "argon2"],
        ),
        ("migrations", &["supervisor", "worker", "peace", "hyper", "bb8"]),
        ("tests/e2e", &["supervisor", "worker", "migrations", "peace", "tokio", "hyper"]),
    ] {
        let found = forbidden_dependencies(&read(&format!("{member}/Cargo.toml")), forbidden);
        assert!(found.is_empty(), "{member} must not know {found:?}");
    }
}

#[test]
fn every_source_file_is_compiled() {
    let mut reached = BTreeSet::new();
    let mut open: Vec<String> = MEMBERS.iter().flat_map(|member| crate_roots(member)).collect();
    let roots: BTreeSet<String> = open.iter().cloned().collect();
    while let Some(path) = open.pop() {
        let text = read(&path);
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", &path));
        let stem = file.trim_end_matches(".rs");
        let own = if roots.contains(&path) || stem == "mod" {
            folder.to_owned()
        } else {
            format!("{folder}/{stem}")
        };
        for module in modules(&text) {
            let candidates = [format!("{own}/{module}.rs"), format!("{own}/{module}/mod.rs")];
            let found = candidates.into_iter().find(|path| Path::new(ROOT).join(path).is_file());
            open.push(found.unwrap_or_else(|| panic!("{path} declares {module}, which is absent")));
        }
        reached.insert(path);
    }
    let all = files(&[".rs"]).into_iter().map(|file| file.path);
    let dead: Vec<String> = all.filter(|path| !reached.contains(path)).collect();
    assert!(dead.is_empty(), "no crate has these: {dead:?}");
}

/// The root files of a member's crates: library, programs, tests, build script.
fn crate_roots(member: &str) -> Vec<String> {
    let manifest: Table = read(&format!("{member}Cargo.toml")).parse().unwrap();
    let declared = ["bin", "test", "example", "bench"].into_iter();
    let declared = declared.filter_map(|kind| manifest.get(kind)?.as_array()).flatten();
    let declared = declared.filter_map(|target| Some(target.get("path")?.as_str()?.to_owned()));
    let usual = ["src/lib.rs", "src/main.rs", "build.rs"].map(str::to_owned);
    let discovers = manifest["package"].get("autotests").and_then(Value::as_bool).unwrap_or(true);
    let tests = fs::read_dir(Path::new(ROOT).join(member).join("tests")).into_iter().flatten();
    let tests = tests.map(|entry| format!("tests/{}", entry.unwrap().file_name().display()));
    let tests = tests.filter(|path| discovers && path.ends_with(".rs"));
    let paths = declared.chain(usual).chain(tests).map(|path| format!("{member}{path}"));
    let roots: BTreeSet<String> =
        paths.filter(|path| Path::new(ROOT).join(path).is_file()).collect();
    roots.into_iter().collect()
}

#[test]
fn no_file_names_a_machine() {
    let texts = [".rs", ".toml", ".md", ".sql", ".yml", ".yaml", ".lock", ".py", ".ini", ".txt"];
    let scripts = ["/up", "run", "/against", ".sh"];
    for file in files(&[&texts[..], &scripts].concat()) {
        let complaints = names_a_machine(&file.text);
        assert!(complaints.is_empty(), "{}: {complaints:?}", file.path);
    }
}

#[test]
fn every_package_comes_from_the_public_registry() {
    for lock in ["Cargo.lock", "tests/load/peers/Cargo.lock"] {
        let lock: Table = read(lock).parse().unwrap();
        for package in lock["package"].as_array().unwrap() {
            let source = package.get("source").map(|source| source.as_str().unwrap());
            let public = "registry+https://github.com/rust-lang/crates.io-index";
            assert!(source.is_none_or(|source| source == public), "{package:?}");
        }
    }
}

#[test]
fn readme_has_the_table_of_settings_as_the_program_writes_it() {
    let readme = read("README.md");
    let table = peace::settings::readme_table();
    let between = readme.split_once("<!-- settings").and_then(|(_, rest)| {
        let (_, rest) = rest.split_once("-->")?;
        Some(rest.split_once("<!-- /settings -->")?.0.trim())
    });
    assert_eq!(between, Some(table.trim()), "put this between README's marks:\n{table}");
}

/// Features unify over the workspace: one member is enough to give all of them threads or a signal
/// handler that does not survive a fork.
#[test]
fn no_member_turns_on_what_breaks_over_a_fork() {
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        // Without a platform it asks for packages of systems this one never downloads for.
        .arg(format!("--filter-platform={}-unknown-linux-gnu", std::env::consts::ARCH))
        .current_dir(ROOT)
        .output()
        .unwrap();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&cargo.stdout).unwrap();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let features = |package: &str| -> Vec<&str> {
        let is_it = |id: &str| id.contains(&format!("#{package}@"));
        let node = nodes.iter().find(|node| is_it(node["id"].as_str().unwrap()));
        let features = node.unwrap_or_else(|| panic!("no {package}"))["features"].as_array();
        features.unwrap().iter().map(|feature| feature.as_str().unwrap()).collect()
    };
    let of_tokio = features("tokio");
    assert!(of_tokio.contains(&"rt"), "the list is read: {of_tokio:?}");
    for bad in ["signal", "process", "rt-multi-thread", "full"] {
        assert!(!of_tokio.contains(&bad), "tokio has {bad}: {of_tokio:?}");
    }
    assert!(!features("uuid").contains(&"fast-rng"), "its generator is copied by a fork");
}

/// Every function of a file with the lines it takes.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some((before, after)) = code.split_once("fn ") else { continue };
        let is_declared = before.split(' ').all(|word| {
            word.is_empty() || word.starts_with("pub") || ["async", "const"].contains(&word)
        });
        let indent = &line[..line.len() - code.len()];
        let mut rest = lines[start..].iter();
        let head = rest.find(|line| line.ends_with('{') || line.ends_with(';'));
        let has_body = head.is_some_and(|line| line.ends_with('{'));
        let end = lines[start..].iter().position(|line| *line == format!("{indent}}}"));
        if let (true, Some(end)) = (is_declared && has_body, end) {
            found.push((tokens(after).next().unwrap_or_default().to_owned(), end + 1));
        }
    }
    found
}

/// Prints what to look at twice; fails only where nobody would look at all.
#[test]
fn functions_and_files_can_be_read_at_one_sitting() {
    let mut files = files(&[".rs"]);
    files.retain(|file| !file.path.contains("tests"));
    let mut longest = Vec::new();
    eprintln!("files of more than 300 lines, tests apart:");
    for File { path, text } in &files {
        let text = without_tests(text);
        let named = |(name, lines)| (lines, format!("{path} {name}"));
        longest.extend(functions(text).into_iter().map(named));
        let lines = text.lines().count();
        if lines > 300 {
            eprintln!("{lines:5} {path}");
        }
        assert!(lines <= 600, "{path} has {lines} lines: split it");
    }
    longest.sort_by(|a, b| b.cmp(a));
    eprintln!("the ten longest functions:");
    for (lines, name) in &longest[..10] {
        eprintln!("{lines:5} {name}");
    }
    assert!(longest[0].0 <= 60, "{:?} cannot be read at one sitting", longest[0]);
}
