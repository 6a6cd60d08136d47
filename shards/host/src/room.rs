//! How much room a file system has left.

/// A file system as it was seen a moment ago.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Its size in bytes.
    pub bytes: u64,
    /// Bytes that are free for us.
    pub bytes_free: u64,
    /// Files that it can hold; 0 when there is no fixed number.
    pub inodes: u64,
    /// Files that can still be made.
    pub inodes_free: u64,
    /// Nothing can be written: it is mounted so, or an error has made it so.
    pub read_only: bool,
}
