//! Certificates and keys: from files, or made here for a first run.
//!
//! Owns reading, judging and generating them, and the digests that clients pin. Knows nothing of connections. A key
//! never leaves this file except as a `CertifiedKey`; files are created whole and never replace existing ones.

mod x509;

use std::fmt::Write;
use std::fs::{self, DirBuilder};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::app::clock::rfc3339;
use crate::app::config::{CertificateFiles, Config, Tls};
use crate::app::exit::{self, Failure};
use crate::app::files::{create_new, folder_of, may_make_folder, read_limited};

/// A certificate that is ready to serve, and what is worth knowing about it.
#[derive(Debug, Clone)]
pub struct LoadedCertificate {
    /// Chain and key, which belong together.
    pub certified_key: Arc<CertifiedKey>,
    /// The lower-case names clients may ask for: those of the configuration, else those in the certificate. The first
    /// label may be `*`.
    pub names: Vec<String>,
    /// The IP addresses in the certificate.
    pub ip_addresses: Vec<IpAddr>,
    /// No authority vouches for it, so clients must pin it.
    pub self_signed: bool,
    /// SHA-256 of the certificate in DER: what Xray and mihomo pin.
    pub fingerprint: [u8; 32],
    /// SHA-256 of the public key (SubjectPublicKeyInfo) in Base64: what sing-box pins.
    pub public_key_sha256: String,
    /// When it expires.
    pub not_after: SystemTime,
    /// Whether this call made it.
    pub generated: bool,
    /// What the operator should know: expired, not yet valid, key readable by everybody.
    pub warnings: Vec<String>,
}

/// The certificates of `config`, the default one first; empty without TLS. If certificate and key of the default one
/// are both missing, a self-signed pair is made for the server name, this machine and `host` (what links name).
///
/// # Errors
/// 66 or 77 for a file that cannot be read, 78 for contents that do not serve, 73 or 77 if the new files cannot be
/// written. Each message names the file and the way out.
pub fn load_or_generate(config: &Config, host: &str, now: SystemTime) -> Result<Vec<LoadedCertificate>, Failure> {
    let Some(tls) = &config.tls else { return Ok(Vec::new()) };
    let generated = is_missing(&tls.main);
    if generated {
        may_generate(config)?;
        generate(tls, host, now)?;
    }
    let mut certificates = load_existing(config, now)?;
    if let Some(main) = certificates.first_mut() {
        main.generated = generated;
    }
    Ok(certificates)
}

/// As [`load_or_generate`], but makes nothing: a default pair that would be generated is left out.
///
/// # Errors
/// As there, without those of writing.
pub fn load_existing(config: &Config, now: SystemTime) -> Result<Vec<LoadedCertificate>, Failure> {
    let Some(tls) = &config.tls else { return Ok(Vec::new()) };
    let main = Some(&tls.main).filter(|main| !is_missing(main));
    main.into_iter().chain(&tls.more).map(|files| load(files, now)).collect()
}

/// Whether `load_or_generate` would make a new default pair.
pub fn would_generate(config: &Config) -> bool {
    config.tls.as_ref().is_some_and(|tls| is_missing(&tls.main))
}

/// Whether `load_or_generate` can make the default pair, if it would.
///
/// # Errors
/// 78 if both are to be one file, 73 or 77 if a file cannot be created.
pub fn may_generate(config: &Config) -> Result<(), Failure> {
    let Some(tls) = config.tls.as_ref().filter(|tls| is_missing(&tls.main)) else { return Ok(()) };
    let (cert_file, key_file) = (&tls.main.cert_file, &tls.main.key_file);
    if cert_file == key_file {
        let path = cert_file.display();
        return Err(Failure::new(
            exit::CONFIG,
            format!(
                "tls.cert_file and tls.key_file are both {path}, which does not exist: name two files to have a \
                 self-signed pair made"
            ),
        ));
    }
    for file in [cert_file, key_file] {
        may_make_folder(folder_of(file)).map_err(|error| Failure::writing(file, &error))?;
    }
    Ok(())
}

/// `bytes` in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// SHA-256 of a certificate in DER, in lower-case hexadecimal: the value of `pcs` in a link.
pub fn fingerprint_hex(certificate: &[u8]) -> String {
    hex(&sha256(certificate))
}

/// No certificate or key file is larger.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Ten years with their leap days.
const VALIDITY: Duration = Duration::from_hours((10 * 365 + 2) * 24);
/// Clients whose clock is behind must accept a new certificate too.
const CLOCK_SKEW: Duration = Duration::from_hours(24);

fn is_missing(files: &CertificateFiles) -> bool {
    is_absent(&files.cert_file) && is_absent(&files.key_file)
}

