//! Vision and the records inside of it.

use vless_rust::protocol::vision::{Boundary, fuzz};

use crate::input::shape;

/// Cuts do not matter: `data` in one piece leads where pieces lead whose length the first byte gives.
pub(super) fn inner_records(data: &[u8]) -> u64 {
    let Some((&length, data)) = data.split_first() else { return 0 };
    let (mut whole, mut pieces) = (Boundary::new(), Boundary::new());
    let scan = whole.scan(data);
    let mut data_end = 0;
    for (number, piece) in data.chunks(usize::from(length) + 1).enumerate() {
        let Some(scan) = pieces.scan(piece) else { break };
        if scan.data_end > 0 {
            data_end = number * (usize::from(length) + 1) + scan.data_end;
        }
    }
    if let Some(scan) = scan {
        assert_eq!(scan.data_end, data_end);
        assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
    } else {
        assert_eq!(pieces.scan(b""), None, "lost for good");
    }
    shape(scan.map(|scan| (scan.aligned, scan.begins_with_data, scan.data_opened, scan.data_end.min(40))))
}

pub(super) fn unpad(data: &[u8]) -> u64 {
    fuzz::fuzz_unpad(data);
    // The prefix that is right and the first command.
    shape((data.first().map(|mode| mode & 0x1f), data.get(1..2), data.len() / 64))
}

pub(super) fn pad(data: &[u8]) -> u64 {
    fuzz::fuzz_pad(data);
    shape((data.first(), data.len() / 64))
}
