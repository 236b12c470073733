use proptest::prelude::*;
use rstest::rstest;

use super::{naive, stored::leaves};
use crate::merkle::{
    Checkpoint, CheckpointError, CheckpointKey, EMPTY_ROOT, KeyError, VerifierKey, checkpoint_name, is_origin,
    manifest_name,
};

fn key() -> CheckpointKey {
    CheckpointKey::from_seed(&std::array::from_fn(|i| i as u8))
}

fn checkpoint(tenant: &str, size: usize) -> Checkpoint {
    Checkpoint {
        origin: checkpoint_name("auditlog.local", tenant),
        size: size as u64,
        root: naive::root(&leaves(size)),
    }
}

fn verifier(tenant: &str) -> VerifierKey {
    VerifierKey::parse(&key().verifier_key(&checkpoint_name("auditlog.local", tenant))).unwrap()
}

/// The signer key, text and signed note of the signed-note documentation: the key is taken apart to be one of ours.
#[test]
fn signs_the_published_note() {
    let published = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    let key = published.replace("PeterNeumann+c74f20a3", "auditlog-v1");
    let key = CheckpointKey::parse(&key).unwrap();
    assert_eq!(key.verifier_key("PeterNeumann"), "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
    let text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    let note = format!(
        "{text}\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    );
    assert_eq!(key.sign_note("PeterNeumann", text).unwrap(), note);
}

#[test]
fn a_checkpoint_looks_like_this() {
    insta::assert_snapshot!(checkpoint("acme", 3).sign(&key()).unwrap(), @r"
    auditlog.local/tenants/acme
    3
    m0ll+LIgukL3A5rQeByWbPkLsa6hWoBYbWNLMiqx9M4=

    — auditlog.local/tenants/acme rDaC2L2P6KEZ27r0uUGXGcm2rOIiWrzbzflzmIy8LNryjfhf3DWIZqh0Dww/mcb0guHytxz5vVhNwns+SqrDUl/F2gQ=
    ");
    insta::assert_snapshot!(key().verifier_key("auditlog.local/tenants/acme"), @"auditlog.local/tenants/acme+ac3682d8+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4");
    insta::assert_snapshot!(key().to_text().as_str(), @"PRIVATE+KEY+auditlog-v1+AQABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f");
}

#[test]
fn the_key_reads_back_its_text_and_shows_no_secret() {
    let text = key().to_text();
    let read = CheckpointKey::parse(&text).unwrap();
    assert_eq!(read.public_key(), key().public_key());
    assert_eq!(*read.to_text(), *text);
    let base64 = text.trim().rsplit('+').next().unwrap().to_owned();
    assert!(!format!("{read:?}").contains(&base64) && !format!("{read:?}").contains("1, 2, 3, 4, 5"));
}

#[rstest]
#[case("", KeyError::Format)]
#[case("-----BEGIN PRIVATE KEY-----", KeyError::Format)]
#[case("PRIVATE+KEY+auditlog-v2+AQ==", KeyError::Format)]
#[case("PRIVATE+KEY+auditlog-v1+", KeyError::Base64)]
#[case("PRIVATE+KEY+auditlog-v1+AQ==", KeyError::Base64)]
#[case("PRIVATE+KEY+auditlog-v1+AgEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz", KeyError::Base64)]
#[case("PRIVATE+KEY+auditlog-v1+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFzAA==", KeyError::Base64)]
#[case("PRIVATE+KEY+auditlog-v1+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz\nmore", KeyError::Base64)]
fn a_text_that_is_no_key_is_refused_without_showing_it(#[case] text: &str, #[case] error: KeyError) {
    assert_eq!(CheckpointKey::parse(text).unwrap_err(), error);
    assert!(!error.to_string().contains("AYEK"));
}

#[test]
fn verifies_what_it_signed_and_for_that_tenant_only() {
    let note = checkpoint("acme", 300).sign(&key()).unwrap();
    assert_eq!(Checkpoint::verify(&note, &verifier("acme")).unwrap(), checkpoint("acme", 300));
    assert_eq!(Checkpoint::parse(&note).unwrap(), checkpoint("acme", 300));
    assert!(matches!(Checkpoint::verify(&note, &verifier("other")), Err(CheckpointError::NotSigned(_))));
    let empty = Checkpoint { size: 0, root: EMPTY_ROOT, ..checkpoint("acme", 0) };
    assert_eq!(Checkpoint::verify(&empty.sign(&key()).unwrap(), &verifier("acme")).unwrap(), empty);
}

#[test]
fn another_key_of_the_same_name_is_refused() {
    let note = checkpoint("acme", 3).sign(&CheckpointKey::from_seed(&[7; 32])).unwrap();
    assert!(matches!(Checkpoint::verify(&note, &verifier("acme")), Err(CheckpointError::NotSigned(_))));
}

#[test]
fn a_note_of_that_key_about_another_log_is_refused() {
    let text = checkpoint("other", 3).sign(&key()).unwrap().replace("— auditlog.local/tenants/other", "");
    let text = text.split_once("\n\n").unwrap().0;
    let note = key().sign_note("auditlog.local/tenants/acme", &format!("{text}\n")).unwrap();
    let error = Checkpoint::verify(&note, &verifier("acme")).unwrap_err();
    assert!(matches!(error, CheckpointError::Origin { .. }), "{error}");
}

#[test]
fn a_name_that_no_key_can_have_is_not_signed() {
    for origin in ["", "a b", "a+b", "a\nb"] {
        let checkpoint = Checkpoint { origin: origin.to_owned(), ..checkpoint("acme", 1) };
        assert!(matches!(checkpoint.sign(&key()), Err(CheckpointError::Name(_))), "{origin:?}");
    }
}

#[rstest]
#[case("auditlog.local", true)]
#[case("log.example.com:8443/audit", true)]
#[case("", false)]
#[case("a b", false)]
#[case("a+b", false)]
#[case("a/", false)]
#[case("ä", false)]
#[case("a\n", false)]
fn knows_what_may_be_an_origin(#[case] text: &str, #[case] expected: bool) {
    assert_eq!(is_origin(text), expected);
    assert!(!is_origin(&"a".repeat(257)));
}

proptest! {
    #[test]
    fn a_changed_byte_is_found(place: prop::sample::Index, change in 1_u8..) {
        let note = checkpoint("acme", 300).sign(&key()).unwrap();
        let mut bytes = note.clone().into_bytes();
        let place = place.index(bytes.len());
        bytes[place] ^= change;
        if let Ok(changed) = String::from_utf8(bytes) {
            prop_assert!(Checkpoint::verify(&changed, &verifier("acme")).is_err(), "{}", changed);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "(?s).{0,200}", lines in "[a-z]{0,3}\n[0-9]{0,22}\n[A-Za-z0-9+/=]{0,50}\n\n(— [a-z]{0,3} [A-Za-z0-9+/=]{0,100}\n){0,3}") {
        for text in [text, lines] {
            let _ = (Checkpoint::parse(&text), Checkpoint::verify(&text, &verifier("acme")));
            let _ = (CheckpointKey::parse(&text), VerifierKey::parse(&text), is_origin(&text));
        }
    }
}

/// The key has another id under each name, so a signature under one is none under the other.
#[test]
fn a_manifest_is_never_a_checkpoint() {
    let (log, exports) = (checkpoint_name("auditlog.local", "acme"), manifest_name("auditlog.local", "acme"));
    assert_eq!(exports, "auditlog.local/tenants/acme/exports");
    let text = format!("{exports}\n3\n{}=\n", "A".repeat(43));
    let note = key().sign_note(&exports, &text).unwrap();
    assert!(matches!(Checkpoint::verify(&note, &verifier("acme")), Err(CheckpointError::NotSigned(_))));
    assert_ne!(key().verifier_key(&log), key().verifier_key(&exports));
    for name in ["", "a b", "a+b"] {
        assert!(matches!(key().sign_note(name, "text\n"), Err(CheckpointError::Name(_))), "{name:?}");
    }
}

#[test]
fn the_key_of_any_epoch_of_a_log_is_good_for_each_of_its_epochs() {
    let key = CheckpointKey::from_seed(&[7; 32]);
    let verifier = |name: &str| VerifierKey::parse(&key.verifier_key(name)).unwrap();
    let (log, second) = ("a.example/tenants/acme", "a.example/tenants/acme/epochs/2");
    let note = |origin: &str| Checkpoint { origin: origin.to_owned(), size: 1, root: [1; 32] }.sign(&key).unwrap();
    for (origin, name, holds) in [
        (log, log, true),
        (second, log, true),
        (second, second, true),
        (log, second, true),
        ("a.example/tenants/acme/epochs/3", second, true),
        ("a.example/tenants/acmf/epochs/2", second, false),
        ("a.example/tenants/acmf", log, false),
        ("a.example/tenants/acme/epochs/x", log, false),
    ] {
        assert_eq!(Checkpoint::verify_any_epoch(&note(origin), &verifier(name)).is_ok(), holds, "{origin} {name}");
    }
    let other = VerifierKey::parse(&CheckpointKey::from_seed(&[8; 32]).verifier_key(log)).unwrap();
    assert!(Checkpoint::verify_any_epoch(&note(second), &other).is_err());
    let exports = verifier(log).under("a.example/tenants/acme/exports").unwrap();
    let signed = key.sign_note("a.example/tenants/acme/exports", "text\n").unwrap();
    assert_eq!(exports.verify_note(&signed).unwrap(), "text\n");
    assert!(exports.verify_note(&signed.replacen("text", "texu", 1)).is_err());
}
