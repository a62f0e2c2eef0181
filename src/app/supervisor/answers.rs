//! Orders of the API: to the operation they mean, and back to the answer.

use serde_json::{Value, json};

use super::Supervisor;
use crate::app::accounts::change::Refusal;
use crate::app::accounts::standing::standing;
use crate::app::accounts::store::StoreError;
use crate::app::client_configs::{self, Format};
use crate::app::config::{Config, Origin, User, user_json};
use crate::app::exit::Failure;
use crate::app::link;
use crate::app::qr::Qr;
use crate::control::backend::{Denied, Done, Order};
use crate::control::events::{Event, Kind, Level};
use crate::protocol::share_link::ShareLink;
use crate::protocol::user_id::mask;

impl Supervisor {
    /// Obeys an order that changes no account in the users file.
    pub(super) fn answer(&mut self, order: Order) -> Result<Done, Denied> {
        match order {
            Order::ResetUser { email, used_bytes, revision, by } => self.reset(&email, used_bytes, revision, &by),
            Order::Link { email } => self.link(&email),
            Order::Reload { by } => {
                let changes = self.reload(&by).map_err(|failure| invalid(&failure))?;
                let mut body = changes.data();
                body["ok"] = true.into();
                Ok(Done::Json { status: 200, body, revision: None })
            }
            Order::QrCode { email } => self.qr_code(&email),
            Order::AddUser { .. }
            | Order::PatchUser { .. }
            | Order::RotateUser { .. }
            | Order::RemoveUser { .. }
            | Order::Sessions(_)
            | Order::Cut { .. }
            | Order::Online { .. }
            | Order::ForgetNode { .. }
            | Order::ReloadAll { .. }
            | Order::Upgrade { .. } => Err(Denied::new(500, "internal", "this order is obeyed elsewhere")),
        }
    }

    /// Also for the accounts of the configuration: what was used is not in that file.
    fn reset(&mut self, email: &str, used_bytes: u64, revision: Option<u64>, by: &str) -> Result<Done, Denied> {
        if revision.is_some_and(|seen| seen != self.revision()) {
            return Err(stale(self.revision(), &self.parts.config));
        }
        let user = self.find(email)?.clone();
        if user.origin == Origin::Cluster {
            return Err(Denied::new(422, "invalid", "what an account of the cluster has used can be set to 0 only"));
        }
        self.parts.ledgers.of(mask(user.id)).set_used_bytes(used_bytes);
        let text = match used_bytes {
            0 => format!("user {email}: what was used counts from 0 again"),
            bytes => format!("user {email}: what was used counts from {bytes} bytes on"),
        };
        log::info!("{text} (by {by})");
        self.tell(Event::new(Kind::User, Level::Info, text).by(by).coded("user_reset", json!({ "user": email })));
        self.adopt_standing(self.hours.unix_time());
        Ok(self.user(200, Some(user)))
    }

    /// What a client imports, as a link and as whole configurations.
    fn link(&self, email: &str) -> Result<Done, Denied> {
        let link = self.share_link(email)?;
        let certificate = self.parts.certificates.first();
        let text = |format| client_configs::text(format, &link, certificate);
        let formats = json!({
            "xray": text(Format::Xray),
            "sing-box": text(Format::SingBox),
            "mihomo": text(Format::Mihomo),
        });
        let mut body = json!({ "link": link.to_string(), "formats": formats });
        if self.parts.cluster.is_some() {
            body["nodes"] = self.links_of_nodes(self.find(email)?).into();
        }
        Ok(Done::Json { status: 200, body, revision: None })
    }

    fn qr_code(&self, email: &str) -> Result<Done, Denied> {
        let code = Qr::new(&self.share_link(email)?.to_string());
        let too_long = || Denied::new(422, "too_long", "the link is longer than a QR code can hold");
        code.map(|code| Done::Svg(code.svg())).ok_or_else(too_long)
    }

    fn share_link(&self, email: &str) -> Result<ShareLink, Denied> {
        let config = &self.parts.config;
        self.find(email)?;
        let links = link::links(config, &link::host(config), &self.parts.certificates, Some(email));
        let links = links.map_err(|failure| invalid(&failure))?;
        links.into_iter().next().ok_or_else(|| Denied::not_found("link of this user"))
    }

    fn find(&self, email: &str) -> Result<&User, Denied> {
        let found = self.parts.config.users.iter().find(|user| user.email == email);
        found.ok_or_else(|| Denied::not_found(&format!("user \"{email}\"")))
    }

    /// An account as it is now, with its whole id: whoever may change accounts may see it.
    pub(super) fn user(&self, status: u16, user: Option<User>) -> Done {
        self.user_at(self.revision(), status, user)
    }

    /// The same as it was in the list with this revision; `None`: it is gone.
    pub(super) fn user_at(&self, revision: u64, status: u16, user: Option<User>) -> Done {
        let body = user.map_or(Value::Null, |user| {
            let mut body = user_json(&user);
            let stands = standing(&user, &self.parts.ledgers.of(mask(user.id)), self.hours.unix_time());
            body["flow"] = user.flow.as_str().into();
            body["created_at"] = user.created_at.into();
            body["state"] = stands.name().into();
            body["locked"] = false.into();
            body
        });
        Done::Json { status, body, revision: Some(revision) }
    }

    fn revision(&self) -> u64 {
        self.parts.config.revision()
    }
}

pub(super) fn denied(error: StoreError, config: &Config) -> Denied {
    let refusal = match error {
        StoreError::Failed(failure) => return Denied::new(500, "failed", failure.message),
        StoreError::Refused(Refusal::Stale(revision)) => return stale(revision + config.cluster_version, config),
        StoreError::Refused(refusal) => refusal,
    };
    let message = refusal.message(config);
    match refusal {
        Refusal::NotFound(_) => Denied::new(404, "not_found", message),
        Refusal::Exists(_) => Denied::new(409, "exists", message),
        Refusal::Locked(_) => Denied::new(409, "locked", message),
        Refusal::Invalid(_) | Refusal::Stale(_) => {
            let mut denied = Denied::new(422, "invalid", message.as_str());
            denied.beside = Some(json!({ "fields": fields(&message) }));
            denied
        }
    }
}

/// Which keys a refusal is about, so that the page can say in its reader's language what each may be. A line of the
/// message begins with its key.
fn fields(message: &str) -> Vec<Value> {
    let is_key =
        |key: &str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || b"._".contains(&byte));
    let named = message.lines().filter_map(|line| line.split_once(": ")).filter(|(key, _)| is_key(key));
    named.map(|(key, message)| json!({ "key": key, "message": message })).collect()
}

pub(super) fn stale(revision: u64, config: &Config) -> Denied {
    let mut denied = Denied::new(412, "stale", Refusal::Stale(revision).message(config));
    denied.beside = Some(json!({ "revision": revision }));
    denied
}

fn invalid(failure: &Failure) -> Denied {
    Denied::new(422, "invalid", failure.message.clone())
}
