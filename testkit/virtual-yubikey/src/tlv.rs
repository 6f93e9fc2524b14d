//! Tag, length, value: with tags and lengths as PIV and DER both have them (one tag byte, lengths up to 65535).

/// One object: `tag`, the length, then all `parts` in a row.
pub(crate) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    match length {
        0..=0x7f => out.push(length as u8),
        0x80..=0xff => out.extend([0x81, length as u8]),
        _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    parts.iter().for_each(|part| out.extend(*part));
    out
}

/// The first object of `data` and what follows it; `None` where there is no whole one.
pub(crate) fn split(data: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = data.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), rest.get(2..)?),
        length => (usize::from(length), rest),
    };
    Some((tag, rest.get(..length)?, rest.get(length..)?))
}

/// The value of the first object with this tag.
pub(crate) fn find(data: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = data;
    while let Some((tag, value, next)) = split(rest) {
        if tag == wanted {
            return Some(value);
        }
        rest = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_together_comes_apart() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 3000] {
            let value = vec![7; length];
            let data = [tlv(0x53, &[&value]), tlv(0x71, &[&[1]])].concat();
            assert_eq!(split(&data), Some((0x53, &value[..], &[0x71, 1, 1][..])));
            assert_eq!(find(&data, 0x71), Some(&[1][..]));
            assert_eq!(find(&data, 0x70), None);
            assert_eq!(split(&data[..length]), None, "cut off");
        }
    }
}
