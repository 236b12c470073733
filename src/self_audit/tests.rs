//! The ledger against any course of things: nothing is lost or told twice, nothing is told too often, nothing grows.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;
use tokio::time::Instant;

use crate::{
    auth::{Authorizer, Denied, Grant, Permit, Policy, Principal, authorize},
    ingest::IngestError,
    model::{Actor, ActorType, Clock as _, Scope, SystemClock},
};

use super::{
    Cause,
    deed::Deed,
    ledger::{Begun, Due, Ledger, Noted, Read},
    shares::{MOST, MOST_OF_CALLER},
    story::{First, Story, Told},
};

const MINUTE: Duration = Duration::from_secs(60);
const METHODS: [&str; 2] = ["auditlog.v1.AuditLogService/GetEvent", "auditlog.v1.AuditLogService/ListEvents"];

/// A ledger, and somebody who tells what it says is due.
struct Course {
    ledger: Ledger,
    now: Instant,
    authorizer: Authorizer,
    under_way: Vec<(Begun, String)>,
    /// The events that are in a log, by the address of what they tell: what is told again is one.
    told: HashMap<usize, (Arc<Told>, String)>,
    told_at: HashMap<String, Instant>,
    counted: HashMap<String, u64>,
    lost: u64,
}

impl Course {
    fn new() -> Self {
        Self {
            ledger: Ledger::new(MINUTE),
            now: Instant::now(),
            authorizer: Authorizer::new(Policy::new(&BTreeMap::new()).unwrap()),
            under_way: Vec::new(),
            told: HashMap::new(),
            told_at: HashMap::new(),
            counted: HashMap::new(),
            lost: 0,
        }
    }

    fn principal(who: &str, grants: &[&str]) -> Principal {
        let actor = Actor { kind: ActorType::User, id: who.to_owned(), name: String::new() };
        let roles = grants.iter().map(|grant| Grant::parse(grant).unwrap()).collect();
        Principal { actor, roles, permissions: Vec::new() }
    }

    fn denied(&self, who: &str, scope: &str) -> Denied {
        let scope = Scope::parse(scope).unwrap();
        self.authorizer.read(&Self::principal(who, &[]), &scope).unwrap_err()
    }

    fn permit(&self, who: &str, scope: &str) -> Permit<authorize::Read> {
        let scope = Scope::parse(scope).unwrap();
        let grant = format!("tenant_viewer@tenants/{}", scope.tenant());
        self.authorizer.read(&Self::principal(who, &[&grant]), &scope).unwrap()
    }

    fn deny(&mut self, who: &str, scope: &str, method: &str) -> Noted {
        let (denied, cause) = (self.denied(who, scope), Cause { method, request_id: "r" });
        let (story, first) = (|| Story::of_denial(&denied, cause), || First::of(cause, SystemClock.now()));
        let noted = self.ledger.note_denial(Deed::denial(&denied, method), story, first, self.now);
        if matches!(noted, Noted::Counted | Noted::New) {
            *self.counted.entry(format!("{who} {scope} {method}")).or_default() += 1;
        }
        noted
    }

    fn read(&mut self, who: &str, scope: &str, method: &str) -> Read {
        let (permit, cause) = (self.permit(who, scope), Cause { method, request_id: "r" });
        let (story, first) = (|| Story::of_read(&permit, cause), || First::of(cause, SystemClock.now()));
        self.ledger.note_read(Deed::read(&permit, method), story, first, self.now)
    }

    fn tell_due(&mut self) {
        loop {
            match self.ledger.due(self.now) {
                Due::Tell(begun) => {
                    let key = key(&begun.told);
                    self.under_way.push((begun, key));
                }
                Due::Forgotten => (),
                Due::Later(_) => return,
            }
        }
    }

    /// The oldest that is under way comes to an end.
    fn end(&mut self, ending: Ending) {
        if self.under_way.is_empty() {
            return;
        }
        let (begun, key) = self.under_way.remove(0);
        if matches!(ending, Ending::Good | Ending::LostAfterCommit) {
            let address = Arc::as_ptr(&begun.told) as usize;
            let is_new = self.told.insert(address, (Arc::clone(&begun.told), key.clone())).is_none();
            let before = if is_new { self.told_at.insert(key.clone(), self.now) } else { None };
            assert!(before.is_none_or(|before| self.now >= before + MINUTE), "{key} was told twice in a minute");
        }
        let result = match ending {
            Ending::Good => Ok(true),
            Ending::Failed => Err(IngestError::QueueFull),
            Ending::LostBeforeCommit | Ending::LostAfterCommit => Err(IngestError::OutcomeUnknown { retry_safe: true }),
        };
        self.lost += self.ledger.settle(&begun, &result, self.now);
    }

