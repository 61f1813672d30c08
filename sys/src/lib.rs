//! kiln-sys
