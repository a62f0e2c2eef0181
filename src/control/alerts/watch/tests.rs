//! Rules, figures and what is told, without recipients.

use super::*;

use crate::control::alerts::{Condition, default_rules};

fn states(notices: &[(Notice, Vec<Recipient>)]) -> Vec<&'static str> {
    notices.iter().map(|(notice, _)| notice.state).collect()
}

fn rule(hold_s: u64) -> Rule {
    Rule {
        name: "full".to_owned(),
        metric: Metric::SessionsPercent,
        condition: Condition::Above(90.0),
        hold: Duration::from_secs(hold_s),
        to: vec![Recipient::Log],
    }
}

fn of_server(value: f64) -> Vec<Figure<'static>> {
    vec![Figure { user: None, value }]
}

#[test]
fn each_user_has_an_alert_of_his_own_and_a_crowd_is_bounded() {
    let users: Vec<Arc<str>> = (0..USERS_MAX + 50).map(|number| format!("user{number:03}").into()).collect();
    let mut watch = Watch::new(vec![Rule { metric: Metric::QuotaPercent, ..rule(0) }]);
    let mut judge = |values: &[f64]| {
        let figures = || users.iter().zip(values).map(|(user, value)| Figure { user: Some(user), value: *value });
        let notices = watch.judge(|_| figures().collect(), Instant::now(), 0);
        let told = notices.iter().map(|(one, _)| (one.state, one.alert.user.as_deref().unwrap().to_owned()));
        told.collect::<Vec<_>>()
    };
    assert_eq!(judge(&[95.0, 50.0]), [("fired", "user000".to_owned())]);
    assert_eq!(judge(&[96.0, 91.0]), [("fired", "user001".to_owned())]);
    assert_eq!(judge(&[1.0, 91.0]), [("resolved", "user000".to_owned())]);
    assert_eq!(judge(&[1.0]), [("resolved", "user001".to_owned())], "who is gone has no alert");
    assert_eq!(judge(&vec![99.0; USERS_MAX + 50]).len(), USERS_MAX);
    assert_eq!(watch.states().map(|(_, count)| count).sum::<usize>(), USERS_MAX);
    assert!(watch.firing().all(|firing| firing.user.is_some()));
}

#[test]
fn an_alert_fires_once_and_resolves_once() {
    let start = Instant::now();
    let mut watch = Watch::new(vec![rule(10)]);
    let mut judge = |value: f64, second: u64| {
        states(&watch.judge(|_| of_server(value), start + Duration::from_secs(second), 1000 + second))
    };
    assert!(judge(95.0, 0).is_empty());
    assert!(judge(50.0, 5).is_empty());
    assert!(judge(95.0, 6).is_empty());
    assert!(judge(95.0, 15).is_empty());
    assert_eq!(judge(96.0, 16), ["fired"]);
    assert!(judge(97.0, 17).is_empty());
    assert_eq!(judge(90.0, 18), ["resolved"]);
    assert!(judge(90.0, 19).is_empty());
}

#[test]
fn a_figure_that_is_not_there_fires_nothing() {
    let mut watch = Watch::new(default_rules());
    assert!(watch.judge(|_| Vec::new(), Instant::now(), 0).is_empty());
    assert_eq!((watch.firing().count(), watch.states().count()), (0, default_rules().len()));
}

/// What is told of a figure of the server in a second after `start`, and to how many.
fn told(watch: &mut Watch, value: f64, now: Instant) -> Vec<(&'static str, usize)> {
    watch.judge(|_| of_server(value), now, 1000).iter().map(|(notice, to)| (notice.state, to.len())).collect()
}

#[test]
fn an_alert_goes_on_when_the_rules_are_read_again() {
    let mut watch = Watch::new(vec![rule(0)]);
    watch.judge(|_| of_server(95.0), Instant::now(), 7);
    watch.adopt(vec![Rule { name: "other".to_owned(), ..rule(5) }, rule(0)]);
    assert_eq!(watch.firing().map(|firing| firing.since).collect::<Vec<_>>(), [7]);
    assert!(told(&mut watch, 96.0, Instant::now()).is_empty());
}

#[test]
fn an_alert_is_judged_by_the_limit_of_the_rule_that_is_read() {
    let now = Instant::now();
    for (limit, expected) in [(50.0, vec![]), (94.0, vec![]), (96.0, vec![("resolved", 1)])] {
        let mut watch = Watch::new(vec![rule(0)]);
        assert_eq!(told(&mut watch, 95.0, now), [("fired", 1)]);
        watch.adopt(vec![Rule { condition: Condition::Above(limit), hold: Duration::from_secs(60), ..rule(0) }]);
        assert_eq!(watch.firing().map(|firing| firing.limit.to_bits()).collect::<Vec<_>>(), [limit.to_bits()]);
        assert_eq!(told(&mut watch, 95.0, now), expected, "{limit}");
        assert!(told(&mut watch, 95.0, now).is_empty(), "{limit}");
        let is_over = !expected.is_empty();
        assert_eq!(told(&mut watch, 1.0, now).is_empty(), is_over, "{limit}: it is over once");
    }
}

