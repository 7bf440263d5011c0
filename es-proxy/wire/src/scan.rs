//! (being written) A strict JSON scanner.
