//! `auditlog descriptor`.

use std::io::{self, IsTerminal as _, Write as _};

use crate::proto::DESCRIPTOR_SET;

use super::CliError;

/// Writes the encoded `FileDescriptorSet` to standard output.
pub(super) fn run() -> Result<(), CliError> {
    let mut out = io::stdout();
    if out.is_terminal() {
        return Err(CliError::BinaryToTerminal);
    }
    out.write_all(DESCRIPTOR_SET).and_then(|()| out.flush()).map_err(|e| CliError::Io("write to standard output", e))
}
