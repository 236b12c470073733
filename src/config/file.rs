//! The file layer.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{error::ConfigError, settings::Settings};

/// Read if it is there and no other file is named.
const DEFAULT: &str = "auditlog.toml";

/// The settings of the file `named`, which must then exist, or of the default one; and which file it was.
pub(super) fn read(named: Option<PathBuf>) -> Result<(Settings, Option<PathBuf>), ConfigError> {
    match named {
        Some(path) => parse(&path, &text(&path)?).map(|settings| (settings, Some(path))),
        None => read_if_there(Path::new(DEFAULT)),
    }
}

pub(super) fn read_if_there(path: &Path) -> Result<(Settings, Option<PathBuf>), ConfigError> {
    match text(path) {
        Ok(text) => parse(path, &text).map(|settings| (settings, Some(path.to_owned()))),
        Err(ConfigError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Default::default()),
        Err(error) => Err(error),
    }
}

fn text(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })
}

/// The error shows no line of the file: the line may hold the database's password.
pub(super) fn parse(path: &Path, text: &str) -> Result<Settings, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(start).filter(|&byte| byte == b'\n').count();
        let key =
            error.span().and_then(|span| key_at(text, span.start)).map(|key| format!("{key}: ")).unwrap_or_default();
        let problem = format!("{key}{}", without_value(error.message().trim()));
        ConfigError::Syntax { path: path.to_owned(), line, problem }
    })
}

/// The key, with its table, whose value begins or goes on at `place`. None where the fault is in a key, or in the form.
fn key_at(text: &str, place: usize) -> Option<String> {
    fn search(table: &DeTable<'_>, place: usize) -> Option<String> {
        table.iter().find_map(|(key, value)| match value.get_ref() {
            DeValue::Table(inner) => search(inner, place).map(|rest| format!("{}.{rest}", key.get_ref())),
            _ => value.span().contains(&place).then(|| key.get_ref().to_string()),
        })
    }
    search(DeTable::parse(text).ok()?.get_ref(), place)
}

/// A string in a place where none may be is often the database's URL, with its password.
fn without_value(problem: &str) -> String {
    match problem.strip_prefix("invalid type: string ").and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((_, expected)) => format!("there is a string, but expected is {expected}"),
        None => problem.to_owned(),
    }
}