    fn told(&self) -> HashMap<String, u64> {
        let mut sums = HashMap::new();
        for (told, key) in self.told.values() {
            *sums.entry(key.clone()).or_default() += told.sum.count;
        }
        sums
    }
}

/// What an event is about.
fn key(told: &Told) -> String {
    let (_, draft) = told.event(&SystemClock).unwrap();
    let (actor, attributes) = (&draft.content.actor.id, &draft.content.attributes);
    format!("{actor} {} {}", attributes["scope"], attributes["method"])
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Good,
    Failed,
    LostBeforeCommit,
    LostAfterCommit,
}

#[derive(Clone, Debug)]
enum Step {
    Deny(usize, usize, usize),
    Wait(u64),
    Tell,
    End(Ending),
}

fn any_step() -> impl Strategy<Value = Step> {
    let ending = prop_oneof![
        3 => Just(Ending::Good),
        1 => Just(Ending::Failed),
        1 => Just(Ending::LostBeforeCommit),
        1 => Just(Ending::LostAfterCommit),
    ];
    prop_oneof![
        4 => (0..2usize, 0..2usize, 0..2usize).prop_map(|(who, scope, method)| Step::Deny(who, scope, method)),
        2 => (0..70u64).prop_map(Step::Wait),
        2 => Just(Step::Tell),
        3 => ending.prop_map(Step::End),
    ]
}

proptest! {
    /// What comes late does so because the store was away: then the minute runs from the end of that.
    #[test]
    fn each_denial_is_told_once_and_each_kind_once_a_minute(steps in prop::collection::vec(any_step(), 0..120)) {
        let mut course = Course::new();
        for step in steps {
            match step {
                Step::Deny(who, scope, method) => {
                    let scope = ["tenants/a", "tenants/a/projects/p"][scope];
                    prop_assert!(matches!(course.deny(["eve", "mallory"][who], scope, METHODS[method]), Noted::New | Noted::Counted));
                }
                Step::Wait(seconds) => course.now += Duration::from_secs(seconds),
                Step::Tell => course.tell_due(),
                Step::End(ending) => course.end(ending),
            }
        }
        // The store is well again, and all is told in the course of time.
        for _ in 0..4 {
            course.now += MINUTE;
            course.tell_due();
            while !course.under_way.is_empty() {
                course.end(Ending::Good);
            }
        }
        prop_assert_eq!(course.told(), course.counted.clone());
        prop_assert_eq!(course.lost, 0);
        course.now += MINUTE;
        course.tell_due();
        prop_assert!(course.ledger.is_empty() && course.ledger.size() == 0, "all is forgotten");
    }

    #[test]
    fn what_is_not_told_at_the_end_is_known_to_be_lost(steps in prop::collection::vec(any_step(), 0..60), store_is_well: bool) {
        let mut course = Course::new();
        for step in steps {
            match step {
                Step::Deny(who, _, method) => drop(course.deny(["eve", "mallory"][who], "tenants/a", METHODS[method])),
                Step::Wait(seconds) => course.now += Duration::from_secs(seconds),
                Step::Tell => course.tell_due(),
                Step::End(Ending::LostAfterCommit) | Step::End(Ending::LostBeforeCommit) => course.end(Ending::Failed),
                Step::End(ending) => course.end(ending),
            }
        }
        course.ledger.close();
        // The end does not wait for minutes to pass.
        course.told_at.clear();
        while !course.ledger.is_empty() {
            course.tell_due();
            course.told_at.clear();
            course.end(if store_is_well { Ending::Good } else { Ending::Failed });
        }
        let told: u64 = course.told().values().sum();
        prop_assert_eq!(told + course.lost, course.counted.values().sum::<u64>());
        prop_assert!(!store_is_well || course.lost == 0);
        prop_assert_eq!(course.deny("eve", "tenants/a", METHODS[0]), Noted::NoRoom);
    }
}

