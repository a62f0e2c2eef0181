//! The guard: rules of the house that no reviewer should have to argue about, checked on the source itself.
//!
//! Layers import only downwards and in no circles; what must not be known is not named; every close reason is named in
//! a test; an ignored test says why; files say what they own and do not grow without somebody noticing; modules, constants
//! and tests each have one place.
//!
//! Each rule has planted violations beside it, and a test that they are found.

mod circles;
mod layers;
mod layout;
mod marks;
mod tokens;
mod tree;
