//! Mode `jwt`: which tokens let somebody in, and as whom.

use auditlog::{
    SystemClock,
    app::App,
    config::{Config, JwtConfig},
    proto::auditlog::v1::ActorType,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use rstest::rstest;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::{harness::*, tokens::*};

const T: &str = "tenants/acme";
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A service that takes tokens of HS256, for this audience and by this issuer.
async fn app() -> TestApp {
    app_with(|_| {}).await
}

async fn app_with(change: impl FnOnce(&mut JwtConfig)) -> TestApp {
    let database = Database::create(Backend::Sqlite);
    let secret_file = file(&database, "secret", SECRET);
    TestApp::start_on(
        database,
        jwt_mode(|jwt| {
            jwt.secret_file = Some(secret_file);
            change(jwt);
        }),
    )
    .await
}

fn signer() -> Signer {
    Signer::secret(SECRET)
}

pub async fn lists(app: &TestApp, caller: &Caller) -> Result<usize, Status> {
    app.list(caller, list(T)).await.map(|page| page.events.len())
}

#[track_caller]
pub fn assert_said(result: Result<usize, Status>, reason: &str, text: &str) {
    let status = assert_error(result, Code::Unauthenticated, reason);
    assert!(status.message().contains(text), "{text:?} is not in {:?}", status.message());
}

#[tokio::test]
async fn a_token_says_who_calls_and_what_they_may() {
    let app = app().await;
    let token = signer().sign(&claims_with(json!({ "subject_type": "service" })));
    let name = app.record(&bearer(&token), T, event("k", "1")).await.unwrap().name;
    let recorder = app.get(&bearer(&token), &name).await.unwrap().recorder.unwrap();
    assert_eq!((recorder.r#type(), &*recorder.id, &*recorder.name), (ActorType::Service, "ann", "Ann Ä"));
    assert_error(app.list(&bearer(&token), list("tenants/other")).await, Code::PermissionDenied, "PERMISSION_MISSING");
}

#[rstest]
#[tokio::test]
async fn each_algorithm_is_taken_from_its_own_key(
    #[values(Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA)] algorithm: Algorithm,
    #[values("pem", "jwks")] source: &str,
) {
    let database = Database::create(Backend::Sqlite);
    let (signer, stranger) = (Signer::new(algorithm).with_kid("k1"), Signer::new(algorithm).with_kid("k1"));
    let (pem, jwks) = (file(&database, "pem", &signer.public_pem), file(&database, "jwks", key_set(&[&signer])));
    let settings = jwt_mode(|jwt| match source {
        "pem" => jwt.public_key_file = Some(pem),
        _ => jwt.jwks = Some(jwks.display().to_string()),
    });
    let app = TestApp::start_on(database, settings).await;
    assert_eq!(lists(&app, &bearer(&signer.sign(&claims()))).await.unwrap(), 0);
    assert_said(lists(&app, &bearer(&stranger.sign(&claims()))).await, "CREDENTIALS_INVALID", "signature");
}

#[tokio::test]
async fn the_header_never_chooses_the_algorithm() {
    let database = Database::create(Backend::Sqlite);
    let rsa = Signer::new(Algorithm::RS256);
    let pem = file(&database, "pem", &rsa.public_pem);
    let app = TestApp::start_on(database, jwt_mode(|jwt| jwt.public_key_file = Some(pem))).await;
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for alg in ["none", "None", "NONE", "HS256", "RS512", "PS256", "ES256", ""] {
        let unsigned = format!("{}.{}.", part(json!({ "alg": alg, "typ": "JWT" })), part(claims()));
        assert_said(lists(&app, &bearer(&unsigned)).await, "CREDENTIALS_INVALID", "metadata key authorization");
    }
    for secret in [rsa.public_pem.as_bytes(), rsa.public_pem.trim().as_bytes(), b""] {
        let forged = Signer::secret(secret).sign(&claims());
        assert_said(lists(&app, &bearer(&forged)).await, "CREDENTIALS_INVALID", "no key for HS256");
    }
    assert!(lists(&app, &bearer(&rsa.sign(&claims()))).await.is_ok());
}

/// Also where there is a secret, a public key is not taken for one.
#[tokio::test]
async fn a_secret_and_a_public_key_are_not_mistaken_for_each_other() {
    let database = Database::create(Backend::Sqlite);
    let (rsa, secret) = (Signer::new(Algorithm::RS256), signer());
    let (pem, secret_file) = (file(&database, "pem", &rsa.public_pem), file(&database, "secret", SECRET));
    let settings = jwt_mode(|jwt| (jwt.public_key_file, jwt.secret_file) = (Some(pem), Some(secret_file)));
    let app = TestApp::start_on(database, settings).await;
    let forged = Signer::secret(rsa.public_pem.as_bytes()).sign(&claims());
    assert_said(lists(&app, &bearer(&forged)).await, "CREDENTIALS_INVALID", "signature");
    for signer in [rsa, secret] {
        assert!(lists(&app, &bearer(&signer.sign(&claims()))).await.is_ok());
    }
}

#[tokio::test]
async fn a_kid_must_be_that_of_the_key_that_signed() {
    let database = Database::create(Backend::Sqlite);
    let keys = ["a", "b"].map(|kid| Signer::new(Algorithm::ES256).with_kid(kid));
    let set = file(&database, "jwks", key_set(&keys.each_ref()));
    let settings = jwt_mode(|jwt| jwt.jwks = Some(set.display().to_string()));
    let app = TestApp::start_on(database, settings).await;
    let [signer, _] = keys;
    assert!(lists(&app, &bearer(&signer.sign(&claims()))).await.is_ok());
    for (kid, text) in [("b", "signature"), ("c", "with the kid \"c\""), ("", "with the kid \"\""), ("../a", "kid")] {
        let token = Signer { kid: Some(kid.to_owned()), ..signer.clone() }.sign(&claims());
        assert_said(lists(&app, &bearer(&token)).await, "CREDENTIALS_INVALID", text);
    }
    // Without one, all keys of the algorithm are tried.
    assert!(lists(&app, &bearer(&Signer { kid: None, ..signer }.sign(&claims()))).await.is_ok());
}

#[tokio::test]
async fn what_is_no_single_token_is_refused() {
    let app = app().await;
    let good = signer().sign(&claims());
    assert_said(lists(&app, &Caller::nobody()).await, "CREDENTIALS_MISSING", "authorization with Bearer and a token");
    for text in
        ["Bearer", "Bearer ", "Basic YTpi", &good, "Bearer a", "Bearer a.b.c", "Bearer ..", &format!("Bearer {good}.x")]
    {
        let caller = Caller::nobody().with("authorization", text);
        assert_said(lists(&app, &caller).await, "CREDENTIALS_INVALID", "metadata key authorization");
    }
    let twice = bearer(&good).with("authorization", &format!("Bearer {good}"));
    assert_said(lists(&app, &twice).await, "CREDENTIALS_INVALID", "more than once");
    let (head, signature) = good.rsplit_once('.').unwrap();
    let flipped = format!("{head}.{}", signature.chars().rev().collect::<String>());
    assert_said(lists(&app, &bearer(&flipped)).await, "CREDENTIALS_INVALID", "");
    assert!(lists(&app, &Caller::nobody().with("authorization", &format!("bearer  {good}"))).await.is_ok());
}

#[tokio::test]
async fn a_huge_token_is_refused_before_it_is_read() {
    let database = Database::create(Backend::Sqlite);
    let secret_file = file(&database, "secret", SECRET);
    let settings = jwt_mode(|jwt| jwt.secret_file = Some(secret_file));
    let app = TestApp::start_on(database, |config| {
        settings(config);
        config.traffic.header_bytes = 4 * 1024 * 1024;
    })
    .await;
    let token = signer().sign(&claims_with(json!({ "x": "x".repeat(1024 * 1024) })));
    assert_said(lists(&app, &bearer(&token)).await, "CREDENTIALS_INVALID", "at most 16384 are taken");
}

/// The transport's own answers: to the call, or by closing the connection that the call came on.
#[tokio::test]
async fn metadata_beyond_the_limit_harms_nobody_else() {
    let app = app().await;
    let good = bearer(&signer().sign(&claims_with(json!({ "permissions": ["audit.export@tenants/acme"] }))));
    app.record(&good, T, event("k", "1")).await.unwrap();
    let huge = |bytes: usize| bearer(&signer().sign(&claims_with(json!({ "x": "x".repeat(bytes) }))));

    // Another call of the connection goes on.
    let mut export = app.start_export(&good, export_of(T)).await.unwrap().into_inner();
    let status = lists(&app, &huge(16 * 1024)).await.unwrap_err();
    assert!(status.message().contains("HTTP status code 431"), "{status:?}");
    while export.message().await.unwrap().is_some() {}

    // And other connections do.
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", app.address)).unwrap();
    let mut other = Client::new(channel.connect().await.unwrap());
    let mut export = app.start_export(&good, export_of(T)).await.unwrap().into_inner();
    let status = other.list_events(huge(1024 * 1024).call(list(T))).await.unwrap_err();
    assert!(format!("{status:?}").contains("ENHANCE_YOUR_CALM"), "{status:?}");
    while export.message().await.unwrap().is_some() {}
    assert!(lists(&app, &good).await.is_ok());
}

#[tokio::test]
async fn times_hold_to_the_second_with_a_leeway_of_thirty() {
    let app = app().await;
    let with = |more| bearer(&signer().sign(&claims_with(more)));
    let at = |seconds: i64| app.clock.set_millis(START_MILLIS + seconds * 1000);
    let short = with(json!({ "exp": NOW + 60 }));
    at(60 + 29);
    assert!(lists(&app, &short).await.is_ok());
    at(60 + 31);
    assert_said(lists(&app, &short).await, "CREDENTIALS_EXPIRED", "the token has expired");
    at(0);
    assert!(lists(&app, &with(json!({ "nbf": NOW + 29 }))).await.is_ok());
    assert_said(lists(&app, &with(json!({ "nbf": NOW + 31 }))).await, "CREDENTIALS_INVALID", "nbf");
    for exp in [Value::Null, json!("tomorrow"), json!([]), json!({})] {
        assert_said(lists(&app, &with(json!({ "exp": exp }))).await, "CREDENTIALS_INVALID", "exp");
    }
    let mut without = claims();
    without.as_object_mut().unwrap().remove("exp");
    assert_said(lists(&app, &bearer(&signer().sign(&without))).await, "CREDENTIALS_INVALID", "it has no exp");
    let forged = Signer::secret(&[7; 32]).sign(&claims_with(json!({ "exp": NOW - 3600 })));
    assert_said(lists(&app, &bearer(&forged)).await, "CREDENTIALS_INVALID", "signature");
}

#[tokio::test]
async fn issuer_and_audience_must_be_the_ones_that_are_set() {
    let app = app_with(|jwt| {
        jwt.issuer = ["https://idp.example.com/".to_owned()].into();
        jwt.audience = ["auditlog".to_owned(), "audit".to_owned()].into();
    })
    .await;
    let with = |iss: Value, aud: Value| bearer(&signer().sign(&claims_with(json!({ "iss": iss, "aud": aud }))));
    let iss = json!("https://idp.example.com/");
    for aud in [json!("auditlog"), json!(["other", "audit"])] {
        assert!(lists(&app, &with(iss.clone(), aud)).await.is_ok());
    }
    for aud in [json!("other"), json!(["other"]), json!([]), Value::Null, json!(7)] {
        assert_said(lists(&app, &with(iss.clone(), aud)).await, "CREDENTIALS_INVALID", "aud");
    }
    for iss in [json!("https://idp.example.com"), json!("https://idp.example.com.evil/"), Value::Null, json!(7)] {
        assert_said(lists(&app, &with(iss, json!("auditlog"))).await, "CREDENTIALS_INVALID", "iss");
    }
}

#[tokio::test]
async fn metadata_claims_mean_nothing_beside_a_token() {
    let app = app().await;
    let poor = signer().sign(&claims_with(json!({ "sub": "bob", "roles": [] })));
    let root = Caller::root();
    assert_said(lists(&app, &root).await, "CREDENTIALS_MISSING", "");
    let smuggled = Caller::root().with("authorization", &format!("Bearer {poor}")).role("tenant_admin@tenants/acme");
    let status = assert_error(lists(&app, &smuggled).await, Code::PermissionDenied, "PERMISSION_MISSING");
    assert_eq!(
        status.message(),
        "bob may not read tenants/acme: send a token with audit.get@tenants/acme and audit.list@tenants/acme in the \
         claim permissions"
    );
}

#[tokio::test]
async fn unusable_identities_are_refused_by_claim() {
    let app = app().await;
    for (more, text) in [
        (json!({ "sub": "" }), "the token's claim \"sub\": is required"),
        (json!({ "sub": null }), "the token's claim \"sub\": is required"),
        (json!({ "sub": 7 }), "the token's claim \"sub\": is required"),
        (json!({ "sub": "a\u{0}b" }), "the token's claim \"sub\": must hold no control"),
        (json!({ "sub": "ann\nforged" }), "the token's claim \"sub\": must hold no control"),
        (json!({ "sub": "x".repeat(257) }), "the token's claim \"sub\": must be at most 256"),
        (json!({ "name": 7 }), "the token's claim \"name\": must be a string"),
        (json!({ "subject_type": "system" }), "the token's claim \"subject_type\": must be user or service"),
        (json!({ "subject_type": ["user"] }), "the token's claim \"subject_type\": must be user or service"),
    ] {
        assert_said(lists(&app, &bearer(&signer().sign(&claims_with(more)))).await, "CREDENTIALS_INVALID", text);
    }
}

#[rstest]
#[case::keycloak(
    json!({
        "sub": "f3a1c2d4-0000-4000-8000-000000000001", "typ": "Bearer", "azp": "console", "preferred_username": "ann",
        "realm_access": { "roles": ["default-roles-acme", "offline_access", "tenant_viewer@tenants/acme"] },
        "scope": "openid email profile",
    }),
    |jwt: &mut JwtConfig| {
        jwt.claims.roles = "/realm_access/roles".to_owned();
        jwt.claims.name = "preferred_username".to_owned();
        jwt.claims.permissions = "scope".to_owned();
    }
)]
#[case::auth0(
    json!({
        "sub": "auth0|5f7c8ec7c33c6c004bbafe82", "gty": "client-credentials",
        "https://acme.example.com/roles": ["auditors", "billing"], "permissions": ["read:things", 7],
    }),
    |jwt: &mut JwtConfig| {
        jwt.claims.roles = "https://acme.example.com/roles".to_owned();
        jwt.grants.insert("auditors".to_owned(), vec!["audit.get@tenants/acme".into(), "audit.list@tenants/acme".into()]);
    }
)]
#[case::okta(
    json!({
        "sub": "ann@example.com", "cid": "0oa1", "groups": ["Everyone", "Audit Acme"], "scp": ["openid", "audit"],
    }),
    |jwt: &mut JwtConfig| {
        jwt.claims.roles = "groups".to_owned();
        jwt.claims.permissions = "scp".to_owned();
        jwt.grants.insert("Audit Acme".to_owned(), vec!["tenant_viewer@tenants/acme".into(), "audit.export@tenants/acme".into()]);
    }
)]
#[tokio::test]
async fn tokens_of_known_providers_open_what_they_say(#[case] token: Value, #[case] settings: fn(&mut JwtConfig)) {
    let app = app_with(settings).await;
    let token = signer().sign(&claims_with_only(token));
    assert!(lists(&app, &bearer(&token)).await.is_ok());
    let other = app.list(&bearer(&token), list("tenants/other")).await;
    assert_error(other, Code::PermissionDenied, "PERMISSION_MISSING");
    assert_error(app.record(&bearer(&token), T, event("k", "1")).await, Code::PermissionDenied, "PERMISSION_MISSING");
}

