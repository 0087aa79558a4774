//! Follows the bytes of a client just closely enough to know whether a message is unfinished.
//!
//! The WebSocket library hands over whole messages only. Held against the deadline must be the time
//! since a message's first byte, whatever control frames come in between; so the frames' headers
//! (RFC 6455 section 5.2) are read along.

/// The longest header: two bytes, eight of length, four of mask.
const MAX_HEADER: usize = 14;

/// Where in the frames the last byte was.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tracker {
    /// The header's bytes so far, and how many.
    header: [u8; MAX_HEADER],
    n_header: usize,
    /// Bytes of the frame's payload that are still to come.
    payload: u64,
    /// Bytes of the message in finished fragments, and in the frame that was begun.
    message: usize,
    frame: usize,
    is_final: bool,
    is_control: bool,
    /// A data frame that was not final came, and the final one did not.
    is_fragmented: bool,
}

impl Tracker {
    /// Takes bytes as they were read.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if 0 < self.payload {
                let here = self.payload.min(bytes.len() as u64);
                self.payload -= here;
                bytes = bytes.get(usize::try_from(here).unwrap_or(usize::MAX)..).unwrap_or(&[]);
                if self.payload == 0 {
                    self.end_frame();
                }
                continue;
            }
            // A whole header ends below, so there is room for the next byte.
            if let Some(place) = self.header.get_mut(self.n_header) {
                *place = *first;
            }
            self.n_header += 1;
            bytes = rest;
            if let Some(payload) = self.complete_header() {
                self.begin_frame(payload);
            }
        }
    }

    /// Returns whether a message, or a frame of any kind, was begun and not finished.
    pub(crate) const fn is_unfinished(&self) -> bool {
        self.is_fragmented || 0 < self.payload || 0 < self.n_header
    }

    /// Returns how many bytes the library holds, or has set aside, for an unfinished message.
    pub(crate) const fn held(&self) -> usize {
        self.message.saturating_add(self.frame)
    }

    /// Returns the payload's length once the header is whole.
    fn complete_header(&self) -> Option<u64> {
        let (_, rest) = self.header.get(..self.n_header)?.split_first()?;
        let (second, rest) = rest.split_first()?;
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let n_length = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if rest.len() < n_length + mask {
            return None;
        }
        let length = rest.get(..n_length)?;
        let extended = length.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
        Some(if n_length == 0 { u64::from(second & 0x7f) } else { extended })
    }

    fn begin_frame(&mut self, payload: u64) {
        let [first, ..] = self.header;
        self.is_final = first & 0x80 != 0;
        self.is_control = first & 0x08 != 0;
        self.n_header = 0;
        self.payload = payload;
        self.frame = usize::try_from(payload).unwrap_or(usize::MAX);
        if payload == 0 {
            self.end_frame();
        }
    }

    fn end_frame(&mut self) {
        let frame = std::mem::take(&mut self.frame);
        if !self.is_control {
            self.is_fragmented = !self.is_final;
            self.message = if self.is_final { 0 } else { self.message.saturating_add(frame) };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A masked frame, as clients send them.
    fn frame(is_final: bool, opcode: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![opcode | (u8::from(is_final) << 7)];
        match length {
            0..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
            126..65_536 => {
                bytes.push(0xfe);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(0xff);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend([1, 2, 3, 4]);
        bytes.extend(std::iter::repeat_n(7, length));
        bytes
    }

    fn frames() -> impl Strategy<Value = Vec<(bool, bool, usize)>> {
        let length = prop_oneof![0..10_usize, 120..130_usize, 65_530..65_540_usize];
        proptest::collection::vec((any::<bool>(), any::<bool>(), length), 1..6)
    }

    proptest! {
        #[test]
        fn a_message_is_unfinished_from_its_first_byte_to_its_last(
            frames in frames(),
            cuts in proptest::collection::vec(1..5_000_usize, 1..8),
        ) {
            let mut tracker = Tracker::default();
            let mut is_fragmented = false;
            let mut message = 0;
            for (is_control, is_final, length) in frames {
                let (opcode, length) = if is_control { (9, length.min(125)) } else { (1, length) };
                let bytes = frame(is_control || is_final, opcode, length);
                let mut rest = bytes.as_slice();
                for cut in cuts.iter().cycle() {
                    let (now, later) = rest.split_at((*cut).min(rest.len()));
                    tracker.feed(now);
                    rest = later;
                    if rest.is_empty() {
                        break;
                    }
                    prop_assert!(tracker.is_unfinished());
                    let begun = if bytes.len() - rest.len() < bytes.len() - length { 0 } else { length };
                    prop_assert_eq!(tracker.held(), message + begun);
                }
                if !is_control {
                    is_fragmented = !is_final;
                    message = if is_final { 0 } else { message + length };
                }
                prop_assert_eq!(tracker.held(), message);
                prop_assert_eq!(tracker.is_unfinished(), is_fragmented);
            }
        }

        #[test]
        fn any_bytes_are_followed_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut tracker = Tracker::default();
            tracker.feed(&bytes);
            prop_assert!(tracker.n_header < MAX_HEADER);
        }
    }
}
