//! Telling recipients: two threads, one for webhooks and one for commands, each with a bounded queue.
//!
//! Nobody waits here for a webhook that hangs: what finds no room is dropped and counted. A delivery that fails is tried
//! again a few times, later each time, while others go on. A later message about the same alert takes the place of one
//! that still waits, so nobody hears of a beginning after the end.

use std::io::{self, Write};
use std::process::{self, Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;

use super::Recipient;
use super::watch::{Firing, Notice};
use crate::control::events::{Event, EventSink, Kind, Level};
use crate::control::webhook::{Roots, Url, post};

/// Deliveries of one kind that the thread has at the most, those to be repeated included; as many more wait for the thread.
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
    process: String,
    messages: u64,
}

/// What webhooks and commands get: the notice, and where it stands among others.
#[derive(Serialize)]
struct Message<'a> {
    server: &'a str,
    /// Start and id of the process, which no other process of this server has.
    process: &'a str,
    /// Counts the messages of the process, from 1.
    number: u64,
    /// Unix time of the first attempt. A repeated one sends the same bytes.
    sent_at: u64,
    #[serde(flatten)]
    notice: &'a Notice,
}

/// What the threads deliver to.
trait Place: Clone + PartialEq + Send + 'static {
    /// Where the message goes, in words that hold no secret.
    fn name(&self) -> String;
}

impl Place for Url {
    fn name(&self) -> String {
        self.place()
    }
}

impl Place for Vec<String> {
    fn name(&self) -> String {
        self.first().cloned().unwrap_or_default()
    }
}

struct Delivery<To> {
    to: To,
    /// What the message is about. A later message about the same replaces it.
    about: About,
    body: Arc<[u8]>,
    attempts: usize,
    due: Instant,
}

/// The alert that a message is about.
#[derive(Clone, PartialEq)]
struct About {
    rule: String,
    metric: &'static str,
    user: Option<String>,
}

/// Where a thread says what it could not deliver.
struct Outcome {
    failures: Arc<AtomicU64>,
    events: EventSink,
}

impl Deliverer {
    /// Starts the threads of a process that started at `started_at` (Unix time). What cannot be delivered is reported to
    /// `events`.
    ///
    /// # Errors
    /// When the kernel refuses a thread.
    pub fn start(roots: Roots, events: &EventSink, started_at: u64) -> io::Result<Self> {
        let failures = Arc::<AtomicU64>::default();
        let outcome = || Outcome { failures: Arc::clone(&failures), events: events.clone() };
        let webhooks = start("webhooks", move |url: &Url, body: &[u8]| post(url, body, &roots), outcome())?;
        let commands = start("alert-commands", |command: &Vec<String>, body: &[u8]| run(command, body), outcome())?;
        let process = format!("{started_at}-{}", process::id());
        Ok(Self { webhooks, commands, failures, process, messages: 0 })
    }

    /// Tells `recipients` in the name of `server` at `unix_time`. Never blocks.
    pub fn tell(&mut self, notice: &Notice, recipients: &[Recipient], server: &str, unix_time: u64) {
        self.messages += 1;
        let message = Message { server, process: &self.process, number: self.messages, sent_at: unix_time, notice };
        // A struct of names and numbers always becomes JSON.
        let body: Arc<[u8]> = serde_json::to_vec(&message).unwrap_or_default().into();
        for recipient in recipients {
            let (alert, body) = (&notice.alert, Arc::clone(&body));
            let refused = match recipient {
                Recipient::Log => {
                    log(notice);
                    None
                }
                Recipient::Webhook(url) => leave(&self.webhooks, Delivery::new(url.clone(), alert, body)),
                Recipient::Command(command) => leave(&self.commands, Delivery::new(command.clone(), alert, body)),
            };
            if let Some(place) = refused {
                self.failures.fetch_add(1, Ordering::Relaxed);
                log::warn!("alert {}: not delivered to {place}: too many wait", About::of(alert).words());
            }
        }
    }

