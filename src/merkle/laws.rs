//! What holds of checkpoints and keys, whatever comes in.

use super::{Checkpoint, CheckpointKey, VerifierKey, is_origin};

/// A checkpoint that can be read can be signed and is then what it was; a key is written as it was read.
pub fn checkpoint(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let ours = CheckpointKey::from_seed(&[7; 32]);
    if let Ok(checkpoint) = Checkpoint::parse(text)
        && is_origin(&checkpoint.origin)
    {
        let key = VerifierKey::parse(&ours.verifier_key(&checkpoint.origin)).expect("the name was looked at");
        let note = checkpoint.sign(&ours).expect("the name was looked at");
        assert_eq!(Checkpoint::verify(&note, &key).expect("it has just been signed"), checkpoint);
        assert_eq!(Checkpoint::parse(&note).expect("it has just been written"), checkpoint);
        if let Ok(verified) = Checkpoint::verify(text, &key) {
            assert_eq!(verified, checkpoint);
        }
    }
    if let Ok(key) = CheckpointKey::parse(text) {
        assert_eq!(key.to_text().trim(), text.trim());
    }
    if let Ok(key) = VerifierKey::parse(text) {
        assert!(text.trim().starts_with(&format!("{}+", key.name())));
    }
}