fn claims_with_only(mut token: Value) -> Value {
    token.as_object_mut().unwrap().insert("exp".to_owned(), json!(NOW + 300));
    token
}

#[tokio::test]
async fn a_string_claim_is_split_at_spaces_and_a_pointer_into_nothing_grants_nothing() {
    let app = app_with(|jwt| jwt.claims.roles = "/nowhere/roles".to_owned()).await;
    let with = |more| bearer(&signer().sign(&claims_with(more)));
    let both = json!({ "permissions": "openid audit.get@tenants/acme  audit.list@tenants/acme" });
    assert!(lists(&app, &with(both)).await.is_ok());
    assert_error(lists(&app, &with(json!({}))).await, Code::PermissionDenied, "PERMISSION_MISSING");
}

#[tokio::test]
async fn without_a_usable_key_it_does_not_start() {
    let database = Database::create(Backend::Sqlite);
    let rsa = Signer::new(Algorithm::RS256);
    let path = |name: &str, text: &str| Some(file(&database, name, text));
    let none = JwtConfig::default();
    for (jwt, text) in [
        (JwtConfig { secret_file: path("short", "too short\n"), ..none.clone() }, "HS256 takes at least 32"),
        (JwtConfig { secret_file: Some("/nowhere/secret".into()), ..none.clone() }, "cannot read /nowhere/secret"),
        (JwtConfig { public_key_file: path("private", &rsa.private_pem), ..none.clone() }, "one public key"),
        (JwtConfig { public_key_file: path("text", "hello"), ..none.clone() }, "one public key"),
        (
            JwtConfig { jwks: path("empty", "{\"keys\":[]}").map(|p| p.display().to_string()), ..none.clone() },
            "has no key that can be used",
        ),
        (
            JwtConfig {
                jwks: path("oct", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}").map(|p| p.display().to_string()),
                ..none.clone()
            },
            "has no key that can be used",
        ),
        (
            JwtConfig { jwks: Some("http://127.0.0.1:9/keys".into()), ..none.clone() },
            "cannot get the key set from http://127.0.0.1:9/keys",
        ),
    ] {
        let mut config = Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
        config.database.url.clone_from(&database.url);
        jwt_mode(|settings| *settings = jwt)(&mut config);
        let error = App::start(config, std::sync::Arc::new(SystemClock)).await.err().unwrap();
        assert!(error.to_string().contains(text), "{text:?} is not in {error}");
        assert!(!error.to_string().contains("PRIVATE") && !error.to_string().contains("too short"), "{error}");
    }
}

