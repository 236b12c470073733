//! Callers who record without pause, remember what was acknowledged, and hold the store to it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use auditlog::proto::auditlog::v1::{BatchRecordEventsRequest, EventReceipt, RecordEventRequest};
use tokio::{sync::watch, task::JoinSet};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    child::PAST_MILLIS,
    harness::*,
    sealed::assert_sealed,
    sql::Sql,
    verify::{assert_holds, verify},
};

/// Callers and what they were told.
pub struct Load {
    callers: JoinSet<()>,
    shared: Arc<Shared>,
    next_caller: u64,
}

struct Shared {
    stop: AtomicBool,
    /// How many calls were acknowledged.
    acknowledged: watch::Sender<u64>,
    /// Name of the event: its place.
    receipts: Mutex<HashMap<String, i64>>,
    errors: Mutex<Vec<Status>>,
}

/// Counts one caller's calls that were acknowledged.
#[derive(Clone, Default)]
pub struct Tally(Arc<AtomicU64>);

impl Tally {
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Load {
    pub fn new() -> Self {
        let shared = Shared {
            stop: AtomicBool::new(false),
            acknowledged: watch::Sender::new(0),
            receipts: Mutex::default(),
            errors: Mutex::default(),
        };
        Self { callers: JoinSet::new(), shared: Arc::new(shared), next_caller: 0 }
    }

    /// One more caller, who records batches of `size` events into `tenant`. A call that fails is sent again as it is, to the
    /// next one of `clients`, until it is acknowledged.
    pub fn add(&mut self, clients: &[&Client], tenant: &str, size: usize) -> Tally {
        self.next_caller += 1;
        self.add_as(self.next_caller, clients, tenant, size)
    }

    /// A caller with a number of its own choice. Callers with one number send the same events.
    pub fn add_as(&mut self, caller: u64, clients: &[&Client], tenant: &str, size: usize) -> Tally {
        let clients: Vec<Client> = clients.iter().map(|client| (*client).clone()).collect();
        let (shared, tally, tenant) = (Arc::clone(&self.shared), Tally::default(), tenant.to_owned());
        let counted = tally.clone();
        self.callers.spawn(async move {
            let mut at = 0;
            for call in 0.. {
                let requests = requests(caller, call, &tenant, size);
                loop {
                    if shared.stop.load(Ordering::SeqCst) {
                        return;
                    }
                    match send(&clients[at % clients.len()], &requests).await {
                        Ok(receipts) => break shared.acknowledge(&receipts),
                        Err(status) => shared.errors.lock().unwrap().push(status),
                    }
                    at += 1;
                }
                counted.0.fetch_add(1, Ordering::SeqCst);
            }
        });
        tally
    }

    /// Waits until so many calls more were acknowledged.
    pub async fn more(&self, calls: u64) {
        let mut acknowledged = self.shared.acknowledged.subscribe();
        let until = *acknowledged.borrow() + calls;
        acknowledged.wait_for(|count| *count >= until).await.unwrap();
    }

    /// Waits until each of `tallies` has so many calls more.
    pub async fn more_of_each(&self, tallies: &[&Tally], calls: u64) {
        let mut acknowledged = self.shared.acknowledged.subscribe();
        let until: Vec<u64> = tallies.iter().map(|tally| tally.get() + calls).collect();
        acknowledged
            .wait_for(|_| tallies.iter().zip(&until).all(|(tally, until)| tally.get() >= *until))
            .await
            .unwrap();
    }

    /// Ends the load. What is under way is waited for.
    pub async fn stop(mut self) -> Told {
        self.shared.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.callers.join_next().await {
            ended.unwrap();
        }
        let receipts = std::mem::take(&mut *self.shared.receipts.lock().unwrap());
        let errors = std::mem::take(&mut *self.shared.errors.lock().unwrap());
        Told { receipts, errors }
    }
}

impl Shared {
    fn acknowledge(&self, receipts: &[EventReceipt]) {
        let mut known = self.receipts.lock().unwrap();
        for receipt in receipts {
            let place = receipt.leaf_index.unwrap();
            let before = known.insert(receipt.name.clone(), place);
            assert!(before.is_none_or(|before| before == place), "{} was told two places", receipt.name);
        }
        self.acknowledged.send_modify(|count| *count += 1);
    }
}

fn requests(caller: u64, call: u64, tenant: &str, size: usize) -> Vec<RecordEventRequest> {
    let size = size as u64;
    // Not in the order of their ids, nor in the same one for callers who send the same.
    let event_id =
        |n: u64| id_at(PAST_MILLIS + i64::try_from((call * size + n) % 997).unwrap(), (caller << 32) + call * size + n);
    (0..size).map(|n| item(tenant, event("k", "1"), &event_id((n * 7 + call) % size))).collect()
}

async fn send(client: &Client, requests: &[RecordEventRequest]) -> Result<Vec<EventReceipt>, Status> {
    let (root, mut client) = (Caller::root(), client.clone());
    if let [request] = requests {
        let reply = client.record_event(root.call(request.clone())).await?;
        return Ok(reply.into_inner().receipt.into_iter().collect());
    }
    let request = BatchRecordEventsRequest { requests: requests.to_vec(), parent: String::new() };
    Ok(client.batch_record_events(root.call(request)).await?.into_inner().receipts)
}

/// What callers were told.
pub struct Told {
    receipts: HashMap<String, i64>,
    errors: Vec<Status>,
}

impl Told {
    #[track_caller]
    pub fn assert_no_errors(&self) {
        assert!(self.errors.is_empty(), "{} errors, the first: {:?}", self.errors.len(), self.errors[0]);
    }

