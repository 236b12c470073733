//! All that is wrong with a request, by field, in one reply.

use std::fmt::{self, Display, Write as _};

/// The most violations that a reply spells out.
const MAX_VIOLATIONS: usize = 50;
/// The most bytes of their text. Base64, the message and the other trailers come on top, and peers that follow the
/// usual default refuse trailers of more than 8 KiB.
const MAX_TEXT_BYTES: usize = 4 * 1024;
/// The most characters of a map's key in a path.
const MAX_KEY_CHARS: usize = 64;

/// Where a field stands in a request, such as `requests[3].event.resource.type`. It is a chain on the stack, so that
/// valid fields, which are nearly all, cost no allocation.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Field(&'static str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The request itself.
    pub const ROOT: Self = Self { parent: None, step: Step::Root };

    /// A field of the message here.
    pub fn field<'b>(&'b self, name: &'static str) -> Path<'b> {
        Path { parent: Some(self), step: Step::Field(name) }
    }

    /// An element of the repeated field here, from 0.
    pub fn index<'b>(&'b self, index: usize) -> Path<'b> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    /// An entry of the map here.
    pub fn key<'b>(&'b self, key: &'b str) -> Path<'b> {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    fn is_root(&self) -> bool {
        matches!(self.step, Step::Root)
    }
}

impl Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parent.map_or(Ok(()), |parent| parent.fmt(f))?;
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) if self.parent.is_none_or(Path::is_root) => f.write_str(name),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{}]", ShownKey(key)),
        }
    }
}

/// A key chosen by the caller: control characters escaped, and cut where it is long.
struct ShownKey<'a>(&'a str);

impl Display for ShownKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        chars.by_ref().take(MAX_KEY_CHARS).flat_map(char::escape_debug).try_for_each(|c| f.write_char(c))?;
        if chars.next().is_some() { f.write_str("...") } else { Ok(()) }
    }
}

/// One field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field's path.
    pub field: String,
    /// What it must be, as a phrase that follows the path: "is required".
    pub description: String,
}

/// What is wrong with a request: the first violations in full, and the count of the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations {
    kept: Vec<Violation>,
    text_bytes: usize,
    more: usize,
}

impl Violations {
    /// A single one.
    pub fn one(path: Path<'_>, description: impl Display) -> Self {
        let mut violations = Self::default();
        violations.add(path, description);
        violations
    }

    /// Adds one. What the reply has no room for is only counted, so that a hostile request cannot make us hold it.
    pub fn add(&mut self, path: Path<'_>, description: impl Display) {
        if self.more > 0 || self.kept.len() == MAX_VIOLATIONS {
            self.more += 1;
            return;
        }
        let violation = Violation { field: path.to_string(), description: description.to_string() };
        let text_bytes = self.text_bytes + violation.field.len() + violation.description.len();
        match text_bytes <= MAX_TEXT_BYTES {
            true => (self.text_bytes, _) = (text_bytes, self.kept.push(violation)),
            false => self.more += 1,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.more == 0
    }

    /// The first ones.
    pub fn kept(&self) -> &[Violation] {
        &self.kept
    }

    /// How many there are besides [`Self::kept`].
    pub fn more(&self) -> usize {
        self.more
    }

    /// `value`, if nothing is wrong with what it was made from.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl Display for Violations {
    /// The first one and the count of the others: a summary for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kept.first() {
            Some(first) if first.field.is_empty() => f.write_str(&first.description)?,
            Some(first) => write!(f, "{} {}", first.field, first.description)?,
            None => f.write_str("the request is not valid")?,
        }
        match self.kept.len().saturating_sub(1) + self.more {
            0 => Ok(()),
            others => write!(f, "; and {others} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_in_protobuf() {
        assert_eq!(Path::ROOT.to_string(), "");
        let (requests, event) = (Path::ROOT.field("requests"), Path::ROOT.field("event"));
        assert_eq!(
            requests.index(3).field("event").field("resource").field("type").to_string(),
            "requests[3].event.resource.type"
        );
        assert_eq!(event.field("attributes").key("a.b").to_string(), "event.attributes[a.b]");
        assert_eq!(event.field("attributes").key("\0\n]").to_string(), "event.attributes[\\0\\n]]");
        assert_eq!(event.key(&"ä".repeat(65)).to_string(), format!("event[{}...]", "ä".repeat(64)));
    }

    #[test]
    fn keeps_fifty_and_counts_the_rest() {
        let mut violations = Violations::default();
        (0..1062).for_each(|index| violations.add(Path::ROOT.index(index), "is required"));
        assert_eq!((violations.kept().len(), violations.more()), (50, 1012));
        assert_eq!(violations.to_string(), "[0] is required; and 1061 more");
    }

    #[test]
    fn keeps_four_kib_and_counts_the_rest() {
        let mut violations = Violations::default();
        (0..40).for_each(|_| violations.add(Path::ROOT.field("f"), "x".repeat(1000)));
        violations.add(Path::ROOT.field("f"), "is short, but those before it are missing");
        assert_eq!((violations.kept().len(), violations.more()), (4, 37));
    }

    #[test]
    fn one_that_is_too_long_alone_is_still_one() {
        let violations = Violations::one(Path::ROOT.field("f"), "x".repeat(5000));
        assert!(!violations.is_empty());
        assert_eq!(violations.to_string(), "the request is not valid; and 1 more");
        assert_eq!(violations.or(()).unwrap_err().more(), 1);
    }
}
