//! `resumetry doctor`.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use resumetry::{
    config::{DoctorConfig, values::Format},
    host::doctor::{self, Facts},
};

/// Says what this host allows and what will therefore be seen.
pub fn doctor(config: &DoctorConfig) -> anyhow::Result<ExitCode> {
    let report = doctor::evaluate(&Facts::gather());
    let text = match config.format {
        Format::Json => report.json()? + "\n",
        Format::Text => {
            let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            doctor::render(
                &report,
                config.color.applies(io::stdout().is_terminal(), no_color),
            )
        }
    };
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::from(report.exit_code())),
    }
}
