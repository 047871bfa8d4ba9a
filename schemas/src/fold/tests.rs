//! Filled in beside the table tests.
