//! What is left out of every prompt.

/// A system text of some agents that changes with every request and means nothing to a model. In the prompt it would make
/// every request miss the cache.
const BILLING_HEADER: &str = "x-anthropic-billing-header:";

/// Whether a system text is an agent's billing header.
pub fn is_billing_header(text: &str) -> bool {
    text.trim_start().starts_with(BILLING_HEADER)
}
