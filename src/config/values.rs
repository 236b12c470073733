//! The types of settings that are written differently from how they are used.

use std::{collections::BTreeSet, convert::Infallible, fmt, str::FromStr, time::Duration};

use serde::Deserialize;

use crate::{merkle, model::ActorType};

/// Where a caller's claims come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// From call metadata that a trusted gateway sets.
    Metadata,
    /// From a signed token.
    Jwt,
}

impl fmt::Display for AuthMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Metadata => "metadata",
            Self::Jwt => "jwt",
        })
    }
}

/// Who a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SubjectType {
    /// A person.
    User,
    /// A program.
    Service,
}

impl From<SubjectType> for ActorType {
    fn from(kind: SubjectType) -> Self {
        match kind {
            SubjectType::User => Self::User,
            SubjectType::Service => Self::Service,
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text where stderr is a terminal, else JSON.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A duration as people write it, a year at most: `10s`, `1m 30s`, `250ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    /// The longest: 366 days.
    pub const MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
}

impl FromStr for HumanDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hint = |error| format!("{text:?} is no duration such as 10s, 250ms or 1m 30s: {error}");
        let duration = humantime::parse_duration(text).map_err(hint)?;
        // Beyond some point no instant is so far away.
        (duration <= Self::MAX).then_some(Self(duration)).ok_or_else(|| format!("{text:?} is more than a year"))
    }
}

impl TryFrom<String> for HumanDuration {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// A limit: 1 to 64 Mi, which is also the most bytes that a batch may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Limit(u32);

impl Limit {
    /// The greatest.
    pub const MAX: u32 = 64 * 1024 * 1024;

    /// As the code that holds things against it wants it.
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

impl TryFrom<i64> for Limit {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        let small = u32::try_from(number).ok().filter(|limit| (1..=Self::MAX).contains(limit));
        small.map(Self).ok_or_else(|| format!("{number} is not in 1 to {}", Self::MAX))
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number: i64 = text.parse().map_err(|_| format!("{text:?} is not a number in 1 to {}", Self::MAX))?;
        number.try_into()
    }
}

/// A set of names: separated by commas in flags and variables, an array in the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Vec<String>")]
pub struct NameSet(pub BTreeSet<String>);

impl From<Vec<String>> for NameSet {
    fn from(names: Vec<String>) -> Self {
        let names = names.iter().map(|name| name.trim()).filter(|name| !name.is_empty());
        Self(names.map(str::to_owned).collect())
    }
}

impl FromStr for NameSet {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.split(',').map(str::to_owned).collect::<Vec<_>>().into())
    }
}

/// What the names of logs begin with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Origin(pub String);

impl TryFrom<String> for Origin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let hint = "must be a name such as audit.example.com: 1 to 256 visible ASCII characters without +, and no / at \
                    the end";
        if merkle::is_origin(&text) { Ok(Self(text)) } else { Err(format!("{text:?} {hint}")) }
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.to_owned().try_into()
    }
}

/// A database URL, which may hold a password and therefore does not show itself.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The URL with all that it holds.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::database_url::without_secrets(&self.0))
    }
}
