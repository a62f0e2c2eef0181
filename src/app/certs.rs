//! Certificates and keys: from files, or made here for a first run.
//!
//! Owns reading, judging and generating them, and the digests that clients pin. Knows nothing of connections. A key
//! never leaves this file except as a `CertifiedKey`.

pub mod fuzz;
mod judge;
mod make;
mod pem;
mod x509;

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use zeroize::Zeroizing;

use self::judge::{Roots, Vouched};
use self::make::generate;
use self::pem::Section;
use self::x509::Facts;
use crate::app::config::{CertificateFiles, Config, Tls};
use crate::app::exit::{self, Failure};
use crate::app::files::{folder_of, may_make_folder, read_limited};

/// No certificate or key file is larger.
const FILE_BYTES_MAX: usize = 1 << 20;

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
    /// Issuer and subject are the same.
    pub self_signed: bool,
    /// Nobody whom clients know vouches for it, so they must pin it.
    pub needs_pin: bool,
    /// Who issued it, for people.
    pub issuer: String,
    /// SHA-256 of the certificate in DER: what Xray and mihomo pin.
    pub fingerprint: [u8; 32],
    /// SHA-256 of the public key (SubjectPublicKeyInfo) in Base64: what sing-box pins.
    pub public_key_sha256: String,
    /// When it expires.
    pub not_after: SystemTime,
    /// Whether this call made it.
    pub generated: bool,
    /// What the operator should know, each with the way out.
    pub warnings: Vec<String>,
}

impl LoadedCertificate {
    /// Whether it is for `name`. RFC 6125 6.4.3: a star stands for exactly one label.
    pub fn covers(&self, name: &str) -> bool {
        if let Ok(ip) = name.parse::<IpAddr>() {
            return self.ip_addresses.contains(&ip);
        }
        let name = name.to_lowercase();
        self.names.iter().any(|known| match known.strip_prefix("*.") {
            Some(parent) => name.split_once('.').is_some_and(|(_, rest)| rest == parent),
            None => *known == name,
        })
    }
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
    let roots = Roots::of_the_system();
    let main = Some(&tls.main).filter(|main| !is_missing(main));
    let mut certificates =
        main.into_iter().chain(&tls.more).map(|files| load(files, now, &roots)).collect::<Result<Vec<_>, _>>()?;
    if main.is_some() {
        warn_about_name(tls, &mut certificates);
    }
    Ok(certificates)
}

/// Links tell clients to ask for `tls.server_name`, which only a certificate without a pin must cover.
fn warn_about_name(tls: &Tls, certificates: &mut [LoadedCertificate]) {
    let name = &tls.server_name;
    if let Some(main) = certificates.first_mut().filter(|main| !main.needs_pin && !main.covers(name)) {
        let names = main.names.join(", ");
        main.warnings.push(format!(
            "tls.server_name \"{name}\" is not a name of the certificate ({names}), so clients will refuse it"
        ));
    }
}

/// The pair in these files, judged as those of a configuration are.
///
/// # Errors
/// As [`load_or_generate`], without those of writing.
pub fn inspect(cert_file: &Path, key_file: &Path, now: SystemTime) -> Result<LoadedCertificate, Failure> {
    let (cert_file, key_file) = (cert_file.to_owned(), key_file.to_owned());
    load(&CertificateFiles { cert_file, key_file, server_names: Vec::new() }, now, &Roots::of_the_system())
}

