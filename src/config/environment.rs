//! The environment layer. A variable is parsed just as its flag would be.

use std::{collections::BTreeSet, ffi::OsString, path::PathBuf};

use clap::{Args as _, FromArgMatches as _};

use super::{error::ConfigError, settings::Settings};

const PREFIX: &str = "AUDITLOG_";
const CONFIG: &str = "AUDITLOG_CONFIG";

/// What the environment says.
pub(super) struct Environment {
    pub(super) settings: Settings,
    pub(super) file: Option<PathBuf>,
    pub(super) unknown: Vec<String>,
}

/// The environment variable of a setting: `database.pool_size` is `AUDITLOG_DATABASE_POOL_SIZE`.
pub fn variable(setting: &str) -> String {
    format!("{PREFIX}{}", setting.replace('.', "_").to_uppercase())
}

/// What has an environment variable: the settings, and `config` itself.
pub fn setting_ids() -> BTreeSet<String> {
    let settings = command().get_arguments().map(|argument| argument.get_id().to_string()).collect::<Vec<_>>();
    settings.into_iter().chain(["config".to_owned()]).collect()
}

/// Reads those of `variables` that begin like ours. An empty one counts as unset.
pub(super) fn read(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Environment, ConfigError> {
    let ours = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value));
    let mut variables: Vec<(String, OsString)> = variables.into_iter().filter_map(ours).collect();
    variables.retain(|(name, value)| name.starts_with(PREFIX) && !value.is_empty());
    variables.sort();

    let mut found = Environment { settings: Settings::default(), file: None, unknown: Vec::new() };
    for (name, value) in variables {
        found.add(name, value)?;
    }
    Ok(found)
}

impl Environment {
    fn add(&mut self, name: String, value: OsString) -> Result<(), ConfigError> {
        if name == CONFIG {
            self.file = Some(value.into());
        } else if let Some(flag) = flag(&name) {
            let settings =
                parse(&flag, value).map_err(|error| ConfigError::Variable { name, problem: one_line(&error) })?;
            self.settings = settings.or(std::mem::take(&mut self.settings));
        } else {
            self.unknown.push(name);
        }
        Ok(())
    }
}

/// The flag that says the same as the variable `name`, if there is one.
fn flag(name: &str) -> Option<String> {
    let command = command();
    let argument = command.get_arguments().find(|argument| variable(argument.get_id().as_str()) == name)?;
    argument.get_long().map(|long| format!("--{long}="))
}

fn parse(flag: &str, value: OsString) -> Result<Settings, clap::Error> {
    let mut argument = OsString::from(flag);
    argument.push(value);
    Settings::from_arg_matches(&command().no_binary_name(true).try_get_matches_from([argument])?)
}

fn command() -> clap::Command {
    Settings::augment_args(clap::Command::new("environment")).disable_help_flag(true)
}

/// What clap says up to the first empty line, without its hints to the command line.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}
