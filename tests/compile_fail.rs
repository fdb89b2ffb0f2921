//! What must not compile, and what is said about it: the error texts are part of the API. Each file of `compile_fail/` names at its top what
//! the compiler has to say; what else it says is its own affair, and differs from release to release.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn wrong_functions_are_refused_in_our_words() {
    let files =
        fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_fail")).expect("the cases are there");
    let mut count = 0;
    for file in files.map(|file| file.expect("a folder can be read").path()) {
        check(&file);
        count += 1;
    }
    assert!(count > 5, "only {count} cases were found");
}

fn check(file: &Path) {
    let source = fs::read_to_string(file).expect("a case can be read");
    let expected: Vec<&str> = source.lines().filter_map(|line| line.strip_prefix("//~ ")).collect();
    assert!(!expected.is_empty(), "{} expects nothing", file.display());
    // Several builds of one library may lie beside this test; one of them fits the build of ours.
    let outputs: Vec<String> = libraries("serde").iter().map(|serde| compile(file, serde)).collect();
    let is_right = |output: &String| expected.iter().all(|text| output.contains(text));
    assert!(
        outputs.iter().any(is_right),
        "{}: the compiler says something else:\n{}",
        file.display(),
        outputs.join("\n---\n")
    );
}

/// What the compiler says about a case, in one line a message however wide it is.
fn compile(file: &Path, serde: &Path) -> String {
    let hubwire =
        libraries("hubwire").into_iter().max_by_key(|path| fs::metadata(path).and_then(|m| m.modified()).ok());
    let hubwire = hubwire.expect("this test was linked with the library");
    let compiler = env::var_os("RUSTC").map_or_else(|| Path::new(env!("CARGO")).with_file_name("rustc"), PathBuf::from);
    let output = Command::new(compiler)
        .args(["--edition", "2024", "--crate-type", "bin", "--emit", "metadata", "--color", "never", "--out-dir"])
        .arg(env!("CARGO_TARGET_TMPDIR"))
        .arg("-L")
        .arg(format!("dependency={}", dependencies().display()))
        .arg("--extern")
        .arg(format!("hubwire={}", hubwire.display()))
        .arg("--extern")
        .arg(format!("serde={}", serde.display()))
        .arg(file)
        .output()
        .expect("the compiler that cargo uses can be run");
    assert!(!output.status.success(), "{} compiles", file.display());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn libraries(name: &str) -> Vec<PathBuf> {
    let prefix = format!("lib{name}-");
    let is_wanted = |path: &PathBuf| {
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        file.starts_with(&prefix) && file.ends_with(".rlib")
    };
    let files = fs::read_dir(dependencies()).expect("this test lies beside its libraries");
    files.filter_map(|file| Some(file.ok()?.path())).filter(is_wanted).collect()
}

fn dependencies() -> PathBuf {
    let test = env::current_exe().expect("a process knows its program");
    test.parent().expect("a program lies in a folder").to_owned()
}
