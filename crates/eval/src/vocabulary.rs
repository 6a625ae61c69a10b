//! Whether two models read and predict the same tokens: without that their predictions cannot be compared.

use lossy_tokenizer::{EncodeOptions, Tokenizer};

use crate::{BUNDLED, EvalError, NamedEngine};

/// Characters of each bundled text that both must split alike.
const N_CHARS: usize = 20_000;

/// Fails unless both models have the same tokens, and split text in the same way.
pub(crate) fn check_same(model: &NamedEngine<'_>, reference: &NamedEngine<'_>) -> Result<(), EvalError> {
    let different = |difference: String| EvalError::Vocabulary {
        model: model.name.clone(),
        reference: reference.name.clone(),
        difference,
    };
    let [n, n_reference] = [model, reference].map(|named| named.engine.n_vocab());
    if n != n_reference {
        return Err(different(format!("{n} tokens and {n_reference}")));
    }
    let tokenizers = [model, reference].map(|named| named.engine.source().tokenizer());
    // A model without a tokenizer is only shown ids.
    let [Ok(tokenizer), Ok(other)] = tokenizers else { return Ok(()) };
    difference(&tokenizer, &other)?.map_or(Ok(()), |found| Err(different(found)))
}

/// The first difference of two tokenizers, in the order of the first and the second.
fn difference(a: &Tokenizer, b: &Tokenizer) -> Result<Option<String>, EvalError> {
    let n = a.n_vocab().max(b.n_vocab()) as u32;
    let shown = |text: Option<&str>| text.map_or("nothing".to_string(), |text| format!("`{text}`"));
    let differs = |&id: &u32| a.token_text(id) != b.token_text(id) && !(a.is_unused(id) && b.is_unused(id));
    if let Some(id) = (0..n).find(differs) {
        return Ok(Some(format!(
            "token {id} is {} and {}",
            shown(a.token_text(id)),
            shown(b.token_text(id))
        )));
    }
    if (a.bos(), a.adds_bos()) != (b.bos(), b.adds_bos()) {
        return Ok(Some("they begin a text with other tokens".to_string()));
    }
    for part in BUNDLED {
        let text: String = part.text.chars().take(N_CHARS).collect();
        let [ids, others] = [a, b].map(|tokenizer| tokenizer.encode(&text, EncodeOptions::default()));
        if ids? != others? {
            return Ok(Some(format!("they split the bundled {} into other tokens", part.name)));
        }
    }
    Ok(None)
}
