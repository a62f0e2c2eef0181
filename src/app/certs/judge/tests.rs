//! Chains of an authority of our own, in the states that operators leave them in.

use super::*;

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SignatureAlgorithm};

use super::super::{LoadedCertificate, load};
use crate::app::config::CertificateFiles;

/// A root, an intermediate and a leaf, as PEM.
struct Authority {
    root: String,
    intermediate: String,
    leaf: String,
    key: String,
    intermediate_key: String,
    folder: tempfile::TempDir,
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Authority {
    fn new() -> Self {
        Self::with_leaf(&rcgen::PKCS_ECDSA_P256_SHA256, &["vpn.example"])
    }

    fn with_leaf(algorithm: &'static SignatureAlgorithm, names: &[&str]) -> Self {
        let (root_key, intermediate_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = authority_params("The Root");
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let root = Issuer::new(root, root_key);
        let intermediate = authority_params("The Intermediate");
        let intermediate_pem = intermediate.signed_by(&intermediate_key, &root).unwrap().pem();
        let intermediate_key_pem = intermediate_key.serialize_pem();
        let intermediate = Issuer::new(intermediate, intermediate_key);
        let key = KeyPair::generate_for(algorithm).unwrap();
        let names = names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let mut leaf = CertificateParams::new(names).unwrap();
        leaf.distinguished_name.push(DnType::CommonName, "leaf");
        leaf.insert_extended_key_usage(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
        let leaf = leaf.signed_by(&key, &intermediate).unwrap().pem();
        Self {
            root: root_pem,
            intermediate: intermediate_pem,
            leaf,
            key: key.serialize_pem(),
            intermediate_key: intermediate_key_pem,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Loads `cert_file` with the leaf's key, where this root is public.
    fn load(&self, cert_file: &str) -> LoadedCertificate {
        self.load_with(cert_file, &Roots::of(self.root.as_bytes()))
    }

    fn load_with(&self, cert_file: &str, roots: &Roots) -> LoadedCertificate {
        load(&self.write(cert_file), SystemTime::now(), roots).unwrap_or_else(|failure| panic!("{failure}"))
    }

    fn write(&self, cert_file: &str) -> CertificateFiles {
        let path = |name: &str| self.folder.path().join(name);
        fs::write(path("c.pem"), cert_file).unwrap();
        fs::write(path("k.pem"), &self.key).unwrap();
        fs::set_permissions(path("k.pem"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        CertificateFiles { cert_file: path("c.pem"), key_file: path("k.pem"), server_names: Vec::new() }
    }
}

fn sent(certificate: &LoadedCertificate) -> usize {
    certificate.certified_key.cert.len()
}

#[track_caller]
fn assert_warns(certificate: &LoadedCertificate, text: &str) {
    assert_eq!(certificate.warnings.len(), 1, "{:?}", certificate.warnings);
    assert!(certificate.warnings[0].contains(text), "{:?}", certificate.warnings);
}

#[test]
fn a_whole_chain_of_a_public_authority_needs_no_pin_and_no_words() {
    let made = Authority::new();
    for file in [
        format!("{}{}", made.leaf, made.intermediate),
        // `cat cert.pem chain.pem` where the first has no final line break.
        format!("{}{}", made.leaf.trim_end(), made.intermediate),
        format!("\u{feff}{}{}", made.leaf, made.intermediate).replace('\n', "\r\n"),
        format!("{}{}{}", made.leaf, made.intermediate, made.root),
    ] {
        let loaded = made.load(&file);
        assert!(!loaded.needs_pin && loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        assert!(sent(&loaded) >= 2, "{file}");
    }
}

#[test]
fn a_leaf_without_its_issuer_is_pinned_and_the_way_out_is_told() {
    let made = Authority::new();
    let loaded = made.load(&made.leaf);
    assert!(loaded.needs_pin && !loaded.self_signed);
    assert_warns(&loaded, "The Intermediate, is neither in the file nor a public authority");
    assert!(loaded.warnings[0].contains("fullchain"), "{:?}", loaded.warnings);
}

#[test]
fn a_private_authority_is_pinned_and_told() {
    let made = Authority::new();
    let stranger = Roots::of(Authority::new().root.as_bytes());
    let loaded = made.load_with(&format!("{}{}{}", made.leaf, made.intermediate, made.root), &stranger);
    assert!(loaded.needs_pin);
    assert_warns(&loaded, "the chain ends at The Root, which is no public authority");
}

#[test]
fn a_system_without_authorities_says_nothing_about_chains() {
    let made = Authority::new();
    let loaded = made.load_with(&made.leaf, &Roots::of(b""));
    assert!(!loaded.needs_pin && loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn a_chain_in_any_order_is_sent_in_the_right_one() {
    let made = Authority::new();
    let right = made.load(&format!("{}{}{}", made.leaf, made.intermediate, made.root));
    let loaded = made.load(&format!("{}{}{}", made.root, made.intermediate, made.leaf));
    assert_eq!(loaded.certified_key.cert, right.certified_key.cert);
    assert_eq!((loaded.names.as_slice(), loaded.needs_pin), (&["vpn.example".to_owned()][..], false));
    assert_warns(&loaded, "not in the order of the chain");
}

#[test]
fn the_key_of_the_authority_is_refused_beside_what_it_has_issued() {
    let mut authority = Authority::new();
    authority.key = authority.intermediate_key.clone();
    let roots = Roots::of(authority.root.as_bytes());
    let Authority { leaf, intermediate, root, .. } = &authority;
    for chain in [[leaf, intermediate, root].map(String::as_str).concat(), [intermediate.as_str(), leaf].concat()] {
        let failure = load(&authority.write(&chain), SystemTime::now(), &roots).unwrap_err();
        assert_eq!(failure.code, crate::app::exit::CONFIG);
        assert!(failure.message.contains("k.pem is the key of the authority"), "{failure}");
        assert!(failure.message.contains("give the key of the server's own certificate"), "{failure}");
    }
    // An authority that has issued nothing here is a server's certificate as any other.
    assert_eq!(sent(&authority.load_with(&[intermediate.as_str(), root].concat(), &roots)), 2);
}

#[test]
fn certificates_of_another_chain_are_not_sent_and_that_is_told() {
    let made = Authority::new();
    let loaded = made.load(&format!("{}{}{}", made.leaf, made.intermediate, Authority::new().leaf));
    assert_eq!(sent(&loaded), 2);
    assert_warns(&loaded, "1 of its 3 certificates do not belong to the chain");
}

#[test]
fn keys_that_browsers_cannot_use_are_told() {
    let of = |algorithm| Authority::with_leaf(algorithm, &["vpn.example"]);
    for (made, what) in [
        (of(&rcgen::PKCS_ED25519), "an Ed25519 key: clients that look like a browser (fp=chrome in links) refuse it"),
        (of(&rcgen::PKCS_ECDSA_P521_SHA512), "an ECDSA key on P-521: "),
    ] {
        assert_warns(&made.load(&format!("{}{}", made.leaf, made.intermediate)), what);
    }
    let usual = of(&rcgen::PKCS_ECDSA_P384_SHA384);
    assert!(usual.load(&format!("{}{}", usual.leaf, usual.intermediate)).warnings.is_empty());
}

#[test]
fn wildcards_and_addresses_are_names_and_none_is_told() {
    for names in [&["*.vpn.example"][..], &["203.0.113.7"]] {
        let made = Authority::with_leaf(&rcgen::PKCS_ECDSA_P256_SHA256, names);
        let loaded = made.load(&format!("{}{}", made.leaf, made.intermediate));
        assert!(!loaded.needs_pin && loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }
    let made = Authority::with_leaf(&rcgen::PKCS_ECDSA_P256_SHA256, &[]);
    let loaded = made.load(&format!("{}{}", made.leaf, made.intermediate));
    assert!(loaded.needs_pin && loaded.warnings[0].contains("no names (subjectAltName)"), "{:?}", loaded.warnings);
}

#[test]
fn the_end_is_told_two_weeks_ahead_and_does_not_turn_a_public_chain_into_a_private_one() {
    let made = Authority::new();
    let files = made.write(&format!("{}{}", made.leaf, made.intermediate));
    let roots = Roots::of(made.root.as_bytes());
    let not_after = load(&files, SystemTime::now(), &roots).unwrap().not_after;
    let day = Duration::from_hours(24);
    for (now, what) in [(not_after - 13 * day, "expires soon, at "), (not_after + day, "the certificate expired at ")] {
        let loaded = load(&files, now, &roots).unwrap();
        assert!(loaded.warnings[0].contains(what) && !loaded.needs_pin, "{:?}", loaded.warnings);
    }
    assert!(load(&files, not_after - 15 * day, &roots).unwrap().warnings.is_empty());
}

#[test]
fn a_version_1_certificate_serves_with_a_warning() {
    let made = Authority::new();
    let leaf = pem::sections(made.leaf.as_bytes()).unwrap().remove(0).into_bytes();
    let old = as_version_1(&leaf);
    let facts = super::super::x509::read(&old).unwrap();
    assert!(facts.is_version_1 && facts.dns_names.is_empty());
    let told = warnings(&[facts], Vouched::ByNobody, SystemTime::now());
    assert!(told[0].contains("X.509 version 1"), "{told:?}");
    let armored = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", super::super::base64(&old));
    assert!(made.load(&armored).needs_pin);
}

/// The same certificate without version and extensions; its signature is nobody's business here.
fn as_version_1(certificate: &[u8]) -> Vec<u8> {
    let element = |bytes: &[u8]| super::super::x509::first_element(bytes).unwrap().len();
    let content = |bytes: &[u8]| {
        let header = if bytes[1] < 0x80 { 2 } else { 2 + usize::from(bytes[1] & 0x7f) };
        bytes[header..element(bytes)].to_vec()
    };
    let sequence = |content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[0x30, 0x82][..], &length, content].concat()
    };
    let outer = content(certificate);
    let (to_be_signed, signature) = outer.split_at(element(&outer));
    let mut fields = content(to_be_signed);
    fields.drain(..element(&fields));
    let mut kept = 0;
    while fields.get(kept).is_some_and(|&tag| tag != 0xa3) {
        kept += element(&fields[kept..]);
    }
    sequence(&[sequence(&fields[..kept]), signature.to_vec()].concat())
}

#[test]
fn a_bundle_of_the_system_is_read_where_there_is_one() {
    let bundle = ROOT_FILES.iter().find(|path| Path::new(path).exists());
    assert_eq!(Roots::of_the_system().0.is_some(), bundle.is_some());
}
