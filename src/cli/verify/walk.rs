//! Through the events that the service lists, and the leaves that it gives, in step.

use prost::Message as _;
use tonic::Code;

use crate::{
    cli::{
        CliError, listed_event,
        progress::Progress,
        remote::{MAX_MESSAGE_BYTES, Remote},
    },
    proto::auditlog::v1::{
        Event, GetCheckpointRequest, GetCheckpointResponse, Leaf, ListEventsRequest, ListLeavesRequest, Order,
        audit_log_service_client::AuditLogServiceClient, leaf::Kind, proof_service_client::ProofServiceClient,
    },
    verify::ListedCheck,
};

/// The most events and leaves of one call.
const PAGE: i32 = 1000;
/// How many pages in a row may list nothing new before they are taken to have no end. A page of the true service has one event at least.
const MOST_IDLE_PAGES: u32 = 16;
/// The most pages of events behind the checkpoint, beside as many as there were before it: what a service can record while it lists.
const MOST_PAGES_BEYOND: u64 = 100;

/// The present checkpoint.
pub(super) async fn get_checkpoint(remote: &Remote, parent: &str) -> Result<GetCheckpointResponse, CliError> {
    let client = ProofServiceClient::new(remote.channel.clone());
    let request = GetCheckpointRequest { parent: parent.to_owned() };
    let send = |request| {
        let mut client = client.clone();
        async move { client.get_checkpoint(request).await }
    };
    remote.call(request, send).await
}

/// A walk, from the first leaf on.
pub(super) struct Walk<'r> {
    pub(super) remote: &'r Remote,
    pub(super) parent: String,
    pub(super) check: ListedCheck,
    /// Of the next page of events; `None` at the end.
    token: Option<String>,
    /// Why the service lists no leaves, which it does not where rows are missing.
    pub(super) refusal: Option<String>,
    pages: Pages,
}

/// What the pages of events have brought.
#[derive(Default)]
struct Pages {
    count: u64,
    /// The largest position that was listed.
    last: Option<i64>,
    /// How many pages in a row have listed none that is larger.
    idle: u32,
}

impl<'r> Walk<'r> {
    pub(super) fn new(remote: &'r Remote, parent: &str, check: ListedCheck) -> Self {
        let (parent, token) = (parent.to_owned(), Some(String::new()));
        Self { remote, parent, check, token, refusal: None, pages: Pages::default() }
    }

    /// Goes on as long as the service gives leaves or events that it has not given before. It may sign any size, and what it does
    /// not give of that is one finding.
    pub(super) async fn run(&mut self) -> Result<(), CliError> {
        let progress = Progress::new("leaves");
        let size = self.check.size();
        while self.check.next() < size {
            progress.at(self.check.next(), size);
            let leaves = self.leaves().await?;
            let count = if leaves.is_empty() { PAGE.unsigned_abs().into() } else { leaves.len() as u64 };
            let end = size.min(self.check.next() + count);
            while !self.check.has_listed(end - 1) && self.list_events().await? {}
            for leaf in &leaves[..leaves.len().min(usize::try_from(end - self.check.next()).unwrap_or(0))] {
                self.check.leaf(leaf, &name_of(leaf));
            }
            if leaves.is_empty() && !self.go_on_without(end) {
                break;
            }
        }
        progress.end();
        self.look_beyond().await
    }

    /// Goes on to `end` by what is listed alone, if that can be.
    fn go_on_without(&mut self, end: u64) -> bool {
        while self.check.next() < end {
            if self.check.give_up(self.token.is_none()) {
                return false;
            }
            self.check.no_leaf();
        }
        true
    }

    /// What is listed beyond the checkpoint must have been recorded since, so that a later checkpoint covers it.
    async fn look_beyond(&mut self) -> Result<(), CliError> {
        let end = self.present_size().await?;
        let most_pages = MOST_PAGES_BEYOND + 2 * self.pages.count;
        while !self.check.has_listed(end) && self.list_events().await? {
            if self.pages.count > most_pages {
                return Err(CliError::Endless(self.parent.clone()));
            }
        }
        let Some((position, name)) = self.check.farthest().cloned() else { return Ok(()) };
        let size = self.present_size().await?;
        if position >= size {
            self.check.add(name, format!("is listed at position {position}, and the log has {size} leaves"));
        }
        Ok(())
    }

