//! kiln-parser