#[test]
fn what_has_not_fired_has_to_hold_anew_under_another_limit() {
    let start = Instant::now();
    let mut watch = Watch::new(vec![rule(60)]);
    assert!(told(&mut watch, 95.0, start).is_empty());
    watch.adopt(vec![Rule { condition: Condition::Above(80.0), ..rule(60) }]);
    assert!(told(&mut watch, 95.0, start + Duration::from_secs(61)).is_empty());
    assert_eq!(told(&mut watch, 95.0, start + Duration::from_secs(121)), [("fired", 1)]);
}

#[test]
fn an_alert_of_a_rule_that_is_gone_is_over_and_who_heard_of_it_hears_that() {
    let now = Instant::now();
    let other = Rule { metric: Metric::MemoryPercent, ..rule(0) };
    for left in [vec![], vec![Rule { name: "other".to_owned(), ..rule(0) }], vec![other]] {
        let mut watch = Watch::new(vec![rule(0), Rule { name: "quiet".to_owned(), ..rule(3600) }]);
        told(&mut watch, 95.0, now);
        watch.adopt(left);
        assert_eq!(watch.firing().count(), 0);
        let heard = watch.judge(|_| Vec::new(), now, 0);
        assert_eq!(states(&heard), ["resolved"]);
        assert_eq!(heard[0].0.text, "full: over, the rule about sessions_percent is gone");
        assert_eq!(heard[0].1, [Recipient::Log]);
        assert!(watch.judge(|_| Vec::new(), now, 0).is_empty());
    }
}

#[test]
fn who_was_told_hears_of_the_end_also_if_the_rule_tells_others_by_then() {
    let (now, command) = (Instant::now(), Recipient::Command(vec!["tell".to_owned()]));
    let mut watch = Watch::new(vec![rule(0)]);
    told(&mut watch, 95.0, now);
    watch.adopt(vec![Rule { to: vec![command.clone()], ..rule(0) }]);
    let heard = watch.judge(|_| of_server(1.0), now, 0);
    assert_eq!(heard[0].1, [command, Recipient::Log]);
    assert_eq!(told(&mut watch, 95.0, now), [("fired", 1)]);
    assert_eq!(told(&mut watch, 1.0, now), [("resolved", 1)], "of the next it is not told");
}

#[test]
fn what_was_told_is_not_told_again_after_a_restart() {
    let start = Instant::now();
    let seconds = |seconds: u64| start + Duration::from_secs(seconds);
    let mut former = Watch::new(vec![rule(0)]);
    told(&mut former, 95.0, start);
    let saved = serde_json::to_string(&former.save()).unwrap();
    let restore = |rules| Watch::restore(rules, serde_json::from_str(&saved).unwrap(), start);

    // It still holds, once clients are back.
    let mut watch = restore(vec![rule(0)]);
    assert_eq!(watch.firing().next().unwrap().since, 1000);
    for (value, second) in [(0.0, 1), (10.0, 30), (95.0, 59)] {
        assert!(told(&mut watch, value, seconds(second)).is_empty());
    }
    assert_eq!(told(&mut watch, 10.0, seconds(59)), [("resolved", 1)], "it held, and does no more");

    // It does not hold any more, or nothing is known of it.
    for figures in [of_server(10.0), Vec::new()] {
        let mut watch = restore(vec![rule(0)]);
        assert!(watch.judge(|_| figures.clone(), seconds(59), 0).is_empty());
        assert_eq!(states(&watch.judge(|_| figures.clone(), seconds(61), 0)), ["resolved"]);
    }

    // The rule is gone, or has another limit.
    let mut watch = restore(vec![Rule { name: "other".to_owned(), ..rule(0) }]);
    assert_eq!(told(&mut watch, 1.0, seconds(1)), [("resolved", 1)]);
    let mut watch = restore(vec![Rule { condition: Condition::Above(10.0), ..rule(0) }]);
    assert!(told(&mut watch, 20.0, seconds(1)).is_empty());
    assert_eq!(watch.firing().map(|firing| firing.limit.to_bits()).collect::<Vec<_>>(), [10_f64.to_bits()]);
}

#[test]
fn of_a_state_file_only_so_much_is_taken() {
    let of_user = |number: usize| {
        let user = Some(format!("user{number}"));
        SavedFiring { name: "full".to_owned(), metric: "sessions_percent".to_owned(), user, ..SavedFiring::default() }
    };
    let saved: Vec<_> = (0..3 * SAVED_MAX).map(of_user).collect();
    let watch = Watch::restore(vec![rule(0)], saved.clone(), Instant::now());
    assert_eq!(watch.firing().count(), USERS_MAX);
    let mut watch = Watch::restore(Vec::new(), saved, Instant::now());
    assert_eq!(watch.judge(|_| Vec::new(), Instant::now(), 0).len(), SAVED_MAX);
}
