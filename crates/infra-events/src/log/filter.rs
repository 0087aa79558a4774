//! A Bloom filter over the ids of a segment, so that most ids need not be looked for on the disk.
//!
//! Its bits stand in blocks of one cache line (Putze, Sanders, Singler: Cache-, Hash- and
//! Space-Efficient Bloom Filters, 2007).

/// The bits of a key: of 1,000 keys that are not in the filter some two seem to be.
const BITS: u64 = 16;

/// How many bits each key sets in its block.
const PROBES: u32 = 7;

/// The words of a block.
const BLOCK: usize = 8;

/// Tells keys that are not in a set from those that may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter(Vec<[u64; BLOCK]>);

impl Filter {
    /// Creates a filter of keys that are hashes already.
    pub(super) fn of(keys: &[u64]) -> Self {
        let n_blocks = (keys.len() as u64 * BITS).div_ceil(64 * BLOCK as u64);
        let mut filter = Self(vec![[0; BLOCK]; usize::try_from(n_blocks).unwrap_or(1)]);
        for key in keys {
            let block = filter.block(*key);
            let Some(block) = filter.0.get_mut(block) else { continue };
            for (word, mask) in probes(*key) {
                if let Some(word) = block.get_mut(word) {
                    *word |= mask;
                }
            }
        }
        filter
    }

    /// Returns whether a key may be one of those that the filter was made of.
    pub(super) fn may_have(&self, key: u64) -> bool {
        let block = self.0.get(self.block(key));
        block.is_some_and(|block| {
            probes(key).all(|(word, mask)| block.get(word).is_some_and(|word| word & mask != 0))
        })
    }

    /// The block of a key: its upper half, as a part of all blocks.
    fn block(&self, key: u64) -> usize {
        let n_blocks = self.0.len() as u64;
        usize::try_from(((key >> 32) * n_blocks) >> 32).unwrap_or(usize::MAX)
    }

    pub(super) fn to_words(&self) -> impl ExactSizeIterator<Item = u64> {
        self.0.as_flattened().iter().copied()
    }

    /// Reads a filter back; `None` if the words are no blocks.
    pub(super) fn from_words(words: &[u64]) -> Option<Self> {
        let (blocks, rest) = words.as_chunks::<BLOCK>();
        rest.is_empty().then(|| Self(blocks.to_vec()))
    }
}

/// The bits of a key: the word in its block, and the bit in that.
fn probes(key: u64) -> impl Iterator<Item = (usize, u64)> {
    // The lower half chose no block; mixing it gives nine fresh bits for each probe.
    let bits = mix(key);
    (0..PROBES).map(move |probe| {
        let bit = bits >> (9 * probe);
        (usize::try_from(bit & 7).unwrap_or(0), 1 << ((bit >> 3) & 63))
    })
}

/// Spreads every bit of a word over all others: the finalizer of `SplitMix64` (Steele, Lea, Flood:
/// Fast Splittable Pseudorandom Number Generators, 2014).
pub(super) const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_all_of_its_keys_and_few_others() {
        for n_keys in [0_u64, 1, 2, 100, 50_000] {
            let keys: Vec<u64> = (0..n_keys).map(mix).collect();
            let words: Vec<u64> = Filter::of(&keys).to_words().collect();
            let filter = Filter::from_words(&words).unwrap();
            assert!(keys.iter().all(|key| filter.may_have(*key)));
            let others = (n_keys..n_keys + 100_000).map(mix);
            let n_wrong = others.filter(|key| filter.may_have(*key)).count();
            assert!(n_wrong < 500, "{n_wrong} of 100,000 for {n_keys} keys");
        }
        assert_eq!(Filter::from_words(&[0; 9]), None);
    }
}
