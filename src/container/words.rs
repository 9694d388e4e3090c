//! A guest's words on a terminal.

/// Whether a terminal would do something else with `character` than show it: move its cursor, or show what is around
/// it in another order (`Bidi_Control` in Unicode's PropList.txt).
pub fn may_deceive(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_any_script_is_shown() {
        assert!("grün, שלום, 你好, 🫛".chars().all(|character| !may_deceive(character)));
        assert!("\0\x1b\n\u{7f}\u{9b}\u{202e}\u{2066}\u{61c}".chars().all(may_deceive));
    }
}
