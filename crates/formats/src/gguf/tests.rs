//! Hostile and friendly files.
