//! Text that others have made up, on a terminal.

use std::fmt::{self, Write as _};

/// The most bytes that are shown of a text. Names have a few hundred, and a reply has some 4 KiB of violations.
const MAX_BYTES: usize = 4096;
/// So many of them are its end, where our own words about it may stand.
const END_BYTES: usize = 1024;

/// A text on one line of a terminal. What a terminal would obey is written as an escape, and the middle of what is too long
/// is left out: nobody forges a line of a report, or hides what stands behind it.
pub struct Printable<'t>(pub &'t str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0;
        if text.len() <= MAX_BYTES {
            return escape(text, f);
        }
        escape(&text[..text.floor_char_boundary(MAX_BYTES - END_BYTES)], f)?;
        f.write_str(" [...] ")?;
        escape(&text[text.ceil_char_boundary(text.len() - END_BYTES)..], f)
    }
}

fn escape(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    text.chars().try_for_each(|c| match is_obeyed(c) {
        true => c.escape_debug().try_for_each(|c| f.write_char(c)),
        false => f.write_char(c),
    })
}

/// Controls, the ends of lines and paragraphs, and what turns the direction of writing.
fn is_obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_an_escape_and_all_else_is_as_it_was() {
        for (text, shown) in [
            ("", ""),
            ("tenants/acme, \"Zoë\" \\ 日本語 🦀 e\u{301}", "tenants/acme, \"Zoë\" \\ 日本語 🦀 e\u{301}"),
            ("x\nresult: holds\n\u{1b}[8m", r"x\nresult: holds\n\u{1b}[8m"),
            ("a\r\tb\0\u{7f}\u{9b}", r"a\r\tb\0\u{7f}\u{9b}"),
            ("a\u{2028}\u{202e}\u{2066}", r"a\u{2028}\u{202e}\u{2066}"),
        ] {
            assert_eq!(Printable(text).to_string(), shown);
        }
    }

    #[test]
    fn the_middle_of_a_long_text_is_left_out() {
        let fits = "é".repeat(MAX_BYTES / 2);
        assert_eq!(Printable(&fits).to_string(), fits);
        let shown = Printable(&format!("begin{fits}end")).to_string();
        assert!(shown.starts_with("beginé") && shown.contains("é [...] é") && shown.ends_with("éend"), "{shown}");
        assert!(shown.len() <= MAX_BYTES + " [...] ".len());
    }

    proptest! {
        #[test]
        fn is_one_line_without_controls(text in "(?s).{0,20}", times in 1..1000_usize) {
            let shown = Printable(&text.repeat(times)).to_string();
            prop_assert!(!shown.contains(is_obeyed) && shown.lines().count() <= 1);
        }
    }
}