/// Runs `auditlog token` and gives what it printed.
fn print_token(arguments: &[&str]) -> Result<String, String> {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_auditlog"))
        .env_clear()
        .args(["token", "--subject", "ann", "--role", "tenant_admin@tenants/acme"])
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[rstest]
#[case(Algorithm::HS256)]
#[case(Algorithm::RS256)]
#[case(Algorithm::ES256)]
#[case(Algorithm::EdDSA)]
#[tokio::test]
async fn the_command_makes_tokens_that_the_service_takes(#[case] algorithm: Algorithm) {
    let database = Database::create(Backend::Sqlite);
    let names = ["--jwt-audience=auditlog", "--jwt-issuer=me", "--jwt-roles-claim=/a/roles", "--subject-type=service"];
    let (flag, key) = match algorithm {
        Algorithm::HS256 => ("--jwt-secret-file", file(&database, "key", SECRET)),
        _ => ("--private-key-file", file(&database, "key", Signer::new(algorithm).private_pem)),
    };
    let public = file(&database, "public", "");
    let settings = jwt_mode(|jwt| {
        match algorithm {
            Algorithm::HS256 => jwt.secret_file = Some(key.clone()),
            _ => {
                let pem = rcgen::KeyPair::from_pem(&std::fs::read_to_string(&key).unwrap()).unwrap().public_key_pem();
                std::fs::write(&public, pem).unwrap();
                jwt.public_key_file = Some(public.clone());
            }
        }
        jwt.audience = ["auditlog".to_owned()].into();
        jwt.issuer = ["me".to_owned()].into();
        jwt.claims.roles = "/a/roles".to_owned();
    });
    let app = TestApp::start_on(database, settings).await;
    let arguments = [&[flag, key.to_str().unwrap()], &names[..]].concat();
    assert!(lists(&app, &bearer(&print_token(&arguments).unwrap())).await.is_ok());
    assert!(print_token(&[&arguments[..], &["--role", "tenant_admin"]].concat()).unwrap_err().contains("name@scope"));
}

#[test]
fn the_command_says_what_it_has_no_key_for() {
    let error = print_token(&[]).unwrap_err();
    assert!(error.starts_with("auditlog: there is nothing to sign a token with"), "{error}");
}
