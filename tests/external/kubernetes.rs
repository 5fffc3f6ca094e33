//! deploy/kubernetes, as far as one can look at it without a cluster.
//!
//! Each field against the schemas of Kubernetes' own API, which the Python of `PEACE_TEST_PYTHON` has; each setting
//! against the program; the sums; and README's commands against the files that they name.

use std::fs;
use std::path::{Path, PathBuf};

use peace::programs::Need;
use serde_json::{Value, json};

use crate::harness::folder::Folder;
use crate::harness::{Launch, Turn};
use crate::openapi::{told, tool};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// As PostgreSQL has them unless told otherwise.
const RESERVED: usize = 3;
const MAX_CONNECTIONS: usize = 100;
/// From the end of a drain to the end of the process.
const LEAVING_S: u64 = 2;
const TO_JSON: &str = "import json, sys, yaml\n\
    print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1], encoding='utf-8')))))";

fn files() -> Vec<PathBuf> {
    let folder = Path::new(ROOT).join("deploy/kubernetes");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The documents of a file.
fn documents(name: &str) -> Vec<Value> {
    let folder = Folder::new();
    let path = Path::new(ROOT).join("deploy/kubernetes").join(name);
    let output = tool("python", &folder).args(["-c", TO_JSON]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    documents.iter().find(|one| one["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

fn container(workload: &Value) -> &Value {
    let containers = workload["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    &containers[0]
}

/// The variables of a container.
fn variables(workload: &Value) -> Vec<(String, String)> {
    let all = container(workload)["env"].as_array().unwrap();
    let text = |value: &Value| value.as_str().expect("a text, in quotes where need be").to_owned();
    all.iter().map(|one| (text(&one["name"]), text(&one["value"]))).collect()
}

fn variable(workload: &Value, name: &str) -> String {
    let all = variables(workload);
    let found = all.into_iter().find(|(one, _)| one == name);
    found.unwrap_or_else(|| panic!("no {name}")).1
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

fn seconds(text: &str) -> u64 {
    text.strip_suffix('s').and_then(|text| text.parse().ok()).expect("whole seconds")
}

#[test]
fn each_field_is_the_apis_and_a_misspelt_one_is_seen() {
    let folder = Folder::new();
    let script = Path::new(ROOT).join("tests/external/kubernetes/validate.py");
    let output = tool("python", &folder).arg(script).args(files()).output().unwrap();
    eprintln!("{}", told(&output));
    assert!(output.status.success());
    assert!(told(&output).starts_with("8 documents"), "all of them were looked at");
}

#[test]
fn a_stop_fits_into_the_time_that_kubernetes_gives() {
    let documents = documents("peace.yaml");
    let deployment = of_kind(&documents, "Deployment");
    let given = number(&deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]);
    let delay = seconds(&variable(deployment, "PEACE_SHUTDOWN_DELAY"));
    let graceful = seconds(&variable(deployment, "PEACE_GRACEFUL_TIMEOUT"));
    assert!(given > delay + graceful + LEAVING_S, "{given} s, {delay} s and {graceful} s");
    let container = container(deployment);
    // By then the endpoints have forgotten it, even if nobody had told them.
    let readiness = &container["readinessProbe"];
    let noticed = number(&readiness["periodSeconds"]) * number(&readiness["failureThreshold"]);
    assert!(delay > noticed + number(&readiness["timeoutSeconds"]), "{delay} s, {noticed} s");
    for (probe, path, port) in [
        ("startupProbe", "live", "http"),
        ("livenessProbe", "live", "admin"),
        ("readinessProbe", "ready", "http"),
    ] {
        assert_eq!(container[probe]["httpGet"]["path"], format!("/health/{path}"), "{probe}");
        assert_eq!(container[probe]["httpGet"]["port"], port, "{probe}");
    }
    for (place, name, setting) in [(0, "http", "PEACE_BIND"), (1, "admin", "PEACE_ADMIN_BIND")] {
        let port = &container["ports"][place];
        assert_eq!(port["name"], name);
        assert_eq!(format!("0.0.0.0:{}", port["containerPort"]), variable(deployment, setting));
    }
}

/// Whoever may reach the API may not reach the metrics.
#[test]
fn the_admin_port_is_for_those_who_monitor() {
    let documents = documents("peace.yaml");
    let policy = &of_kind(&documents, "NetworkPolicy")["spec"];
    let labels = &of_kind(&documents, "Deployment")["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&policy["podSelector"]["matchLabels"], labels);
    let rules = policy["ingress"].as_array().unwrap();
    let of = |name: &str| {
        let is_one =
            |rule: &&Value| rule["ports"].as_array().unwrap()[..] == [json!({"port": name})];
        rules.iter().find(is_one).unwrap_or_else(|| panic!("no rule of {name} alone"))
    };
    assert_eq!(rules.len(), 2);
    assert!(of("http")["from"].is_null(), "anybody");
    assert_eq!(of("admin")["from"].as_array().map(Vec::len), Some(1), "somebody");
}

#[test]
fn pods_are_added_before_they_are_full() {
    let documents = documents("peace.yaml");
    let resources = &container(of_kind(&documents, "Deployment"))["resources"];
    let cpus = |of: &str| resources[of]["cpu"].as_str().unwrap().parse::<u64>().unwrap();
    let metric = &of_kind(&documents, "HorizontalPodAutoscaler")["spec"]["metrics"][0]["resource"];
    let percent = number(&metric["target"]["averageUtilization"]) * cpus("requests");
    // Of what a pod may use.
    assert_eq!(percent / cpus("limits"), 70);
}

#[test]
fn as_many_pods_as_there_may_be_fit_into_max_connections() {
    let documents = documents("peace.yaml");
    let deployment = of_kind(&documents, "Deployment");
    let whole = |name: &str| variable(deployment, name).parse::<usize>().unwrap();
    let need = Need {
        workers: whole("PEACE_WORKERS"),
        pool_size: whole("PEACE_POOL_SIZE"),
        transaction_pooler: false,
    };
    let rolling = &deployment["spec"]["strategy"]["rollingUpdate"];
    assert_eq!(rolling["maxUnavailable"], 0);
    let scaler = of_kind(&documents, "HorizontalPodAutoscaler");
    // One more leaves still when the next one starts, but no two: it is gone by then.
    let grace = number(&deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]);
    assert!(number(&deployment["spec"]["minReadySeconds"]) >= grace, "{grace} s");
    let pods = number(&scaler["spec"]["maxReplicas"]) + number(&rolling["maxSurge"]) + 1;
    let all = usize::try_from(pods).unwrap() * need.connections();
    let left = MAX_CONNECTIONS - RESERVED - all;
    eprintln!("{pods} pods of {} connections: {all}, {left} left", need.connections());
    let scaling = fs::read_to_string(Path::new(ROOT).join("deploy/SCALING.md")).unwrap();
    let sum = format!("needs {pods} × {} = {all} of", need.connections());
    assert!(scaling.contains(&sum), "SCALING.md says otherwise than {sum}");
    assert!(left >= 5, "peace-migrate, backups and people");
    // A worker for each processor, and the same pods everywhere.
    assert_eq!(container(deployment)["resources"]["limits"]["cpu"], need.workers.to_string());
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    for selector in [
        &deployment["spec"]["selector"]["matchLabels"],
        &of_kind(&documents, "Service")["spec"]["selector"],
        &of_kind(&documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ] {
        assert_eq!(selector, labels);
    }
    assert_eq!(scaler["spec"]["scaleTargetRef"]["name"], deployment["metadata"]["name"]);
}

#[test]
fn the_program_takes_each_setting_and_the_secrets_are_where_it_looks() {
    let turn = Turn::shared();
    let secrets = documents("secret.example.yaml");
    for (file, kind) in [("peace.yaml", "Deployment"), ("migrate.yaml", "Job")] {
        let documents = documents(file);
        let workload = of_kind(&documents, kind);
        let pod = &workload["spec"]["template"]["spec"];
        let mounted = container(workload)["volumeMounts"][0]["mountPath"].as_str().unwrap();
        let secret = &pod["volumes"][0]["secret"];
        assert_eq!(secret["defaultMode"], 0o440, "not for others, whom the program refuses");
        assert_eq!(pod["securityContext"]["fsGroup"], pod["securityContext"]["runAsGroup"]);
        let held = secrets.iter().find(|one| one["metadata"]["name"] == secret["secretName"]);
        let held = held.expect("the example has it")["stringData"].as_object().unwrap();
        let (mut launch, table) = (Launch::bare(&turn), peace::settings::readme_table());
        for (name, value) in variables(workload) {
            let known = name.strip_suffix("_FILE").unwrap_or(&name);
            assert!(table.contains(&format!("`{known}`")), "{file}: nobody reads {name}");
            let value = match value.strip_prefix(&format!("{mounted}/")) {
                // As the Secret would hold it.
                Some(key) => {
                    assert!(held.contains_key(key), "{file}: no {key}");
                    let is_url = key.ends_with("url");
                    let url = "postgres://peace:x9Fh2mQ7@db.example.org/peace";
                    let key_bytes = "q8Zr1vLw5TnYb3Kd7Xc0Mf4Hj6Ps2Ga9Eu";
                    let content = if is_url { url } else { key_bytes };
                    launch.folder().write_private(key, content).display().to_string()
                }
                None => value,
            };
            launch = launch.env(&name, &value);
        }
        if kind == "Deployment" {
            let output = launch.args(["config", "check"]).output();
            assert!(output.status.success(), "{}", told(&output));
        }
    }
}

/// Nobody is root, nobody writes, and what runs is what the Dockerfile makes.
#[test]
fn pods_are_locked_up_and_run_the_dockerfiles_targets() {
    let dockerfile = fs::read_to_string(Path::new(ROOT).join("deploy/Dockerfile"));
    let dockerfile = dockerfile.expect("deploy/Dockerfile");
    let targets: Vec<&str> = dockerfile
        .lines()
        .filter(|line| line.starts_with("FROM "))
        .filter_map(|line| Some(line.rsplit_once(" AS ")?.1.trim()))
        .collect();
    for (file, kind) in [("peace.yaml", "Deployment"), ("migrate.yaml", "Job")] {
        let documents = documents(file);
        let workload = of_kind(&documents, kind);
        let (pod, container) = (&workload["spec"]["template"]["spec"], container(workload));
        let user = number(&pod["securityContext"]["runAsUser"]);
        assert!(dockerfile.contains(&format!("USER {user}:{user}")), "the image's user is {user}");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{file}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{file}");
        assert_eq!(pod["automountServiceAccountToken"], false, "{file}");
        let security = &container["securityContext"];
        assert_eq!(security["readOnlyRootFilesystem"], true, "{file}");
        assert_eq!(security["allowPrivilegeEscalation"], false, "{file}");
        assert_eq!(security["capabilities"]["drop"][0], "ALL", "{file}");
        let image = container["image"].as_str().unwrap();
        let version = format!(":{}", env!("CARGO_PKG_VERSION"));
        let name = image.strip_suffix(&version).expect("this release's image");
        let target = name.strip_prefix(concat!(env!("CARGO_PKG_NAME"), "-")).expect("our name");
        assert!(targets.contains(&target), "{image}: the Dockerfile has {targets:?}");
    }
}

/// README's commands name what there is; kubectl is not here to run them.
#[test]
fn the_commands_of_readme_name_what_is_there() {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let commands: Vec<&str> =
        readme.lines().filter_map(|line| line.strip_prefix("$ kubectl ")).collect();
    assert_eq!(commands.len(), 6, "{commands:?}");
    let (secrets, job, deployment) =
        (documents("secret.example.yaml"), documents("migrate.yaml"), documents("peace.yaml"));
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        match &words[..] {
            ["create", "secret", "generic", name, keys @ ..] => {
                let secret = secrets.iter().find(|one| one["metadata"]["name"] == *name);
                let held = secret.expect(name)["stringData"].as_object().unwrap();
                let keys: Vec<&str> =
                    keys.iter().map(|key| key.strip_prefix("--from-file=").unwrap()).collect();
                assert_eq!(held.keys().collect::<Vec<_>>(), keys, "{name}");
            }
            ["apply", "-f", file] => assert!(Path::new(ROOT).join(file).is_file(), "{file}"),
            ["wait", .., timeout, target] => {
                let name = job[0]["metadata"]["name"].as_str().unwrap();
                assert_eq!(*target, format!("job/{name}"));
                // Longer than the Job may take, so that it is not given up before.
                let minutes =
                    timeout.strip_prefix("--timeout=").and_then(|it| it.strip_suffix('m'));
                let minutes: u64 = minutes.expect("whole minutes").parse().unwrap();
                assert!(minutes * 60 > number(&job[0]["spec"]["activeDeadlineSeconds"]));
            }
            ["rollout", "status", target] => {
                let name = &of_kind(&deployment, "Deployment")["metadata"]["name"];
                assert_eq!(*target, format!("deployment/{}", name.as_str().unwrap()));
            }
            _ => panic!("unknown: {command}"),
        }
    }
}