/// Whatever comes from however many callers about however many tenants, and however long nothing can be told.
#[test]
fn a_flood_takes_no_more_than_its_place() {
    let mut course = Course::new();
    let mut noted: HashMap<&str, usize> = HashMap::new();
    for n in 0..30_000 {
        let name = match course.deny(&format!("eve-{}", n % 1000), &format!("tenants/t{n}"), METHODS[n % 2]) {
            Noted::New => "new",
            Noted::NoRoom => "no room",
            Noted::Counted | Noted::NoLog => "other",
        };
        *noted.entry(name).or_default() += 1;
    }
    assert_eq!((noted["new"], noted["no room"], noted.len()), (MOST, 30_000 - MOST, 2));
    // Reads have a place of their own.
    let begun =
        (0..30_000).filter(|n| matches!(course.read(&format!("ann-{n}"), "tenants/a", METHODS[0]), Read::Begin(_)));
    assert_eq!(begun.count(), MOST);
    assert!(course.ledger.size() <= 2 * 6 * MOST, "{}", course.ledger.size());
}

#[test]
fn one_caller_has_a_share_of_all_and_of_a_tenant() {
    let mut course = Course::new();
    let is_new = |noted| noted == Noted::New;
    let at_one =
        (0..200).filter(|n| is_new(course.deny("eve", &format!("tenants/a/projects/p{n}"), METHODS[0]))).count();
    let at_many = (0..500).filter(|n| is_new(course.deny("eve", &format!("tenants/t{n}"), METHODS[0]))).count();
    assert_eq!((at_one, at_many), (64, 256 - 64));
    assert_eq!(course.deny("mallory", "tenants/a", METHODS[0]), Noted::New, "another caller has their own");
}

/// Who makes up names of projects has each of their further reads recorded by itself, and nobody else has.
#[test]
fn one_reader_has_a_share_of_all() {
    let mut course = Course::new();
    let mut is_begun = |who: &str, scope: &str| matches!(course.read(who, scope, METHODS[0]), Read::Begin(_));
    let own = (0..500).filter(|n| is_begun("eve", &format!("tenants/a/projects/p{n}"))).count();
    assert_eq!(own, MOST_OF_CALLER);
    assert!(is_begun("ann", "tenants/a/projects/p1"), "another reader has their own");
}

/// So a made-up name takes a place for a moment only, and hides nothing.
#[test]
fn denials_at_tenants_without_a_log_are_forgotten_at_once_and_asked_for_rarely() {
    let mut course = Course::new();
    let mut asked = HashSet::new();
    for n in 0..500 {
        assert_eq!(course.deny("eve", &format!("tenants/t{n}"), METHODS[0]), Noted::New);
        course.tell_due();
        for (begun, key) in course.under_way.drain(..) {
            course.ledger.settle(&begun, &Ok(false), course.now);
            asked.insert(key);
        }
        assert_eq!(course.deny("mallory", &format!("tenants/t{n}/projects/p"), METHODS[1]), Noted::NoLog);
    }
    assert!(course.ledger.is_empty() && asked.len() == 500);
    course.now += Duration::from_secs(5);
    assert_eq!(course.deny("eve", "tenants/t499", METHODS[0]), Noted::New, "it may have a log by now");
}

fn begun(read: Read) -> Option<Begun> {
    match read {
        Read::Begin(begun) => Some(begun),
        Read::Counted | Read::NoRoom | Read::Wait(_) => None,
    }
}

#[test]
fn a_read_waits_for_an_event_that_tells_of_it_in_each_interval() {
    let mut course = Course::new();
    let read = |course: &mut Course| course.read("ann", "tenants/a", METHODS[1]);
    let first = begun(read(&mut course)).unwrap();
    assert!(first.is_for_reader && matches!(read(&mut course), Read::Wait(_)));
    course.ledger.settle(&first, &Err(IngestError::QueueFull), course.now);
    let second = begun(read(&mut course)).expect("the next one tries again, without a pause");
    assert_eq!(second.told.sum.count, 1, "the one that was refused does not count");
    course.ledger.settle(&second, &Ok(true), course.now);
    for _ in 0..3 {
        assert!(matches!(read(&mut course), Read::Counted));
    }
    course.now += MINUTE;
    let third = begun(read(&mut course)).unwrap();
    assert_eq!(third.told.sum.count, 4);
    course.ledger.settle(&third, &Err(IngestError::OutcomeUnknown { retry_safe: true }), course.now);
    let again = begun(read(&mut course)).unwrap();
    assert!(Arc::ptr_eq(&again.told, &third.told) && !again.is_for_reader, "and it has to ask once more");
    course.ledger.settle(&again, &Ok(true), course.now);
    assert!(matches!(read(&mut course), Read::Counted));
    // Where there is no log yet, each read looks anew: it may show the log's first event.
    let elsewhere = begun(course.read("ann", "tenants/b", METHODS[1])).unwrap();
    course.ledger.settle(&elsewhere, &Ok(false), course.now);
    assert!(begun(course.read("ann", "tenants/b", METHODS[1])).is_some());
}
