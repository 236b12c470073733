//! Random bytes.

use rand::RngCore as _;

/// Bytes that nobody can foretell, from this thread's generator: the operating system seeds it, and again after each 64 KiB. To
/// ask the system each time would take three calls of it for each event.
///
/// # Panics
/// Where the system gives no randomness at all when the thread first asks; no hash map could be made there either.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}
