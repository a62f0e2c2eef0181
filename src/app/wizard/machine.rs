//! What the wizard has to know about the machine.
//!
//! Owns the questions to the system, so that tests can answer them instead.

use std::env;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};

use rustix::termios::tcgetwinsize;

use crate::app::firewall::Firewall;
use crate::app::net::default_source_address;
use crate::app::port_holder::{self, Holder};

/// What can be asked.
pub trait Machine {
    /// Whether `port` of `ip` can be listened on; port 0 asks for the address alone.
    ///
    /// # Errors
    /// Why not.
    fn try_port(&self, ip: IpAddr, port: u16) -> Result<(), PortProblem>;
    /// The address towards the internet.
    fn source_address(&self) -> Option<IpAddr>;
    fn firewall(&self) -> Firewall;
    fn is_root(&self) -> bool;
    /// Columns and lines of the terminal, if there is one.
    fn terminal(&self) -> Option<(usize, usize)>;
    /// What to type to call this program.
    fn program(&self) -> String;
}

/// Why a port cannot be listened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortProblem {
    /// By this process, if it may be known.
    Taken(Option<Holder>),
    NeedsRoot,
    /// The machine does not have this address.
    NotMine,
    Other(String),
}

/// The machine this runs on.
pub struct ThisMachine;

impl Machine for ThisMachine {
    fn try_port(&self, ip: IpAddr, port: u16) -> Result<(), PortProblem> {
        TcpListener::bind((ip, port)).map(drop).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => PortProblem::Taken(port_holder::holder(port)),
            io::ErrorKind::PermissionDenied => PortProblem::NeedsRoot,
            io::ErrorKind::AddrNotAvailable => PortProblem::NotMine,
            _ => PortProblem::Other(error.to_string()),
        })
    }

    fn source_address(&self) -> Option<IpAddr> {
        default_source_address()
    }

    fn firewall(&self) -> Firewall {
        Firewall::detect()
    }

    fn is_root(&self) -> bool {
        rustix::process::geteuid().is_root()
    }

    fn terminal(&self) -> Option<(usize, usize)> {
        terminal_size()
    }

    fn program(&self) -> String {
        let called = env::args_os().next().map(PathBuf::from).unwrap_or_default();
        let folders = env::var_os("PATH").unwrap_or_default();
        let is_found = |folder: &Path| env::split_paths(&folders).any(|known| known == folder);
        match called.parent() {
            Some(folder) if !folder.as_os_str().is_empty() && !is_found(folder) => called.display().to_string(),
            _ => "vless-rust".to_owned(),
        }
    }
}

/// Columns and lines of the terminal that standard output is, if it is one.
pub fn terminal_size() -> Option<(usize, usize)> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    // A serial line says 0.
    (size.ws_col > 0 && size.ws_row > 0).then(|| (usize::from(size.ws_col), usize::from(size.ws_row)))
}
