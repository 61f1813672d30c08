//! How large and how slow things may be, for all kinds of remotes.

use std::time::Duration;

/// The longest record.
pub(crate) const MAX_RECORD_BYTES: u64 = 4 << 20;
/// How long a remote may take to answer a question.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to store a record.
pub(crate) const STORE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long sending may take besides the bytes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes in a second below which a transfer is given up: making the layer again is faster.
pub(crate) const MIN_BYTES_PER_SECOND: u64 = 100_000;
/// Over how long the speed of a transfer is measured; also how long it may take until the first byte is there.
pub(crate) const SPEED_WINDOW: Duration = Duration::from_secs(30);
/// Questions to one remote at once, where there are many.
pub(crate) const MAX_QUESTIONS: usize = 32;

/// The largest blob that goes with many others at once, in bytes. It is sent in one request, which has to be
/// over before a registry is taken for dead.
pub(crate) const SMALL_BLOB: u64 = 256 << 10;

/// Names of records that a remote is asked for at once, where it has no more.
pub(crate) const MAX_NAMES: usize = 1000;
/// Folders of a directory that are listed for that: one for each way that names begin.
pub(crate) const MAX_FOLDERS: usize = 256;
/// Names in one of them. Names are hashes, so that no folder has many more than another.
pub(crate) const MAX_NAMES_OF_FOLDER: usize = MAX_NAMES / 8;
/// The longest list of tags that is read for that, in bytes.
pub(crate) const MAX_TAG_LIST: u64 = 256 << 10;

/// How long it may take to send so many bytes of this host.
pub(crate) fn transfer_time(bytes: u64) -> Duration {
    CONNECT_TIMEOUT + Duration::from_secs(bytes / MIN_BYTES_PER_SECOND)
}
