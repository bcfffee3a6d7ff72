//! The command line: maps what happened to an exit code.

mod commands;

use std::process::ExitCode;

use clap::Parser;
use resumetry::{
    cli::Cli,
    config::{self, Command, values::LogLevel},
    explain::{explain, say},
    export::web::WebConfigError,
    top::{
        messages::{Logger, Messages},
        terminal::NoTerminal,
    },
};

fn main() -> ExitCode {
    let command = match config::resolve(Cli::parse()) {
        Ok(command) => command,
        Err(error) => {
            say(format_args!("resumetry: {error}"));
            return ExitCode::from(2);
        }
    };
    let done = match command {
        Command::Run(config) => {
            log_to_stderr(config.capture.log_level);
            commands::run(&config)
        }
        Command::Trace(config) => {
            log_to_stderr(config.capture.log_level);
            commands::trace(*config)
        }
        Command::Top(config) => {
            let messages = Messages::default();
            hold_log(config.capture.log_level, messages.clone());
            commands::top(&config, &messages)
        }
        Command::Pcap(config) => commands::pcap(&config),
        Command::Probe(config) => commands::probe(&config),
        Command::Findings(config) => commands::findings(&config),
        Command::Doctor(config) => commands::doctor(&config),
        Command::Completions(shell) => commands::completions(shell),
        Command::ManPages(directory) => commands::man_pages(&directory),
    };
    done.unwrap_or_else(|error| {
        say(format_args!("resumetry: {}", explain(error.as_ref())));
        // A file of settings is part of the command line, whoever reads it; so is what a command is
        // to draw on.
        match error.is::<WebConfigError>() || error.is::<NoTerminal>() {
            true => ExitCode::from(2),
            false => ExitCode::FAILURE,
        }
    })
}

fn log_to_stderr(level: LogLevel) {
    logger(level).init();
}

/// The same, but for warnings that wait while a screen is drawn.
fn hold_log(level: LogLevel, messages: Messages) {
    let logger = logger(level).build();
    log::set_max_level(logger.filter());
    // Nothing else sets a logger.
    let _ = log::set_boxed_logger(Box::new(Logger::new(logger, messages)));
}

fn logger(level: LogLevel) -> env_logger::Builder {
    let mut builder = env_logger::Builder::new();
    builder
        .filter_level(level.into())
        // aya tells about every map and program it loads.
        .filter_module("aya", log::LevelFilter::Warn)
        .filter_module("aya_obj", log::LevelFilter::Warn)
        // What goes wrong with the Kubernetes API is said by the agent, once.
        .filter_module("kube_client", log::LevelFilter::Off)
        .filter_module("kube_runtime", log::LevelFilter::Off)
        .format(|out, record| {
            use std::io::Write;
            writeln!(
                out,
                "{}: {}",
                record.level().as_str().to_ascii_lowercase(),
                record.args()
            )
        });
    builder
}
