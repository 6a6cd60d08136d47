//! xtext (RFC 3461 section 4): any bytes as printable ASCII, where `+` begins two upper-case hexadecimal digits.

use alloc::vec::Vec;

/// What `text` stands for; `None` when it is no xtext.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => {
                let (digits, after) = rest.split_at_checked(2)?;
                bytes.push(hex(digits[0])? << 4 | hex(digits[1])?);
                rest = after;
            }
            b'=' => return None,
            byte if byte.is_ascii_graphic() => bytes.push(*byte),
            _ => return None,
        }
    }
    Some(bytes)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;

    #[test]
    fn every_byte_is_itself_or_written_in_hexadecimal() {
        for byte in 0..=255u8 {
            assert_eq!(decode(&format!("+{byte:02X}")), Some([byte].to_vec()));
            let plain = byte.is_ascii_graphic() && byte != b'+' && byte != b'=';
            let text = String::from(char::from(byte));
            assert_eq!(decode(&text), plain.then(|| [byte].to_vec()), "{byte}");
        }
    }

    #[test]
    fn what_is_no_xtext_is_none() {
        for bad in ["+", "+4", "+4g", "+4a", "+4=", "a=b", "a b", "é", "+é", "a+C3é"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
        assert_eq!(decode(""), Some(Vec::new()));
        assert_eq!(decode("a+2B+3Db"), Some(b"a+=b".to_vec()));
    }
}
