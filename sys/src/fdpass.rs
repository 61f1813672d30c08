//! Messages with file descriptors over a unix socket pair that keeps message boundaries.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::error::{Context as _, Result};

/// The most descriptors in one message.
pub const MAX_FDS: usize = 16;

/// Two connected ends; both are closed at exec.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .ctx("make", "socket pair")
}

/// Sends one message.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(rustix::io::Errno::TOOBIG).ctx("send to", "socket");
    }
    loop {
        let sent = sendmsg(
            &socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        );
        match sent {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(|_| ()).ctx("send to", "socket"),
        }
    }
}

/// Receives one message into `buffer`: its length and descriptors. Length 0 means that the other
/// end is gone.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        let flags = RecvFlags::CMSG_CLOEXEC;
        match recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok((0, Vec::new())),
            other => break other.ctx("receive from", "socket")?,
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((got.bytes, fds))
}

/// An anonymous memory file with these bytes.
pub fn memory_file(bytes: &[u8]) -> Result<OwnedFd> {
    use std::io::{Seek as _, Write as _};
    let fd = rustix::fs::memfd_create("kiln", rustix::fs::MemfdFlags::CLOEXEC)
        .ctx("make", "memory file")?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes).ctx("write", "memory file")?;
    file.rewind().ctx("rewind", "memory file")?;
    Ok(file.into())
}
