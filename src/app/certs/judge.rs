//! What clients will think of a certificate: whether its chain is whole, whether a public authority vouches for it, and
//! whether those who look like a browser can use its key at all.
//!
//! Judges only; the words are for the operator, with the way out. Knows no file.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, Error, RootCertStore};

use super::pem;
use super::x509::{Facts, KeyKind};
use crate::app::clock::rfc3339;
use crate::app::files::read_limited;

/// Where systems keep the public authorities, as one file.
const ROOT_FILES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
];
/// A store of some 150 authorities has 220 KB.
const ROOTS_BYTES_MAX: usize = 8 << 20;
/// The operator is told so long before the end.
const EXPIRY_NOTICE: Duration = Duration::from_hours(14 * 24);

/// The public authorities of this system.
#[derive(Clone)]
pub(super) struct Roots(Option<Arc<WebPkiServerVerifier>>);

impl Roots {
    /// Those of the system; a machine without any can say nothing about chains.
    pub(super) fn of_the_system() -> Self {
        let files = ROOT_FILES.iter().filter_map(|path| read_limited(path.as_ref(), ROOTS_BYTES_MAX).ok());
        files.map(|file| Self::of(&file)).find(|roots| roots.0.is_some()).unwrap_or(Self(None))
    }

    /// Those in this PEM.
    pub(super) fn of(file: &[u8]) -> Self {
        let mut store = RootCertStore::empty();
        let sections = pem::sections(file).unwrap_or_default();
        store.add_parsable_certificates(sections.into_iter().map(|section| CertificateDer::from(section.into_bytes())));
        if store.is_empty() {
            return Self(None);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        Self(WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build().ok())
    }
}

/// Why a client refuses `chain` for `name` at this time.
pub(super) fn refused(chain: &[CertificateDer<'static>], name: &str, roots: &Roots, now: SystemTime) -> Option<String> {
    let (end_entity, intermediates) = chain.split_first()?;
    let verifier = roots.0.as_ref()?;
    let name = ServerName::try_from(name.to_owned()).ok()?;
    let at = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    verifier.verify_server_cert(end_entity, intermediates, &name, &[], at).err().map(|error| error.to_string())
}

/// Who vouches for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vouched {
    /// A public authority: clients need nothing more.
    Publicly,
    /// Nobody whom clients know: they must pin it.
    ByNobody,
    /// This machine has no list of authorities.
    Unknown,
}

/// Who vouches for the first of `chain`, whose facts are `leaf`. Dates do not matter here.
pub(super) fn vouched(chain: &[CertificateDer<'static>], leaf: &Facts, roots: &Roots, now: SystemTime) -> Vouched {
    let Some(verifier) = &roots.0 else {
        return if leaf.self_issued { Vouched::ByNobody } else { Vouched::Unknown };
    };
    let (Some((end_entity, intermediates)), Some(name)) = (chain.split_first(), name_to_ask(leaf)) else {
        return Vouched::ByNobody;
    };
    let while_valid = now.min(leaf.not_after).max(leaf.not_before);
    let at = UnixTime::since_unix_epoch(while_valid.duration_since(UNIX_EPOCH).unwrap_or_default());
    match verifier.verify_server_cert(end_entity, intermediates, &name, &[], at) {
        // An intermediate that has expired is another complaint than one that nobody knows.
        Ok(_) | Err(Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            Vouched::Publicly
        }
        Err(_) => Vouched::ByNobody,
    }
}

/// Some name that the certificate is for, as a client would ask for it.
fn name_to_ask(leaf: &Facts) -> Option<ServerName<'static>> {
    let by_name = leaf.dns_names.first().map(|name| match name.strip_prefix("*.") {
        Some(parent) => format!("any.{parent}"),
        None => name.clone(),
    });
    match by_name {
        Some(name) => ServerName::try_from(name).ok(),
        None => leaf.ip_addresses.first().map(|ip: &IpAddr| ServerName::from(*ip)),
    }
}

/// What the operator should know, a line each, with the way out. `facts` are those of the whole chain, the certificate
/// itself first.
pub(super) fn warnings(facts: &[Facts], vouched: Vouched, now: SystemTime) -> Vec<String> {
    let Some(leaf) = facts.first() else { return Vec::new() };
    let mut lines = validity(leaf, now);
    lines.extend(key(leaf));
    if leaf.is_version_1 {
        lines.push("an X.509 version 1 certificate: many clients refuse those; have it made anew".to_owned());
    }
    if leaf.dns_names.is_empty() && leaf.ip_addresses.is_empty() {
        lines.push(
            "the certificate has no names (subjectAltName): no client accepts it without a pin; have it made anew with \
             the name that clients ask for"
                .to_owned(),
        );
    }
    if vouched == Vouched::ByNobody && !leaf.self_issued {
        lines.push(not_vouched(facts));
    }
    if facts.iter().any(|facts| facts.is_weakly_signed) {
        lines.push("the chain is signed with SHA-1 or MD5, which clients refuse; have it made anew".to_owned());
    }
    lines
}

/// A chain that ends nowhere: either something is missing, or the authority is private.
fn not_vouched(facts: &[Facts]) -> String {
    let last = facts.last().unwrap_or(&facts[0]);
    let issuer = last.issuer_name.as_deref().unwrap_or("an authority without a name");
    if last.self_issued {
        return format!(
            "the chain ends at {issuer}, which is no public authority of this system: links pin the certificate, and \
             must be given out anew when it is renewed"
        );
    }
    format!(
        "the issuer of the last certificate in the file, {issuer}, is neither in the file nor a public authority of \
         this system: if it is an intermediate one, add its certificate behind yours (\"fullchain\"); meanwhile links \
         pin the certificate"
    )
}

fn validity(leaf: &Facts, now: SystemTime) -> Vec<String> {
    let (from, to) = (leaf.not_before, leaf.not_after);
    if now > to {
        vec![format!("the certificate expired at {}", rfc3339(to))]
    } else if now < from {
        vec![format!("the certificate is not valid before {}; is this machine's clock right?", rfc3339(from))]
    } else if to.duration_since(now).is_ok_and(|left| left < EXPIRY_NOTICE) {
        vec![format!("the certificate expires soon, at {}", rfc3339(to))]
    } else {
        Vec::new()
    }
}

/// Links ask clients to look like Chrome (`fp=chrome`), and its hello names the keys it can use.
fn key(leaf: &Facts) -> Option<String> {
    let what = match leaf.key {
        KeyKind::Rsa { bits } if bits < 2048 => format!("an RSA key of {bits} bits"),
        KeyKind::Rsa { .. } | KeyKind::EcdsaP256 | KeyKind::EcdsaP384 => return None,
        KeyKind::EcdsaP521 => "an ECDSA key on P-521".to_owned(),
        KeyKind::Ed25519 => "an Ed25519 key".to_owned(),
        KeyKind::Other => "a key of a rare kind".to_owned(),
    };
    Some(format!(
        "{what}: clients that look like a browser (fp=chrome in links) refuse it; use ECDSA on P-256, P-384, or RSA \
         of 2048 bits or more"
    ))
}

#[cfg(test)]
mod tests;
