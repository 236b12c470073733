//! What holds of the configuration file, whatever stands in it.

use std::path::Path;

use super::{database_url, file};

/// A file either gives settings, the same each time, or an error that names it; and no URL shows its secrets.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    database_url(text);
    let read = || file::parse(Path::new("auditlog.toml"), text).and_then(|settings| settings.resolve());
    match read() {
        Ok(config) => {
            assert_eq!(read().ok().as_ref(), Some(&config));
            database_url(&config.database.url);
            let _ = (config.validate(), config.warnings(), format!("{config:?}"));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Shown are a scheme, a user, a host and a path: neither what stands behind a user's colon nor a query.
fn database_url(url: &str) {
    let shown = database_url::without_secrets(url);
    assert!(!shown.contains('?'), "{url:?} is shown as {shown:?}");
    assert_eq!(database_url::without_secrets(&shown), shown);
    let is_sqlite = shown.starts_with("sqlite://");
    let user = shown.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map_or("", |(user, _)| user);
    assert!(is_sqlite || !user.contains(':'), "{url:?} is shown as {shown:?}");
}