/// Why a client without a pin refuses this chain for `name`; none if it does not, or if this machine has no list of
/// authorities to judge by.
pub fn refused(chain: &[CertificateDer<'static>], name: &str, now: SystemTime) -> Option<String> {
    judge::refused(chain, name, &Roots::of_the_system(), now)
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

fn is_missing(files: &CertificateFiles) -> bool {
    is_absent(&files.cert_file) && is_absent(&files.key_file)
}

/// There is no such file. One in a folder that may not be searched is not absent: reading it tells what is wrong.
fn is_absent(path: &Path) -> bool {
    path.try_exists().map_or_else(|error| error.kind() == io::ErrorKind::NotADirectory, |exists| !exists)
}

fn load(files: &CertificateFiles, now: SystemTime, roots: &Roots) -> Result<LoadedCertificate, Failure> {
    one_of_two_missing(files)?;
    let chain = read_chain(&files.cert_file)?;
    let der = read_key(&files.key_file)?;
    let bad_key = |error: &dyn std::fmt::Display| wrong(&files.key_file, format!("this key cannot be used: {error}"));
    let key = aws_lc_rs::sign::any_supported_type(&der).map_err(|error| bad_key(&error))?;
    let mut warnings = Vec::new();
    let (chain, facts) = sorted_chain(files, chain, &*key, &mut warnings)?;
    let leaf = &facts[0];
    let vouched = judge::vouched(&chain, leaf, roots, now);
    warnings.extend(judge::warnings(&facts, vouched, now));
    let warnings = warnings.into_iter().map(|line| format!("{}: {line}", files.cert_file.display()));
    let warnings = warnings.chain(readable_by_everybody(&files.key_file)).collect();
    let names = if files.server_names.is_empty() { leaf.dns_names.clone() } else { files.server_names.clone() };
    Ok(LoadedCertificate {
        names,
        ip_addresses: leaf.ip_addresses.clone(),
        self_signed: leaf.self_issued,
        needs_pin: vouched == Vouched::ByNobody,
        issuer: leaf.issuer_name.clone().unwrap_or_default(),
        fingerprint: sha256(&chain[0]),
        public_key_sha256: base64(&sha256(&leaf.public_key)),
        not_after: leaf.not_after,
        certified_key: Arc::new(CertifiedKey::new(chain, key)),
        generated: false,
        warnings,
    })
}

/// The certificate of `key` and behind it, each the issuer of the one before, the rest of the chain as far as the file
/// has it. Files are joined in any order; clients expect this one.
fn sorted_chain(
    files: &CertificateFiles,
    chain: Vec<CertificateDer<'static>>,
    key: &dyn SigningKey,
    warnings: &mut Vec<String>,
) -> Result<(Vec<CertificateDer<'static>>, Vec<Facts>), Failure> {
    let mut rest = Vec::new();
    for (place, certificate) in chain.into_iter().enumerate() {
        let facts = x509::read(&certificate).ok_or_else(|| {
            wrong(&files.cert_file, format!("its certificate number {} is not an X.509 certificate", place + 1))
        })?;
        rest.push((certificate, facts));
    }
    let count = rest.len();
    let public_key = key.public_key();
    let is_of_key = |facts: &Facts| public_key.as_ref().is_none_or(|key| key.as_ref() == facts.public_key);
    let Some(leaf) = rest.iter().position(|(_, facts)| is_of_key(facts)) else {
        let (cert, key) = (files.cert_file.display(), files.key_file.display());
        return Err(Failure::new(
            exit::CONFIG,
            format!("{key} is not the key of any certificate in {cert}: give the pair that belongs together"),
        ));
    };
    refuse_authority(files, &rest, leaf)?;
    let mut sorted = vec![rest.remove(leaf)];
    let mut is_sorted = leaf == 0;
    while let Some((_, last)) = sorted.last().filter(|(_, last)| !last.self_issued) {
        let Some(next) = rest.iter().position(|(_, facts)| facts.subject == last.issuer) else { break };
        is_sorted &= next == 0;
        sorted.push(rest.remove(next));
    }
    if !is_sorted {
        warnings.push("its certificates are not in the order of the chain; they are sent in that order".to_owned());
    }
    if !rest.is_empty() {
        let left = rest.len();
        warnings.push(format!("{left} of its {count} certificates do not belong to the chain and are not sent"));
    }
    Ok(sorted.into_iter().unzip())
}

/// The key of an authority beside what it has issued: clients would be shown the authority's own certificate.
fn refuse_authority(
    files: &CertificateFiles,
    chain: &[(CertificateDer<'static>, Facts)],
    own: usize,
) -> Result<(), Failure> {
    let authority = &chain[own].1;
    let is_issued = |facts: &Facts| facts.issuer == authority.subject && facts.subject != authority.subject;
    if !chain.iter().any(|(_, facts)| is_issued(facts)) {
        return Ok(());
    }
    let (cert, key) = (files.cert_file.display(), files.key_file.display());
    Err(Failure::new(
        exit::CONFIG,
        format!(
            "{key} is the key of the authority, which has issued another certificate in {cert}: give the key of the \
             server's own certificate, the one that the authority has issued"
        ),
    ))
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
    let sections = read_pem(path)?.into_iter();
    let chain = sections.filter_map(|section| match section.label.as_str() {
        "CERTIFICATE" | "X509 CERTIFICATE" => Some(CertificateDer::from(section.into_bytes())),
        // OpenSSL's own form has what it trusts the certificate for behind it.
        "TRUSTED CERTIFICATE" => x509::first_element(&section.bytes).map(|der| CertificateDer::from(der.to_vec())),
        _ => None,
    });
    let chain = chain.collect::<Vec<_>>();
    if chain.is_empty() {
        return Err(wrong(path, "there is no certificate in it; PEM with -----BEGIN CERTIFICATE----- is expected"));
    }
    Ok(chain)
}

/// The key as it is in the file; it is wiped in the end, and what it was read from is.
fn read_key(path: &Path) -> Result<Zeroizing<PrivateKeyDer<'static>>, Failure> {
    for section in read_pem(path)? {
        if section.is_encrypted || section.label == "ENCRYPTED PRIVATE KEY" {
            return Err(wrong(
                path,
                "the key is encrypted; write it in the clear with `openssl pkey -in OLD -out NEW`",
            ));
        }
        let key = match section.label.as_str() {
            "PRIVATE KEY" => PrivateKeyDer::Pkcs8(section.into_bytes().into()),
            "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(section.into_bytes().into()),
            "EC PRIVATE KEY" => PrivateKeyDer::Sec1(section.into_bytes().into()),
            _ => continue,
        };
        return Ok(Zeroizing::new(key));
    }
    Err(wrong(path, "there is no private key in it; PEM with -----BEGIN PRIVATE KEY----- is expected"))
}

fn read_pem(path: &Path) -> Result<Vec<Section>, Failure> {
    let file = Zeroizing::new(read_limited(path, FILE_BYTES_MAX).map_err(|error| Failure::reading(path, &error))?);
    pem::sections(&file).map_err(|error| wrong(path, format!("not readable as PEM: {error}")))
}

fn wrong(path: &Path, what: impl std::fmt::Display) -> Failure {
    Failure::new(exit::CONFIG, format!("{}: {what}", path.display()))
}

fn readable_by_everybody(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o004 != 0)
        .then(|| format!("{0}: everybody on this machine can read the key; `chmod 600 {0}`", path.display()))
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
