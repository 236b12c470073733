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
/// In every text of the events and in a note.
const SECRET: &str = "Annabel-Lee";

fn statements(info: &str) -> String {
    blocks(PAGE).into_iter().find(|block| block.info == info).expect("the page has it").text
}

/// The page's statements, about an event and a note.
fn erasure(event: &str, note: &str) -> String {
    let ids = DOCUMENTED.iter().zip([event, note]);
    ids.fold(statements("sql erase"), |sql, (from, to)| sql.replace(from, to))
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
    // Out of order, so that pages of the file are filled and parted, and copies stay behind.
    let ids: Vec<String> = (0..600).map(|n| id_at(START_MILLIS - n * 7919 % 600, n.unsigned_abs())).collect();
    for ids in ids.chunks(50) {
        let items = ids.iter().map(|id| item(T, personal(), id));
        let other = || item(T, event("clusterprofile", "other"), "");
        app.batch(&root, T, items.flat_map(|item| [item, other(), other()]).collect()).await.unwrap();
    }
    let [name, other] = [&ids[0], &app.record(&root, T, event("clusterprofile", "noted")).await.unwrap().name]
        .map(|id| format!("{T}/events/{}", id.rsplit('/').next().unwrap()));
    let note = app.note(&root, &name, &format!("as {SECRET} wished"), "").await.unwrap().note.unwrap().note_id;
    app.note(&root, &other, "kept", "").await.unwrap();
    assert!(backend == Backend::Postgres || holds_secret(&app.database), "the test looks in the wrong place");
    let mut sql: String = ids.iter().map(|id| erasure(id, &note)).collect();
    if backend == Backend::Sqlite {
        sql += &statements("sql sqlite-after");
    }
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
