//! Status words (ISO 7816-4, SP 800-73-4 part 2).

/// What a command that failed answers: SW1 SW2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Status(pub(crate) u16);

/// The body of an answer with 9000, or the status word of one without.
pub(crate) type Answer = Result<Vec<u8>, Status>;

impl Status {
    pub(crate) const WRONG_LENGTH: Self = Self(0x6700);
    /// PIN, management key or touch is missing: a card doesn't say which.
    pub(crate) const NOT_ALLOWED: Self = Self(0x6982);
    pub(crate) const BLOCKED: Self = Self(0x6983);
    pub(crate) const CONDITIONS: Self = Self(0x6985);
    pub(crate) const WRONG_DATA: Self = Self(0x6a80);
    pub(crate) const NOT_SUPPORTED: Self = Self(0x6a81);
    pub(crate) const NOT_FOUND: Self = Self(0x6a82);
    pub(crate) const NO_SPACE: Self = Self(0x6a84);
    pub(crate) const WRONG_PARAMETER: Self = Self(0x6a86);
    /// No key in that slot.
    pub(crate) const NO_REFERENCE: Self = Self(0x6a88);
    pub(crate) const NO_INSTRUCTION: Self = Self(0x6d00);
    pub(crate) const NO_CLASS: Self = Self(0x6e00);
    pub(crate) const BROKEN: Self = Self(0x6f00);

    /// A PIN or PUK was wrong: so many tries are left.
    pub(crate) fn wrong(left: u8) -> Self {
        if left == 0 { Self::BLOCKED } else { Self(0x63c0 | u16::from(left.min(15))) }
    }
}
