//! Strangers: what is not VLESS, or of no user, is passed on whole to a fallback, as a web server's proxy would do it.
//!
//! The fallback gets every byte that the stranger sent, behind a PROXY header where the operator wants one, and what
//! follows is an ordinary relay. Its memory stays in the strangers' share, both what is received and what a socket does not
//! take. It stays a stranger's in all limits, so it is cut before any user waits. Its bytes have counters of their own.

use std::sync::Arc;

use super::close::CloseReason;
use super::dialling::{Apology, Dialling};
use super::opening::Opened;
use super::party::Party;
use super::pause::Ending;
use super::transforms::Encode;
use super::{Context, Dest, Fallback, Leg, Next, Phase, Session, Wish};
use crate::inbound::HEADROOM_BYTES;
use crate::io::buffer_pool::Loan;
use crate::io::datagram::DatagramSocket;
use crate::io::socket::Socket;
use crate::protocol::http_date;
use crate::protocol::proxy_header::{self, Ends};

/// What an nginx says whose application does not answer.
const BAD_GATEWAY: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
    <center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";

impl<S: Socket, D: DatagramSocket> Session<S, D> {
    /// The fallback for a client that is refused for a reason which a stranger must not learn, if there is one.
    pub(super) fn fallback_for(&self, refused: &Ending, opened: &Opened, cx: &Context<'_>) -> Option<Arc<Fallback>> {
        let is_stranger = matches!(
            refused,
            Ending::InOrder(
                CloseReason::NotVless
                    | CloseReason::UnknownUser
                    | CloseReason::UserDisabled
                    | CloseReason::Expired
                    | CloseReason::QuotaUsed
                    | CloseReason::ClientLeft
            )
        );
        let fallbacks = &cx.settings.fallbacks;
        if !is_stranger || fallbacks.is_empty() || opened.payload.is_empty() {
            return None;
        }
        let names = self.inbound.names();
        fallbacks.select(&names.server_name, &names.protocol, opened.payload.bytes()).cloned()
    }

    /// Nothing came in time: whoever speaks first or not at all is the fallback's to judge, too.
    pub(super) fn fall_back_in_silence(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        let names = self.inbound.names();
        let fallback = cx.settings.fallbacks.select(&names.server_name, &names.protocol, &[]).cloned()?;
        let opened = Opened { rest: cx.means.scratch.take_input(), payload: cx.means.scratch.take_output() };
        Some(self.fall_back(fallback, opened, cx))
    }

    /// Passes the client on, with what it has sent so far.
    pub(super) fn fall_back(&mut self, fallback: Arc<Fallback>, opened: Opened, cx: &mut Context<'_>) -> Next {
        log::debug!("{}: passed on to {}", self.client_address, fallback.dest);
        cx.counters.fallbacks_begun.add(1);
        let is_unwrapped = !self.inbound.is_uplink_transparent();
        self.inbound.accept_stranger();
        let header = self.proxy_header(&fallback);
        let early = [&header[..], opened.payload.bytes()].concat();
        let apology = apology_to(opened.payload.bytes());
        self.uplink.delivery.tally().wrap(header.len(), 0);
        if !early.is_empty() {
            let unwrapped_bytes = if is_unwrapped { opened.payload.len() } else { 0 };
            self.uplink.delivery.begin_with(cx.means.pool.hold(&early, 0, Loan::Opening), unwrapped_bytes);
        }
        self.uplink.intake.keep(&opened.rest, true, cx.means.pool);
        self.give_back(opened, cx);
        let is_ours = matches!(fallback.dest, Dest::BuiltIn(_));
        self.party = Party::Fallback((!is_ours).then(|| Arc::clone(&fallback)));
        self.enter(Phase::Dialling(Dialling::Fallback { apology }), cx.means.now);
        cx.wishes.push(Wish::DialFallback { leg: Leg::Target, fallback });
        Next::Wait
    }

    fn proxy_header(&self, fallback: &Fallback) -> Vec<u8> {
        let mut header = Vec::new();
        if let Some(version) = fallback.proxy_header {
            let destination = match &self.party {
                Party::Stranger(Some(announced)) => Some(**announced),
                _ => self.client.local_address(),
            };
            let ends = destination.map(|destination| Ends { source: self.client_address, destination });
            proxy_header::encode(version, ends, &mut header);
        }
        header
    }

    /// There is nobody to pass the client on to. A web server whose application is down says so, and so do we.
    pub(super) fn end_without_fallback(&mut self, cx: &mut Context<'_>) -> Next {
        if let Phase::Dialling(Dialling::Fallback { apology: apology @ (Apology::Page | Apology::Head) }) = self.phase {
            let said = bad_gateway(apology, (cx.unix_seconds)());
            let mut answer = cx.means.scratch.take_input();
            answer.reset(HEADROOM_BYTES);
            let fits = answer.append(said.as_bytes());
            debug_assert!(fits, "the scratch memory holds more");
            let before = self.progress();
            let mut encode = Encode { inbound: &mut self.inbound, read_bytes_max: said.len() };
            self.downlink.convert_and_send(&mut self.client, &mut encode, answer, &mut cx.means);
            self.count(before, cx);
        }
        self.refuse(CloseReason::FallbackUnreachable, cx)
    }
}

/// The preface of HTTP/2 looks like a request, too, but names another version.
fn apology_to(first: &[u8]) -> Apology {
    let line = first.split(|&byte| byte == b'\r').next().unwrap_or_default();
    match line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0") {
        true if line.starts_with(b"HEAD ") => Apology::Head,
        true => Apology::Page,
        false => Apology::Silence,
    }
}

fn bad_gateway(apology: Apology, unix_seconds: u64) -> String {
    let (date, length) = (http_date::text(unix_seconds), BAD_GATEWAY.len());
    let page = if apology == Apology::Page { BAD_GATEWAY } else { "" };
    format!(
        "HTTP/1.1 502 Bad Gateway\r\nServer: nginx\r\nDate: {date}\r\nContent-Type: text/html\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{page}"
    )
}
