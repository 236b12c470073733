//! Streams of places that are each in order, merged into one.

use std::collections::VecDeque;

use crate::model::{Order, Position};

/// How many items are fetched of one of several streams at once, even if fewer are wanted.
const FEWEST: usize = 4;

/// What stands where in a walk.
pub(super) type Placed<T> = (Position, T);

/// Several streams, or one, and how far they have been taken.
pub(super) struct Merge<S, T> {
    order: Order,
    lanes: Vec<Lane<S, T>>,
}

/// One of the streams.
struct Lane<S, T> {
    stream: S,
    /// The last place that was fetched.
    after: Option<Position>,
    is_at_end: bool,
    /// Items at hand.
    ahead: VecDeque<Placed<T>>,
}

impl<S, T> Merge<S, T> {
    /// All that `streams` have behind `after`. No two of them have the same place.
    pub(super) fn new(streams: impl IntoIterator<Item = S>, order: Order, after: Option<Position>) -> Self {
        let lane = |stream| Lane { stream, after, is_at_end: false, ahead: VecDeque::new() };
        Self { order, lanes: streams.into_iter().map(lane).collect() }
    }

    /// The next `limit` items, in order. `fetch` gives the next so many of one stream behind a place, and fewer only at its
    /// end. Of one stream it is asked for one more than is wanted, which tells whether there are more; of several, for the
    /// share of each: so it gives ahead no more than `limit`, or [`FEWEST`] of each.
    pub(super) fn take<E>(
        &mut self,
        limit: usize,
        mut fetch: impl FnMut(&S, Option<Position>, usize) -> Result<Vec<Placed<T>>, E>,
    ) -> Result<Vec<Placed<T>>, E> {
        let share = match self.lanes.len() {
            0 | 1 => limit + 1,
            several => (limit / several).max(FEWEST),
        };
        let mut items = Vec::new();
        while items.len() < limit {
            self.look_ahead(share, &mut fetch)?;
            let Some(item) = self.first().and_then(|lane| lane.ahead.pop_front()) else { break };
            items.push(item);
        }
        Ok(items)
    }

    /// Whether there are more items.
    pub(super) fn has_more<E>(
        &mut self,
        fetch: impl FnMut(&S, Option<Position>, usize) -> Result<Vec<Placed<T>>, E>,
    ) -> Result<bool, E> {
        if self.first().is_none() {
            self.look_ahead(FEWEST, fetch)?;
        }
        Ok(self.first().is_some())
    }

    /// Has the next item of each stream at hand, unless the stream is at its end.
    fn look_ahead<E>(
        &mut self,
        count: usize,
        mut fetch: impl FnMut(&S, Option<Position>, usize) -> Result<Vec<Placed<T>>, E>,
    ) -> Result<(), E> {
        for lane in self.lanes.iter_mut().filter(|lane| !lane.is_at_end && lane.ahead.is_empty()) {
            lane.ahead = fetch(&lane.stream, lane.after, count)?.into();
            lane.is_at_end = lane.ahead.len() < count;
            lane.after = lane.ahead.back().map(|(place, _)| *place).or(lane.after);
        }
        Ok(())
    }

    /// The lane whose next item comes first.
    fn first(&mut self) -> Option<&mut Lane<S, T>> {
        let next = |lane: &Lane<S, T>| lane.ahead.front().map(|(place, _)| *place);
        let is_behind =
            |a: &Lane<S, T>, b: &Lane<S, T>| next(a).zip(next(b)).is_some_and(|(a, b)| a.is_behind(b, self.order));
        let lanes = self.lanes.iter_mut().filter(|lane| !lane.ahead.is_empty());
        lanes.reduce(|a, b| if is_behind(a, b) { b } else { a })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    const LANES: usize = 8;

    proptest! {
        #[test]
        fn what_is_merged_is_whole_and_sorted_and_little_is_fetched_in_vain(
            lanes in vec(0..LANES, 0..200),
            limits in vec(1..60_usize, 1..6),
            after in -1..200_i64,
        ) {
            // Each place is in one stream.
            let all: Vec<_> = lanes.iter().zip(0_i64..).map(|(lane, place)| (Position::Leaf(place), *lane)).collect();
            let behind = |after: Option<Position>| {
                all.iter().copied().filter(move |(place, _)| after.is_none_or(|after| place.is_behind(after, Order::Log)))
            };
            let mut given = 0;
            let mut fetch = |stream: &usize, after: Option<Position>, count: usize| {
                let items: Vec<_> = behind(after).filter(|(_, lane)| lane == stream).take(count).collect();
                given += items.len();
                Ok::<_, Infallible>(items)
            };
            let after = (after >= 0).then_some(Position::Leaf(after));
            let (mut merge, mut expected) = (Merge::new(0..LANES, Order::Log, after), behind(after));
            for limit in &limits {
                let items = merge.take(*limit, &mut fetch).unwrap();
                prop_assert_eq!(items, expected.by_ref().take(*limit).collect::<Vec<_>>());
                let more = merge.has_more(&mut fetch).unwrap();
                prop_assert_eq!(more, expected.clone().next().is_some());
            }
            let (wanted, most) = (limits.iter().sum::<usize>(), limits.iter().max().unwrap());
            prop_assert!(given <= wanted + LANES * FEWEST.max(most / LANES), "{given} for {wanted}");
        }

        #[test]
        fn one_stream_is_fetched_once_for_what_is_wanted(places in 0..50_i64, limit in 1..60_usize) {
            let mut statements = 0;
            let mut fetch = |(): &(), after: Option<Position>, count: usize| {
                statements += 1;
                assert!(after.is_none());
                Ok::<_, Infallible>((0..places).map(|place| (Position::Leaf(place), ())).take(count).collect())
            };
            let mut merge = Merge::new([()], Order::Log, None);
            prop_assert_eq!(merge.take(limit, &mut fetch).unwrap().len(), limit.min(places as usize));
            prop_assert_eq!(merge.has_more(&mut fetch).unwrap(), places as usize > limit);
            prop_assert_eq!(statements, 1);
        }
    }
}
