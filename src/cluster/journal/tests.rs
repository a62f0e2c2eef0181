//! The journal over crashes, torn lines and engines that forget.

use super::*;

/// Keeps the lines in memory; `true`: cannot be synced.
#[derive(Clone, Debug, Default)]
struct Memory(Vec<u8>, bool);

impl Store for Memory {
    fn load(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.0.clone())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.1 { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0 = bytes.to_vec();
        Ok(())
    }
}

fn deltas(list: &[(&str, u64, u64)]) -> BTreeMap<AccountKey, Bytes> {
    list.iter().map(|&(key, up, down)| (key.to_owned(), Bytes { up, down })).collect()
}

fn opened(boot: u64) -> Journal<Memory> {
    Journal::open(Memory::default(), boot).unwrap()
}

fn reopened(journal: Journal<Memory>, boot: u64) -> Journal<Memory> {
    Journal::open(journal.into_store(), boot).unwrap()
}

#[test]
fn a_batch_stays_as_it_was_sealed_while_more_is_counted() {
    let mut journal = opened(1);
    journal.add(&deltas(&[("a", 1, 2), ("b", 3, 4)])).unwrap();
    let first = journal.next_batch().unwrap().unwrap().clone();
    journal.add(&deltas(&[("a", 10, 20)])).unwrap();
    assert_eq!(journal.next_batch().unwrap(), Some(&first));
    assert_eq!((first.boot, first.sequence, first.accounts), (1, 1, deltas(&[("a", 1, 2), ("b", 3, 4)])));
    assert_eq!(journal.counted_after("a", 1, 1), 30);
    journal.applied(1, 1).unwrap();
    let second = journal.next_batch().unwrap().unwrap();
    assert_eq!((second.sequence, second.accounts.clone()), (2, deltas(&[("a", 10, 20)])));
}

#[test]
fn a_crash_keeps_what_was_added_and_sends_old_batches_under_their_own_numbers() {
    let mut journal = opened(7);
    journal.add(&deltas(&[("a", 1, 2)])).unwrap();
    let sealed = journal.next_batch().unwrap().unwrap().clone();
    journal.add(&deltas(&[("a", 5, 5)])).unwrap();
    let mut journal = reopened(journal, 8);
    assert_eq!(journal.next_batch().unwrap(), Some(&sealed));
    journal.applied(7, 1).unwrap();
    let mut journal = reopened(journal, 9);
    let rest = journal.next_batch().unwrap().unwrap();
    assert_eq!((rest.boot, rest.sequence, rest.accounts.clone()), (9, 1, deltas(&[("a", 5, 5)])));
    journal.applied(9, 1).unwrap();
    assert_eq!(reopened(journal, 10).next_batch().unwrap(), None);
}

#[test]
fn a_torn_last_line_does_not_count_and_any_other_bad_line_is_an_error() {
    let mut journal = opened(1);
    journal.add(&deltas(&[("a", 1, 2)])).unwrap();
    let whole = journal.into_store();
    let mut torn = whole.clone();
    torn.0.extend_from_slice(b"{\"add\":{\"a\":{\"up\":9");
    let mut journal = Journal::open(torn, 2).unwrap();
    assert_eq!(journal.next_batch().unwrap().unwrap().accounts, deltas(&[("a", 1, 2)]));
    let mut bad = whole;
    bad.0.splice(0..0, *b"nonsense\n");
    let mut journal = Journal::open(bad.clone(), 2).unwrap();
    assert!(journal.next_batch().unwrap().is_none(), "nothing here was stored for good");
    let mut journal = Journal::open(bad, 2).unwrap();
    journal.add(&deltas(&[("a", 1, 2)])).unwrap();
    journal.next_batch().unwrap();
    let mut sealed = journal.into_store();
    sealed.0.splice(0..0, *b"nonsense\n");
    assert!(matches!(Journal::open(sealed, 3), Err(JournalError::BadLine(1))));
}

