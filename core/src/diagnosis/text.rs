//! Foreign text, for a terminal.

use crate::inspect;

/// On one line, at most `most` characters of it, and with what would steer a terminal written as escapes.
pub fn printable(text: &str, most: usize) -> String {
    let mut chars = text.chars();
    let mut shown: String = chars.by_ref().take(most).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    inspect::printable(&shown)
}
