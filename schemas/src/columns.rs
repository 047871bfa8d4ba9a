//! Columns of the archive tables.
