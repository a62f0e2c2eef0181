use super::*;

use std::path::PathBuf;
use std::time::Duration;

use super::make::{VALIDITY, self_signed_pem};
use crate::app::files::create_new;

fn config(folder: &Path, tls: &str) -> Config {
    let text = format!("{{ \"users\": [ {{ \"uuid\": \"example\" }} ], \"tls\": {{ \"enabled\": true, {tls} }} }}");
    Config::parse(&text, &folder.join("config.json")).unwrap()
}

fn now() -> SystemTime {
    SystemTime::now()
}

/// Writes a certificate and its key beside each other; returns their paths.
fn pair(folder: &Path, name: &str, made: SystemTime) -> (PathBuf, PathBuf) {
    let (cert, key) = self_signed_pem(name, "", made).unwrap();
    let paths = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    create_new(&paths.0, cert.as_bytes(), 0o644).unwrap();
    create_new(&paths.1, key.as_bytes(), 0o600).unwrap();
    paths
}

/// Without any public authority.
fn load_alone(files: &CertificateFiles, now: SystemTime) -> Result<LoadedCertificate, Failure> {
    load(files, now, &Roots::of(b""))
}

fn files(folder: &Path, cert: &str, key: &str) -> CertificateFiles {
    CertificateFiles { cert_file: folder.join(cert), key_file: folder.join(key), server_names: Vec::new() }
}

#[test]
fn missing_files_are_generated_once_and_read_back_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "\"server_name\": \"vpn.example\"");
    assert!(would_generate(&config));
    let first = load_or_generate(&config, "198.51.100.7", now()).unwrap();
    assert!(first[0].generated && first[0].self_signed);
    assert_eq!(first[0].names, ["vpn.example", "localhost"]);
    let addresses = ["127.0.0.1", "::1", "198.51.100.7"].map(|ip| ip.parse::<IpAddr>().unwrap());
    assert_eq!(first[0].ip_addresses, addresses);
    assert!(first[0].warnings.is_empty(), "{:?}", first[0].warnings);
    let second = load_or_generate(&config, "198.51.100.7", now()).unwrap();
    assert!(!second[0].generated);
    assert_eq!(first[0].fingerprint, second[0].fingerprint);
}

#[test]
fn files_that_cannot_be_looked_for_are_not_taken_for_missing() {
    let folder = tempfile::tempdir().unwrap();
    // As with a folder that may not be searched, the question fails instead of being answered with no.
    for name in ["a", "b"] {
        std::os::unix::fs::symlink(name, folder.path().join(name)).unwrap();
    }
    let config = config(folder.path(), "\"cert_file\": \"a\", \"key_file\": \"b\"");
    assert!(!would_generate(&config));
    let failure = load_or_generate(&config, "", now()).unwrap_err();
    assert!(failure.code == exit::NO_INPUT && failure.message.contains("cannot read"), "{failure}");
}

#[test]
fn generated_files_are_for_the_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "\"alpn\": []");
    load_or_generate(&config, "", now()).unwrap();
    let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("certs"), 0o700);
    assert_eq!(mode("certs/server.key"), 0o600);
    assert_eq!(fs::read_dir(folder.path().join("certs")).unwrap().count(), 2);
}

#[test]
fn a_generated_certificate_lasts_ten_years() {
    let folder = tempfile::tempdir().unwrap();
    let made = now();
    let loaded = &load_or_generate(&config(folder.path(), "\"alpn\": []"), "", made).unwrap()[0];
    let lasts = loaded.not_after.duration_since(made).unwrap();
    assert!(lasts.abs_diff(VALIDITY) < Duration::from_secs(2), "{lasts:?}");
}

#[test]
fn a_new_key_does_not_stay_behind_without_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    // The certificate's name is too long for a file, so writing it must fail after the key was written.
    let config = config(folder.path(), &format!("\"cert_file\": \"certs/{}\"", "x".repeat(250)));
    let failure = load_or_generate(&config, "", now()).unwrap_err();
    assert_eq!(failure.code, exit::CANNOT_CREATE);
    assert_eq!(fs::read_dir(folder.path().join("certs")).unwrap().count(), 0);
}

#[test]
fn one_missing_file_is_an_error_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = pair(folder.path(), "a", now());
    for gone in [&key, &cert] {
        let kept = fs::read(gone).unwrap();
        fs::remove_file(gone).unwrap();
        let failure = load_alone(&files(folder.path(), "a.crt", "a.key"), now()).unwrap_err();
        assert_eq!(failure.code, exit::NO_INPUT);
        assert!(failure.message.starts_with(&format!("{} is missing, but", gone.display())), "{failure}");
        assert!(failure.message.contains("put it back, or move the other away"));
        fs::write(gone, kept).unwrap();
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    pair(folder.path(), "a", now());
    pair(folder.path(), "b", now());
    let failure = load_alone(&files(folder.path(), "a.crt", "b.key"), now()).unwrap_err();
    assert_eq!(failure.code, exit::CONFIG);
    assert!(failure.message.contains("b.key is not the key of any certificate in"), "{failure}");
}

