//! Foreign text, for a terminal.

/// Without what steers a terminal or turns the order of its characters, on one line, and at most `most` characters long.
pub fn printable(text: &str, most: usize) -> String {
    let mut chars = text.chars().filter(|char| !steers(*char));
    let mut shown: String = chars.by_ref().take(most).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

/// C0, C1 and DEL; marks and embeddings of bidirectional text; what breaks lines; what has no width.
fn steers(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}')
}
