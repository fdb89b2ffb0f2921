//! What the suites need on this machine: programs that are found or missing, packages that are installed by name.

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
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

/// A folder to write to during a run.
pub(crate) fn scratch_folder(name: &str) -> PathBuf {
    let folder = scratch(name);
    fs::create_dir_all(&folder).expect("the target folder can be written");
    folder
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

/// A Chromium of the system, by its full path, which its driver wants.
pub(crate) fn chromium() -> Result<PathBuf, Missing> {
    let folders: Vec<_> = env::var_os("PATH").iter().flat_map(env::split_paths).collect();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = names.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|path| path.exists()));
    found.ok_or(Missing { what: "chromium is missing".into(), remedy: "apt-get install chromium".into() })
}

/// Installs the packages of `<folder>/package.json`; gives the folder that holds `node_modules`.
pub(crate) fn node_modules(folder: &str) -> Result<PathBuf, Missing> {
    require("node", "--version", "nodejs")?;
    require("npm", "--version", "npm")?;
    let list = source(folder).join("package.json");
    once(folder, &[&list], |fresh| {
        copy(&list, fresh)?;
        // No scripts: they would fetch binaries that nothing here uses.
        let options =
            ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "--fetch-retries=1"];
        run(Command::new("npm").args(options).current_dir(fresh))
    })
}

/// Installs `<folder>/requirements.txt` into a virtual environment; gives its interpreter.
pub(crate) fn python(folder: &str) -> Result<PathBuf, Missing> {
    require("python3", "--version", "python3")?;
    let requirements = source(folder).join("requirements.txt");
    let environment = once(folder, &[&requirements], |fresh| {
        run(Command::new("python3").args(["-m", "venv"]).arg(fresh))
            .map_err(|problem| format!("{problem} (apt-get install python3-venv)"))?;
        let options = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1", "-r"];
        run(Command::new(fresh.join("bin/python")).args(options).arg(&requirements))
    })?;
    Ok(environment.join("bin/python"))
}

/// Resolves one release of the Java client and compiles the suite against it; gives the class path.
pub(crate) fn java(release: &str) -> Result<OsString, Missing> {
    require("javac", "-version", "default-jdk-headless")?;
    require("mvn", "-version", "maven")?;
    let folder = source("java");
    let pom = folder.join("pom.xml");
    let sources = [folder.join("Hub.java"), folder.join("Suite.java"), folder.join(release).join("Hubs.java")];
    let inputs: Vec<_> = sources.iter().chain([&pom]).map(PathBuf::as_path).collect();
    let class_path = |fresh: &Path| {
        let parts = [fresh.join("classes"), fresh.join("jars/*")];
        env::join_paths(parts).expect("a folder of the cache has no colon in its name")
    };
    let built = once(&format!("java-{release}"), &inputs, |fresh| {
        let goal = ["-q", "-B", "dependency:copy-dependencies"];
        let definitions =
            [format!("-Drelease={release}"), format!("-DoutputDirectory={}", fresh.join("jars").display())];
        run(Command::new("mvn").args(goal).args(definitions).arg("-f").arg(&pom))?;
        let options = ["-nowarn", "-encoding", "UTF-8", "-cp"];
        run(Command::new("javac")
            .args(options)
            .arg(class_path(fresh))
            .arg("-d")
            .arg(fresh.join("classes"))
            .args(&sources))
    })?;
    Ok(class_path(&built))
}

/// Builds the Go suite; gives the program.
pub(crate) fn go() -> Result<PathBuf, Missing> {
    require("go", "version", "golang-go")?;
    let sources = [source("go/go.mod"), source("go/main.go")];
    let built = once("go", &[&sources[0], &sources[1]], |fresh| {
        sources.iter().try_for_each(|file| copy(file, fresh))?;
        // The checksums are written beside the copy.
        run(Command::new("go").args(["build", "-mod=mod", "-o", "suite", "."]).current_dir(fresh))
    })?;
    Ok(built.join("suite"))
}

/// Builds the suite on the Rust client; gives the program.
pub(crate) fn rust_client() -> Result<PathBuf, Missing> {
    // Its TLS is OpenSSL's.
    require("pkg-config", "--version", "pkg-config")?;
    run(Command::new("pkg-config").args(["--exists", "openssl"])).map_err(|_| Missing {
        what: "OpenSSL's headers are missing".into(),
        remedy: "apt-get install libssl-dev".into(),
    })?;
    let sources = [source("rust-client/Cargo.toml"), source("rust-client/src/main.rs")];
    let built = once("rust-client", &[&sources[0], &sources[1]], |fresh| {
        fs::create_dir_all(fresh.join("src")).map_err(|error| error.to_string())?;
        copy(&sources[0], fresh)?;
        copy(&sources[1], &fresh.join("src"))?;
        let target = fresh.join("target");
        // A target folder of its own: the outer cargo holds the lock of the usual one.
        run(Command::new(env!("CARGO")).args(["build", "--quiet", "--target-dir"]).arg(target).current_dir(fresh))
    })?;
    Ok(built.join("target/debug/hubwire-interop-rust-client"))
}

/// Fails by name unless the program answers.
pub(crate) fn require(program: &str, version: &str, package: &str) -> Result<(), Missing> {
    match Command::new(program).arg(version).output() {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err(Missing { what: format!("{program} is missing"), remedy: format!("apt-get install {package}") }),
    }
}

/// Fills a folder of the cache once for all tests and runs, anew when one of the files `inputs` has changed.
///
/// The folder is filled in place, since a virtual environment cannot be moved; a stamp that holds the inputs marks it as whole.
fn once(name: &str, inputs: &[&Path], fill: impl FnOnce(&Path) -> Result<(), String>) -> Result<PathBuf, Missing> {
    type Outcome = Arc<OnceLock<Result<PathBuf, Missing>>>;
    static FOLDERS: OnceLock<Mutex<HashMap<String, Outcome>>> = OnceLock::new();
    let folders = FOLDERS.get_or_init(Mutex::default);
    let outcome = folders.lock().expect("nothing panics under this lock").entry(name.to_owned()).or_default().clone();
    outcome.get_or_init(|| filled(&cache().join(name), inputs, fill)).clone()
}

fn filled(folder: &Path, inputs: &[&Path], fill: impl FnOnce(&Path) -> Result<(), String>) -> Result<PathBuf, Missing> {
    let stamp = folder.join("installed-from");
    let wanted: String = inputs.iter().map(|input| fs::read_to_string(input).expect("a source of this test")).collect();
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(folder.to_owned());
    }
    let _ = fs::remove_dir_all(folder); // Absent on the first run.
    fs::create_dir_all(folder).expect("the cache can be written");
    fill(folder).map_err(|problem| Missing {
        what: format!("it cannot be installed or built: {problem}"),
        remedy: "the first run needs its package registry".into(),
    })?;
    fs::write(stamp, wanted).expect("the cache can be written");
    Ok(folder.to_owned())
}

fn copy(file: &Path, folder: &Path) -> Result<(), String> {
    let name = file.file_name().expect("a source has a name");
    fs::copy(file, folder.join(name)).map(|_| ()).map_err(|error| format!("{}: {error}", file.display()))
}

/// Runs a command to its end; the error holds the end of what it said.
fn run(command: &mut Command) -> Result<(), String> {
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