/// There is no such file. One in a folder that may not be searched is not absent: reading it tells what is wrong.
fn is_absent(path: &Path) -> bool {
    path.try_exists().map_or_else(|error| error.kind() == io::ErrorKind::NotADirectory, |exists| !exists)
}

fn load(files: &CertificateFiles, now: SystemTime) -> Result<LoadedCertificate, Failure> {
    one_of_two_missing(files)?;
    let chain = read_chain(&files.cert_file)?;
    let key = read_key(&files.key_file)?;
    let bad_key = |error: &dyn std::fmt::Display| wrong(&files.key_file, format!("this key cannot be used: {error}"));
    let key = aws_lc_rs::default_provider().key_provider.load_private_key(key).map_err(|error| bad_key(&error))?;
    let leaf = chain[0].clone();
    let facts =
        x509::read(&leaf).ok_or_else(|| wrong(&files.cert_file, "its first entry is not an X.509 certificate"))?;
    let certified_key = CertifiedKey::new(chain, key);
    if let Err(error) = certified_key.keys_match() {
        let (cert, key) = (files.cert_file.display(), files.key_file.display());
        return Err(Failure::new(
            exit::CONFIG,
            format!(
                "{key} is not the key of the first certificate in {cert}: give the pair that belongs together ({error})"
            ),
        ));
    }
    let names = if files.server_names.is_empty() { facts.dns_names } else { files.server_names.clone() };
    let mut warnings = validity_warning(&files.cert_file, facts.not_before, facts.not_after, now);
    warnings.extend(readable_by_everybody(&files.key_file));
    Ok(LoadedCertificate {
        certified_key: Arc::new(certified_key),
        names,
        ip_addresses: facts.ip_addresses,
        self_signed: facts.self_issued,
        fingerprint: sha256(&leaf),
        public_key_sha256: base64(&sha256(&facts.public_key)),
        not_after: facts.not_after,
        generated: false,
        warnings,
    })
}

fn one_of_two_missing(files: &CertificateFiles) -> Result<(), Failure> {
    let (cert, key) = (&files.cert_file, &files.key_file);
    let (missing, present) = match (is_absent(cert), is_absent(key)) {
        (false, true) => (key, cert),
        (true, false) => (cert, key),
        _ => return Ok(()),
    };
    Err(Failure::new(
        exit::NO_INPUT,
        format!(
            "{} is missing, but {} exists: put it back, or move the other away to have a self-signed pair made",
            missing.display(),
            present.display()
        ),
    ))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let pem = read_pem(path)?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(path, format!("not readable as PEM: {error}")))?;
    if chain.is_empty() {
        return Err(wrong(path, "there is no certificate in it; PEM with -----BEGIN CERTIFICATE----- is expected"));
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    let pem = read_pem(path)?;
    let encrypted = pem.windows(9).any(|window| window == b"ENCRYPTED");
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        if encrypted {
            wrong(path, "the key is encrypted; write it in the clear with `openssl pkey -in OLD -out NEW`")
        } else {
            wrong(path, "there is no private key in it; PEM with -----BEGIN PRIVATE KEY----- is expected")
        }
    })
}

fn read_pem(path: &Path) -> Result<Vec<u8>, Failure> {
    read_limited(path, FILE_BYTES_MAX).map_err(|error| Failure::reading(path, &error))
}

fn wrong(path: &Path, what: impl std::fmt::Display) -> Failure {
    Failure::new(exit::CONFIG, format!("{}: {what}", path.display()))
}

fn validity_warning(path: &Path, from: SystemTime, to: SystemTime, now: SystemTime) -> Vec<String> {
    let path = path.display();
    if now > to {
        vec![format!("{path}: the certificate expired at {}", rfc3339(to))]
    } else if now < from {
        vec![format!("{path}: the certificate is not valid before {}; is this machine's clock right?", rfc3339(from))]
    } else {
        Vec::new()
    }
}

fn readable_by_everybody(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o004 != 0)
        .then(|| format!("{0}: everybody on this machine can read the key; `chmod 600 {0}`", path.display()))
}

fn generate(tls: &Tls, host: &str, now: SystemTime) -> Result<(), Failure> {
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
fn self_signed_pem(server_name: &str, host: &str, now: SystemTime) -> Result<(String, String), rcgen::Error> {
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

/// The TLS library brings the digest; a suite that uses it is the way to get at it.
fn sha256(bytes: &[u8]) -> [u8; 32] {
    let suite = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13();
    let digest = suite.map(|suite| suite.common.hash_provider.hash(bytes));
    digest.and_then(|digest| digest.as_ref().try_into().ok()).expect("the suite of TLS 1.3 has a digest of 32 bytes")
}

/// RFC 4648 4, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for position in 0..4 {
            let index = bits >> (18 - 6 * position) & 63;
            text.push(if position <= chunk.len() { ALPHABET[index as usize].into() } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests;
