//! `resumetry doctor`.

use std::{
    io::{self, IsTerminal},
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
    super::print(text.as_bytes())?;
    Ok(ExitCode::from(report.exit_code()))
}
