//! Where settings come from: environment, systemd credentials, `.env`, the settings file.
//!
//! `load` calls [`gather`] with what the flags say. It reads files and changes nothing, so it can
//! be asked again at a reload. The first source that gives a setting decides, in the order flag,
//! environment, credential, `.env`, file; what a later one says about it is not even checked.
//! It knows no value: texts only. Source: systemd.exec(5), "Credentials" and
//! "RuntimeDirectory".

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::dotenv;
use super::file::{self, FileText};
use super::found::{Found, Layer, Origin};
use super::nearest::nearest;
use super::problem::Problem;
use super::setting::Setting;
use super::table::{PORT, SETTINGS, setting};
use super::value::Wrong;

/// What the process was started with, apart from its arguments.
#[derive(Debug, Clone)]
pub struct Sources {
    environment: BTreeMap<String, OsString>,
    folder: PathBuf,
}

/// All that the sources say.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) found: Layer,
    /// The folder that systemd made for the service's sockets.
    pub(super) runtime_folder: Option<PathBuf>,
    /// What is wrong with a source as a whole.
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl Sources {
    /// The environment of this process, and its current folder.
    pub fn of_process() -> Self {
        let utf8 = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value));
        Self::new(env::vars_os().filter_map(utf8), PathBuf::new())
    }

    /// This environment; `.env` and relative paths are looked up in `folder`.
    pub fn new(
        environment: impl IntoIterator<Item = (String, OsString)>,
        folder: impl Into<PathBuf>,
    ) -> Self {
        Self { environment: environment.into_iter().collect(), folder: folder.into() }
    }
}

/// Asks every source.
///
/// **Blocks** on the disk only.
pub(super) fn gather(flags: Layer, sources: &Sources) -> Gathered {
    let runtime_folder = runtime_folder(sources);
    let mut gathered = Gathered { found: flags, runtime_folder, ..Gathered::default() };
    gathered.add_environment(sources);
    gathered.add_credentials(sources);
    gathered.add_dot_env(sources);
    gathered.add_config_file(sources);
    gathered
}

impl Gathered {
    /// Takes over what no earlier source has said.
    fn add(&mut self, layer: Layer) {
        for (name, found) in layer {
            self.found.entry(name).or_insert(found);
        }
    }

    fn add_environment(&mut self, sources: &Sources) {
        let reader = Variables { values: &sources.environment, sources, file_mode: None };
        self.add(reader.layer(Origin::Environment));
        self.warnings.extend(reader.unknown(Origin::Environment));
    }

    fn add_credentials(&mut self, sources: &Sources) {
        let Some(folder) = sources.environment.get("CREDENTIALS_DIRECTORY") else { return };
        let folder = sources.folder.join(folder);
        let secrets = SETTINGS.iter().filter(|setting| setting.secret);
        let read = |setting: &Setting| {
            let origin = Origin::Credential(setting.name.to_owned());
            match file::read(&folder.join(setting.name)) {
                Ok(None) => None,
                Ok(Some(file)) => Some((setting.name, secret_in(&file, origin))),
                Err(wrong) => Some((setting.name, Err(Problem::new(origin.subject(), &wrong)))),
            }
        };
        self.add(secrets.filter_map(read).collect());
    }

    fn add_dot_env(&mut self, sources: &Sources) {
        let file = match file::read(&sources.folder.join(".env")) {
            Ok(None) => return,
            Ok(Some(file)) => file,
            Err(wrong) => return self.problems.push(Problem::new(".env", &wrong)),
        };
        match dotenv::parse(&file.text) {
            Ok(values) => {
                let values = values.into_iter().map(|(name, text)| (name, text.into())).collect();
                let reader = Variables { values: &values, sources, file_mode: Some(file.mode) };
                self.add(reader.layer(Origin::DotEnv));
                self.warnings.extend(reader.unknown(Origin::DotEnv));
            }
            Err(bad) => self.problems.extend(
                bad.iter()
                    .map(|bad| Problem::new(format!(".env, line {}", bad.number), &bad.wrong)),
            ),
        }
    }

    fn add_config_file(&mut self, sources: &Sources) {
        let Some(Ok(config)) = self.found.get("config") else { return };
        let path = config.text().to_owned();
        let missing = || Wrong::new("no such file", "name the file, or leave it out");
        let file = file::read(&sources.folder.join(&path));
        match file.and_then(|file| file.ok_or_else(missing)).map(|file| file::parse(&path, &file)) {
            Ok(Ok(layer)) => self.add(layer),
            Ok(Err(problems)) => self.problems.extend(problems),
            Err(wrong) => self.problems.push(config.problem(setting("config"), &wrong)),
        }
    }
}

/// Variables by name, of the process or of `.env`.
struct Variables<'a> {
    values: &'a BTreeMap<String, OsString>,
    sources: &'a Sources,
    /// Permission bits of the file that holds them, if a file does.
    file_mode: Option<u32>,
}

