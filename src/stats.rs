//! Counters: what the data plane counts and everybody else reads.
//!
//! One [`Counters`] per worker, one lane per worker in each user's [`Ledger`]. Every value has exactly one writer,
//! the worker it belongs to, so an update is a relaxed load and a relaxed store: no lock, no shared cache line. Readers
//! sum the workers; a sum is not a snapshot of one instant, but each counter in it is exact and never runs backwards.

pub mod gate;
pub mod histogram;
pub mod ledger;
pub mod pools;
pub mod quota;

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use self::histogram::{Durations, Histogram};
pub use self::ledger::{Ledger, Ledgers, Notes, SessionPermit, UserTotals, Warned};
use self::pools::TierCounters;

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning worker may call this.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Takes away; for gauges, by the owning worker only.
    pub fn sub(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(amount), Ordering::Relaxed);
    }

    /// Sets a gauge; by the owning worker only.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The present value, from any thread.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares [`Counters`] and its sum [`Totals`] from one list, so that no counter can be forgotten in the output.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What one worker counts; see [`Totals`] for the sum over all workers.
        ///
        /// Aligned so that two workers never write to the same pair of cache lines.
        #[derive(Debug)]
        #[repr(align(128))]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
            /// The tiers of the buffer pool, smallest first.
            pub buffer_tiers: [TierCounters; 3],
            /// How long things take.
            pub timings: Timings,
            closes: Box<[Counter]>,
        }

        impl Counters {
            /// Counters at zero, with one close counter for each of `close_reasons`.
            pub fn new(close_reasons: usize) -> Self {
                Self {
                    $($name: Counter::default(),)*
                    buffer_tiers: Default::default(),
                    timings: Timings::default(),
                    closes: (0..close_reasons).map(|_| Counter::default()).collect(),
                }
            }

            fn add_to(&self, totals: &mut Totals) {
                $(totals.$name += self.$name.value();)*
            }
        }

        /// The sum of all workers' [`Counters`].
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct Totals {
            $($(#[$doc])* pub $name: u64,)*
        }
    };
}

