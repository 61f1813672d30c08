//! The pipes that a step writes to, read in the order in which it wrote.
//!
//! Nothing in a pipe says when it was written. But the kernel puts the pipes of an epoll object in
//! a line as they become readable, and each is read once before it is put at the end of that line
//! again. So what a step writes to one stream and then to the other comes in that order, also if it
//! is read later. That is as far as it goes: lines that a step writes faster than they are read may
//! come together with earlier ones of the same stream.

use std::io;
use std::os::fd::OwnedFd;

use kiln_solver::event::Stream;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

/// Bytes that are read at once.
const READ: usize = 32 << 10;

/// One event for each time that a pipe is put into the line.
const ONCE: EventFlags = EventFlags::IN.union(EventFlags::ONESHOT);

/// The reading ends of both pipes.
#[derive(Debug)]
pub(super) struct Streams {
    line: OwnedFd,
    pipes: [Option<(OwnedFd, Stream)>; 2],
}

impl Streams {
    /// Watches both from now on.
    ///
    /// # Errors
    /// The kernel has no more descriptors for that.
    pub(super) fn new(out: OwnedFd, err: OwnedFd) -> io::Result<Self> {
        let line = epoll::create(CreateFlags::CLOEXEC)?;
        for (number, pipe) in [(0, &out), (1, &err)] {
            rustix::io::ioctl_fionbio(pipe, true)?;
            epoll::add(&line, pipe, EventData::new_u64(number), ONCE)?;
        }
        Ok(Self {
            line,
            pipes: [Some((out, Stream::Out)), Some((err, Stream::Err))],
        })
    }

    /// Passes on what comes, until nobody can write any more. It blocks its thread.
    pub(super) fn read(mut self, mut take: impl FnMut(Stream, &[u8])) -> io::Result<()> {
        let mut buffer = vec![0; READ];
        while self.pipes.iter().any(Option::is_some) {
            if let Some(number) = next(&self.line)? {
                self.read_once(number, &mut buffer, &mut take)?;
            }
        }
        Ok(())
    }

    fn read_once(
        &mut self,
        number: u64,
        buffer: &mut [u8],
        take: &mut impl FnMut(Stream, &[u8]),
    ) -> io::Result<()> {
        let place = usize::try_from(number).ok();
        let Some(place) = place.and_then(|n| self.pipes.get_mut(n)) else {
            return Ok(());
        };
        let Some((pipe, stream)) = place else {
            return Ok(());
        };
        let line = &self.line;
        let n = match rustix::io::read(&*pipe, &mut *buffer) {
            Ok(0) => {
                epoll::delete(line, &*pipe)?;
                *place = None;
                return Ok(());
            }
            Ok(n) => n,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        // At once: what comes before it stands in the line again has lost its place.
        epoll::modify(line, &*pipe, EventData::new_u64(number), ONCE)?;
        if n > 0 {
            take(*stream, buffer.get(..n).unwrap_or_default());
        }
        Ok(())
    }
}

/// Waits for the first in the line; none if a signal came meanwhile.
fn next(line: &OwnedFd) -> io::Result<Option<u64>> {
    let mut events = [epoll::Event {
        flags: EventFlags::empty(),
        data: EventData::new_u64(0),
    }];
    match epoll::wait(line, &mut events, None) {
        Ok(_) => Ok(events.first().map(|e| e.data.u64())),
        Err(Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use super::*;

    fn pipes() -> (Streams, File, File) {
        let (out, to_out) = super::super::pipe().unwrap();
        let (err, to_err) = super::super::pipe().unwrap();
        let streams = Streams::new(out, err).unwrap();
        (streams, to_out.into(), to_err.into())
    }

    fn all(streams: Streams) -> Vec<(Stream, String)> {
        let mut seen = Vec::new();
        let take = |stream, bytes: &[u8]| {
            seen.push((stream, String::from_utf8(bytes.to_vec()).unwrap()));
        };
        streams.read(take).unwrap();
        seen
    }

    #[test]
    fn what_was_written_first_comes_first() {
        for first in [Stream::Out, Stream::Err] {
            let (streams, mut out, mut err) = pipes();
            let second = match first {
                Stream::Out => {
                    out.write_all(b"1").unwrap();
                    err.write_all(b"2").unwrap();
                    Stream::Err
                }
                Stream::Err => {
                    err.write_all(b"1").unwrap();
                    out.write_all(b"2").unwrap();
                    Stream::Out
                }
            };
            drop((out, err));
            let wanted = [(first, "1".to_owned()), (second, "2".to_owned())];
            assert_eq!(all(streams), wanted);
        }
    }

    #[test]
    fn the_order_holds_after_a_pause_and_to_the_end() {
        let (streams, mut out, mut err) = pipes();
        let (send, seen) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            streams.read(move |stream, bytes: &[u8]| {
                send.send((stream, bytes.to_vec())).unwrap();
            })
        });
        // Both have been readable before, in either order.
        for round in 0..50 {
            let (first, second) = match round % 2 {
                0 => (Stream::Out, Stream::Err),
                _ => (Stream::Err, Stream::Out),
            };
            for stream in [first, second] {
                match stream {
                    Stream::Out => out.write_all(b"x\n").unwrap(),
                    Stream::Err => err.write_all(b"y\n").unwrap(),
                }
            }
            assert_eq!(seen.recv().unwrap().0, first, "{round}");
            assert_eq!(seen.recv().unwrap().0, second, "{round}");
        }
        // One stream may end long before the other.
        drop(out);
        err.write_all(b"last").unwrap();
        assert_eq!(seen.recv().unwrap(), (Stream::Err, b"last".to_vec()));
        drop(err);
        reader.join().unwrap().unwrap();
    }

    #[test]
    fn a_stream_that_never_pauses_keeps_nobody_waiting() {
        let (streams, mut out, mut err) = pipes();
        out.write_all(&vec![b'x'; READ + 1]).unwrap();
        err.write_all(b"heard").unwrap();
        drop((out, err));
        let seen = all(streams);
        let order: Vec<Stream> = seen.iter().map(|(stream, _)| *stream).collect();
        assert_eq!(order, [Stream::Out, Stream::Err, Stream::Out]);
        assert_eq!(
            seen.iter().map(|(_, text)| text.len()).sum::<usize>(),
            READ + 6
        );
    }
}
