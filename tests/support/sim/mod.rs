//! Whole sessions on scripted sockets, in one thread and in virtual time. Knows the crate's public interface only, and
//! has its own request encoder and its own idea of what must come out.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod datagrams;
pub(crate) mod outlet;
pub(crate) mod peer;
pub(crate) mod plan;
pub(crate) mod rng;
pub(crate) mod run;
pub(crate) mod scarcity;
pub(crate) mod socket;
pub(crate) mod tls;
pub(crate) mod unrest;
pub(crate) mod verify;
pub(crate) mod vision;
pub(crate) mod world;
