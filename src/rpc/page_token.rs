//! Page tokens: where a walk stands, bound to the request that it belongs to.
//!
//! A token is opaque to callers: base64url of a version, a hash of the request, the position, and a hash over all that.
//! The hashes find mistakes and carry no authority: whoever computes a token gets nothing that the same request would
//! not give, since every page is authorized again.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use crate::{
    model::{Order, Position, Scope, time_id::EventId},
    proto::auditlog::v1 as proto,
};

const VERSION: u8 = 1;
/// 128 bits of SHA-256: no two requests meet by chance.
const HASH_LEN: usize = 16;
const TAG_ID: u8 = 1;
const TAG_LEAF: u8 = 2;
/// More than the longest token has; longer ones are refused unread.
const MAX_TEXT_LEN: usize = 128;

/// The page token is none of ours, or belongs to another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("page_token does not belong to this request; send it with the parent, filter and order it came from, or none")]
pub struct PageTokenInvalid;

/// What a token is bound to: method, parent, filter and order. The page size is not in it: it may change between pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding([u8; HASH_LEN]);

impl Binding {
    /// The binding of a `ListEvents` request with a valid scope and order. An absent filter equals an empty one.
    pub fn of_list(parent: &Scope, filter: Option<&proto::EventFilter>, order: Order) -> Self {
        let filter = filter.map(prost::Message::encode_to_vec).unwrap_or_default();
        let order = [match order {
            Order::NewestFirst => 1,
            Order::OldestFirst => 2,
            Order::Log => 3,
        }];
        Self(hash(&[b"auditlog.v1.AuditLogService/ListEvents", parent.to_string().as_bytes(), &filter, &order]))
    }

    /// The token for the page behind `position`.
    pub fn seal(&self, position: Position) -> String {
        let mut token = vec![VERSION];
        token.extend(self.0);
        match position {
            Position::Id(id) => token.extend([TAG_ID].iter().chain(id.as_bytes())),
            Position::Leaf(index) => token.extend([TAG_LEAF].iter().chain(&index.to_be_bytes())),
        }
        token.extend(hash(&[&token]));
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The position in `token`, if this request is the one it was sealed for and it stands in `order`.
    pub fn open(&self, token: &str, order: Order) -> Result<Position, PageTokenInvalid> {
        self.position(token).filter(|position| position.fits(order)).ok_or(PageTokenInvalid)
    }

    fn position(&self, token: &str) -> Option<Position> {
        let bytes = (token.len() <= MAX_TEXT_LEN).then(|| URL_SAFE_NO_PAD.decode(token).ok()).flatten()?;
        let (sealed, check) = bytes.split_last_chunk::<HASH_LEN>()?;
        let (version, bound) = sealed.split_first()?;
        let (binding, position) = bound.split_first_chunk::<HASH_LEN>()?;
        let is_ours = *check == hash(&[sealed]) && *version == VERSION && *binding == self.0;
        is_ours.then(|| read_position(position)).flatten()
    }
}

fn read_position(bytes: &[u8]) -> Option<Position> {
    match bytes.split_first()? {
        (&TAG_ID, id) => Some(Position::Id(EventId::from_bytes(id.try_into().ok()?)?)),
        (&TAG_LEAF, index) => Some(Position::Leaf(i64::from_be_bytes(index.try_into().ok()?))).filter(not_negative),
        _ => None,
    }
}

fn not_negative(position: &Position) -> bool {
    !matches!(position, Position::Leaf(..0))
}

/// The first bytes of the SHA-256 over `parts`, each with its length in front so that no two lists of parts run together.
fn hash(parts: &[&[u8]]) -> [u8; HASH_LEN] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    std::array::from_fn(|index| hash[index])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{TimeId, Timestamp};

    fn binding(parent: &str, order: Order) -> Binding {
        Binding::of_list(&Scope::parse(parent).unwrap(), None, order)
    }

    fn any_position() -> impl Strategy<Value = (Position, Order)> {
        let id = |(millis, random)| TimeId::at(Timestamp::from_timestamp_millis(millis).unwrap(), random).unwrap();
        prop_oneof![
            (0..=253_402_300_799_999i64, any::<[u8; 10]>())
                .prop_map(move |at| (Position::Id(id(at)), Order::OldestFirst)),
            (0..=i64::MAX).prop_map(|index| (Position::Leaf(index), Order::Log)),
        ]
    }

    #[test]
    fn belongs_to_one_request() {
        let token = binding("tenants/a", Order::Log).seal(Position::Leaf(7));
        assert_eq!(binding("tenants/a", Order::Log).open(&token, Order::Log), Ok(Position::Leaf(7)));
        assert_eq!(binding("tenants/b", Order::Log).open(&token, Order::Log), Err(PageTokenInvalid));
        assert_eq!(binding("tenants/a", Order::NewestFirst).open(&token, Order::NewestFirst), Err(PageTokenInvalid));
        let filter = proto::EventFilter { tenant_only: true, ..Default::default() };
        let filtered = Binding::of_list(&Scope::parse("tenants/a").unwrap(), Some(&filter), Order::Log);
        assert_eq!(filtered.open(&token, Order::Log), Err(PageTokenInvalid));
    }

    #[test]
    fn an_absent_filter_equals_an_empty_one() {
        let scope = Scope::parse("tenants/a").unwrap();
        let empty = Binding::of_list(&scope, Some(&proto::EventFilter::default()), Order::Log);
        assert_eq!(empty, Binding::of_list(&scope, None, Order::Log));
    }

    #[test]
    fn a_position_must_fit_the_order() {
        let binding = binding("tenants/a", Order::Log);
        assert_eq!(binding.open(&binding.seal(Position::Leaf(7)), Order::NewestFirst), Err(PageTokenInvalid));
        assert_eq!(binding.open(&binding.seal(Position::Leaf(-1)), Order::Log), Err(PageTokenInvalid));
    }

    proptest! {
        #[test]
        fn opens_what_it_sealed((position, order) in any_position()) {
            let binding = binding("tenants/a/projects/p", order);
            prop_assert_eq!(binding.open(&binding.seal(position), order), Ok(position));
        }

        #[test]
        fn refuses_any_flipped_bit((position, order) in any_position(), at: prop::sample::Index, bit in 0..8u8) {
            let binding = binding("tenants/a", order);
            let mut bytes = URL_SAFE_NO_PAD.decode(binding.seal(position)).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(binding.open(&URL_SAFE_NO_PAD.encode(bytes), order), Err(PageTokenInvalid));
        }

        #[test]
        fn refuses_any_changed_or_missing_character((position, order) in any_position(), at: prop::sample::Index, c: char) {
            let binding = binding("tenants/a", order);
            let token = binding.seal(position);
            let at = at.index(token.len());
            prop_assert_eq!(binding.open(&token[..at], order), Err(PageTokenInvalid));
            let changed = format!("{}{c}{}", &token[..at], &token[at + 1..]);
            prop_assert!(changed == token || binding.open(&changed, order).is_err());
        }

        #[test]
        fn never_panics(token in ".*", bytes: Vec<u8>) {
            let binding = binding("tenants/a", Order::Log);
            prop_assert!(binding.open(&token, Order::Log).is_err());
            prop_assert!(binding.open(&URL_SAFE_NO_PAD.encode(bytes), Order::Log).is_err());
        }
    }
}