counters! {
    /// Connections accepted from clients.
    sessions_accepted,
    /// Sessions alive now.
    sessions_active,
    /// Request headers accepted.
    requests_accepted,
    /// Requests of accounts that are switched off.
    disabled_users_refused,
    /// Requests of accounts whose time is over.
    expired_users_refused,
    /// Requests of accounts that have used what they may use in their period.
    used_quotas_refused,
    /// TLS handshakes completed.
    tls_handshakes,
    /// Payload bytes that targets' sockets accepted.
    uplink_bytes,
    /// Payload bytes that clients' sockets accepted.
    downlink_bytes,
    /// Of `uplink_bytes`, those that were passed on as they came: without TLS, or after Vision had left it.
    uplink_unchanged_bytes,
    /// Of `downlink_bytes`, likewise.
    downlink_unchanged_bytes,
    /// Of `uplink_unchanged_bytes`, those that went through a kernel pipe and were never copied.
    uplink_spliced_bytes,
    /// Of `downlink_unchanged_bytes`, likewise.
    downlink_spliced_bytes,
    /// Of `uplink_bytes`, those of datagrams.
    uplink_udp_bytes,
    /// Of `downlink_bytes`, likewise.
    downlink_udp_bytes,
    /// Vision block headers and padding received.
    uplink_padding_bytes,
    /// Vision block headers and padding sent.
    downlink_padding_bytes,
    /// Uplinks that left TLS (Vision DIRECT received).
    uplinks_direct,
    /// Downlinks that left TLS (Vision DIRECT sent).
    downlinks_direct,
    /// Requests accepted with flow Vision.
    vision_requests,
    /// Strangers passed on to a fallback.
    fallbacks_begun,
    /// Bytes of strangers that fallbacks' sockets accepted, without the header that names the client.
    fallback_uplink_bytes,
    /// Bytes of fallbacks that strangers' sockets accepted.
    fallback_downlink_bytes,
    /// Events for a session that no longer exists.
    stale_events,
    /// Turns that ended because their byte budget was used up.
    turns_cut_by_budget,
    /// Times accepting stopped because descriptors ran out.
    accept_paused_descriptors,
    /// Times accepting stopped because the session limit was reached.
    accept_paused_limit,
    /// Connections refused because their source had as many sessions as a source may have.
    source_sessions_refused,
    /// Connections refused because their source had as many sessions that were not admitted as a source may have.
    source_openings_refused,
    /// Connections refused because their source came more often than a source may.
    source_accepts_refused,
    /// Sources without a session whose rate was forgotten before its time, for room.
    sources_forgotten,
    /// Connections lost between the kernel's queue and us (aborted, out of memory, ...).
    accept_errors,
    /// Dials asked for by sessions.
    dials_started,
    /// Dials that ended with a connected socket.
    dials_connected,
    /// Dials that ended because no address accepted.
    dials_failed,
    /// Dials that ended because nobody answered in time.
    dials_timed_out,
    /// Dials refused by the destination policy.
    dials_refused_by_policy,
    /// Dials that ended because the name had no address or could not be resolved.
    dials_unresolved,
    /// Dials that ended because no descriptor was left for a socket.
    dials_no_descriptors,
    /// Dials given up by the session that asked for them.
    dials_cancelled,
    /// Single connection attempts (a dial may make several).
    dial_attempts,
    /// Names asked for by dials, each address family counted.
    dns_lookups,
    /// Look-ups answered from the cache, negative answers included.
    dns_cache_hits,
    /// Look-ups that joined one already under way.
    dns_coalesced,
    /// Look-ups refused because too many were under way.
    dns_refused_busy,
    /// Queries sent to name servers, repeats included.
    dns_queries,
    /// Queries that no server answered in time.
    dns_timeouts,
    /// Answers that came truncated and were asked for again over TCP.
    dns_truncated,
    /// Messages from name servers that did not match their query.
    dns_bad_answers,
    /// Datagrams of clients that were sent to their targets.
    udp_uplink_packets,
    /// Datagrams of targets that clients' sockets accepted.
    udp_downlink_packets,
    /// Datagrams dropped because the destination policy refuses where they go, or where they come from.
    udp_dropped_by_policy,
    /// Datagrams dropped because nobody could say where the address ends, for want of a descriptor.
    udp_dropped_undecided,
    /// Datagrams of clients dropped because the name they go to has no address.
    udp_dropped_unresolved,
    /// Datagrams of clients that the kernel did not take: too long, no route, no room.
    udp_dropped_by_kernel,
    /// Datagrams dropped because too many waited for a name, or too many names were asked for.
    udp_dropped_no_room,
    /// Datagrams of targets that are longer than what Mux clients accept.
    udp_dropped_too_long,
    /// UDP sockets refused because the user has as many as a user may have.
    udp_sockets_refused,
    /// UDP sockets that could not be opened.
    udp_sockets_failed,
    /// UDP sockets that went on in another connection, by Global ID.
    udp_sockets_migrated,
    /// Names and peers that UDP sockets forgot or did not remember because their share of the buffer memory was used up.
    udp_names_forgotten,
    /// Sessions opened inside Mux connections.
    mux_sessions_opened,
    /// Sessions refused inside Mux connections: too many, or for a name that stands for a protocol we do not speak.
    mux_sessions_refused,
    /// Sessions inside Mux connections whose target was not to be had.
    mux_sessions_failed,
    /// Sockets of sessions inside Mux connections refused because the user, or all users together, have as many as they may
    /// have.
    mux_sockets_refused,
    /// Data frames for sessions that do not exist (any more).
    mux_frames_astray,
    /// Bytes of targets that were thrown away because the client had ended their sessions.
    mux_bytes_discarded,
    /// Buffers held by sessions now.
    buffers_held,
    /// Bytes of buffers held by sessions now.
    buffer_bytes_held,
    /// Times a session had to wait for buffer memory.
    buffer_waits,
    /// Sessions that wait for buffer memory now.
    sessions_awaiting_buffer,
    /// Kernel pipes that hold bytes now.
    pipes_held,
    /// Dials that reached an address and were answered by a spare connection.
    pool_hits,
    /// Dials that reached an address and had to connect, whether that succeeded or not.
    pool_misses,
    /// Dials that ended with a socket connected for them.
    dials_connected_directly,
    /// Sessions that have a connection to their target now.
    targets_connected,
    /// Attempts to connect a spare.
    spare_attempts,
    /// Attempts of these that failed or were given up.
    spare_failures,
    /// Attempts of these under way.
    spares_connecting,
    /// Attempts of these that succeeded.
    spares_connected,
    /// Spares ready now.
    spares_idle,
    /// Spares that the target ended or broke.
    spares_closed_by_target,
    /// Spares that turned out to be dead when they were about to be handed over.
    spares_closed_at_hand_over,
    /// Spares closed because of their age.
    spares_closed_too_old,
    /// Spares closed because demand does not justify them any more.
    spares_closed_unneeded,
    /// Spares closed because descriptors or the limit were short, or because the server ends.
    spares_closed_for_room,
    /// Target addresses that the pool watches.
    pool_targets,
}

