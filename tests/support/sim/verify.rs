//! What must be true of every simulated session, whatever happened to it.

use vless_rust::io::splice::PipePool;
use vless_rust::session::close::CloseReason;

use super::peer::SeenEnd;
use super::run::Run;
use super::socket::Closed;
use super::vision::Phase;
use super::world::World;

impl World {
    /// Checks every session after [`World::run`], and the sums over all of them.
    pub(crate) fn verify(&mut self) {
        for run in &mut self.runs {
            run.client.hear_rest();
            run.target.hear_rest();
        }
        for number in 0..self.runs.len() {
            if let Err(fault) = verify(&self.runs[number], self.spurious) {
                panic!("session {number}: {fault}\n{}", self.describe());
            }
        }
        assert_eq!((self.pool.held(), self.pool.held_bytes()), (0, 0), "buffers were kept");
        assert_eq!(self.pipes.as_ref().map_or(0, PipePool::in_use), 0, "pipes were kept");

        let records = || self.runs.iter().filter_map(|run| run.record.as_ref());
        let uplink: u64 = records().map(|record| record.uplink.payload_bytes).sum();
        let downlink: u64 = records().map(|record| record.downlink.payload_bytes).sum();
        assert_eq!(self.counters.uplink_bytes.value(), uplink, "the worker's uplink counter");
        assert_eq!(self.counters.downlink_bytes.value(), downlink, "the worker's downlink counter");
        let users = self.settings.users.iter().map(|user| user.ledger.totals());
        let (mut users_uplink, mut users_downlink, mut users_sessions) = (0, 0, 0);
        for totals in users {
            users_uplink += totals.uplink_bytes;
            users_downlink += totals.downlink_bytes;
            users_sessions += totals.sessions_total;
            assert_eq!(totals.sessions_active, 0, "a user's sessions");
        }
        assert_eq!((users_uplink, users_downlink), (uplink, downlink), "the users' counters");
        let accepted = self.runs.iter().filter(|run| run.wished.is_some()).count() as u64;
        assert_eq!((self.counters.requests_accepted.value(), users_sessions), (accepted, accepted), "requests");
    }
}

/// Says what is wrong with a session that has ended.
pub(crate) fn verify(run: &Run, spurious: bool) -> Result<(), String> {
    let record = run.record.as_ref().ok_or("never ended")?;
    let (client, target) = (&run.client, &run.target);
    let (client_link, target_link) = (client.link.borrow(), target.link.borrow());
    let check = |holds: bool, fault: &str| if holds { Ok(()) } else { Err(fault.to_owned()) };

    check(run.reasons.contains(&record.reason), "ended for the wrong reason (a timeout may be a lost wake-up)")?;
    check(client.said.starts_with(&target.heard), "the target heard what the client did not say")?;
    check(record.uplink.payload_bytes == target.heard.len() as u64, "uplink bytes miscounted")?;

    let payload = client.heard.get(2..).unwrap_or_default();
    check([0, 0].starts_with(&client.heard[..client.heard.len().min(2)]), "a wrong response header")?;
    check(target.said.starts_with(payload), "the client heard what the target did not say")?;
    check(record.downlink.payload_bytes == payload.len() as u64, "downlink bytes miscounted")?;
    check(run.connected || client.heard.is_empty(), "a VLESS byte was sent although no target was connected")?;
    check(
        client.tls.is_none() || client.heard.is_empty() || client.first_heard > 2 || target.said.is_empty(),
        "the response header did not share a record with the first payload",
    )?;

    check(!target_link.shut || target.heard == client.said, "the target was told an end before the last byte")?;
    check(!target_link.shut || client.said_end, "the target was told an end that the client did not say")?;
    let torn = client.tls.as_ref().is_some_and(|tls| tls.error.is_some());
    // Behind an alert the end of the stream says nothing about the target.
    let relayed = run.connected && client_link.shut && !torn;
    check(!relayed || payload == target.said, "the client was told an end before the last byte")?;
    check(!relayed || target.said_end, "the client was told an end that the target did not say")?;
    // With Vision it is not sent without payload.
    let answered = client.heard.len() >= 2 || client.vision.is_some() && target.said.is_empty();
    check(!relayed || answered, "the response header was never sent")?;
    let is_raw = client.vision.as_ref().is_some_and(|vision| vision.down == Phase::Raw);
    check(!is_raw || !client.seen_close_notify, "close_notify behind the switch")?;
    let is_tls = client.tls.as_ref().is_some_and(|tls| tls.is_open()) && !is_raw;
    // Whoever has reset the connection hears nothing more.
    let may_be_silent = torn || client_link.peer_reset || !client_link.shut;
    check(!is_tls || may_be_silent || client.seen_close_notify, "FIN without close_notify")?;

    if record.reason == CloseReason::Finished {
        check(target_link.shut && client_link.shut, "finished, and did not say so")?;
        let orderly = |closed| closed == Some(Closed::InOrder);
        check(client_link.peer_reset || orderly(client_link.closed), "finished, and reset the client")?;
        check(target_link.peer_reset || orderly(target_link.closed), "finished, and reset the target")?;
        check(client.seen_end != Some(SeenEnd::Reset), "finished, and the client saw a reset")?;
    }
    if matches!(record.reason, CloseReason::ClientReset | CloseReason::TargetReset) {
        let told = |closed| closed != Some(Closed::InOrder);
        check(told(target_link.closed) || target_link.shut, "the target never heard of the reset")?;
        check(told(client_link.closed) || client_link.shut, "the client never heard of the reset")?;
    }
    let polled = client_link.polled_while_blocked + target_link.polled_while_blocked;
    check(spurious || polled == 0, "asked a blocked socket again")
}
