//! Streams of places that are each in order, merged into one.

use std::collections::VecDeque;

use crate::model::{Order, Position};

/// The fewest items that are fetched first of one of several streams.
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
    /// The most items that are fetched next.
    most: usize,
    /// Items at hand.
    ahead: VecDeque<Placed<T>>,
}

impl<S, T> Merge<S, T> {
    /// All that `streams` have behind `after`, to be taken about so many `at_once`. No two streams have the same place.
    pub(super) fn new(
        streams: impl ExactSizeIterator<Item = S>,
        order: Order,
        after: Option<Position>,
        at_once: usize,
    ) -> Self {
        let most = match streams.len() {
            0 | 1 => usize::MAX,
            several => (at_once / several).max(FEWEST),
        };
        let lane = |stream| Lane { stream, after, is_at_end: false, most, ahead: VecDeque::new() };
        Self { order, lanes: streams.map(lane).collect() }
    }

    /// The next `limit` items, in order. `fetch` gives the next so many of one stream behind a place, and fewer only at its
    /// end. One stream is asked for one more than is wanted, which tells whether there are more. Several are asked for the
    /// share of each, and for twice as many each time again: what is then ahead is no more than what was taken, and one share
    /// of each.
    pub(super) fn take<E>(
        &mut self,
        limit: usize,
        mut fetch: impl FnMut(&S, Option<Position>, usize) -> Result<Vec<Placed<T>>, E>,
    ) -> Result<Vec<Placed<T>>, E> {
        let mut items = Vec::new();
        while items.len() < limit {
            self.look_ahead(limit - items.len() + 1, &mut fetch)?;
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
        wanted: usize,
        mut fetch: impl FnMut(&S, Option<Position>, usize) -> Result<Vec<Placed<T>>, E>,
    ) -> Result<(), E> {
        for lane in self.lanes.iter_mut().filter(|lane| !lane.is_at_end && lane.ahead.is_empty()) {
            let count = lane.most.min(wanted);
            lane.ahead = fetch(&lane.stream, lane.after, count)?.into();
            lane.is_at_end = lane.ahead.len() < count;
            lane.after = lane.ahead.back().map(|(place, _)| *place).or(lane.after);
            lane.most = lane.most.saturating_mul(2);
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
            let most = *limits.iter().max().unwrap();
            let (mut merge, mut expected) = (Merge::new(0..LANES, Order::Log, after, most), behind(after));
            for limit in &limits {
                let items = merge.take(*limit, &mut fetch).unwrap();
                prop_assert_eq!(items, expected.by_ref().take(*limit).collect::<Vec<_>>());
                let more = merge.has_more(&mut fetch).unwrap();
                prop_assert_eq!(more, expected.clone().next().is_some());
            }
            let wanted = limits.iter().sum::<usize>();
            prop_assert!(given <= 2 * wanted + LANES * FEWEST.max(most / LANES), "{given} for {wanted}");
        }

        #[test]
        fn one_stream_is_fetched_once_for_what_is_wanted(places in 0..50_i64, limit in 1..20_usize) {
            let mut asked = Vec::new();
            let mut fetch = |(): &(), after: Option<Position>, count: usize| {
                asked.push(count);
                let all = (0..places).map(Position::Leaf);
                let behind = all.filter(|place| after.is_none_or(|after| place.is_behind(after, Order::Log)));
                Ok::<_, Infallible>(behind.map(|place| (place, ())).take(count).collect())
            };
            let mut merge = Merge::new([()].into_iter(), Order::Log, None, limit);
            let (mut taken, mut takes) = (0, 0);
            loop {
                taken += merge.take(limit, &mut fetch).unwrap().len();
                takes += 1;
                if !merge.has_more(&mut fetch).unwrap() {
                    break;
                }
            }
            prop_assert_eq!((taken, takes), (places as usize, (places as usize).div_ceil(limit).max(1)));
            let most = FEWEST.max(limit + 1);
            prop_assert!(asked.len() <= takes && asked.iter().all(|count| *count <= most), "{:?}", asked);
        }
    }
}
