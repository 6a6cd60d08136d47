//! Reads messages back, from the segments of any shard.

use crate::Place;
use crate::record::{self, HEAD_BYTES, Head, Kind, MessageBody};
use crate::segment::Name;
use host::{File, Host};
use mail::{Envelope, MessageId, WallTime};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

/// Files that a reader keeps open; beyond it the one not used for longest is closed.
const OPEN_FILES_MAX: usize = 16;

/// Reads messages of all the logs under one spool directory.
pub struct Reader<H: Host> {
    host: H,
    root: PathBuf,
    /// The last used one first.
    open: RefCell<VecDeque<OpenFile<H>>>,
}

struct OpenFile<H: Host> {
    log: u16,
    segment: u32,
    file: Rc<H::File>,
}

/// A message as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its identity.
    pub id: MessageId,
    /// When it was accepted.
    pub accepted: WallTime,
    /// Its envelope, with all recipients.
    pub envelope: Envelope,
    /// Its content; the vector has room for at least 8 more bytes.
    pub content: Vec<u8>,
}

/// Why a message cannot be read.
#[derive(Debug)]
pub enum ReadError {
    /// The file cannot be opened or read; `NotFound` and `UnexpectedEof` say that the message was retired.
    Io(io::Error),
    /// What is there is not the message: it was retired and overwritten, or is damaged.
    Damaged(Place),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(error) => write!(f, "cannot read from the spool: {error}"),
            ReadError::Damaged(place) => write!(f, "no message at {place:?}"),
        }
    }
}

impl std::error::Error for ReadError {}

impl<H: Host> Reader<H> {
    /// A reader for the logs in `root/shard-N`.
    pub fn new(host: H, root: PathBuf) -> Reader<H> {
        Reader { host, root, open: RefCell::default() }
    }

    /// Reads the message at `place` and checks it.
    pub async fn read(&self, place: Place) -> Result<Stored, ReadError> {
        let file = self.file(place).await.map_err(ReadError::Io)?;
        let read = file.read_at(u64::from(place.offset), place.length as usize).await;
        let read = read.map_err(ReadError::Io).and_then(|bytes| stored(place, bytes));
        if read.is_err() {
            // The file may have been renamed, and another one may have its name by now.
            self.open.borrow_mut().retain(|open| (open.log, open.segment) != (place.log, place.segment));
        }
        read
    }

    async fn file(&self, place: Place) -> io::Result<Rc<H::File>> {
        if let Some(file) = self.reuse(place) {
            return Ok(file);
        }
        let directory = self.root.join(format!("shard-{}", place.log));
        let file = Rc::new(self.host.open_read(&Name::Segment(place.segment).path(&directory)).await?);
        let mut open = self.open.borrow_mut();
        open.push_front(OpenFile { log: place.log, segment: place.segment, file: Rc::clone(&file) });
        open.truncate(OPEN_FILES_MAX);
        Ok(file)
    }

    fn reuse(&self, place: Place) -> Option<Rc<H::File>> {
        let mut open = self.open.borrow_mut();
        let at = open.iter().position(|open| (open.log, open.segment) == (place.log, place.segment))?;
        let found = open.remove(at)?;
        let file = Rc::clone(&found.file);
        open.push_front(found);
        Some(file)
    }
}

/// Takes a record apart. The content moves to the front of the vector, where the head and the envelope leave room
/// behind it.
fn stored(place: Place, mut bytes: Vec<u8>) -> Result<Stored, ReadError> {
    let parsed = Head::parse(&bytes).filter(|head| {
        let here = (head.segment, head.offset, head.length) == (place.segment, place.offset, place.length);
        here && head.kind == Kind::Message
    });
    let parsed = parsed.and_then(|head| Some((head.id, record::message_body(head.body(&bytes)?)?)));
    let (id, MessageBody { accepted, envelope, content_bytes }) = parsed.ok_or(ReadError::Damaged(place))?;
    bytes.drain(..bytes.len() - content_bytes as usize);
    debug_assert!(bytes.capacity() >= bytes.len() + HEAD_BYTES);
    Ok(Stored { id: MessageId(id), accepted, envelope, content: bytes })
}