    async fn present_size(&self) -> Result<u64, CliError> {
        let reply = get_checkpoint(self.remote, &self.parent).await?;
        Ok(u64::try_from(reply.tree_size()).unwrap_or(0))
    }

    /// The next leaves; none once the service does not list them. What the events make has to do then.
    async fn leaves(&mut self) -> Result<Vec<Vec<u8>>, CliError> {
        if self.refusal.is_some() {
            return Ok(Vec::new());
        }
        let refusal = match self.leaves_from(self.check.next()).await {
            Ok(leaves) if !leaves.is_empty() => return Ok(leaves),
            Ok(_) => "there are none".to_owned(),
            Err(CliError::Call { failed, .. }) if failed.code() == Code::Internal && !failed.is_temporary() => {
                failed.to_string()
            }
            Err(error) => return Err(error),
        };
        self.refusal = Some(format!("does not list the leaves from position {} on: {refusal}", self.check.next()));
        Ok(Vec::new())
    }

    /// The leaves from `start` on, and no more than a page of them: a reply has room for millions without any bytes, and what is made of
    /// each has many.
    pub(super) async fn leaves_from(&self, start: u64) -> Result<Vec<Vec<u8>>, CliError> {
        let client = ProofServiceClient::new(self.remote.channel.clone());
        let start = i64::try_from(start).unwrap_or(i64::MAX);
        let request = ListLeavesRequest { parent: self.parent.clone(), start, page_size: PAGE };
        let send = |request| {
            let mut client = client.clone();
            async move { client.list_leaves(request).await }
        };
        let mut leaves = self.remote.call(request, send).await?.leaves;
        leaves.truncate(usize::try_from(PAGE).unwrap_or_default());
        Ok(leaves)
    }

    /// Takes the next page of events. Whether there was one.
    async fn list_events(&mut self) -> Result<bool, CliError> {
        let Some(page_token) = self.token.take() else { return Ok(false) };
        let client = AuditLogServiceClient::new(self.remote.channel.clone());
        let client = client.max_decoding_message_size(MAX_MESSAGE_BYTES);
        let request = ListEventsRequest {
            parent: self.parent.clone(),
            page_size: PAGE,
            page_token,
            order: Order::Log.into(),
            ..ListEventsRequest::default()
        };
        let send = |request| {
            let mut client = client.clone();
            async move { client.list_events(request).await }
        };
        let page = self.remote.call(request, send).await?;
        self.pages.turn(&page.events);
        for event in page.events {
            let name = event.name.clone();
            match listed_event::read(event) {
                Ok(event) => self.check.event(&event),
                Err(problem) => self.check.add(name, problem),
            }
        }
        self.token = Some(page.next_page_token).filter(|token| !token.is_empty());
        if self.token.is_some() && self.pages.idle >= MOST_IDLE_PAGES {
            let problem = format!("lists pages without an end: {MOST_IDLE_PAGES} in a row have nothing new");
            self.check.add("the service", problem);
            self.token = None;
        }
        Ok(true)
    }
}

impl Pages {
    fn turn(&mut self, events: &[Event]) {
        let last = events.iter().filter_map(|event| event.leaf_index).max();
        self.count += 1;
        self.idle = if last > self.last { 0 } else { self.idle + 1 };
        self.last = self.last.max(last);
    }
}

/// What a leaf says that it is.
pub(super) fn name_of(leaf: &[u8]) -> String {
    match Leaf::decode(leaf).map(|leaf| leaf.kind) {
        Ok(Some(Kind::Event(event))) => event.name,
        Ok(Some(Kind::Note(note))) => format!("note {} on {}", note.note_id, note.event_name),
        _ => "a leaf of no known kind".to_owned(),
    }
}
