//! Makes the self-signed pair of a first run.
//!
//! Files are created whole and never replace existing ones.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::app::config::Tls;
use crate::app::exit::{self, Failure};
use crate::app::files::{create_new, folder_of};

/// Ten years with their leap days.
pub(super) const VALIDITY: Duration = Duration::from_hours((10 * 365 + 2) * 24);
/// Clients whose clock is behind must accept a new certificate too.
const CLOCK_SKEW: Duration = Duration::from_hours(24);

/// Makes the default pair for the server name, this machine and `host`.
pub(super) fn generate(tls: &Tls, host: &str, now: SystemTime) -> Result<(), Failure> {
    let (cert_file, key_file) = (&tls.main.cert_file, &tls.main.key_file);
    let (cert, key) = self_signed_pem(&tls.server_name, host, now).map_err(|error| {
        Failure::new(exit::CONFIG, format!("cannot make a certificate for {}: {error}", tls.server_name))
    })?;
    for file in [cert_file, key_file] {
        create_folder(folder_of(file)).map_err(|error| Failure::writing(file, &error))?;
    }
    create_new(key_file, key.as_bytes(), 0o600).map_err(|error| Failure::writing(key_file, &error))?;
    create_new(cert_file, cert.as_bytes(), 0o644).map_err(|error| {
        // A key alone would be refused at the next start; it is ours and nobody has used it.
        let _ = fs::remove_file(key_file);
        Failure::writing(cert_file, &error)
    })
}

fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Certificate and key, both as PEM.
pub(super) fn self_signed_pem(
    server_name: &str,
    host: &str,
    now: SystemTime,
) -> Result<(String, String), rcgen::Error> {
    let mut names = Vec::new();
    for name in [server_name, "localhost", "127.0.0.1", "::1", host] {
        if !name.is_empty() && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    // No key usage extension: OpenSSL takes a self-signed certificate that lacks "certificate signing" there for one
    // whose issuer is missing, and then nobody can trust it from a file.
    let mut params = rcgen::CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, server_name);
    params.insert_extended_key_usage(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
    let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = rcgen::date_time_ymd(1970, 1, 1) + since_1970;
    params.not_before = now - CLOCK_SKEW.min(since_1970);
    params.not_after = now + VALIDITY;
    // ECDSA on P-256: every client has it, and its signature is the cheapest of the usual ones.
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}
