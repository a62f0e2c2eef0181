//! What is counted for one user, without sockets.

use super::*;

#[test]
fn udp_sockets_are_counted_up_to_their_limit() {
    let ledger = Ledger::new(1);
    assert!(ledger.take_udp_socket(2) && ledger.take_udp_socket(2) && !ledger.take_udp_socket(2));
    ledger.give_udp_socket();
    assert!(ledger.take_udp_socket(2));
    assert_eq!(ledger.totals().udp_sockets, 2);
}

#[test]
fn lanes_add_up() {
    let ledger = Ledger::new(2);
    ledger.lane(0).uplink_bytes.add(1);
    ledger.lane(1).uplink_bytes.add(2);
    assert_eq!(ledger.totals().uplink_bytes, 3);
}

#[test]
fn a_session_is_active_for_as_long_as_its_permit_lives() {
    let ledger = Arc::new(Ledger::new(2));
    let permits =
        [ledger.open_session(0, 0).unwrap(), ledger.open_session(1, 0).unwrap(), ledger.open_session(1, 0).unwrap()];
    assert_eq!((ledger.totals().sessions_total, ledger.totals().sessions_active), (3, 3));
    drop(permits);
    assert_eq!((ledger.totals().sessions_total, ledger.totals().sessions_active), (3, 0));
}

#[test]
fn what_is_used_never_begins_anew_by_growing() {
    let ledger = Ledger::new(1);
    let used = |set: &dyn Fn(&Ledger)| {
        set(&ledger);
        ledger.lane(0).uplink_bytes.add(1000);
        ledger.used_bytes()
    };
    let most = 1 << 60;
    assert!(used(&|ledger| ledger.set_used_bytes(u64::MAX)) > most);
    assert!(used(&|ledger| ledger.take_over(&Notes { used_bytes: u64::MAX, ..Notes::default() })) > most);
    assert!(used(&|ledger| ledger.set_used_at(0, u64::MAX)) > most);
}

#[test]
fn used_bytes_go_on_from_what_was_set() {
    let ledger = Ledger::new(2);
    ledger.lane(0).uplink_bytes.add(100);
    assert_eq!(ledger.used_bytes(), 100);
    ledger.set_used_bytes(5000);
    ledger.lane(1).downlink_bytes.add(7);
    assert_eq!(ledger.used_bytes(), 5007);
    ledger.set_used_bytes(0);
    assert_eq!((ledger.used_bytes(), ledger.totals().uplink_bytes), (0, 100), "totals are not touched");
}

#[test]
fn a_new_period_renews_once_and_never_backwards() {
    let ledger = Ledger::new(1);
    ledger.lane(0).uplink_bytes.add(100);
    assert!(!ledger.begin_period(1000, 1000) && ledger.used_bytes() == 100);
    assert!(ledger.begin_period(2000, 2000) && ledger.used_bytes() == 0);
    ledger.lane(0).uplink_bytes.add(5);
    assert!(!ledger.begin_period(2000, 2000) && !ledger.begin_period(1000, 1000));
    assert_eq!(ledger.used_bytes(), 5);
}

#[test]
fn a_warning_is_given_once_until_its_reason_is_gone_also_after_a_restart() {
    let ledger = Ledger::new(1);
    let low = |ledger: &Ledger, is_due| ledger.warn(Warned::QuotaLow, is_due);
    assert_eq!([low(&ledger, false), low(&ledger, true), low(&ledger, true)], [false, true, false]);
    assert!(ledger.warn(Warned::EndNear, true));
    let after = Ledger::new(1);
    after.take_over(&ledger.notes());
    assert_eq!([low(&after, true), low(&after, false), low(&after, true)], [false, false, true]);
    assert!(!after.warn(Warned::EndNear, true));
}

#[test]
fn the_first_use_stays_and_the_last_moves_on() {
    let ledger = Ledger::new(1);
    assert_eq!((ledger.first_seen(), ledger.last_seen()), (None, None));
    for now in [50, 70, 60] {
        ledger.note_seen(now);
    }
    assert_eq!((ledger.first_seen(), ledger.last_seen()), (Some(50), Some(70)));
}

#[test]
fn the_same_id_gets_the_same_ledger_also_after_an_absence() {
    let ledgers = Ledgers::new(1);
    ledgers.of([1; 16]).lane(0).uplink_bytes.add(3);
    assert_eq!(ledgers.of([1; 16]).used_bytes(), 3);
    assert_eq!(ledgers.of([2; 16]).used_bytes(), 0);
    assert!(ledgers.find(&[3; 16]).is_none());
}

#[test]
fn absent_users_are_forgotten_unless_something_was_counted() {
    let ledgers = Ledgers::new(1);
    drop(ledgers.of([0xaa; 16]).open_session(0, 0).unwrap());
    let kept = ledgers.of([0xbb; 16]);
    for number in 0..3 * LEDGERS_UNUSED_MAX as u128 {
        ledgers.of(number.to_be_bytes());
    }
    assert!(ledgers.lock().len() <= LEDGERS_UNUSED_MAX + 2);
    assert_eq!(ledgers.find(&[0xaa; 16]).unwrap().totals().sessions_total, 1);
    assert!(Arc::ptr_eq(&kept, &ledgers.of([0xbb; 16])));
}
