//! The end of a process that has found a bug of its own: what it was doing goes to the log, the totals to the state
//! file, and then it ends, because half a server is worse than one that is started anew.

use std::panic::{self, PanicHookInfo};
use std::process;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use crate::app::console;
use crate::app::logging::LogHandle;
use crate::control::ControlHandle;
use crate::reactor::pulse;

/// How long the totals may take, and the log.
const STATE_TIMEOUT: Duration = Duration::from_secs(1);
const LOG_TIMEOUT: Duration = Duration::from_millis(500);
/// The end comes by then, whatever hangs.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Who has the totals, once there is somebody.
static KEEPER: OnceLock<ControlHandle> = OnceLock::new();

/// From now on a process that a panic ends writes its totals first.
pub(super) fn keep_totals(control: ControlHandle) {
    let _ = KEEPER.set(control);
}

/// From here on a panic of any thread ends the process.
pub(super) fn install(log: LogHandle) {
    panic::set_hook(Box::new(move |info| {
        let _ = thread::Builder::new().name("end".to_owned()).spawn(|| {
            thread::sleep(END_TIMEOUT);
            process::abort();
        });
        let words = words(info);
        log::error!("{words}");
        if log::max_level() < log::Level::Error || !log.flush(LOG_TIMEOUT) {
            console::note(&words);
        }
        // The control thread itself cannot write them any more; the file has those of some seconds ago.
        if let Some(control) = KEEPER.get().filter(|_| thread::current().name() != Some("control")) {
            control.end(STATE_TIMEOUT);
        }
        process::abort();
    }));
}

/// A line with everything that is known.
fn words(info: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let name = thread.name().unwrap_or("a thread");
    let place = info.location().map_or_else(String::new, |place| format!(" at {}:{}", place.file(), place.line()));
    let what = info.payload_as_str().unwrap_or("without a word");
    let doing = pulse::doing().map_or_else(String::new, |doing| format!("; it was {doing}"));
    format!("{name} has found a bug of ours{place}: {what}{doing}; the server ends, please report this")
}
