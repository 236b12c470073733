//! What holds of lists and exports.

use prost::Message as _;

use super::{fresh, parent, refusal};
use crate::{
    model::{EventFilter, Limits, Order, Position, Scope, TextRule, laws::text, name::is_id},
    proto::auditlog::v1 as proto,
    rpc::{decode::Decoder, page_token::Binding},
};

/// A question for a page is taken with its filter as it stands, or refused; and its page token is good for it alone.
pub fn list(bytes: &[u8]) {
    let Ok(request) = proto::ListEventsRequest::decode(bytes) else { return };
    let Some(scope) = parent(&request.parent) else { return };
    match Decoder::new(&Limits::default()).list(&request, &scope) {
        Ok(asked) => {
            assert!((1..=1000).contains(&asked.rows) && request.page_size >= 0);
            filter(&asked.filter, request.filter.as_ref());
            page_token(&request, &scope, asked.order);
        }
        Err(violations) => refusal(violations),
    }
}

/// A question for an export, likewise; it resumes only behind an event and in a log of some size.
pub fn export(bytes: &[u8]) {
    let Ok(request) = proto::ExportCsvRequest::decode(bytes) else { return };
    let Some(scope) = parent(&request.parent) else { return };
    match Decoder::new(&Limits::default()).export(&request, &scope) {
        Ok(asked) => {
            filter(&asked.filter, request.filter.as_ref());
            let resume = asked.resume.map(|resume| (resume.log_size, resume.after.to_string()));
            let said = (request.log_size, request.after_event_id);
            assert_eq!(resume.unwrap_or_default(), said);
            // The log tells what was exported.
            serde_json::to_string(&asked.filter).expect("a filter is JSON");
        }
        Err(violations) => refusal(violations),
    }
}

fn filter(filter: &EventFilter, said: Option<&proto::EventFilter>) {
    let said = said.cloned().unwrap_or_default();
    assert_eq!(filter.resource_types, said.resource_types);
    assert_eq!(filter.resource_ids, said.resource_ids);
    assert_eq!(filter.actor_ids, said.actor_ids);
    assert_eq!(filter.project_ids, said.project_ids);
    assert_eq!(filter.tenant_only, said.tenant_only);
    assert_eq!(filter.start_leaf_index.unwrap_or(0), said.start_leaf_index);
    let texts = [&filter.resource_types, &filter.resource_ids, &filter.actor_ids];
    for values in texts {
        assert!(values.len() <= 50);
        values.iter().for_each(|value| text(value, TextRule::required(256)));
    }
    assert!(filter.project_ids.iter().all(|id| is_id(id)));
    let numbers: Vec<i32> = filter.action_types.iter().map(|&action| proto::ActionType::from(action).into()).collect();
    assert_eq!(numbers, said.action_types);
    let numbers: Vec<i32> = filter.actor_types.iter().map(|&kind| proto::ActorType::from(kind).into()).collect();
    assert_eq!(numbers, said.actor_types);
    bound(filter.start_millis, said.start_time);
    bound(filter.end_millis, said.end_time);
}

/// The first whole millisecond at or after the time said.
fn bound(millis: Option<i64>, said: Option<prost_types::Timestamp>) {
    let nanos = |time: prost_types::Timestamp| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    assert_eq!(millis.is_some(), said.is_some());
    if let Some((millis, said)) = millis.zip(said) {
        let over = i128::from(millis) * 1_000_000 - nanos(said);
        assert!((0..1_000_000).contains(&over), "{millis} for {said:?}");
    }
}

fn page_token(request: &proto::ListEventsRequest, scope: &Scope, order: Order) {
    let binding = Binding::of_list(scope, request.filter.as_ref(), order);
    if let Ok(position) = binding.open(&request.page_token, order) {
        assert!(position.fits(order));
        assert_eq!(binding.seal(position), request.page_token, "two tokens for one place");
    }
    let position = match order {
        Order::Log => Position::Leaf(7),
        Order::NewestFirst | Order::OldestFirst => Position::Id(fresh()),
    };
    let token = binding.seal(position);
    assert_eq!(binding.open(&token, order), Ok(position));
    for (strange, order) in strangers(request, scope, order) {
        assert!(strange.open(&token, order).is_err(), "a token of another request was taken");
        assert!(strange.open(&request.page_token, order).is_err() || binding.open(&request.page_token, order).is_err());
    }
}

/// The same question, but for one thing.
fn strangers(request: &proto::ListEventsRequest, scope: &Scope, order: Order) -> Vec<(Binding, Order)> {
    let filter = request.filter.as_ref();
    let changed = |change: fn(&mut proto::EventFilter)| {
        let mut filter = request.filter.clone().unwrap_or_default();
        change(&mut filter);
        (Binding::of_list(scope, Some(&filter), order), order)
    };
    let others = [Order::NewestFirst, Order::OldestFirst, Order::Log].into_iter().filter(|other| *other != order);
    let mut strangers: Vec<_> = others.map(|order| (Binding::of_list(scope, filter, order), order)).collect();
    strangers.push(changed(|filter| filter.tenant_only = !filter.tenant_only));
    strangers.push(changed(|filter| filter.actor_ids.push(String::new())));
    strangers.push(changed(|filter| filter.start_leaf_index ^= 1));
    let project = scope.project().map_or("p".to_owned(), |project| format!("{project}p"));
    let neighbour = Scope::new(&format!("{}p", scope.tenant()), scope.project());
    for scope in Scope::new(scope.tenant(), Some(&project)).into_iter().chain(neighbour) {
        strangers.push((Binding::of_list(&scope, filter, order), order));
    }
    strangers
}