#[test]
fn files_without_what_they_should_hold_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    pair(folder.path(), "a", now());
    fs::write(folder.path().join("text"), "hello").unwrap();
    fs::write(
        folder.path().join("locked.key"),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .unwrap();
    fs::write(folder.path().join("odd.crt"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    for (cert, key, what) in [
        ("text", "a.key", "there is no certificate in it"),
        ("a.crt", "text", "there is no private key in it"),
        ("a.crt", "locked.key", "the key is encrypted"),
        ("odd.crt", "a.key", "certificate number 1 is not an X.509 certificate"),
    ] {
        let failure = load_alone(&files(folder.path(), cert, key), now()).unwrap_err();
        assert_eq!(failure.code, exit::CONFIG);
        assert!(failure.message.contains(what), "{failure}");
    }
}

#[test]
fn expired_and_future_certificates_serve_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    pair(folder.path(), "a", now());
    let files = files(folder.path(), "a.crt", "a.key");
    let late = load_alone(&files, now() + VALIDITY + VALIDITY).unwrap();
    assert!(late.warnings[0].contains("expired at 20"), "{:?}", late.warnings);
    let early = load_alone(&files, now() - Duration::from_hours(10 * 24)).unwrap();
    assert!(early.warnings[0].contains("not valid before"), "{:?}", early.warnings);
}

#[test]
fn a_key_that_everybody_can_read_is_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    let (_, key) = pair(folder.path(), "a", now());
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let loaded = load_alone(&files(folder.path(), "a.crt", "a.key"), now()).unwrap();
    assert!(loaded.warnings[0].contains("chmod 600"), "{:?}", loaded.warnings);
}

#[test]
fn further_certificates_follow_the_default_one_with_their_names() {
    let folder = tempfile::tempdir().unwrap();
    pair(folder.path(), "b.example", now());
    let config = config(
        folder.path(),
        "\"certificates\": [ { \"cert_file\": \"b.example.crt\", \"key_file\": \"b.example.key\" },
           { \"cert_file\": \"b.example.crt\", \"key_file\": \"b.example.key\", \"server_names\": [\"*.C.example\"] } ]",
    );
    let existing = load_existing(&config, now()).unwrap();
    assert_eq!(existing.len(), 2, "the default pair is not there yet");
    let all = load_or_generate(&config, "", now()).unwrap();
    assert_eq!(all[1].names, ["b.example", "localhost"]);
    assert_eq!(all[2].names, ["*.c.example"]);
    assert!(all[0].generated && !all[1].generated);
}

#[test]
fn a_further_certificate_is_never_generated() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "\"certificates\": [ { \"cert_file\": \"x.crt\", \"key_file\": \"x.key\" } ]");
    let failure = load_or_generate(&config, "", now()).unwrap_err();
    assert_eq!(failure.code, exit::NO_INPUT);
    assert!(failure.message.contains("x.crt"));
}

#[test]
fn digests_and_texts_match_the_standards() {
    // FIPS 180-2 appendix B.1 and RFC 4648 section 10.
    assert_eq!(fingerprint_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    for (bytes, text) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ] {
        assert_eq!(base64(bytes.as_bytes()), text);
    }
    assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
}

#[test]
fn a_server_name_outside_the_certificate_is_warned_about_unless_it_is_pinned() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "\"server_name\": \"other.example\"");
    let mut certificates = load_or_generate(&config, "", now()).unwrap();
    assert!(certificates[0].warnings.is_empty());
    certificates[0].needs_pin = false;
    certificates[0].names = vec!["*.localhost".into(), "a.example".into()];
    warn_about_name(config.tls.as_ref().unwrap(), &mut certificates);
    assert!(
        certificates[0].warnings[0]
            .contains("\"other.example\" is not a name of the certificate (*.localhost, a.example)")
    );
}

#[test]
fn a_star_stands_for_one_label() {
    let folder = tempfile::tempdir().unwrap();
    let mut certificate = load_or_generate(&config(folder.path(), "\"alpn\": []"), "", now()).unwrap().remove(0);
    certificate.names = vec!["*.example.com".into()];
    assert!(certificate.covers("A.Example.com"));
    assert!(!certificate.covers("example.com"));
    assert!(!certificate.covers("a.b.example.com"));
    assert!(certificate.covers("127.0.0.1") && !certificate.covers("127.0.0.2"));
}
