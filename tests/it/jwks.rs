//! Key sets from an address: keys that change, a source that is away, and whose certificate is trusted.

use std::{sync::atomic::Ordering, time::Duration};

use auditlog::{Clock as _, SystemClock};
use jsonwebtoken::Algorithm;
use rstest::rstest;
use serde_json::json;
use tonic::Code;

use crate::{
    child::{ChildServer, auditlog},
    harness::*,
    jwt::{assert_said, lists},
    tls::Authority,
    tokens::*,
};

const T: &str = "tenants/acme";
const HOST: &str = "127.0.0.1";

async fn app_with(keys: &KeyServer) -> TestApp {
    let url = keys.url.clone();
    TestApp::start_with(Backend::Sqlite, jwt_mode(|jwt| jwt.jwks = Some(url))).await
}

#[tokio::test]
async fn a_new_key_is_learned_at_once_and_strangers_cannot_make_it_ask_for_ever() {
    let (old, new) = (Signer::new(Algorithm::ES256).with_kid("old"), Signer::new(Algorithm::EdDSA).with_kid("new"));
    let keys = KeyServer::start(key_set(&[&old])).await;
    let app = app_with(&keys).await;
    assert!(lists(&app, &bearer(&old.sign(&claims()))).await.is_ok());
    assert_eq!(keys.asked(), 1);

    keys.put(key_set(&[&new]));
    let caller = bearer(&new.sign(&claims()));
    let calls = (0..20).map(|_| lists(&app, &caller));
    for result in futures_util::future::join_all(calls).await {
        assert!(result.is_ok(), "{result:?}");
    }
    assert_eq!(keys.asked(), 2, "one asked for all");
    assert_said(lists(&app, &bearer(&old.sign(&claims()))).await, "CREDENTIALS_INVALID", "with the kid \"old\"");

    let stranger = Signer::new(Algorithm::ES256).with_kid("stranger");
    for _ in 0..50 {
        assert_said(lists(&app, &bearer(&stranger.sign(&claims()))).await, "CREDENTIALS_INVALID", "no key for ES256");
    }
    assert!(keys.asked() <= 5, "asked {} times", keys.asked());
}

#[tokio::test]
async fn keys_stay_while_their_source_is_away_or_broken() {
    let (known, new) = (Signer::new(Algorithm::ES256).with_kid("known"), Signer::new(Algorithm::ES256).with_kid("new"));
    let keys = KeyServer::start(key_set(&[&known])).await;
    let app = app_with(&keys).await;
    for broken in ["", "{}", "{\"keys\": []}", "<html>"] {
        keys.put(broken.to_owned());
        let _ = lists(&app, &bearer(&new.sign(&claims()))).await.unwrap_err();
        assert!(lists(&app, &bearer(&known.sign(&claims()))).await.is_ok(), "{broken}");
    }
    let asked = keys.stop().await;
    assert!(asked.load(Ordering::SeqCst) > 1);
    assert_said(lists(&app, &bearer(&new.sign(&claims()))).await, "CREDENTIALS_INVALID", "no key");
    assert!(lists(&app, &bearer(&known.sign(&claims()))).await.is_ok());
}

#[tokio::test]
async fn a_caller_who_goes_away_does_not_end_the_look_for_keys() {
    let (old, new) = (Signer::new(Algorithm::ES256).with_kid("old"), Signer::new(Algorithm::EdDSA).with_kid("new"));
    let keys = KeyServer::start(key_set(&[&old])).await;
    let app = app_with(&keys).await;
    let door = keys.door.lock().await;
    keys.put(key_set(&[&new]));
    let stranger = bearer(&Signer::new(Algorithm::ES256).with_kid("stranger").sign(&claims()));
    let mut request = stranger.call(list(T));
    request.set_timeout(Duration::from_millis(200));
    app.client.clone().list_events(request).await.unwrap_err();
    assert_eq!(keys.asked(), 2);
    drop(door);
    // Who holds the withdrawn key is refused as soon as the answer is there.
    let refused = async {
        while lists(&app, &bearer(&old.sign(&claims()))).await.is_ok() {
            between_looks().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), refused).await.unwrap();
}

/// A process goes by the real clock.
fn in_an_hour() -> i64 {
    SystemClock.now().timestamp() + 3600
}

/// The system's authorities are a file, here, which is what containers have too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_set_comes_over_https_from_whom_the_system_trusts() {
    let (ca, signer) = (Authority::new(), Signer::new(Algorithm::ES256).with_kid("k1"));
    let keys = KeyServer::start_tls(key_set(&[&signer]), &ca.issue(&[HOST])).await;
    let database = Database::create(Backend::Sqlite);
    let trusted = file(&database, "ca.pem", ca.pem()).display().to_string();
    let settings =
        [("AUDITLOG_AUTH_MODE", "jwt"), ("AUDITLOG_JWT_JWKS", keys.url.as_str()), ("SSL_CERT_FILE", trusted.as_str())];
    let server = ChildServer::serve(&database, &settings);
    let mut client = server.client().await;
    let good = bearer(&signer.sign(&claims_with(json!({ "exp": in_an_hour() }))));
    assert!(client.list_events(good.call(list(T))).await.is_ok());
    let stranger = Signer::new(Algorithm::ES256).with_kid("k1");
    let forged = bearer(&stranger.sign(&claims_with(json!({ "exp": in_an_hour() }))));
    assert_error(client.list_events(forged.call(list(T))).await, Code::Unauthenticated, "CREDENTIALS_INVALID");
}

#[derive(Clone, Copy, Debug)]
enum Wrong {
    Authority,
    Name,
    Expired,
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_set_from_whom_it_cannot_trust_keeps_it_from_starting(
    #[values(Wrong::Authority, Wrong::Name, Wrong::Expired)] wrong: Wrong,
) {
    let (ca, signer) = (Authority::new(), Signer::new(Algorithm::ES256).with_kid("k1"));
    let server = match wrong {
        Wrong::Authority => Authority::new().issue(&[HOST]),
        Wrong::Name => ca.issue(&["idp.example.com"]),
        Wrong::Expired => ca.issue_until(&[HOST], 2020),
    };
    let keys = KeyServer::start_tls(key_set(&[&signer]), &server).await;
    let database = Database::create(Backend::Sqlite);
    let mut command = auditlog(database.folder.path());
    command.env("AUDITLOG_DATABASE_URL", &database.url).env("AUDITLOG_LISTEN", "127.0.0.1:0");
    command.env("AUDITLOG_AUTH_MODE", "jwt").env("AUDITLOG_JWT_JWKS", &keys.url);
    command.env("SSL_CERT_FILE", file(&database, "ca.pem", ca.pem()));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("cannot get the key set from {}", keys.url)), "{said}");
    assert!(said.contains("certificate"), "{said}");
    assert_eq!(keys.asked(), 0);
}
