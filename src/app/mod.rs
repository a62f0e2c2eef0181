//! Layer app.
