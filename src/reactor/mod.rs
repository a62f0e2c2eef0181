//! Layer reactor.
