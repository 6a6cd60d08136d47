//! What was asked of a message beside its addresses, in its record: a block of entries, each with a tag, its length and
//! a value. A tag that is not known is skipped, so that a record of a later version can be read.

use crate::record::{Cursor, Output};
use mail::parameters::{is_envelope_id, is_original};
use mail::{By, ByMode, Notify, Parameters, RecipientParameters, Return, WallTime};

/// Tag and length of an entry, in bytes.
const ENTRY_HEAD_BYTES: usize = 3;
/// The length of the block, in bytes.
const BLOCK_HEAD_BYTES: usize = 4;

const RETURNS: u8 = 1;
const ENVELOPE_ID: u8 = 2;
const BY: u8 = 3;
const PRIORITY: u8 = 4;
const NOTIFY: u8 = 16;
const ORIGINAL: u8 = 17;

/// Bytes of the block.
pub(crate) fn block_bytes(parameters: &Parameters) -> usize {
    let mut bytes = BLOCK_HEAD_BYTES;
    each(parameters, |_, value| {
        bytes += ENTRY_HEAD_BYTES + value.iter().map(|part| part.len()).sum::<usize>()
    });
    bytes
}

/// Appends the block.
pub(crate) fn put_block(out: &mut impl Output, parameters: &Parameters) {
    let bytes = block_bytes(parameters) - BLOCK_HEAD_BYTES;
    out.put(&(bytes as u32).to_le_bytes());
    each(parameters, |tag, value| {
        let length: usize = value.iter().map(|part| part.len()).sum();
        out.put(&[tag]);
        out.put(&(length as u16).to_le_bytes());
        value.iter().for_each(|part| out.put(part));
    });
}

/// Calls `entry` with each tag and the parts of its value.
fn each(parameters: &Parameters, mut entry: impl FnMut(u8, &[&[u8]])) {
    if let Some(returns) = parameters.returns {
        entry(RETURNS, &[&[u8::from(returns == Return::Full)]]);
    }
    if let Some(id) = &parameters.envelope_id {
        entry(ENVELOPE_ID, &[id.as_bytes()]);
    }
    if let Some(By { until, mode, trace }) = parameters.by {
        let flags = u8::from(mode == ByMode::Return) | u8::from(trace) << 1;
        entry(BY, &[&until.0.to_le_bytes(), &[flags]]);
    }
    if let Some(priority) = parameters.priority {
        entry(PRIORITY, &[&priority.to_le_bytes()]);
    }
    for (index, asked) in &parameters.recipients {
        let index = index.to_le_bytes();
        if let Some(Notify { success, failure, delay }) = asked.notify {
            let flags = u8::from(success) | u8::from(failure) << 1 | u8::from(delay) << 2;
            entry(NOTIFY, &[&index, &[flags]]);
        }
        if let Some(original) = &asked.original {
            entry(ORIGINAL, &[&index, original.as_bytes()]);
        }
    }
}

/// Takes a block apart; `None` when it is none.
pub(crate) fn block(cursor: &mut Cursor<'_>) -> Option<Parameters> {
    let bytes = cursor.u32()?;
    let mut block = Cursor(cursor.take(bytes as usize)?);
    let mut parameters = Parameters::default();
    while !block.0.is_empty() {
        let tag = block.u8()?;
        let length = block.u16()?;
        let mut value = Cursor(block.take(usize::from(length))?);
        match tag {
            RETURNS => {
                parameters.returns = Some(if value.u8()? == 1 { Return::Full } else { Return::Headers });
            }
            ENVELOPE_ID => {
                let id = std::str::from_utf8(value.0).ok().filter(|id| is_envelope_id(id))?;
                parameters.envelope_id = Some(id.into());
            }
            BY => {
                let (until, flags) = (WallTime(value.u64()?), value.u8()?);
                let mode = if flags & 1 != 0 { ByMode::Return } else { ByMode::Notify };
                parameters.by = Some(By { until, mode, trace: flags & 2 != 0 });
            }
            PRIORITY => {
                let priority = i8::from_le_bytes([value.u8()?]);
                parameters.priority = Some(priority).filter(|priority| (-9..=9).contains(priority));
            }
            NOTIFY => {
                let asked = recipient(&mut parameters, value.u16()?)?;
                let flags = value.u8()?;
                let notify =
                    Notify { success: flags & 1 != 0, failure: flags & 2 != 0, delay: flags & 4 != 0 };
                asked.notify = Some(notify);
            }
            ORIGINAL => {
                let asked = recipient(&mut parameters, value.u16()?)?;
                let original = std::str::from_utf8(value.0).ok().filter(|original| is_original(original))?;
                asked.original = Some(original.into());
            }
            _ => {}
        }
    }
    Some(parameters)
}

/// What was asked of the recipient with this index, which is the last one or comes after it.
fn recipient(parameters: &mut Parameters, index: u16) -> Option<&mut RecipientParameters> {
    let all = &mut parameters.recipients;
    match all.last() {
        Some((last, _)) if *last == index => {}
        Some((last, _)) if *last > index => return None,
        _ => all.push((index, RecipientParameters::default())),
    }
    all.last_mut().map(|(_, asked)| asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> Parameters {
        let notify = |number: u8| {
            Some(Notify { success: number & 1 > 0, failure: number & 2 > 0, delay: number & 4 > 0 })
        };
        let of = |number: u16| RecipientParameters {
            notify: (!number.is_multiple_of(3)).then(|| notify(number as u8)).flatten(),
            original: (number % 3 != 1).then(|| format!("rfc822;r+2B{number}@b").into()),
        };
        Parameters {
            returns: Some(Return::Full),
            envelope_id: Some("QQ+20x".into()),
            by: Some(By { until: WallTime(77), mode: ByMode::Return, trace: true }),
            priority: Some(-9),
            recipients: (0..40).map(|number| (number * 7, of(number))).collect(),
        }
    }

    fn bytes(parameters: &Parameters) -> Vec<u8> {
        let mut out = Vec::new();
        put_block(&mut out, parameters);
        assert_eq!(out.len(), block_bytes(parameters));
        out
    }

    #[test]
    fn blocks_round_trip() {
        let all = everything();
        for parameters in [
            Parameters::default(),
            Parameters { returns: Some(Return::Headers), ..Parameters::default() },
            Parameters { recipients: Vec::new(), ..all.clone() },
            all,
        ] {
            let bytes = bytes(&parameters);
            let mut cursor = Cursor(&bytes);
            assert_eq!(block(&mut cursor), Some(parameters));
            assert!(cursor.0.is_empty());
        }
    }

    #[test]
    fn a_later_version_may_know_more() {
        let mut bytes = bytes(&everything());
        let length = bytes.len() as u32 - 4 + 5;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&[200, 2, 0, 1, 2]);
        assert_eq!(block(&mut Cursor(&bytes)), Some(everything()));
    }

    #[test]
    fn damaged_blocks_never_panic() {
        let whole = bytes(&everything());
        for cut in 0..whole.len() {
            assert_eq!(block(&mut Cursor(&whole[..cut])), None);
        }
        for at in 0..whole.len() {
            for flip in 0..=255u8 {
                let mut bytes = whole.clone();
                bytes[at] = flip;
                block(&mut Cursor(&bytes));
            }
        }
    }
}
