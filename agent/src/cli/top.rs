//! The flags of `resumetry top`.

use clap::Args;
use serde::Deserialize;

use super::{CaptureSettings, FileArgs};
use crate::config::values::{Color, Span};

#[derive(Debug, Args)]
pub struct TopArgs {
    #[command(flatten)]
    pub file: FileArgs,
    #[command(flatten)]
    pub capture: CaptureSettings,
    #[command(flatten)]
    pub top: TopSettings,
}

#[derive(Debug, Default, Args, Deserialize)]
#[command(next_help_heading = "Screen")]
#[serde(default, rename_all = "kebab-case")]
pub struct TopSettings {
    /// Time between two looks at the figures; keys are answered at once. The least is 500ms; longer
    /// spares a slow line [default: 1s]
    #[arg(long, value_name = "TIME", env = "RESUMETRY_INTERVAL")]
    pub interval: Option<Span>,

    /// The resumption quota that is aimed at, per cent: a server name below it is a finding [default: 90]
    #[arg(long, value_name = "PERCENT", env = "RESUMETRY_QUOTA_TARGET",
          value_parser = clap::value_parser!(u8).range(1..=99))]
    pub quota_target: Option<u8>,

    /// A ticket key that issues tickets for longer is a finding [default: 24h]
    #[arg(long, value_name = "TIME", env = "RESUMETRY_KEY_MAX_AGE")]
    pub key_max_age: Option<Span>,

    /// Use colour, which says again what the text says: `auto` does so unless NO_COLOR is set
    /// [default: auto]
    #[arg(long, value_name = "WHEN", env = "RESUMETRY_COLOR")]
    pub color: Option<Color>,
}

pub(super) const TOP_EXAMPLES: &str = "\
Examples:
  sudo resumetry top
  sudo resumetry top --interval 5s --cgroup /sys/fs/cgroup/system.slice/nginx.service
  sudo NO_COLOR=1 resumetry top 2>warnings.log

Keys: q quits, ? says what the others do. Warnings that come meanwhile are printed at the end, at once where
standard error goes elsewhere. Where a terminal is left in disorder (kill -9), `reset` puts it right.";
