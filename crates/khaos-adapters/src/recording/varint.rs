//! Whole numbers in as few bytes as they need: seven bits a byte, the lowest first. Signed ones are
//! folded, so that small negative numbers are short, too.

pub(super) fn put(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

pub(super) fn put_signed(to: &mut Vec<u8>, number: i64) {
    put(to, ((number << 1) ^ (number >> 63)) as u64);
}

/// Takes a number off the front of `from`; `None` where there is none.
pub(super) fn take(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = from.split_first()?;
        *from = rest;
        let bits = u64::from(first & 0x7f);
        // The tenth byte has room for one bit.
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

pub(super) fn take_signed(from: &mut &[u8]) -> Option<i64> {
    let folded = take(from)?;
    Some((folded >> 1) as i64 ^ -((folded & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back() {
        let edges = [0, 1, 63, 64, 127, 128, 300, i64::MAX - 1, i64::MAX, i64::MIN, -1, -64, -65];
        let mut bytes = Vec::new();
        for number in edges {
            put_signed(&mut bytes, number);
            put(&mut bytes, number as u64);
        }
        let mut rest = bytes.as_slice();
        for number in edges {
            assert_eq!(take_signed(&mut rest), Some(number));
            assert_eq!(take(&mut rest), Some(number as u64));
        }
        assert!(rest.is_empty());
        assert_eq!(take(&mut rest), None);
        assert_eq!(take(&mut [0x80_u8].as_slice()), None);
        assert_eq!(take(&mut [0xff_u8; 11].as_slice()), None);
    }

    #[test]
    fn small_numbers_are_short() {
        let mut bytes = Vec::new();
        put(&mut bytes, 300);
        assert_eq!(bytes, [0xac, 0x02]);
        bytes.clear();
        put_signed(&mut bytes, -1);
        assert_eq!(bytes, [1]);
    }
}
