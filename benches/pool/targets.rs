//! The targets: an echo on every address of the far end.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::thread;

pub(crate) const PORT: u16 = 8080;

/// Serves until it is killed.
pub(crate) fn serve() -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT))?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        thread::spawn(move || -> io::Result<()> {
            stream.set_nodelay(true)?;
            let mut chunk = [0; 4096];
            loop {
                match stream.read(&mut chunk)? {
                    0 => return Ok(()),
                    count => stream.write_all(&chunk[..count])?,
                }
            }
        });
    }
    Ok(())
}
