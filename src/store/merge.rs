//! Streams of places that are each in order, merged into one.

use std::collections::VecDeque;

use crate::model::{Order, Position};

/// The fewest items that are fetched of a stream at once.
const FEWEST: usize = 4;

/// What stands where in a walk.
pub(super) type Placed<T> = (Position, T);

/// One of the streams.
struct Lane<S, T> {
    stream: S,
    /// The last place that was fetched.
    after: Option<Position>,
    is_at_end: bool,
    /// How many items are fetched next.
    count: usize,
    /// Items at hand.
    ahead: VecDeque<Placed<T>>,
}

/// The first `limit` items of all `streams` behind `after`, in order. `fetch` gives the next so many of one stream behind a
/// place, fewer only at its end. In all it gives at most two and a half times `limit`, and [`FEWEST`] of each.
pub(super) fn merged<S, T, E>(
    streams: impl ExactSizeIterator<Item = S>,
    order: Order,
    after: Option<Position>,
    limit: usize,
    mut fetch: impl FnMut(&S, Option<Position>, usize) -> Result<Vec<Placed<T>>, E>,
) -> Result<Vec<Placed<T>>, E> {
    let count = first_count(streams.len(), limit);
    let lane = |stream| Lane { stream, after, is_at_end: false, count, ahead: VecDeque::new() };
    let mut lanes: Vec<Lane<S, T>> = streams.map(lane).collect();
    let mut items = Vec::new();
    while items.len() < limit {
        for lane in &mut lanes {
            lane.look_ahead(limit - items.len(), &mut fetch)?;
        }
        let Some(item) = first(&mut lanes, order).and_then(|lane| lane.ahead.pop_front()) else { break };
        items.push(item);
    }
    Ok(items)
}

/// All of it of a stream that is alone, and of several half of their share.
fn first_count(streams: usize, limit: usize) -> usize {
    match streams {
        0 | 1 => limit,
        several => (limit / (2 * several)).max(FEWEST).min(limit),
    }
}

impl<S, T> Lane<S, T> {
    /// Has the next item at hand, unless the stream is at its end.
    fn look_ahead<E>(
        &mut self,
        wanted: usize,
        fetch: impl FnOnce(&S, Option<Position>, usize) -> Result<Vec<Placed<T>>, E>,
    ) -> Result<(), E> {
        if self.is_at_end || !self.ahead.is_empty() {
            return Ok(());
        }
        let count = self.count.min(wanted);
        self.ahead = fetch(&self.stream, self.after, count)?.into();
        self.is_at_end = self.ahead.len() < count;
        self.after = self.ahead.back().map(|(place, _)| *place).or(self.after);
        // Never more than it has given already, and half of its share: that much may be for nothing.
        self.count *= 2;
        Ok(())
    }

    fn next(&self) -> Option<Position> {
        self.ahead.front().map(|(place, _)| *place)
    }
}

/// The lane whose next item comes first.
fn first<S, T>(lanes: &mut [Lane<S, T>], order: Order) -> Option<&mut Lane<S, T>> {
    let is_behind = |a: Option<Position>, b: Option<Position>| a.zip(b).is_some_and(|(a, b)| a.is_behind(b, order));
    let lanes = lanes.iter_mut().filter(|lane| !lane.ahead.is_empty());
    lanes.reduce(|a, b| if is_behind(a.next(), b.next()) { b } else { a })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn what_is_merged_is_sorted_whole_and_hardly_more_than_is_wanted(
            lanes in vec(0..8_usize, 0..200),
            limit in 1..120_usize,
            after in -1..200_i64,
        ) {
            // Each number is at home in one stream.
            let stream = |number: usize| lanes.iter().zip(0_i64..).filter(move |(lane, _)| **lane == number);
            let after = (after >= 0).then_some(Position::Leaf(after));
            let mut given = 0;
            let fetch = |number: &usize, after: Option<Position>, count: usize| {
                let places = stream(*number).map(|(_, place)| Position::Leaf(place));
                let behind = places.filter(|place| after.is_none_or(|after| place.is_behind(after, Order::Log)));
                let items: Vec<_> = behind.take(count).map(|place| (place, *number)).collect();
                given += items.len();
                Ok::<_, Infallible>(items)
            };
            let items = merged(0..8, Order::Log, after, limit, fetch).unwrap();
            let all = lanes.iter().zip(0_i64..).map(|(lane, place)| (Position::Leaf(place), *lane));
            let behind = all.filter(|(place, _)| after.is_none_or(|after| place.is_behind(after, Order::Log)));
            prop_assert_eq!(&items, &behind.take(limit).collect::<Vec<_>>());
            prop_assert!(given <= 5 * limit / 2 + 8 * FEWEST, "{given} for {limit}");
        }
    }
}
