//! What the tests of several modules need: a small vocabulary, texts under a mask, random answers.

use std::sync::LazyLock;

use lossy_engine::Mask;
use lossy_testkit::toy_tokenizer::toy_tokenizer;
use lossy_tokenizer::EncodeOptions;

use crate::constraint::Constraint;
use crate::vocabulary::Vocabulary;

/// Single bytes and a few longer tokens; the logits are longer than that.
pub(crate) fn toy() -> Vocabulary {
    static TOY: LazyLock<Vocabulary> = LazyLock::new(|| Vocabulary::new(&toy_tokenizer(), N_LOGITS).unwrap());
    TOY.clone()
}

/// Tokens of the toy vocabulary, and some that do not exist.
pub(crate) const N_LOGITS: usize = 300;
pub(crate) const END: u32 = 257;

/// The ids that a mask allows.
pub(crate) fn allowed(mask: &mut dyn Mask) -> Vec<u32> {
    let mut logits = vec![0.0; N_LOGITS];
    mask.apply(&mut logits).unwrap();
    (0..N_LOGITS as u32).filter(|&id| logits[id as usize] == 0.0).collect()
}

/// The ids of a text in which control tokens are tokens.
pub(crate) fn ids(text: &str) -> Vec<u32> {
    let options = EncodeOptions { add_special: false, parse_special: true };
    toy().tokenizer().encode(text, options).unwrap()
}

/// How many bytes of a text, byte by byte, a mask lets through; all of them and one more if the text may end there.
pub(crate) fn n_accepted(mask: &mut dyn Mask, text: &str) -> usize {
    let mut bytes = 0;
    for id in ids(text) {
        if !allowed(mask).contains(&id) {
            return bytes;
        }
        assert_eq!(mask.n_allowed(&[id]), 1, "what is allowed is worth computing");
        mask.accept(id).unwrap();
        bytes += toy().tokenizer().token_bytes(id).unwrap().len();
    }
    bytes + usize::from(allowed(mask).contains(&END))
}

/// Whether a text, and not only its beginning, is allowed.
pub(crate) fn accepts(constraint: &Constraint, text: &str) -> bool {
    n_accepted(&mut *constraint.mask(), text) == text.len() + 1
}
