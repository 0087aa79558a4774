//! Numbers, texts and ids as bytes: what frames and segment indexes are made of.

use bytes::Bytes;
use infra_core::{Error, ErrorKind, Result, id::StreamName};
use uuid::Uuid;

/// Says what cannot be decoded, though its checksum is right.
pub(super) fn corrupt(detail: String) -> Error {
    Error::new(ErrorKind::Corrupt, "decode frame").detail(detail)
}

/// Bytes that are written; integers are little-endian, texts and bytes follow their length.
#[derive(Debug, Default)]
pub(super) struct Out(Vec<u8>);

impl Out {
    /// Goes on behind what is written already.
    pub(super) const fn behind(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    /// Writes how many things follow.
    pub(super) fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX));
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(super) fn uuid(&mut self, uuid: Option<Uuid>) {
        self.raw(uuid.unwrap_or_default().as_bytes());
    }
}

/// Bytes that are read; whatever they are, reading them is bounded and never panics.
#[derive(Debug)]
pub(super) struct In<'a> {
    body: &'a Bytes,
    at: usize,
}

impl<'a> In<'a> {
    pub(super) const fn new(body: &'a Bytes) -> Self {
        Self { body, at: 0 }
    }

    /// Refuses bytes that nobody asked for.
    pub(super) fn end(&self) -> Result<()> {
        match self.body.len() - self.at {
            0 => Ok(()),
            rest => Err(corrupt(format!("{rest} bytes after the commit"))),
        }
    }

    pub(super) fn raw(&mut self, length: usize) -> Result<Bytes> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.body.len());
        let Some(end) = end else {
            return Err(corrupt(format!("{length} bytes at {} go beyond the end", self.at)));
        };
        let bytes = self.body.slice(self.at..end);
        self.at = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.raw(N)?;
        bytes.as_ref().try_into().map_err(|_| corrupt(format!("{N} bytes at {}", self.at)))
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes> {
        let length = self.u32()?;
        self.raw(usize::try_from(length).unwrap_or(usize::MAX))
    }

    pub(super) fn text(&mut self) -> Result<String> {
        String::from_utf8(self.bytes()?.to_vec())
            .map_err(|cause| corrupt("text is not UTF-8".to_owned()).because(cause))
    }

    pub(super) fn name(&mut self) -> Result<StreamName> {
        let name = self.text()?;
        StreamName::new(name).map_err(|cause| corrupt("stream name".to_owned()).because(cause))
    }

    pub(super) fn uuid(&mut self) -> Result<Option<Uuid>> {
        let uuid = Uuid::from_bytes(self.array()?);
        Ok(Some(uuid).filter(|uuid| !uuid.is_nil()))
    }
}
