//! Layer inbound.
