//! Layer io.