/// Declares [`Timings`] and its sum [`TimingTotals`] from one list.
macro_rules! timings {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How long things took at one worker.
        #[derive(Debug, Default)]
        pub struct Timings {
            $($(#[$doc])* pub $name: Histogram,)*
        }

        /// The sum of all workers' [`Timings`].
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct TimingTotals {
            $($(#[$doc])* pub $name: Durations,)*
        }

        impl Timings {
            fn add_to(&self, totals: &mut TimingTotals) {
                $(totals.$name += self.$name.values();)*
            }
        }
    };
}

timings! {
    /// A turn of the worker, from the return of its poll to the next poll.
    turn,
    /// From accept to the end of the TLS handshake.
    handshake,
    /// From a session's wish to a connected target where a spare connection answered it.
    dial_pool,
    /// Likewise where the target had to be connected to.
    dial_new,
    /// From an accepted request to the first byte of its target that the client's socket took.
    first_byte,
}

impl Counters {
    /// Counts a closed session under its reason's index.
    pub fn count_close(&self, reason: usize) {
        if let Some(counter) = self.closes.get(reason) {
            counter.add(1);
        }
    }

    /// Sessions closed so far for the reason with this index.
    pub fn closes(&self, reason: usize) -> u64 {
        self.closes.get(reason).map_or(0, Counter::value)
    }
}

/// Sums all workers.
pub fn totals<'a>(workers: impl IntoIterator<Item = &'a Counters>) -> Totals {
    let mut totals = Totals::default();
    for worker in workers {
        worker.add_to(&mut totals);
    }
    totals
}

/// Sums the timings of all workers.
pub fn timings<'a>(workers: impl IntoIterator<Item = &'a Counters>) -> TimingTotals {
    let mut totals = TimingTotals::default();
    for worker in workers {
        worker.timings.add_to(&mut totals);
    }
    totals
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn totals_sum_every_worker() {
        let workers = [Counters::new(2), Counters::new(2)];
        workers[0].uplink_bytes.add(3);
        workers[1].uplink_bytes.add(4);
        workers[1].sessions_active.add(2);
        workers[1].sessions_active.sub(1);
        let totals = totals(&workers);
        assert_eq!((totals.uplink_bytes, totals.sessions_active, totals.downlink_bytes), (7, 1, 0));
    }

    #[test]
    fn timings_sum_every_worker() {
        let workers = [Counters::new(1), Counters::new(1)];
        workers[0].timings.turn.record(Duration::from_micros(100));
        workers[1].timings.turn.record(Duration::from_micros(300));
        let totals = timings(&workers);
        assert_eq!((totals.turn.count(), totals.turn.max_us, totals.dial_new.count()), (2, 300, 0));
    }

    #[test]
    fn closes_are_counted_by_reason() {
        let counters = Counters::new(2);
        counters.count_close(1);
        counters.count_close(1);
        counters.count_close(9);
        assert_eq!((counters.closes(0), counters.closes(1), counters.closes(9)), (0, 2, 0));
    }
}
