//! What the suites need on this machine: programs that are found or missing, packages that are installed by name.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

/// Why a suite cannot run here, and what would help.
#[derive(Clone)]
pub(crate) struct Missing {
    pub(crate) what: String,
    pub(crate) remedy: String,
}

/// A file or folder of this test's sources.
pub(crate) fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(path)
}

/// A file or folder to write to during a run.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop");
    fs::create_dir_all(&folder).expect("the target folder can be written");
    folder.join(name)
}

/// The script that starts the .NET programs.
pub(crate) fn dotnet() -> Result<PathBuf, Missing> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/dotnet/run");
    let script = env::var_os("HUBWIRE_DOTNET").map_or(beside, PathBuf::from);
    if !script.exists() {
        let what = format!("there is no {}", script.display());
        return Err(Missing { what, remedy: "HUBWIRE_DOTNET names the script that starts the .NET programs".into() });
    }
    require("xz", "--version", "xz-utils")?;
    Ok(script)
}

/// Installs the packages of `<folder>/package.json`; gives the folder that holds `node_modules`.
pub(crate) fn node_modules(folder: &str) -> Result<PathBuf, Missing> {
    require("node", "--version", "nodejs")?;
    require("npm", "--version", "npm")?;
    once(folder, &["package.json"], |fresh| {
        fs::copy(source(folder).join("package.json"), fresh.join("package.json")).map_err(|error| error.to_string())?;
        // No scripts: they would fetch binaries that nothing here uses.
        run(Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"])
            .current_dir(fresh))
    })
}

/// Installs `<folder>/requirements.txt` into a virtual environment; gives its interpreter.
pub(crate) fn python(folder: &str) -> Result<PathBuf, Missing> {
    require("python3", "--version", "python3")?;
    let environment = once(folder, &["requirements.txt"], |fresh| {
        run(Command::new("python3").args(["-m", "venv"]).arg(fresh))?;
        let requirements = source(folder).join("requirements.txt");
        run(Command::new(fresh.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(requirements))
    })?;
    Ok(environment.join("bin/python"))
}

/// Fails by name unless the program answers.
pub(crate) fn require(program: &str, version: &str, package: &str) -> Result<(), Missing> {
    match Command::new(program).arg(version).output() {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err(Missing { what: format!("{program} is missing"), remedy: format!("apt-get install {package}") }),
    }
}

/// Fills a folder of the cache once for all tests and runs, anew when one of `inputs` has changed.
///
/// The folder is filled in place, since a virtual environment cannot be moved; a stamp that holds the inputs marks it as whole.
pub(crate) fn once(
    name: &str,
    inputs: &[&str],
    fill: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<PathBuf, Missing> {
    type Outcome = Arc<OnceLock<Result<PathBuf, Missing>>>;
    static FOLDERS: OnceLock<Mutex<HashMap<String, Outcome>>> = OnceLock::new();
    let folders = FOLDERS.get_or_init(Mutex::default);
    let outcome = folders.lock().expect("nothing panics under this lock").entry(name.to_owned()).or_default().clone();
    outcome.get_or_init(|| filled(name, inputs, fill)).clone()
}

fn filled(name: &str, inputs: &[&str], fill: impl FnOnce(&Path) -> Result<(), String>) -> Result<PathBuf, Missing> {
    let folder = cache().join(name);
    let stamp = folder.join("installed-from");
    let wanted: String = inputs
        .iter()
        .map(|input| fs::read_to_string(source(name).join(input)).expect("a source of this test"))
        .collect();
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(folder);
    }
    let _ = fs::remove_dir_all(&folder); // Absent on the first run.
    fs::create_dir_all(&folder).expect("the cache can be written");
    fill(&folder).map_err(|problem| Missing {
        what: format!("its packages cannot be installed: {problem}"),
        remedy: "the first run needs the package registry".into(),
    })?;
    fs::write(stamp, wanted).expect("the cache can be written");
    Ok(folder)
}

/// Runs a command to its end; the error holds the end of what it said.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let lines: Vec<_> = said.lines().collect();
    Err(format!("{command:?}: {}", lines[lines.len().saturating_sub(20)..].join("\n")))
}

fn cache() -> PathBuf {
    let beside = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("interop-cache");
    env::var_os("HUBWIRE_INTEROP_CACHE").map_or(beside, PathBuf::from)
}
