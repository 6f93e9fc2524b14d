//! What an answer holds, and what it leaves out.

/// `None` where it is empty: proto3 has no other way to leave a text out.
pub(crate) fn text(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// `None` where it was left out, or is none that this side can hold: a time before 1970, a length below zero.
pub(crate) fn value<T: TryInto<U>, U>(value: Option<T>) -> Option<U> {
    value?.try_into().ok()
}
