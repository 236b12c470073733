//! `auditlog token`.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use crate::{
    auth::{
        Grant, JwtConfig,
        jwt::issue::{SigningKey, TokenRequest, issue},
    },
    config::{
        Settings, settings,
        values::{HumanDuration, SubjectType},
    },
    model::{Clock as _, SystemClock},
};

use super::{CliError, FileArg};

/// The flags say what is signed, and with what. The names of the claims, the issuer and the audience come from the
/// service's own settings, so that it takes what this makes.
#[derive(Debug, clap::Args)]
pub(super) struct TokenArgs {
    #[command(flatten)]
    file: FileArg,
    #[command(flatten)]
    content: ContentArgs,
    #[command(flatten)]
    jwt: settings::JwtSettings,
}

#[derive(Debug, clap::Args)]
struct ContentArgs {
    /// Who calls
    #[arg(long, value_name = "ID")]
    subject: String,
    /// What they are
    #[arg(long, value_name = "TYPE", default_value = "user")]
    subject_type: SubjectType,
    /// Their name for people
    #[arg(long, value_name = "NAME", default_value = "")]
    name: String,
    /// A role, such as tenant_admin@tenants/acme; may come again
    #[arg(long = "role", value_name = "NAME@SCOPE", value_parser = grant)]
    roles: Vec<String>,
    /// A permission, such as audit.list@tenants/acme; may come again
    #[arg(long = "permission", value_name = "NAME@SCOPE", value_parser = grant)]
    permissions: Vec<String>,
    /// How long the token is good
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    ttl: HumanDuration,
    /// Private key (PEM: RSA, P-256 or Ed25519) to sign with, instead of jwt.secret_file
    #[arg(long, value_name = "FILE")]
    private_key_file: Option<PathBuf>,
}

impl TokenArgs {
    /// Prints one token to standard output.
    pub(super) fn run(self) -> Result<(), CliError> {
        let loaded = self.file.load(Settings { jwt: self.jwt, ..Settings::default() })?;
        let jwt = loaded.config.jwt;
        let key = signing_key(self.content.private_key_file.as_deref(), &jwt)?;
        let token = issue(&key, &jwt, &self.content.into(), SystemClock.now())?;
        writeln!(io::stdout(), "{token}").map_err(|error| CliError::Io("write to standard output", error))
    }
}

fn signing_key(private: Option<&std::path::Path>, jwt: &JwtConfig) -> Result<SigningKey, CliError> {
    match (private, &jwt.secret_file) {
        (Some(path), _) => Ok(SigningKey::from_private_key_file(path)?),
        (None, Some(path)) => Ok(SigningKey::from_secret_file(path)?),
        (None, None) => Err(CliError::NoSigningKey),
    }
}

impl From<ContentArgs> for TokenRequest {
    fn from(args: ContentArgs) -> Self {
        Self {
            subject: args.subject,
            subject_type: args.subject_type.into(),
            name: args.name,
            roles: args.roles,
            permissions: args.permissions,
            ttl: args.ttl.0,
        }
    }
}

fn grant(text: &str) -> Result<String, String> {
    Grant::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}
