//! The pure core: what an event is, how it is named, filtered, paged and hashed.
//!
//! Nothing in here knows of a database, a wire or a setting file, and nothing in here reads a clock except through
//! [`Clock`]. The protobuf messages of the leaf format are the one thing it takes from outside ([`wire`], [`leaf`]).

pub mod clock;
pub mod crowd;
pub mod draft;
mod encoder;
pub mod entry;
pub mod event;
pub mod filter;
#[cfg(any(test, fuzzing))]
pub mod laws;
pub mod leaf;
pub mod limits;
pub mod name;
pub mod page;
pub mod printable;
pub mod random;
pub mod rules;
pub mod time_id;
pub mod trace_id;
pub mod view;
pub mod wire;

pub use clock::{Clock, SystemClock, Timestamp};
pub use crowd::{CallerKey, Callers, Crowd};
pub use draft::{Draft, EventDraft, EventReceipt, IdOrigin, NoteDraft, NoteReceipt, Receipt, TraceIdOrigin};
pub use encoder::Encoder;
pub use entry::{Entry, salt, salts};
pub use event::{
    ActionType, Actor, ActorType, Content, Erasure, Event, EventBody, FieldChange, NoteBody, RequestContext, Resource,
    Salt, Sealed, UpdateNote,
};
pub use filter::{EventFilter, Order};
pub use limits::{Limits, TextRule, TrafficLimits};
pub use name::{EventName, NameError, Scope};
pub use page::{PageQuery, Position};
pub use printable::Printable;
pub use rules::{NoteRefusal, NoteRules, Rejection};
pub use time_id::{EventId, NoIdError, NoteId, TimeId};
pub use trace_id::TraceId;
pub use view::{ActorView, BodyView, ErasureView, EventView, ViewError};
