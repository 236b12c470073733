//! Filters and orders.

use super::{Decoder, Path};
use crate::{
    model::{EventFilter, Order, Scope, TextRule, name::is_id},
    proto::auditlog::v1 as proto,
};

impl Decoder<'_> {
    /// The filter of a list or an export of `scope`. An absent one asks for nothing.
    pub(super) fn filter(&mut self, scope: &Scope, filter: Option<&proto::EventFilter>) -> EventFilter {
        let Some(filter) = filter else { return EventFilter::default() };
        let root = Path::ROOT.field("filter");
        let path = |name| root.field(name);
        EventFilter {
            action_types: self
                .values(path("action_types"), &filter.action_types, |to, at, number| to.action_type(at, *number)),
            resource_types: self.texts(path("resource_types"), &filter.resource_types),
            start_millis: filter.start_time.as_ref().and_then(|time| self.bound_millis(path("start_time"), time)),
            end_millis: filter.end_time.as_ref().and_then(|time| self.bound_millis(path("end_time"), time)),
            resource_ids: self.texts(path("resource_ids"), &filter.resource_ids),
            actor_ids: self.texts(path("actor_ids"), &filter.actor_ids),
            actor_types: self
                .values(path("actor_types"), &filter.actor_types, |to, at, number| to.actor_type(at, *number)),
            project_ids: self.project_ids(path("project_ids"), scope, &filter.project_ids),
            tenant_only: filter.tenant_only,
            start_leaf_index: self.leaf_index(path("start_leaf_index"), filter.start_leaf_index),
        }
    }

    /// The order; a number that we do not know is refused, because any other order would be a wrong answer.
    pub(super) fn order(&mut self, number: i32) -> Option<Order> {
        let why = format_args!("must be ORDER_NEWEST_FIRST, ORDER_OLDEST_FIRST or ORDER_LOG; it is {number}");
        self.require(Path::ROOT.field("order"), Order::from_number(number), why)
    }

    /// The values of one field: at most so many, each decoded at its place.
    fn values<T, U>(
        &mut self,
        path: Path<'_>,
        values: &[T],
        mut decode: impl FnMut(&mut Self, Path<'_>, &T) -> Option<U>,
    ) -> Vec<U> {
        let (count, max) = (values.len(), self.limits.filter_values);
        if count > max {
            self.refuse(path, format_args!("must have at most {max} values; it has {count}"));
            return Vec::new();
        }
        let indexed = values.iter().enumerate();
        indexed.filter_map(|(index, value)| decode(self, path.index(index), value)).collect()
    }

    fn texts(&mut self, path: Path<'_>, values: &[String]) -> Vec<String> {
        let rule = TextRule::required(self.limits.id_bytes);
        self.values(path, values, |to, at, value| {
            to.text(at, value, rule);
            Some(value.clone())
        })
    }

    fn project_ids(&mut self, path: Path<'_>, scope: &Scope, ids: &[String]) -> Vec<String> {
        if scope.project().is_some() && !ids.is_empty() {
            self.refuse(path, "must be empty where parent is a project; name the tenant as parent to choose projects");
            return Vec::new();
        }
        let why = "must be a project's id like [A-Za-z0-9][A-Za-z0-9._~-]{0,127}, not its name";
        self.values(path, ids, |to, at, id| to.require(at, is_id(id).then(|| id.clone()), why))
    }

    fn leaf_index(&mut self, path: Path<'_>, index: i64) -> Option<i64> {
        if index < 0 {
            self.refuse(path, format_args!("must not be negative; it is {index}"));
        }
        (index > 0).then_some(index)
    }
}
