//! Records of one length in pages, each page with its own checksum, so that a few can be read
//! without the others.
//!
//! ```text
//! record | record | ... | crc32c of the records before u32 | record | ...
//! ```

use std::io;

use super::disk::{DiskFile, read_full};

/// Bytes that pages are read from.
pub(super) trait Source {
    /// Reads `length` bytes at `offset`, or fewer at the end.
    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>>;
}

impl Source for Box<dyn DiskFile> {
    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        read_full(self.as_ref(), offset, length)
    }
}

impl Source for Vec<u8> {
    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let to = from.saturating_add(length).min(self.len());
        Ok(self.get(from..to).unwrap_or_default().to_vec())
    }
}

/// The most bytes of records in a page.
const PAGE: u64 = 4_096;

/// The length of a page's checksum.
const CHECKSUM: u64 = 4;

/// Where the records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pages {
    pub(super) offset: u64,
    /// The length of a record, above zero.
    pub(super) record: u64,
    pub(super) count: u64,
}

impl Pages {
    const fn per_page(self) -> u64 {
        PAGE / self.record
    }

    /// Returns the length of all pages; `None` if no file is so long.
    pub(super) fn length(self) -> Option<u64> {
        let n_pages = self.count.div_ceil(self.per_page());
        self.count.checked_mul(self.record)?.checked_add(n_pages.checked_mul(CHECKSUM)?)
    }

    /// Writes records as pages.
    pub(super) fn write(record: u64, records: &[u8], bytes: &mut Vec<u8>) {
        let page = usize::try_from(PAGE / record * record).unwrap_or(1);
        for page in records.chunks(page) {
            bytes.extend_from_slice(page);
            bytes.extend_from_slice(&crc32c::crc32c(page).to_le_bytes());
        }
    }

    pub(super) const fn read(self, source: &dyn Source) -> Reading<'_> {
        Reading { pages: self, source, page: u64::MAX, records: Vec::new() }
    }
}

/// Reads records one by one, and keeps the page of the last one.
pub(super) struct Reading<'a> {
    pages: Pages,
    source: &'a dyn Source,
    page: u64,
    records: Vec<u8>,
}

impl Reading<'_> {
    /// Returns a record.
    ///
    /// `InvalidData` if its page is damaged, `UnexpectedEof` if there is none.
    pub(super) fn get(&mut self, number: u64) -> io::Result<&[u8]> {
        if self.pages.count <= number {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let per_page = self.pages.per_page();
        let page = number / per_page;
        if page != self.page {
            let count = per_page.min(self.pages.count - page * per_page);
            self.records = self.load(page, count * self.pages.record)?;
            self.page = page;
        }
        let at = |number: u64| usize::try_from(number * self.pages.record).unwrap_or(usize::MAX);
        let place = number % per_page;
        self.records
            .get(at(place)..at(place + 1))
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn load(&self, page: u64, length: u64) -> io::Result<Vec<u8>> {
        let full = self.pages.per_page() * self.pages.record + CHECKSUM;
        let length = usize::try_from(length + CHECKSUM).unwrap_or(usize::MAX);
        let mut bytes = self.source.read(self.pages.offset + page * full, length)?;
        let Some((records, own)) = bytes.split_last_chunk::<4>().filter(|_| bytes.len() == length)
        else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        if crc32c::crc32c(records) != u32::from_le_bytes(*own) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a page fails its checksum"));
        }
        bytes.truncate(length - 4);
        Ok(bytes)
    }

    /// Returns the number of the first record that is not before something, in records that are
    /// sorted by it.
    pub(super) fn partition_point(&mut self, is_before: impl Fn(&[u8]) -> bool) -> io::Result<u64> {
        let (mut low, mut high) = (0, self.pages.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if is_before(self.get(middle)?) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_are_read_by_number_and_found_by_order(
            record in 1_u64..600,
            count in 0_u64..900,
            wanted in 0_u64..1_000,
        ) {
            let number = |n: u64| vec![u8::try_from(n / 4).unwrap(); usize::try_from(record).unwrap()];
            let records: Vec<u8> = (0..count).flat_map(number).collect();
            let mut bytes = vec![7; 30];
            Pages::write(record, &records, &mut bytes);
            let pages = Pages { offset: 30, record, count };
            prop_assert_eq!(pages.length(), Some(bytes.len() as u64 - 30));
            let mut reading = pages.read(&bytes);
            let found = reading.get(wanted).map(<[u8]>::to_vec).ok();
            prop_assert_eq!(found, (wanted < count).then(|| number(wanted)));
            let sought = u8::try_from(wanted / 4).unwrap();
            let place = reading.partition_point(|record| record[0] < sought).unwrap();
            prop_assert_eq!(place, count.min(u64::from(sought) * 4));
        }
    }
}
