//! Deadlines work the same when the bytes go through kernel pipes.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use vless_rust::session::Timeouts;
use vless_rust::session::close::CloseReason;

use crate::Talk;
use crate::support::inner_tls::data_stream;
use crate::support::server::{Options, PATIENT, Server, VISION};
use crate::support::vision_client::How;
use crate::support::{reset_on_close, wait_until};

/// More than all buffers on the way can take.
const FLOOD_BYTES: usize = 64 << 20;

const STALL: Timeouts = Timeouts { write_stall: Duration::from_millis(500), ..PATIENT };

fn server(timeouts: Timeouts) -> Server {
    Server::start(Options { timeouts, ..Options::tls() })
}

#[test]
fn spliced_bytes_of_either_direction_put_off_the_idle_deadline() {
    const IDLE: Duration = Duration::from_secs(1);
    for is_uplink in [true, false] {
        let server = server(Timeouts { idle: IDLE, ..PATIENT });
        let mut talk = Talk::direct(&server);
        let stream = data_stream(256 << 10);
        let begin = Instant::now();
        while begin.elapsed() < IDLE * 2 {
            if is_uplink {
                talk.say_up(&stream);
            } else {
                talk.say_down(&stream);
            }
            // Not a wait for anything: this is what a slow stream is.
            thread::sleep(IDLE / 8);
        }
        talk.client.down.expect_silence();
        let record = server.closed_for(CloseReason::Idle);
        let spliced_bytes = if is_uplink { record.uplink } else { record.downlink }.spliced_bytes;
        assert!(spliced_bytes > 0);
    }
}

#[test]
fn a_half_closed_raw_session_ends_when_nothing_moves() {
    for up_ended in [true, false] {
        let server = server(Timeouts { half_close: Duration::from_millis(300), ..PATIENT });
        let mut talk = Talk::direct(&server);
        if up_ended {
            talk.say_up(&data_stream(1 << 20));
            talk.end_up();
            talk.client.down.expect_silence();
        } else {
            talk.say_down(&data_stream(1 << 20));
            talk.end_down();
        }
        server.closed_for(CloseReason::HalfCloseTimeout);
    }
}

#[test]
fn a_client_that_takes_nothing_from_a_pipe_stalls() {
    let server = server(STALL);
    let mut talk = Talk::direct_with(&server, How { recv_buffer_bytes: 4096, ..How::with(VISION) });
    let target = talk.target.again();
    thread::scope(|scope| {
        // Ends with an error when the server gives up.
        scope.spawn(move || (&target.0).write_all(&data_stream(FLOOD_BYTES)).unwrap_err());
        wait_until("a pipe holds bytes", || server.totals().pipes_held == 1);
        let record = server.closed_for(CloseReason::WriteStall);
        assert!(record.downlink.spliced_bytes > 0);
    });
    wait_until("the pipe was given back", || server.totals().pipes_held == 0);
    while matches!(talk.client.down.receive(), Ok(true)) {}
}

#[test]
fn a_target_that_takes_nothing_from_a_pipe_stalls() {
    let server = server(STALL);
    let Talk { client, target, .. } = Talk::direct(&server);
    thread::scope(|scope| {
        scope.spawn(|| client.up.wire().write_all(&data_stream(FLOOD_BYTES)).unwrap_err());
        wait_until("a pipe holds bytes", || server.totals().pipes_held == 1);
        let record = server.closed_for(CloseReason::WriteStall);
        assert!(record.uplink.spliced_bytes > 0);
    });
    drop(target);
}

#[test]
fn a_reset_ends_the_session_although_the_other_side_takes_nothing() {
    const HALF_CLOSE: Duration = Duration::from_millis(300);
    for splice in [true, false] {
        for is_uplink in [true, false] {
            let timeouts = Timeouts { half_close: HALF_CLOSE, ..PATIENT };
            let server = Server::start(Options { timeouts, splice, ..Options::tls() });
            let Talk { client, target, .. } =
                Talk::direct_with(&server, How { recv_buffer_bytes: 4096, ..How::with(VISION) });
            let says = if is_uplink { client.up.wire() } else { &target.0 };
            says.set_nonblocking(true).unwrap();
            let stream = data_stream(FLOOD_BYTES);
            let mut sent = 0;
            wait_until("nothing more is taken", || {
                let mut says = says;
                while let Ok(count) = says.write(&stream[sent..]) {
                    sent += count;
                }
                let totals = server.totals();
                totals.pipes_held + totals.buffers_held > 0
            });
            reset_on_close(says);
            let reason = if is_uplink {
                drop(client);
                CloseReason::ClientReset
            } else {
                drop(target.0);
                CloseReason::TargetReset
            };
            server.closed_for(reason);
        }
    }
}