    /// Asserts that every error says that the store was away, or that the replica itself was.
    #[track_caller]
    pub fn assert_store_away_at_worst(&self) {
        for status in &self.errors {
            let reason = status.get_details_error_info().map(|info| info.reason);
            match reason.as_deref() {
                Some("STORE_UNAVAILABLE" | "OUTCOME_UNKNOWN") => assert_eq!(status.code(), Code::Unavailable),
                // Made by the transport, on this side.
                None => assert!(std::error::Error::source(status).is_some(), "{status:?}"),
                Some(_) => panic!("{status:?}"),
            }
        }
    }

    /// Asserts that all that was acknowledged is in the log, in its place, and that the log has no hole and no double.
    #[track_caller]
    pub fn assert_kept(&self, database: &Database) {
        let mut sql = Sql::open(database);
        let stored: HashMap<String, i64> = sql
            .values(
                "SELECT 'tenants/' || tenant_id || '/events/' || event_id || ' ' || leaf_index AS value FROM events",
            )
            .iter()
            .map(|row| row.split_once(' ').unwrap())
            .map(|(name, place)| (name.to_owned(), place.parse().unwrap()))
            .collect();
        for (name, place) in &self.receipts {
            assert_eq!(stored.get(name), Some(place), "{name} was acknowledged");
        }
        let wrong = sql.values(
            "SELECT h.tenant_id || ': ' || count(*) || ' events, ' || count(DISTINCT leaf_index) || ' places up to ' \
             || max(leaf_index) || ', tree_size ' || tree_size AS value FROM tree_heads h JOIN events e \
             ON e.tenant_id = h.tenant_id GROUP BY h.tenant_id, tree_size HAVING NOT (count(*) = tree_size \
             AND count(DISTINCT leaf_index) = tree_size AND min(leaf_index) = 0 AND max(leaf_index) = tree_size - 1)",
        );
        assert_eq!(wrong, [""; 0]);
        assert_sealed(database);
        for tenant in sql.values("SELECT tenant_id AS value FROM tree_heads") {
            assert_holds(&verify(database, &tenant, &[]));
        }
    }
}
