//! Random bytes for what is no secret.

use rand::RngCore as _;

/// Bytes that no other call gets, and that callers cannot foretell: from this thread's generator, which the operating system has seeded.
/// To ask the system itself, as [salts](super::entry::salt) do, takes as long as to decode an event.
///
/// # Panics
/// Where the system gives no randomness when the thread first asks; no hash map could be made there either.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}
