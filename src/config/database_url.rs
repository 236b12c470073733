//! What may be shown of a database URL. Errs on the side of hiding: a malformed URL may hold a password too.

use super::values::SecretUrl;

/// Query parameters of libpq that hold a secret.
const SECRET_PARAMETERS: [&str; 2] = ["password", "sslpassword"];

/// Whether a password is in it, in the user part or in the query.
pub(super) fn has_password(url: &SecretUrl) -> bool {
    let Some((_, rest)) = split_scheme(url.expose()) else { return false };
    let in_user = rest.rsplit_once('@').and_then(|(user, _)| user.split_once(':')).is_some_and(|(_, p)| !p.is_empty());
    in_user || parameters(rest).any(|name| SECRET_PARAMETERS.contains(&name))
}

/// The URL without password and query; of a text that is no URL, nothing.
pub(super) fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = split_scheme(url) else { return "(not a URL)".to_owned() };
    if scheme == "sqlite" {
        return format!("{scheme}://{}", before(rest, '?'));
    }
    // An @ behind a ? may end a user's unescaped password or stand in a query's. Which one it is nobody can tell, and
    // what is behind it is a host in the one case and a secret in the other.
    if rest.split_once('?').is_some_and(|(_, query)| query.contains('@')) {
        return format!("{scheme}://{}", rest.split([':', '/', '?', '@']).next().unwrap_or_default());
    }
    // The last @ and the first colon: an unescaped @ or / inside the password must not bring a part of it to light.
    match rest.rsplit_once('@') {
        Some((user, host)) => format!("{scheme}://{}@{}", before(user, ':'), before(host, '?')),
        None => format!("{scheme}://{}", before(rest, '?')),
    }
}

/// The scheme, if the text has one.
pub(super) fn scheme(url: &str) -> Option<&str> {
    split_scheme(url).map(|(scheme, _)| scheme)
}

fn split_scheme(url: &str) -> Option<(&str, &str)> {
    url.split_once("://").filter(|(scheme, _)| scheme.bytes().all(|b| b.is_ascii_alphanumeric()))
}

fn before(text: &str, end: char) -> &str {
    text.split(end).next().unwrap_or_default()
}

fn parameters(rest: &str) -> impl Iterator<Item = &str> {
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    query.split('&').map(|parameter| before(parameter, '='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_no_secrets() {
        for (url, shown) in [
            ("sqlite://auditlog.db", "sqlite://auditlog.db"),
            ("sqlite:///var/a@b:c.db?x=y", "sqlite:///var/a@b:c.db"),
            ("postgres://host/db", "postgres://host/db"),
            ("postgres://ann@host:5432/db", "postgres://ann@host:5432/db"),
            ("postgres://ann:s3cret@host:5432/db?sslmode=require", "postgres://ann@host:5432/db"),
            ("postgres://ann:s3@c/ret@host/db", "postgres://ann@host/db"),
            ("postgres://ann:s3@c/r?et@host/db", "postgres://ann"),
            ("postgres://host:5432/db?password=c@s3ret", "postgres://host"),
            ("postgres://host/db?password=s3cret", "postgres://host/db"),
            ("host=db password=s3cret", "(not a URL)"),
        ] {
            assert_eq!(without_secrets(url), shown);
            assert!(!format!("{:?}", SecretUrl::from(url.to_owned())).contains("s3"));
        }
    }

    #[test]
    fn finds_passwords() {
        for (url, has) in [
            ("sqlite://auditlog.db", false),
            ("postgres://ann@host:5432/db", false),
            ("postgres://ann:@host/db?sslmode=require", false),
            ("postgres://ann:s3cret@host/db", true),
            ("postgres://host/db?sslmode=require&password=s3cret", true),
        ] {
            assert_eq!(has_password(&url.to_owned().into()), has, "{url}");
        }
    }
}
