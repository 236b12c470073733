//! What logs are called: `{origin}/tenants/{tenant}`, and from the second epoch on with `/epochs/{epoch}` behind it. The name
//! is the origin line of the log's checkpoints, and the name of the key that signs them.

use signed_note::is_key_name_valid;

/// The longest origin, in bytes.
const MAX_ORIGIN_BYTES: usize = 256;
/// What stands before the number of an epoch.
const EPOCHS: &str = "/epochs/";

/// Whether the names of logs may begin with `text`: 1 to 256 visible ASCII characters without `+`, and no `/` at the end.
pub fn is_origin(text: &str) -> bool {
    let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    is_visible && is_key_name_valid(text) && text.len() <= MAX_ORIGIN_BYTES && !text.ends_with('/')
}

/// The name of a tenant's log: both the origin line of its checkpoints and the name of the key that signs them.
pub fn checkpoint_name(origin: &str, tenant: &str) -> String {
    format!("{origin}{}", end_of_name(tenant))
}

fn end_of_name(tenant: &str) -> String {
    format!("/tenants/{tenant}")
}

/// The name of a tenant's log in one of its epochs, which are counted from 1: the first one is called like the log. The next
/// one begins when an operator acknowledges that the database went back, and has another name, so that nobody finds two
/// histories under one.
pub fn epoch_name(origin: &str, tenant: &str, epoch: u32) -> String {
    match epoch {
        ..=1 => checkpoint_name(origin, tenant),
        _ => format!("{}{EPOCHS}{epoch}", checkpoint_name(origin, tenant)),
    }
}

/// The name under which the manifests of a tenant's exports are signed. No log is called so: ids have no `/` in them.
pub fn manifest_name(origin: &str, tenant: &str) -> String {
    manifest_name_of(&checkpoint_name(origin, tenant))
}

/// The same, of the log that a name is of.
pub fn manifest_name_of(name: &str) -> String {
    format!("{}/exports", log_name(name))
}

/// The name of the log that a name is of: that of its first epoch.
pub fn log_name(name: &str) -> &str {
    match name.rsplit_once(EPOCHS) {
        Some((log, epoch)) if !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_digit()) => log,
        _ => name,
    }
}

/// The epoch that the name of a log tells, from 1.
pub fn epoch_of(name: &str) -> u32 {
    let epoch = name.strip_prefix(log_name(name)).and_then(|rest| rest.strip_prefix(EPOCHS));
    epoch.and_then(|epoch| epoch.parse().ok()).unwrap_or(1)
}

/// Whether a name is of the tenant's log, in whichever epoch and with whichever origin.
pub fn is_of_tenant(name: &str, tenant: &str) -> bool {
    log_name(name).ends_with(&end_of_name(tenant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_its_tenants_in_each_epoch_and_no_neighbours() {
        for epoch in [1, 2, 30] {
            let name = epoch_name("a.example", "acme", epoch);
            assert_eq!((log_name(&name), epoch_of(&name)), ("a.example/tenants/acme", epoch));
            assert!(is_of_tenant(&name, "acme"), "{name}");
            assert!(!is_of_tenant(&name, "acm") && !is_of_tenant(&name, "cme"), "{name}");
            assert_eq!(manifest_name_of(&name), manifest_name("a.example", "acme"));
        }
        for name in
            ["", "acme", "tenants/acme", "a/tenants/acme/epochs/x", "a/tenants/acme/epochs/", "a/tenants/acme/exports"]
        {
            assert!(!is_of_tenant(name, "acme"), "{name}");
        }
    }
}
