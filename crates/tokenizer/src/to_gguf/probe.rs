//! A text that both tokenizers must read alike.

use super::not_in_gguf;
use crate::{EncodeOptions, Tokenizer, TokenizerError};

/// What tokenizers differ in: contractions, digits, runs of spaces, line ends, scripts, marks that compose, what no table has.
const TEXTS: [&str; 8] = [
    "",
    " ",
    "I'm sure they'LL say it's WE'D've; don't you? 'tis (so-called) \"quoted\" … – — ¿qué?",
    "0 7 42 365 1024 65536 1234567 3.14159 1,000,000 ½ ² ٣٤٥ २३ Ⅷ x2y 10th",
    "  two\n\n\nthree   \t\ttabs\r\n    fn main() { let x = a[i]+=1; }  // end   \n ",
    "Ünïcödé cafe\u{301} Ångström ｆｕｌｌ ǅ ʰ naïve ﬁ Straße ΣΊΣΥΦΟΣ привет мир שלום مرحبا नमस्ते ไทย 한국어 日本語ひらがな 中文字符",
    "🙂👩\u{200d}👩\u{200d}👧🏽 \u{a0}nbsp \u{3000}wide \u{200b}zero \u{0}nul \u{feff}bom \u{fffd}",
    "https://example.org/a_b?c=d&e=%20#f <tag attr='v'>$100</tag> `code` **bold** \\n {{x}} ~~~ ===== a.b.c@d.e ▁under ▁▁",
];

/// Fails where the two differ. `added`: the texts of tokens that are found before words are cut.
///
/// # Errors
/// A text has other tokens in the one than in the other.
pub(super) fn compare(
    original: &Tokenizer,
    written: &Tokenizer,
    added: &[String],
) -> Result<(), TokenizerError> {
    let mut texts: Vec<String> = TEXTS.map(str::to_owned).to_vec();
    texts.extend(added.iter().map(|token| format!("a{token}b {token} {token}{token}\n{token} 1")));
    for text in &texts {
        for (add_special, parse_special) in [(true, true), (true, false), (false, true), (false, false)] {
            let options = EncodeOptions { add_special, parse_special };
            let [wanted, found] = [original, written].map(|tokenizer| tokenizer.encode(text, options));
            let (wanted, found) = (wanted?, found?);
            if wanted != found {
                let at = wanted.iter().zip(&found).take_while(|(wanted, found)| wanted == found).count();
                let [wanted, found] = [(original, wanted), (written, found)].map(|(tokenizer, ids)| {
                    let texts = ids[at..].iter().take(6).filter_map(|&id| tokenizer.token_text(id));
                    format!("{:?}", texts.collect::<Vec<_>>())
                });
                return Err(not_in_gguf(format!(
                    "of the text {text:?}, after {at} tokens, the tokenizer makes {wanted}, and as GGUF it would make {found}"
                )));
            }
        }
    }
    Ok(())
}