#[test]
fn a_loss_of_power_takes_what_was_not_synced_and_leaves_every_batch() {
    let mut journal = opened(1);
    journal.add(&deltas(&[("a", 1, 2)])).unwrap();
    let sealed = journal.next_batch().unwrap().unwrap().clone();
    let kept = journal.store.0.len();
    journal.add(&deltas(&[("a", 5, 5)])).unwrap();
    journal.add(&deltas(&[("a", 7, 7)])).unwrap();
    let mut store = journal.into_store();
    store.0[kept..kept + 9].fill(0);
    let mut journal = Journal::open(store, 2).unwrap();
    assert_eq!(journal.next_batch().unwrap(), Some(&sealed));
    assert_eq!(journal.counted_after("a", 1, 1), 0);
    journal.add(&deltas(&[("a", 3, 0)])).unwrap();
    assert_eq!(reopened(journal, 3).counted_after("a", 1, 1), 3);
}

#[test]
fn what_could_not_be_synced_is_written_anew() {
    let mut journal = opened(1);
    journal.add(&deltas(&[("a", 1, 2)])).unwrap();
    journal.store.1 = true;
    assert!(journal.sync().is_err() && journal.next_batch().is_err());
    // What the disk has of it now is not known.
    journal.store.0.clear();
    journal.store.1 = false;
    journal.add(&deltas(&[("a", 3, 0)])).unwrap();
    assert_eq!(reopened(journal, 2).counted_after("a", 1, 1), 6);
}

#[test]
fn an_engine_that_forgets_gets_again_what_is_retained_and_is_told_what_is_not() {
    let mut journal = opened(1);
    for _ in 0..RETAINED_MAX + 6 {
        journal.add(&deltas(&[("a", 1, 0)])).unwrap();
        let sequence = journal.next_batch().unwrap().unwrap().sequence;
        journal.applied(1, sequence).unwrap();
    }
    let last = RETAINED_MAX as u64 + 6;
    let applied = |sequence| BTreeMap::from([(1, sequence)]);
    assert_eq!(journal.compare(&applied(last)), []);
    assert_eq!(journal.sealed_batches(), 0);
    assert_eq!(journal.compare(&applied(last - 3)), []);
    assert_eq!(journal.next_batch().unwrap().unwrap().sequence, last - 2);
    assert_eq!(journal.sealed_batches(), 3);
    assert_eq!(journal.compare(&BTreeMap::new()), [Gap { boot: 1, sequence: 7, lost: 6 }]);
    assert_eq!(journal.next_batch().unwrap().unwrap().sequence, 7);
}

#[test]
fn batches_are_bounded_and_together_hold_everything() {
    let mut journal = opened(1);
    let many: BTreeMap<_, _> =
        (0..=BATCH_ACCOUNTS_MAX * 2).map(|number| (number.to_string(), Bytes { up: 1, down: 0 })).collect();
    journal.add(&many).unwrap();
    let mut sizes = Vec::new();
    while let Some(batch) = journal.next_batch().unwrap() {
        sizes.push(batch.accounts.len());
        let sequence = batch.sequence;
        journal.applied(1, sequence).unwrap();
    }
    assert_eq!(sizes, [BATCH_ACCOUNTS_MAX, BATCH_ACCOUNTS_MAX, 1]);
}

#[test]
fn the_size_follows_from_accounts_and_not_from_time() {
    let mut journal = opened(1);
    for _ in 0..100_000 {
        journal.add(&deltas(&[("a", 1, 0), ("b", 0, 1)])).unwrap();
    }
    assert!(journal.into_store().0.len() < 2 * GROWTH_BYTES_MAX);
}

#[test]
fn batches_of_boots_that_are_mixed_are_no_gap() {
    let mut journal = opened(4);
    let batch = |boot: u64, sequence: u64| Batch { boot, sequence, accounts: BTreeMap::new() };
    journal.sealed.extend([batch(4, 1), batch(3, 4), batch(4, 2)]);
    assert_eq!(journal.compare(&BTreeMap::from([(3, 3)])), []);
    let gap = Gap { boot: 3, sequence: 4, lost: 1 };
    assert_eq!(journal.compare(&BTreeMap::from([(3, 2), (4, 1)])), [gap]);
}
