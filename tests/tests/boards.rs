//! Our boards against Grafana's own schema: nothing in them that it does not know.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use resumetry_tests::repository;

/// What of a board the schema does not know, a line each.
fn unknown(board: &Path) -> String {
    let output = Command::new(repository().join("target/python/bin/python"))
        .arg(repository().join("tests/src/programs/board_schema.py"))
        .stdin(File::open(board).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{board:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn grafanas_schema_knows_everything_in_our_boards() {
    let entries = fs::read_dir(repository().join("dashboards")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let boards: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|kind| kind == "json"))
        .collect();
    assert_eq!(boards.len(), 7);
    for board in &boards {
        assert_eq!(unknown(board), "", "{board:?}");
    }

    // The check can fail.
    let scratch = tempfile::NamedTempFile::new().unwrap();
    let text = fs::read_to_string(&boards[0]).unwrap();
    let wrong = text.replacen("\"gridPos\"", "\"gridPosition\"", 1);
    assert_ne!(text, wrong);
    fs::write(scratch.path(), wrong).unwrap();
    assert!(unknown(scratch.path()).contains(".gridPosition"));
}