impl Variables<'_> {
    fn layer(&self, origin: fn(String) -> Origin) -> Layer {
        let read = |setting: &'static Setting| {
            let mut given = setting.variables.iter().filter_map(|name| {
                if setting.secret { self.secret(name, origin) } else { self.plain(name, origin) }
            });
            given.next().map(|found| (setting.name, found))
        };
        SETTINGS.iter().filter_map(read).collect()
    }

    /// An empty variable is one that is not set: compose files cannot leave one out.
    fn value(&self, name: &str) -> Option<&OsString> {
        self.values.get(name).filter(|value| !value.is_empty())
    }

    fn plain(&self, name: &str, origin: fn(String) -> Origin) -> Option<Result<Found, Problem>> {
        let value = self.value(name)?;
        let origin = origin(name.to_owned());
        Some(match value.to_str() {
            Some(text) => {
                Ok(Found { file_mode: self.file_mode, ..Found::new(text.to_owned(), origin) })
            }
            None => {
                Err(Problem::new(origin.subject(), &Wrong::new("not UTF-8", "write it as text")))
            }
        })
    }

    /// The variable itself, or the file that `<name>_FILE` names. The path stays out of messages:
    /// people have put the secret there.
    fn secret(&self, name: &str, origin: fn(String) -> Origin) -> Option<Result<Found, Problem>> {
        let file_name = format!("{name}_FILE");
        let Some(path) = self.value(&file_name) else { return self.plain(name, origin) };
        let origin = origin(file_name);
        if self.value(name).is_some() {
            let wrong = Wrong::new(format!("{name} is given as well"), "remove one of the two");
            return Some(Err(Problem::new(origin.subject(), &wrong)));
        }
        let missing = || Wrong::new("names no file that exists", "give the path of a file");
        let path = self.sources.folder.join(path);
        let file = file::read(&path);
        Some(match file.and_then(|file| file.ok_or_else(missing)) {
            Ok(file) => secret_in(&file, origin).map(|found| match is_of_a_container(&path) {
                true => Found { file_mode: found.file_mode.map(|mode| mode & !0o004), ..found },
                false => found,
            }),
            Err(wrong) => Err(Problem::new(origin.subject(), &wrong)),
        })
    }

    /// Warns of names that look like ours and mean nothing.
    fn unknown(&self, origin: fn(String) -> Origin) -> Vec<Problem> {
        let unknown = self.values.iter().filter(|(name, value)| {
            name.starts_with("PEACE_") && !is_known(name) && !is_foreign(name, value)
        });
        let warn = |name: &String| {
            let variables = SETTINGS.iter().flat_map(|setting| setting.variables);
            let mend = match nearest(name, variables.copied()) {
                _ if name == "PEACE_PORT" => format!("did you mean {PORT}?"),
                Some(near) => format!("did you mean {near}?"),
                None => "remove it".to_owned(),
            };
            let subject = origin(name.clone()).subject();
            Problem::new(subject, &Wrong::new("no such setting, so it is ignored", mend))
        };
        unknown.map(|(name, _)| warn(name)).collect()
    }
}

fn is_known(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.variables.contains(&name))
}

/// Set by others: Kubernetes describes a Service called `peace` in `PEACE_SERVICE_…` and
/// `PEACE_PORT…`, and `peace-migrate` has a variable of its own.
fn is_foreign(name: &str, value: &OsString) -> bool {
    let is_url = value.to_str().is_some_and(|value| value.contains("://"));
    let prefixes = ["PEACE_SERVICE_", "PEACE_PORT_"];
    let is_prefixed = prefixes.iter().any(|prefix| name.starts_with(prefix));
    is_prefixed || name == "PEACE_SCRATCH_URL" || (name == "PEACE_PORT" && is_url)
}

/// The first folder in `RUNTIME_DIRECTORY`, which is a list when a service has several.
fn runtime_folder(sources: &Sources) -> Option<PathBuf> {
    let folders = sources.environment.get("RUNTIME_DIRECTORY")?;
    env::split_paths(folders).find(|folder| !folder.as_os_str().is_empty())
}

/// Whether a container engine has put the file there, for this container alone: Swarm with mode 0444, Compose
/// with the mode that it has outside, so that mode says nothing about who may read it. It does say who may write.
fn is_of_a_container(path: &Path) -> bool {
    let is_plain = |part: Component<'_>| part != Component::ParentDir;
    path.starts_with("/run/secrets") && path.components().all(is_plain)
}

/// The secret that a file holds: its text without the line end that editors add.
fn secret_in(file: &FileText, origin: Origin) -> Result<Found, Problem> {
    let text = file.text.trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() {
        let wrong = Wrong::new("an empty file", "write the secret into it");
        return Err(Problem::new(origin.subject(), &wrong));
    }
    Ok(Found { file_mode: Some(file.mode), ..Found::new(text.to_owned(), origin) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_engine_may_have_any_mode() {
        for (path, is_one) in [
            ("/run/secrets/key", true),
            ("/run/secrets/app/key", true),
            ("/run/secrets/../key", false),
            ("/run/secrets-of-all/key", false),
            ("/srv/run/secrets/key", false),
        ] {
            assert_eq!(is_of_a_container(Path::new(path)), is_one, "{path}");
        }
    }
}
