//! How docs/erase.md erases what was recorded: that nothing of it is left, and the log still holds.

use auditlog::proto::auditlog::v1::{Event, EventFilter, RequestContext};
use rstest::rstest;

use crate::{
    harness::*,
    readme::blocks,
    verify::{assert_holds, verify},
};

const PAGE: &str = include_str!("../../docs/erase.md");
const T: &str = "tenants/acme";
/// What the page's statements name.
const DOCUMENTED: [&str; 2] = ["01900000-0000-7000-8000-000000000001", "01900000-0000-7000-8000-000000000002"];
/// In every text of the event and in its note.
const SECRET: &str = "Annabel-Lee";

fn statements(info: &str) -> String {
    blocks(PAGE).into_iter().find(|block| block.info == info).expect("the page has it").text
}

/// The page's statements, about other ids.
fn erasure(backend: Backend, ids: [&str; 2]) -> String {
    let sql = DOCUMENTED.iter().zip(ids).fold(statements("sql erase"), |sql, (from, to)| sql.replace(from, to));
    match backend {
        Backend::Sqlite => [statements("sql sqlite-before"), sql, statements("sql sqlite-after")].concat(),
        Backend::Postgres => sql,
    }
}

fn personal() -> Event {
    let mut event = event("clusterprofile", SECRET);
    event.actor = Some(actor(SECRET));
    event.message = format!("{SECRET} was here");
    event.context = Some(RequestContext { user_agent: SECRET.to_owned(), ..RequestContext::default() });
    event.attributes = [("who".to_owned(), SECRET.to_owned())].into();
    event
}

/// Whether the bytes are in any of the database's files.
fn holds_secret(database: &Database) -> bool {
    let files = std::fs::read_dir(database.folder.path()).unwrap().map(|file| file.unwrap().path());
    let mut files = files.filter(|path| path.is_file()).map(|path| std::fs::read(path).unwrap());
    files.any(|bytes| bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()))
}

#[rstest]
#[tokio::test]
async fn what_the_page_says_erases_all_and_leaves_the_log_whole(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let root = Caller::root();
    let name = app.record(&root, T, personal()).await.unwrap().name;
    let other = app.record(&root, T, event("clusterprofile", "other")).await.unwrap().name;
    let note = app.note(&root, &name, &format!("as {SECRET} wished"), "").await.unwrap().note.unwrap().note_id;
    app.note(&root, &other, "kept", "").await.unwrap();
    assert!(backend == Backend::Postgres || holds_secret(&app.database), "the test looks in the wrong place");
    let sql = erasure(backend, [&name, &note].map(|name| name.rsplit('/').next().unwrap()));
    app.database.execute(&sql);
    assert!(backend == Backend::Postgres || !holds_secret(&app.database), "bytes are left");

    let erased = app.get(&root, &name).await.unwrap();
    assert_eq!(erased.erasure.as_ref().unwrap().reason, "request 4711");
    assert!(!format!("{erased:?}").contains(SECRET), "{erased:?}");
    assert_eq!((erased.update_notes.len(), erased.update_notes[0].author.clone()), (1, None));
    let of_actor = EventFilter { actor_ids: vec![SECRET.to_owned()], ..EventFilter::default() };
    assert_eq!(app.list(&root, filtered(T, of_actor)).await.unwrap().events, []);
    assert_eq!(app.get(&root, &other).await.unwrap().update_notes[0].text, "kept");
    // Once more is no harm, and the log goes on.
    app.database.execute(&sql);
    app.record(&root, T, event("clusterprofile", "later")).await.unwrap();
    assert_holds(&verify(&app.database, "acme", &[]));
}
