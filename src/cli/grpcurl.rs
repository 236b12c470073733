//! grpcurl commands that work as printed.

use std::{fmt, net::SocketAddr};

use crate::auth::claims;

use super::remote::reachable;

/// One command.
#[derive(Clone, Debug)]
pub(super) struct Grpcurl {
    /// Where the service listens.
    pub(super) address: SocketAddr,
    /// Who asks.
    pub(super) subject: &'static str,
    /// With which role, as `name@scope`.
    pub(super) role: &'static str,
    /// The method's name.
    pub(super) method: &'static str,
    /// The request, as JSON.
    pub(super) request: serde_json::Value,
}

impl fmt::Display for Grpcurl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, subject, role, method, request } = self;
        write!(f, "grpcurl -plaintext")?;
        write!(f, " -H {}", quoted(&format!("{}: {subject}", claims::SUBJECT)))?;
        write!(f, " -H {}", quoted(&format!("{}: {role}", claims::ROLES)))?;
        write!(f, " -d {}", quoted(&request.to_string()))?;
        write!(f, " {} auditlog.v1.AuditLogService/{method}", reachable(*address))
    }
}

/// As one word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_ready_for_a_shell() {
        let command = Grpcurl {
            address: "[::]:1".parse().unwrap(),
            subject: "o'hara@example.com",
            role: "tenant_admin@tenants/acme",
            method: "ListEvents",
            request: serde_json::json!({"parent": "tenants/acme"}),
        };
        assert_eq!(
            command.to_string(),
            r#"grpcurl -plaintext -H 'x-audit-subject: o'\''hara@example.com' -H 'x-audit-roles: tenant_admin@tenants/acme' -d '{"parent":"tenants/acme"}' [::1]:1 auditlog.v1.AuditLogService/ListEvents"#
        );
    }
}
