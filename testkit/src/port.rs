//! Ports of server processes.

use std::process::Child;

/// Whether a process itself listens on a TCP port of its network namespace. To connect to the port
/// does not tell: another process may have taken it first, or a connection may meet itself.
#[must_use]
pub fn listens(process: &Child, port: u16) -> bool {
    let Ok(sockets) = std::fs::read_dir(format!("/proc/{}/fd", process.id())) else {
        return false;
    };
    let own: Vec<String> = sockets
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?;
            inode.strip_suffix(']').map(ToOwned::to_owned)
        })
        .collect();
    ["tcp", "tcp6"].iter().any(|table| {
        let table = format!("/proc/{}/net/{table}", process.id());
        let table = std::fs::read_to_string(table).unwrap_or_default();
        table.lines().any(|line| {
            // Local address, remote address, state, and further on the inode.
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, "0A", _, _, _, _, _, inode, ..] = fields.as_slice() else {
                return false;
            };
            local.ends_with(&format!(":{port:04X}")) && own.iter().any(|own| own == inode)
        })
    })
}
