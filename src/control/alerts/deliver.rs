//! Telling recipients: two threads, one for webhooks and one for commands, each with a bounded queue.
//!
//! Nobody waits here for a webhook that hangs: what finds no room is dropped and counted. A delivery that fails is tried
//! again a few times, later each time, while others go on.

use std::io::{self, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use super::{Notice, Recipient};
use crate::control::webhook::{Roots, Url, post};

/// Deliveries of one kind that wait at the most, those to be repeated included.
const WAITING_MAX: usize = 64;
/// Pauses before the second, third and fourth attempt.
const PAUSES: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(60)];
/// A command that runs longer is killed.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
const COMMAND_POLL: Duration = Duration::from_millis(50);

/// The way to the recipients. The threads end when it is dropped and they are done.
pub struct Deliverer {
    webhooks: SyncSender<Delivery<Url>>,
    commands: SyncSender<Delivery<Vec<String>>>,
    failures: Arc<AtomicU64>,
}

struct Delivery<To> {
    to: To,
    body: Arc<[u8]>,
    attempts: usize,
    due: Instant,
}

impl Deliverer {
    pub fn start(roots: Roots) -> io::Result<Self> {
        let failures = Arc::<AtomicU64>::default();
        let deliver = move |url: &Url, body: &[u8]| post(url, body, &roots);
        let webhooks = start("webhooks", deliver, Arc::clone(&failures))?;
        let commands =
            start("alert-commands", |command: &Vec<String>, body: &[u8]| run(command, body), Arc::clone(&failures))?;
        Ok(Self { webhooks, commands, failures })
    }

    /// Tells `recipients`. Never blocks.
    pub fn tell(&self, notice: &Notice, recipients: &[Recipient]) {
        // A struct of names and numbers always becomes JSON.
        let body: Arc<[u8]> = serde_json::to_vec(notice).unwrap_or_default().into();
        for recipient in recipients {
            let body = Arc::clone(&body);
            let taken = match recipient {
                Recipient::Log if notice.state == "fired" => {
                    log::warn!("alert {}", notice.text);
                    true
                }
                Recipient::Log => {
                    log::info!("alert {}", notice.text);
                    true
                }
                Recipient::Webhook(url) => self.webhooks.try_send(delivery(url.clone(), body)).is_ok(),
                Recipient::Command(command) => self.commands.try_send(delivery(command.clone(), body)).is_ok(),
            };
            if !taken {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Deliveries given up.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

fn delivery<To>(to: To, body: Arc<[u8]>) -> Delivery<To> {
    Delivery { to, body, attempts: 0, due: Instant::now() }
}

fn start<To: Send + 'static>(
    name: &str,
    deliver: impl Fn(&To, &[u8]) -> io::Result<()> + Send + 'static,
    failures: Arc<AtomicU64>,
) -> io::Result<SyncSender<Delivery<To>>> {
    let (sender, receiver) = mpsc::sync_channel(WAITING_MAX);
    let thread_name = name.to_owned();
    thread::Builder::new().name(name.to_owned()).spawn(move || serve(&thread_name, &receiver, deliver, &failures))?;
    Ok(sender)
}

/// Delivers until nobody can send any more. What is to be repeated then is given up.
fn serve<To>(
    name: &str,
    receiver: &Receiver<Delivery<To>>,
    deliver: impl Fn(&To, &[u8]) -> io::Result<()>,
    failures: &AtomicU64,
) {
    let mut waiting: Vec<Delivery<To>> = Vec::new();
    loop {
        let next = waiting.iter().map(|delivery| delivery.due).min();
        let received = match next {
            Some(due) => receiver.recv_timeout(due.saturating_duration_since(Instant::now())),
            None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok(delivery) if waiting.len() < WAITING_MAX => waiting.push(delivery),
            Ok(_) => {
                failures.fetch_add(1, Ordering::Relaxed);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        for mut delivery in waiting.extract_if(.., |delivery| delivery.due <= now).collect::<Vec<_>>() {
            let Err(error) = deliver(&delivery.to, &delivery.body) else { continue };
            if let Some(pause) = PAUSES.get(delivery.attempts) {
                delivery.attempts += 1;
                delivery.due = Instant::now() + *pause;
                waiting.push(delivery);
            } else {
                log::warn!("{name}: an alert was not delivered: {error}");
                failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Runs a program with `body` on its standard input; anything but exit code 0 is a failure.
fn run(command: &[String], body: &[u8]) -> io::Result<()> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // A pipe holds more than a notice has, so this does not block; a program that does not read it is none of our business.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(body));
    wait(&mut child)
}

fn wait(child: &mut Child) -> io::Result<()> {
    let deadline = Instant::now() + COMMAND_TIMEOUT;
    while Instant::now() < deadline {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(io::Error::other(status.to_string())),
            None => thread::sleep(COMMAND_POLL),
        }
    }
    child.kill()?;
    child.wait()?;
    Err(io::ErrorKind::TimedOut.into())
}
