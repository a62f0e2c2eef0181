use super::*;

use rcgen::{CertificateParams, KeyPair, PublicKeyData};

fn certificate(names: &[&str]) -> (Vec<u8>, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let names = names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(2024, 2, 29);
    params.not_after = rcgen::date_time_ymd(2051, 1, 1);
    (params.self_signed(&key).unwrap().der().to_vec(), key)
}

#[test]
fn names_times_and_key_of_a_certificate_are_read() {
    let (der, key) = certificate(&["Vpn.Example", "*.example.com", "127.0.0.1", "::1"]);
    let facts = read(&der).unwrap();
    assert!(facts.self_issued && !facts.is_version_1 && !facts.is_weakly_signed);
    assert_eq!((facts.key, facts.issuer_name.as_deref()), (KeyKind::EcdsaP256, Some("rcgen self signed cert")));
    assert_eq!(facts.dns_names, ["vpn.example", "*.example.com"]);
    assert_eq!(facts.ip_addresses, ["127.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
    assert_eq!(facts.public_key, key.subject_public_key_info());
    // `date -u -d 2024-02-29 +%s` and `date -u -d 2051-01-01 +%s`; the second is a GeneralizedTime.
    assert_eq!(facts.not_before, UNIX_EPOCH + Duration::from_hours(1_709_164_800 / 3600));
    assert_eq!(facts.not_after, UNIX_EPOCH + Duration::from_hours(2_556_144_000 / 3600));
}

#[test]
fn a_certificate_signed_by_another_is_not_self_issued() {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.distinguished_name.push(rcgen::DnType::CommonName, "authority");
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["a.example".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    assert!(!read(leaf.der()).unwrap().self_issued);
}

#[test]
fn a_certificate_without_names_has_none() {
    assert_eq!(read(&certificate(&[]).0).unwrap().dns_names, Vec::<String>::new());
}

#[test]
fn every_prefix_is_refused() {
    let (der, _) = certificate(&["a.example"]);
    for end in 0..der.len() {
        assert_eq!(read(&der[..end]), None, "{end} bytes");
    }
}

#[test]
fn hostile_bytes_never_panic() {
    let (der, _) = certificate(&["a.example", "10.0.0.1"]);
    for position in 0..der.len() {
        for value in [0, 1, 0x30, 0x7f, 0x80, 0x81, 0x84, 0x85, 0xff] {
            let mut changed = der.clone();
            changed[position] = value;
            let _ = read(&changed);
        }
    }
    // A small generator of our own is random enough for bytes that must only not crash.
    let mut state = 1_u64;
    for _ in 0..20_000 {
        let bytes = (0..64)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect::<Vec<_>>();
        let _ = read(&bytes);
        let _ = time((UTC_TIME, Der(&bytes[..13])));
    }
}

#[test]
fn times_need_the_form_of_the_standard() {
    let read = |tag, text: &str| time((tag, Der(text.as_bytes())));
    assert_eq!(read(UTC_TIME, "700101000000Z"), Some(UNIX_EPOCH));
    assert_eq!(read(UTC_TIME, "500101000000Z"), Some(UNIX_EPOCH), "1950");
    for bad in ["", "Z", "7001010000Z", "701301000000Z", "700132000000Z", "70010100000xZ", "700101000000"] {
        assert_eq!(read(UTC_TIME, bad), None, "{bad}");
    }
    assert!(read(GENERALIZED_TIME, "99991231235959Z").is_some());
}