    /// Deliveries given up.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

fn log(notice: &Notice) {
    let level = if notice.state == "fired" { log::Level::Warn } else { log::Level::Info };
    log::log!(level, "alert {}", notice.text);
}

/// Leaves a delivery for the thread; the place it does not go to if there is no room.
fn leave<To: Place>(sender: &SyncSender<Delivery<To>>, delivery: Delivery<To>) -> Option<String> {
    let place = delivery.to.name();
    sender.try_send(delivery).is_err().then_some(place)
}

impl<To> Delivery<To> {
    fn new(to: To, alert: &Firing, body: Arc<[u8]>) -> Self {
        Self { to, about: About::of(alert), body, attempts: 0, due: Instant::now() }
    }
}

impl About {
    fn of(alert: &Firing) -> Self {
        Self { rule: alert.name.clone(), metric: alert.metric, user: alert.user.clone() }
    }

    fn words(&self) -> String {
        let user = self.user.as_ref().map(|user| format!(" of {user}")).unwrap_or_default();
        format!("{}{user}", self.rule)
    }
}

fn start<To: Place>(
    name: &str,
    deliver: impl Fn(&To, &[u8]) -> io::Result<()> + Send + 'static,
    outcome: Outcome,
) -> io::Result<SyncSender<Delivery<To>>> {
    let (sender, receiver) = mpsc::sync_channel(WAITING_MAX);
    thread::Builder::new().name(name.to_owned()).spawn(move || serve(&receiver, deliver, &outcome))?;
    Ok(sender)
}

/// Delivers until nobody can send any more. What is to be repeated then is given up.
fn serve<To: Place>(
    receiver: &Receiver<Delivery<To>>,
    deliver: impl Fn(&To, &[u8]) -> io::Result<()>,
    outcome: &Outcome,
) {
    let mut waiting: Vec<Delivery<To>> = Vec::new();
    // Who did not take the last message that was given up.
    let mut deaf: Vec<To> = Vec::new();
    loop {
        let next = waiting.iter().map(|delivery| delivery.due).min();
        let received = match next {
            Some(due) => receiver.recv_timeout(due.saturating_duration_since(Instant::now())),
            None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            // All that have come, so that nothing is sent that another message has replaced already.
            Ok(first) => {
                std::iter::once(first).chain(receiver.try_iter()).for_each(|one| add(&mut waiting, one, outcome));
            }
            Err(RecvTimeoutError::Disconnected) if next.is_none_or(|due| due > Instant::now()) => return,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        let now = Instant::now();
        let Some(place) = waiting.iter().position(|delivery| delivery.due <= now) else { continue };
        let mut delivery = waiting.remove(place);
        let Err(error) = deliver(&delivery.to, &delivery.body) else {
            deaf.retain(|to| *to != delivery.to);
            continue;
        };
        if let Some(pause) = PAUSES.get(delivery.attempts) {
            delivery.attempts += 1;
            delivery.due = Instant::now() + *pause;
            waiting.push(delivery);
        } else {
            let is_known = deaf.contains(&delivery.to);
            outcome.give_up(&delivery, &error, is_known);
            if !is_known {
                deaf.push(delivery.to);
            }
        }
    }
}

/// Adds a delivery to those that wait, in the place of an earlier one about the same.
fn add<To: Place>(waiting: &mut Vec<Delivery<To>>, delivery: Delivery<To>, outcome: &Outcome) {
    waiting.retain(|other| other.to != delivery.to || other.about != delivery.about);
    if waiting.len() < WAITING_MAX {
        waiting.push(delivery);
    } else {
        outcome.give_up(&delivery, &io::Error::other("too many wait"), true);
    }
}

impl Outcome {
    /// Counts and logs a delivery that is given up. There is an event for the first in a row to a recipient.
    fn give_up<To: Place>(&self, delivery: &Delivery<To>, error: &io::Error, is_known: bool) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let (place, about) = (delivery.to.name(), &delivery.about);
        let text = format!("alert {}: not delivered to {place}: {error}", about.words());
        log::warn!("{text}");
        if !is_known {
            let data = json!({ "rule": about.rule, "user": about.user, "to": place, "error": error.to_string() });
            self.events.report(Event::new(Kind::Alert, Level::Error, text).coded("alert_not_delivered", data));
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
    // A pipe holds more than a message has, so this does not block. A program need not read it.
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

#[cfg(test)]
mod tests {
    use super::*;

    use std::cell::{Cell, RefCell};

    use crate::control::events;

    fn about(rule: &str, user: Option<&str>) -> About {
        About { rule: rule.to_owned(), metric: "sessions_percent", user: user.map(str::to_owned) }
    }

    /// A delivery that is given up if it fails once more.
    fn last_attempt(url: &str, about: About, body: &[u8]) -> Delivery<Url> {
        let to = Url::parse(url).unwrap();
        Delivery { to, about, body: body.into(), attempts: PAUSES.len(), due: Instant::now() }
    }

    /// What is delivered of these until all is done; delivering fails with these errors first.
    fn delivered(deliveries: Vec<Delivery<Url>>, errors: Vec<&'static str>) -> (Vec<String>, Vec<Event>, u64) {
        let (sender, receiver) = mpsc::sync_channel(WAITING_MAX);
        for delivery in deliveries {
            sender.send(delivery).unwrap();
        }
        drop(sender);
        let (events, reported) = events::channel();
        let outcome = Outcome { failures: Arc::default(), events };
        let (said, errors) = (RefCell::new(Vec::new()), RefCell::new(errors.into_iter()));
        let deliver = |_: &Url, body: &[u8]| -> io::Result<()> {
            if let Some(error) = errors.borrow_mut().next() {
                return Err(io::Error::other(error));
            }
            said.borrow_mut().push(String::from_utf8_lossy(body).into_owned());
            Ok(())
        };
        serve(&receiver, deliver, &outcome);
        (said.into_inner(), reported.try_iter().collect(), outcome.failures.load(Ordering::Relaxed))
    }

    #[test]
    fn a_later_message_about_the_same_alert_replaces_one_that_waits() {
        let (here, there) = ("http://a.example/x", "http://b.example/x");
        let full = || about("full", None);
        let deliveries = vec![
            last_attempt(here, full(), b"fired"),
            last_attempt(here, about("full", Some("ann")), b"fired for ann"),
            last_attempt(there, full(), b"fired there"),
            last_attempt(here, about("other", None), b"fired other"),
            last_attempt(here, full(), b"resolved"),
        ];
        let (said, _, failures) = delivered(deliveries, Vec::new());
        assert_eq!(said, ["fired for ann", "fired there", "fired other", "resolved"]);
        assert_eq!(failures, 0, "what is replaced has not failed");
    }

    #[test]
    fn what_is_given_up_is_told_with_rule_and_host_and_without_secrets_once_in_a_row() {
        let url = "https://hooks.example:8443/services/T0KEN?key=s3cret";
        let of = |user: &'static str| last_attempt(url, about("quota", Some(user)), b"{}");
        let errors = vec!["the answer was 404", "the answer was 500"];
        let (said, events, failures) = delivered(vec![of("ann"), of("ben"), of("cid")], errors);
        assert_eq!((said.len(), events.len(), failures), (1, 1, 2));
        let expected = "alert quota of ann: not delivered to https://hooks.example:8443: the answer was 404";
        assert_eq!((events[0].text.as_str(), events[0].code.as_str()), (expected, "alert_not_delivered"));
        assert_eq!((&events[0].data["rule"], &events[0].data["user"]), (&"quota".into(), &"ann".into()));
        let whole = serde_json::to_string(&events).unwrap();
        assert!(!whole.contains("T0KEN") && !whole.contains("s3cret"), "{whole}");
    }

    #[test]
    fn who_hears_again_is_told_about_again() {
        let of = |user: &'static str| last_attempt("http://a.example/", about("quota", Some(user)), b"{}");
        let (sender, receiver) = mpsc::sync_channel(WAITING_MAX);
        for user in ["ann", "ben", "cid"] {
            sender.send(of(user)).unwrap();
        }
        drop(sender);
        let (events, reported) = events::channel();
        let attempts = Cell::new(0);
        let deliver = |_: &Url, _: &[u8]| {
            attempts.set(attempts.get() + 1);
            if attempts.get() == 2 { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
        };
        serve(&receiver, deliver, &Outcome { failures: Arc::default(), events });
        assert_eq!(reported.try_iter().count(), 2);
    }

    #[test]
    fn of_a_command_only_the_program_is_told() {
        let command = ["/usr/local/bin/tell", "s3cret"].map(str::to_owned).to_vec();
        assert_eq!(command.name(), "/usr/local/bin/tell");
    }
}
