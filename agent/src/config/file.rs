//! The TOML file of `--config`: which keys it may have, and errors that say where they stand.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use serde::de::DeserializeOwned;
use toml::de::DeTable;

use crate::cli::Cli;

/// Flags that a file cannot set: they are about the call itself.
const NOT_IN_FILE: &[&str] = &["config", "help", "version"];

/// Names further apart than this (Jaro-Winkler, 0 … 1) are no typing errors of one another.
const ALIKE: f64 = 0.8;

/// A file whose keys are all known.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    text: String,
    /// Every key with the bytes that its key and value take.
    entries: Vec<(String, Range<usize>)>,
}

/// What is wrong with the file, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        path: PathBuf,
        line: usize,
        message: String,
    },
    #[error("{}:{line}: unknown key `{key}`{}", path.display(), did_you_mean(suggestion.as_deref()))]
    UnknownKey {
        path: PathBuf,
        line: usize,
        key: String,
        suggestion: Option<String>,
    },
    #[error("{}:{line}: {key}: {message}", path.display())]
    Value {
        path: PathBuf,
        line: usize,
        key: String,
        message: String,
    },
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    match suggestion {
        Some(key) => format!("; did you mean `{key}`?"),
        None => "; keys are spelled like the flags in `resumetry run --help`".to_owned(),
    }
}

impl ConfigFile {
    pub(super) fn read(path: &Path) -> Result<Self, FileError> {
        let text = fs::read_to_string(path).map_err(|source| FileError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, text)
    }

    pub(super) fn parse(path: &Path, text: String) -> Result<Self, FileError> {
        let table = DeTable::parse(&text).map_err(|error| FileError::Syntax {
            path: path.to_owned(),
            line: line(&text, error.span()),
            message: error.message().trim().to_owned(),
        })?;
        let mut entries: Vec<(String, Range<usize>)> = table
            .get_ref()
            .iter()
            .map(|(key, value)| {
                (
                    key.get_ref().to_string(),
                    key.span().start..value.span().end,
                )
            })
            .collect();
        entries.sort_by_key(|(_, span)| span.start);

        let known = known_keys();
        if let Some((key, span)) = entries.iter().find(|(key, _)| !known.contains(key)) {
            return Err(FileError::UnknownKey {
                path: path.to_owned(),
                line: line(&text, Some(span.clone())),
                key: key.clone(),
                suggestion: nearest(key, &known),
            });
        }
        Ok(Self {
            path: path.to_owned(),
            text,
            entries,
        })
    }

    /// The part of the file that one settings struct reads. Keys of other structs are passed
    /// over: one file may serve several commands.
    pub(super) fn settings<T: DeserializeOwned>(&self) -> Result<T, FileError> {
        toml::from_str(&self.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let key = self
                .entries
                .iter()
                .find(|(_, span)| span.contains(&at))
                .map_or_else(String::new, |(key, _)| key.clone());
            FileError::Value {
                path: self.path.clone(),
                line: line(&self.text, error.span()),
                key,
                message: error.message().trim().to_owned(),
            }
        })
    }
}

/// The long flags of every command.
pub(super) fn known_keys() -> BTreeSet<String> {
    let reads_files = |command: &&clap::Command| {
        let mut arguments = command.get_arguments();
        arguments.any(|argument| argument.get_long() == Some("config"))
    };
    Cli::command()
        .get_subcommands()
        .filter(reads_files)
        .flat_map(|command| command.get_arguments())
        .filter_map(|argument| argument.get_long())
        .filter(|flag| !NOT_IN_FILE.contains(flag))
        .map(str::to_owned)
        .collect()
}

fn nearest(key: &str, known: &BTreeSet<String>) -> Option<String> {
    let spelled = key.to_lowercase().replace('_', "-");
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&spelled, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.clone())
}

/// The line, from 1, on which a span starts.
fn line(text: &str, span: Option<Range<usize>>) -> usize {
    let start = span.map_or(0, |span| span.start).min(text.len());
    text.as_bytes()[..start]
        .iter()
        .filter(|&&byte| byte == b'\n')
        .count()
        + 1
}
