//! What the database says beside the log itself: whose key signs it, and which of its epochs were acknowledged.

use crate::store::{AuditReader, StoreError, StoredHead};

use super::Findings;

/// The epoch of a head; the first one where there is no head.
pub(super) fn epoch(head: Option<&StoredHead>) -> u32 {
    head.map_or(1, |head| u32::try_from(head.epoch).unwrap_or(0))
}

/// One key signs for a database, and it is the one that is expected. Whether there is one: before the first start with a key
/// there is none.
pub(super) fn check_key(
    reader: &mut AuditReader,
    expected: Option<[u8; 32]>,
    findings: &mut Findings,
) -> Result<bool, StoreError> {
    let keys = match reader.signing_keys() {
        Err(StoreError::Corrupt(problem)) => {
            findings.add("signing_keys", problem);
            return Ok(true);
        }
        keys => keys?,
    };
    match keys.as_slice() {
        [] if expected.is_some() => findings.add("signing_keys", "has no key, and should have that of --verifier-key"),
        [] => (),
        [key] if key.len() != 32 => {
            findings.add("signing_keys", format!("public_key has {} bytes instead of 32", key.len()));
        }
        [key] if expected.is_some_and(|expected| *key != expected) => {
            findings
                .add("signing_keys", "public_key is not that of --verifier-key: another key signs for this database");
        }
        [_] => (),
        more => findings.add("signing_keys", format!("has {} rows instead of one", more.len())),
    }
    Ok(!keys.is_empty())
}

/// Each epoch from the second one on was acknowledged, and none was that the head does not know. The head is read once more,
/// because an epoch may have begun meanwhile.
pub(super) fn check_epochs(
    reader: &mut AuditReader,
    log: &str,
    epoch_of_head: u32,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    if epoch_of_head == 0 {
        findings.add(format!("the head of {log}"), "epoch is below 1");
    }
    let found: Vec<i64> = reader.epochs()?.into_iter().map(i64::from).collect();
    let now = i64::from(epoch(reader.head()?.as_ref()));
    let is_missing = |epoch: &i64| !found.contains(epoch);
    // The first one does: a head can claim any epoch.
    if let Some(missing) = (2..=i64::from(epoch_of_head)).find(is_missing) {
        let problem = format!("epoch is {epoch_of_head}, and log_epochs has no acknowledgement of epoch {missing}");
        findings.add(format!("the head of {log}"), problem);
    }
    for stray in found.iter().filter(|epoch| !(2..=now).contains(*epoch)) {
        findings.add(log, format!("log_epochs has epoch {stray}, and the head is in epoch {now}"));
    }
    Ok(())
}
