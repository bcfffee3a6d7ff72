//! `tidy`: rules that no other tool checks. Each message names the file, the line and the rule.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// Lines of a Rust file beyond which nobody reads it as a whole.
const MAX_LINES: usize = 600;

/// Text that must not be in a file whose path ends so. Written in halves, or this file would be
/// the first offender.
const BANNED: [(&str, &str, &str); 4] = [
    ("", concat!("/wo", "rk/"), "a path of somebody's machine"),
    (".rs", concat!("todo", "!("), "unfinished work"),
    (".rs", concat!("dbg", "!("), "a debugging aid"),
    (".rs", concat!("#[ig", "nore"), "a test that does not run"),
];

/// Locks that make two builds the same.
const LOCKS: [&str; 3] = [
    "Cargo.lock",
    "agent-ebpf/Cargo.lock",
    "agent/fuzz/Cargo.lock",
];

pub fn command() -> Result<()> {
    let files = files()?;
    let mut faults = Vec::new();
    for lock in LOCKS {
        if !files.iter().any(|file| file == lock) {
            faults.push(format!("{lock}: must be committed"));
        }
    }
    for file in &files {
        // A file that is deleted but not yet committed as such is listed and absent.
        let Ok(bytes) = fs::read(shell::root().join(file)) else {
            continue;
        };
        // What is not text (recordings, certificates in DER) has no rules here.
        if let Ok(text) = String::from_utf8(bytes) {
            check(file, &text, &mut faults);
        }
    }
    if !faults.is_empty() {
        bail!("untidy:\n  {}", faults.join("\n  "));
    }
    eprintln!("tidy: {} files", files.len());
    Ok(())
}

/// Files that are committed, or could be: all but the ignored.
fn files() -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let list = shell::output(git.current_dir(shell::root()))
        .context("tidy looks at the files that git lists")?;
    let names = list.split('\0').filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

fn check(file: &str, text: &str, faults: &mut Vec<String>) {
    if file.ends_with(".rs") {
        let lines = text.lines().count();
        if lines > MAX_LINES {
            faults.push(format!(
                "{file}: {lines} lines; split it ({MAX_LINES} at most)"
            ));
        }
    }
    for (number, line) in text.lines().enumerate() {
        for (suffix, banned, why) in BANNED {
            if file.ends_with(suffix) && line.contains(banned) {
                faults.push(format!("{file}:{}: {banned} is {why}", number + 1));
            }
        }
    }
    if is_member(file) && !text.contains("\n[lints") {
        faults.push(format!(
            "{file}: no [lints]; add `workspace = true` under it"
        ));
    }
    if file.ends_with(".md") {
        for target in relative_links(text) {
            let directory = shell::root().join(file);
            let directory = directory.parent().unwrap_or(Path::new(""));
            if !directory.join(target).exists() {
                faults.push(format!("{file}: links to {target}, which is not there"));
            }
        }
    }
}

/// A manifest that compiles with the host's lints; the kernel half is a workspace of its own.
fn is_member(file: &str) -> bool {
    file.ends_with("/Cargo.toml") && file != "agent-ebpf/Cargo.toml"
}

/// Targets of Markdown links that are files of this repository, without their anchors.
fn relative_links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| {
        let target = rest.split([')', '#']).next()?;
        let is_path = !target.is_empty() && !target.contains(':') && !target.contains(' ');
        is_path.then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(file: &str, text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        check(file, text, &mut faults);
        faults
    }

    #[test]
    fn accepts_a_plain_file() {
        assert_eq!(faults("agent/src/a.rs", "fn main() {}\n"), [""; 0]);
    }

    #[test]
    fn rejects_a_file_of_too_many_lines() {
        assert_eq!(faults("a.rs", &"\n".repeat(MAX_LINES)), [""; 0]);
        assert_eq!(faults("a.rs", &"\n".repeat(MAX_LINES + 1)).len(), 1);
    }

    #[test]
    fn rejects_a_machine_path_and_names_its_line() {
        let text = format!("one\ntwo /{}/x\n", "work");
        assert!(faults("a.md", &text)[0].starts_with("a.md:2:"));
    }

    #[test]
    fn rejects_a_member_without_lints() {
        assert_eq!(faults("agent/Cargo.toml", "[package]\n").len(), 1);
        assert_eq!(faults("agent/Cargo.toml", "[package]\n[lints]\n"), [""; 0]);
        assert_eq!(faults("agent-ebpf/Cargo.toml", "[package]\n"), [""; 0]);
    }

    #[test]
    fn rejects_a_link_to_a_file_that_is_not_there() {
        assert_eq!(faults("README.md", "[a](no/such/file.md#x)").len(), 1);
        assert_eq!(
            faults("README.md", "[a](Cargo.toml) [b](https://x.example/)"),
            [""; 0]
        );
    }
}
