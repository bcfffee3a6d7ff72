//! A browser that shows the built-in page, driven through `tests/node/page.mjs`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::process::Owned;
use crate::repository;

/// One browser with one page; both end when it is dropped.
#[derive(Debug)]
pub struct Browser {
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    _process: Owned,
}

/// What went over the network and into the console since the page was opened.
#[derive(Clone, Debug, Deserialize)]
pub struct Seen {
    pub messages: Vec<String>,
    /// Requests that failed, and answers that say that something did.
    pub failures: Vec<String>,
    /// Of requests that are done, heads included.
    pub transferred_bytes: u64,
    /// Without compression.
    pub decoded_bytes: u64,
}

/// How a page is shown.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// `light` or `dark`.
    pub scheme: &'static str,
    pub width: u32,
    pub height: u32,
}

impl Browser {
    pub fn start() -> Result<Self> {
        let mut child = Command::new("node")
            .arg(repository().join("target/node/page.mjs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run node; `cargo xtask setup --tests` installs it")?;
        Ok(Self {
            commands: child.stdin.take().context("no stdin")?,
            answers: BufReader::new(child.stdout.take().context("no stdout")?),
            _process: Owned::new(child),
        })
    }

    fn ask(&mut self, command: &Value) -> Result<Value> {
        writeln!(self.commands, "{command}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line)
            .with_context(|| format!("the browser ended at {command}"))?;
        if let Some(error) = answer.get("error") {
            bail!("{command}: {error}");
        }
        Ok(answer["value"].clone())
    }

    /// Opens a page anew: nothing is left of the one before.
    pub fn open(&mut self, url: &str, screen: Screen) -> Result<()> {
        let Screen {
            scheme,
            width,
            height,
        } = screen;
        self.ask(&json!({"command": "open", "url": url, "scheme": scheme, "width": width, "height": height}))?;
        Ok(())
    }

    /// The value of an expression.
    pub fn evaluate(&mut self, script: &str) -> Result<Value> {
        self.ask(&json!({"command": "evaluate", "script": script}))
    }

    /// The value of an expression, once it is not false.
    pub fn wait(&mut self, script: &str) -> Result<Value> {
        self.ask(&json!({"command": "wait", "script": script}))
    }

    /// Whether an expression is true within some time.
    pub fn holds_within(&mut self, script: &str, milliseconds: u32) -> bool {
        let command = json!({"command": "wait", "script": script, "milliseconds": milliseconds});
        self.ask(&command).is_ok()
    }

    /// The text of the first element that a selector names, once there is some.
    pub fn text(&mut self, selector: &str) -> Result<String> {
        let text = self.wait(&format!(
            "document.querySelector({selector:?})?.textContent.trim()"
        ))?;
        Ok(text.as_str().context("no text")?.replace('\u{a0}', " "))
    }

    pub fn press(&mut self, key: &str) -> Result<()> {
        self.ask(&json!({"command": "press", "key": key}))?;
        Ok(())
    }

    /// Presses `key` until an expression holds, a bounded number of times.
    pub fn press_until(&mut self, key: &str, script: &str) -> Result<()> {
        for _ in 0..200 {
            self.press(key)?;
            if self.evaluate(script)? == true {
                return Ok(());
            }
        }
        let at = self.evaluate("document.activeElement.outerHTML.slice(0, 200)")?;
        bail!("{key} does not lead to {script}, but to {at}")
    }

    pub fn type_text(&mut self, text: &str) -> Result<()> {
        self.ask(&json!({"command": "type", "text": text}))?;
        Ok(())
    }

    /// The browser's button.
    pub fn back(&mut self) -> Result<()> {
        self.ask(&json!({"command": "back"}))?;
        Ok(())
    }

    /// What axe-core has against the page as it is.
    pub fn violations(&mut self) -> Result<Vec<String>> {
        Ok(serde_json::from_value(
            self.ask(&json!({"command": "axe"}))?,
        )?)
    }

    pub fn seen(&mut self) -> Result<Seen> {
        Ok(serde_json::from_value(
            self.ask(&json!({"command": "seen"}))?,
        )?)
    }

    /// A picture of what is visible, or of the whole page.
    pub fn screenshot(&mut self, path: &Path, whole: bool) -> Result<()> {
        self.ask(&json!({"command": "screenshot", "path": path, "whole": whole}))?;
        Ok(())
    }
}
