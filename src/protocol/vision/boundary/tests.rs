use super::super::testing::{Rng, record};
use super::*;

/// Whether a batch is a concatenation of whole application-data records (the reference's test).
fn is_whole_data(batch: &[u8]) -> bool {
    let scan = Boundary::new().scan(batch);
    scan.is_some_and(|scan| scan.begins_with_data && scan.data_end == batch.len())
}

#[test]
fn whole_application_data_records_are_told_from_anything_else() {
    assert!(is_whole_data(&[0x17, 3, 3, 0, 1, 0xaa]));
    assert!(is_whole_data(&[0x17, 3, 3, 0, 1, 0xaa, 0x17, 3, 3, 0, 2, 0xbb, 0xcc]));

    assert!(!is_whole_data(&[0x17, 3, 3, 0, 2, 0xaa]), "incomplete");
    assert!(!is_whole_data(&[0x17, 3, 3, 0, 1, 0xaa, 0x17]), "a header begins behind it");
    assert!(!is_whole_data(&[0x16, 3, 3, 0, 1, 0xaa]), "a handshake record");
    assert!(!is_whole_data(&[0x17, 3, 3, 0, 0, 0x17, 3, 3, 0, 1, 0xaa]), "a record without body");
}

#[test]
fn a_scan_tells_where_a_slice_begins_and_where_data_ends() {
    let mut records = Boundary::new();
    let handshake = records.scan(&[0x16, 3, 1, 0, 2, 9, 9, 0x17, 3, 3]).unwrap();
    assert_eq!(handshake, Scan { aligned: true, begins_with_data: false, data_opened: false, data_end: 0 });
    let header_tail = records.scan(&[0, 3, 1]).unwrap();
    assert_eq!(header_tail, Scan { aligned: false, begins_with_data: true, data_opened: true, data_end: 0 });
    let body_tail = records.scan(&[2, 3, 0x14, 3, 3, 0, 1, 1]).unwrap();
    assert_eq!(body_tail, Scan { aligned: false, begins_with_data: true, data_opened: false, data_end: 2 });
    let next = records.scan(&[0x17, 3, 3, 0, 1, 0, 0x15]).unwrap();
    assert_eq!(next, Scan { aligned: true, begins_with_data: true, data_opened: true, data_end: 6 });
}

#[test]
fn an_impossible_header_is_never_forgiven() {
    for header in [
        *b"GET /",
        *b"HTTP/",
        [0x13, 3, 3, 0, 1],
        [0x18, 3, 3, 0, 1],
        [0x17, 2, 3, 0, 1],
        [0x17, 3, 0, 0, 1],
        [0x17, 3, 4, 0, 1],
        [0x17, 3, 3, 0, 0],
        [0x17, 3, 3, 0x48, 1],
    ] {
        let mut records = Boundary::new();
        assert!(records.scan(&record(0x17, 3, 0)).is_some());
        assert_eq!(records.scan(&header), None, "{header:x?}");
        assert_eq!(records.scan(&[]), None);
        assert_eq!(records.scan(&record(0x17, 3, 0)), None);
    }
}

#[test]
fn the_longest_record_is_accepted() {
    assert!(is_whole_data(&record(0x17, (1 << 14) + 2048, 0x17)));
}

#[test]
fn every_cut_gives_the_same_record_ends() {
    let mut rng = Rng(1);
    for _ in 0..2000 {
        let mut stream = Vec::new();
        let mut data_ends = Vec::new();
        for _ in 0..=rng.below(6) {
            let kind = [0x14, 0x15, 0x16, 0x17, 0x17, 0x17][rng.below(6)];
            stream.extend(record(kind, rng.below(20) + 1, 0x17));
            if kind == 0x17 {
                data_ends.push(stream.len());
            }
        }
        let (mut records, mut at, mut opened) = (Boundary::new(), 0, 0);
        while at < stream.len() {
            let end = (at + 1 + rng.below(12)).min(stream.len());
            let scan = records.scan(&stream[at..end]).unwrap();
            let expected = data_ends.iter().rfind(|&&data_end| (at + 1..=end).contains(&data_end));
            assert_eq!(scan.data_end, expected.map_or(0, |data_end| data_end - at));
            opened += usize::from(scan.data_opened);
            at = end;
        }
        assert!(opened <= data_ends.len());
        assert_eq!(opened == 0, data_ends.is_empty());
    }
}
