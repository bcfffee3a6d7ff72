//! `dashboards`: Grafana's boards, made from source, so that names in them cannot drift from what the
//! agent exports.

mod boards;
mod model;

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;

use crate::{rules, shell};
use model::{Board, Panel};

/// Where the boards are kept, one file each.
const DIRECTORY: &str = "dashboards";

#[derive(Args, Debug)]
pub struct Arguments {
    /// Fail when the files differ from the source, and write nothing
    #[arg(long)]
    check: bool,
    /// Print every query as a line of JSON, its variables filled in, and write nothing
    #[arg(long, conflicts_with = "check")]
    queries: bool,
}

impl Arguments {
    /// What `--check` does.
    pub fn check() -> Self {
        Self {
            check: true,
            queries: false,
        }
    }
}

pub fn command(arguments: &Arguments) -> Result<()> {
    let boards = boards::all();
    if arguments.queries {
        return print_queries(&boards);
    }
    check_queries(&boards)?;
    for board in &boards {
        check_board(board)?;
        let text = format!("{:#}\n", board.json());
        let name = format!("{DIRECTORY}/{}.json", board.uid);
        let path = shell::root().join(&name);
        let is_same = fs::read_to_string(&path).is_ok_and(|kept| kept == text);
        if arguments.check {
            ensure!(
                is_same,
                "{name} differs from its source; run `cargo xtask dashboards`"
            );
        } else if !is_same {
            fs::write(&path, text).with_context(|| format!("cannot write {name}"))?;
            eprintln!("wrote {name}");
        }
    }
    Ok(())
}

fn panels(board: &Board) -> impl Iterator<Item = &Panel> {
    board.rows.iter().flat_map(|row| &row.panels)
}

/// What a board may not lack.
fn check_board(board: &Board) -> Result<()> {
    for panel in panels(board) {
        let name = format!("{}: {}", board.title, panel.title);
        ensure!(!panel.queries.is_empty(), "{name}: asks nothing");
        ensure!(panel.description.len() > 10, "{name}: has no description");
        ensure!(
            (1..=24).contains(&panel.width),
            "{name}: is {} wide",
            panel.width
        );
    }
    let names: BTreeSet<_> = panels(board).map(|panel| panel.title).collect();
    ensure!(
        names.len() == panels(board).count(),
        "{}: two panels of one title",
        board.title
    );
    Ok(())
}

/// A query as Prometheus gets it, everything chosen.
fn filled(expression: &str) -> String {
    let mut text = expression.replace("$__rate_interval", "5m");
    for variable in ["role", "server_name", "service", "instance"] {
        text = text.replace(&format!("=~\"${variable}\""), "=~\".*\"");
    }
    text
}

fn print_queries(boards: &[Board]) -> Result<()> {
    for board in boards {
        for panel in panels(board) {
            for query in &panel.queries {
                let expression = filled(&query.expression);
                ensure!(
                    !expression.contains('$'),
                    "{expression}: a variable is left"
                );
                println!(
                    "{}",
                    json!({
                        "board": board.uid,
                        "panel": panel.title,
                        "unit": panel.unit,
                        "query": expression,
                        "may_be_empty": panel.may_be_empty,
                    })
                );
            }
        }
    }
    Ok(())
}

fn check_queries(boards: &[Board]) -> Result<()> {
    let queries: Vec<String> = boards
        .iter()
        .flat_map(panels)
        .flat_map(|panel| &panel.queries)
        .map(|query| filled(&query.expression))
        .collect();
    rules::check_queries(&queries)
}
