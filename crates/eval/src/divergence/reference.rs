//! All predictions of a reference in a file, so that other settings can be compared with it on another day.
//!
//! ```text
//! 8       LOSSYREF
//! 4 n     length of the header, and the header: JSON, an [`Origin`]
//! rows    each: top u32, nll f64, rest f64, n_head u16, n_sample u16, (token u32, ln p f32) × (n_head + n_sample)
//! 32      SHA-256 of everything before
//! ```
//! Numbers are little-endian. A row takes some 2.3 kB, whatever the vocabulary; see [`SavedPrediction`] for what it holds.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{LogProb, SavedPrediction};

const MAGIC: &[u8; 8] = b"LOSSYREF";
const DIGEST_BYTES: usize = 32;

/// What predictions are of. Two origins with the same [`what`](Origin::what) have the same predictions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// what decides about the predictions
    #[serde(flatten)]
    pub what: OriginKey,
    /// of the reference's cache
    pub bytes_per_token: usize,
    /// when, UTC
    pub date: String,
    /// the model's file
    pub model: String,
}

/// What decides about predictions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginKey {
    /// what tells the model from others, in hexadecimal digits
    pub model_hash: String,
    /// the reference
    pub setting: String,
    /// `q8` or `f32`
    pub activations: String,
    /// version of the program
    pub version: String,
    /// position of the first token of every window
    pub start_position: usize,
    /// columns of the logits
    pub n_vocab: usize,
    /// tokens of a window
    pub n_ctx: usize,
    /// predictions that count
    pub n_scored: usize,
    /// SHA-256 of the windows: their tokens, and which predictions count
    pub text_hash: String,
}

/// The predictions of a reference.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedReference {
    /// what they are of
    pub origin: Origin,
    /// one for each prediction that counts, in the order of the text
    pub predictions: Vec<SavedPrediction>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// the disk
    #[error(transparent)]
    Io(#[from] io::Error),
    /// another kind of file
    #[error("it has no predictions of a reference: it does not begin with LOSSYREF")]
    Foreign,
    /// bytes that are not what was written
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// predictions of something else
    #[error("it is of another reference: its {what} is {found}, but {wanted} is measured")]
    Other {
        /// which property
        what: &'static str,
        /// in the file
        found: String,
        /// what is needed
        wanted: String,
    },
}

impl OriginKey {
    /// Fails, with the first property that differs, unless this is `wanted`.
    ///
    /// # Errors
    /// Something differs.
    pub fn check(&self, wanted: &OriginKey) -> Result<(), ReferenceError> {
        let short = |hash: &str| hash.get(..16).unwrap_or(hash).to_string();
        let properties = [
            ("model", short(&self.model_hash), short(&wanted.model_hash)),
            ("setting", self.setting.clone(), wanted.setting.clone()),
            ("kind of activations", self.activations.clone(), wanted.activations.clone()),
            ("program's version", self.version.clone(), wanted.version.clone()),
            ("first position", self.start_position.to_string(), wanted.start_position.to_string()),
            ("vocabulary", self.n_vocab.to_string(), wanted.n_vocab.to_string()),
            ("context length", self.n_ctx.to_string(), wanted.n_ctx.to_string()),
            ("number of predictions", self.n_scored.to_string(), wanted.n_scored.to_string()),
            ("text", short(&self.text_hash), short(&wanted.text_hash)),
        ];
        match properties.into_iter().find(|(_, found, wanted)| found != wanted) {
            Some((what, found, wanted)) => Err(ReferenceError::Other { what, found, wanted }),
            None => Ok(()),
        }
    }
}

impl SavedReference {
    /// Writes it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn save(&self, mut out: impl Write) -> io::Result<()> {
        let header = serde_json::to_vec(&self.origin)?;
        let mut hash = Sha256::new();
        let mut put = |bytes: &[u8]| {
            hash.update(bytes);
            out.write_all(bytes)
        };
        put(MAGIC)?;
        put(&(header.len() as u32).to_le_bytes())?;
        put(&header)?;
        for row in &self.predictions {
            put(&row.top.to_le_bytes())?;
            put(&row.nll.to_le_bytes())?;
            put(&row.rest.to_le_bytes())?;
            put(&(row.head.len() as u16).to_le_bytes())?;
            put(&(row.sample.len() as u16).to_le_bytes())?;
            for saved in row.head.iter().chain(&row.sample) {
                put(&saved.token.to_le_bytes())?;
                put(&saved.log_prob.to_le_bytes())?;
            }
        }
        let digest = hash.finalize();
        out.write_all(&digest)
    }

    /// Reads it.
    ///
    /// # Errors
    /// The file is another one, damaged, or of another reference than `wanted`.
    pub fn load(mut input: impl Read, wanted: &OriginKey) -> Result<SavedReference, ReferenceError> {
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes)?;
        let rest = bytes.strip_prefix(MAGIC).ok_or(ReferenceError::Foreign)?;
        let end = rest.len().checked_sub(DIGEST_BYTES).ok_or(ReferenceError::Damaged("it is cut off"))?;
        let (body, digest) = rest.split_at(end);
        if Sha256::new().chain_update(MAGIC).chain_update(body).finalize().as_slice() != digest {
            return Err(ReferenceError::Damaged("the checksum is another one"));
        }
        let mut cursor = Cursor(body);
        let header_bytes = cursor.u32()? as usize;
        let header = cursor.take(header_bytes)?;
        let origin: Origin = serde_json::from_slice(header)
            .map_err(|_| ReferenceError::Damaged("the header is not what this version writes"))?;
        origin.what.check(wanted)?;
        let mut predictions = Vec::new();
        while !cursor.0.is_empty() {
            predictions.push(cursor.row(wanted.n_vocab)?);
        }
        if predictions.len() != wanted.n_scored {
            return Err(ReferenceError::Damaged("it has another number of predictions than it says"));
        }
        Ok(SavedReference { origin, predictions })
    }
}

/// What float32 sums over a vocabulary may be wrong by.
const ROUNDING: f64 = 1e-5;

const NOT_A_PROBABILITY: ReferenceError = ReferenceError::Damaged("a number in it is no probability");

/// Of a token that is impossible it is −∞.
fn is_log_prob(value: f64) -> bool {
    value <= ROUNDING
}

/// What has not been read yet.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], ReferenceError> {
        let (taken, rest) =
            self.0.split_at_checked(n).ok_or(ReferenceError::Damaged("it ends in the middle"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReferenceError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, ReferenceError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<usize, ReferenceError> {
        Ok(u16::from_le_bytes(self.array()?).into())
    }

    fn f64(&mut self) -> Result<f64, ReferenceError> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    fn token(&mut self, n_vocab: usize) -> Result<u32, ReferenceError> {
        let token = self.u32()?;
        if (token as usize) < n_vocab {
            Ok(token)
        } else {
            Err(ReferenceError::Damaged("a token is not in the vocabulary"))
        }
    }

    fn log_probs(&mut self, n: usize, n_vocab: usize) -> Result<Vec<LogProb>, ReferenceError> {
        let one = |_| -> Result<LogProb, ReferenceError> {
            let saved = LogProb { token: self.token(n_vocab)?, log_prob: f32::from_le_bytes(self.array()?) };
            is_log_prob(saved.log_prob.into()).then_some(saved).ok_or(NOT_A_PROBABILITY)
        };
        (0..n).map(one).collect()
    }

    fn row(&mut self, n_vocab: usize) -> Result<SavedPrediction, ReferenceError> {
        let (top, nll, rest) = (self.token(n_vocab)?, self.f64()?, self.f64()?);
        if !is_log_prob(-nll) || !(0.0..=1.0 + ROUNDING).contains(&rest) {
            return Err(NOT_A_PROBABILITY);
        }
        let (n_head, n_sample) = (self.u16()?, self.u16()?);
        let head = self.log_probs(n_head, n_vocab)?;
        let sample = self.log_probs(n_sample, n_vocab)?;
        // What is impossible is never drawn.
        if sample.iter().any(|saved| saved.log_prob == f32::NEG_INFINITY) {
            return Err(NOT_A_PROBABILITY);
        }
        Ok(SavedPrediction { top, nll, rest, head, sample })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> SavedReference {
        let saved = |token| LogProb { token, log_prob: -1.5 };
        let row = |top| SavedPrediction {
            top,
            nll: 0.25,
            rest: 0.1,
            head: vec![saved(top), saved(9)],
            sample: vec![saved(4)],
        };
        SavedReference {
            origin: Origin {
                what: OriginKey {
                    model_hash: "0123456789abcdef0123".to_string(),
                    setting: "f16".to_string(),
                    activations: "q8".to_string(),
                    version: "1".to_string(),
                    start_position: 0,
                    n_vocab: 10,
                    n_ctx: 64,
                    n_scored: 2,
                    text_hash: "00".to_string(),
                },
                bytes_per_token: 160,
                date: "2026-01-01".to_string(),
                model: "toy.gguf".to_string(),
            },
            predictions: vec![row(1), row(2)],
        }
    }

    fn file() -> Vec<u8> {
        let mut file = Vec::new();
        reference().save(&mut file).unwrap();
        file
    }

    /// With a checksum that is right again.
    fn sealed(body: &[u8]) -> Vec<u8> {
        [body, Sha256::digest(body).as_slice()].concat()
    }

    #[test]
    fn what_is_written_is_read() {
        let wanted = reference();
        assert_eq!(SavedReference::load(&file()[..], &wanted.origin.what).unwrap(), wanted);
    }

    #[test]
    fn a_file_that_is_cut_or_changed_anywhere_is_an_error() {
        let (file, what) = (file(), reference().origin.what);
        for end in 0..file.len() {
            assert!(SavedReference::load(&file[..end], &what).is_err(), "{end}");
            let mut changed = file.clone();
            changed[end] ^= 1;
            assert!(SavedReference::load(&changed[..], &what).is_err(), "{end}");
        }
    }

    #[test]
    fn a_body_that_does_not_hold_together_is_an_error_also_with_a_right_checksum() {
        let (file, what) = (file(), reference().origin.what);
        let body = &file[..file.len() - DIGEST_BYTES];
        for end in 0..body.len() {
            assert!(SavedReference::load(&sealed(&body[..end])[..], &what).is_err(), "{end}");
        }
        let mut foreign = body.to_vec();
        let last_token = body.len() - 8;
        foreign[last_token] = 10;
        let error = SavedReference::load(&sealed(&foreign)[..], &what).unwrap_err().to_string();
        assert!(error.contains("not in the vocabulary"), "{error}");
    }

    /// Somebody who changes a file can also make its checksum right.
    #[test]
    fn whatever_byte_is_changed_what_is_read_can_be_compared_with() {
        let (file, what) = (file(), reference().origin.what);
        let body = &file[..file.len() - DIGEST_BYTES];
        let found = [0.5; 10];
        let summary = crate::RowSummary::of(&found).unwrap();
        let mut n_read = 0;
        for at in 0..body.len() {
            for bits in [0x01, 0x02, 0x10, 0x40, 0x80, 0xff] {
                let mut changed = body.to_vec();
                changed[at] ^= bits;
                let Ok(saved) = SavedReference::load(&sealed(&changed)[..], &what) else { continue };
                n_read += 1;
                for row in &saved.predictions {
                    assert!(!row.kl_divergence(&found, &summary).value.is_nan(), "byte {at}");
                }
            }
        }
        assert!(n_read > 100, "{n_read}: nothing was compared");
    }

    #[test]
    fn numbers_that_are_no_probabilities_are_an_error() {
        let with = |change: fn(&mut SavedPrediction)| {
            let mut wrong = reference();
            change(&mut wrong.predictions[1]);
            let mut file = Vec::new();
            wrong.save(&mut file).unwrap();
            SavedReference::load(&file[..], &wrong.origin.what).map_err(|error| error.to_string())
        };
        let changes: [fn(&mut SavedPrediction); 7] = [
            |row| row.nll = f64::NAN,
            |row| row.nll = -1.0,
            |row| row.rest = -0.1,
            |row| row.rest = f64::INFINITY,
            |row| row.head[0].log_prob = f32::NAN,
            |row| row.sample[0].log_prob = 1.0,
            |row| row.sample[0].log_prob = f32::NEG_INFINITY,
        ];
        for change in changes {
            assert_eq!(with(change).unwrap_err(), "it is damaged: a number in it is no probability");
        }
        assert!(with(|row| row.nll = f64::INFINITY).is_ok(), "a token that was impossible");
    }

    type Change = fn(&mut OriginKey);

    #[test]
    fn whatever_alone_makes_it_another_reference_is_named_with_both_values() {
        let changes: [(Change, &str); 9] = [
            (|key| key.model_hash = "fedc".to_string(), "its model is 0123456789abcdef, but fedc"),
            (|key| key.setting = "f32".to_string(), "its setting is f16, but f32"),
            (|key| key.activations = "f32".to_string(), "its kind of activations is q8, but f32"),
            (|key| key.version = "2".to_string(), "its program's version is 1, but 2"),
            (|key| key.start_position = 64, "its first position is 0, but 64"),
            (|key| key.n_vocab = 11, "its vocabulary is 10, but 11"),
            (|key| key.n_ctx = 128, "its context length is 64, but 128"),
            (|key| key.n_scored = 3, "its number of predictions is 2, but 3"),
            (|key| key.text_hash = "01".to_string(), "its text is 00, but 01"),
        ];
        for (change, expected) in changes {
            let mut wanted = reference().origin.what;
            change(&mut wanted);
            let error = SavedReference::load(&file()[..], &wanted).unwrap_err().to_string();
            assert_eq!(error, format!("it is of another reference: {expected} is measured"));
        }
    }
}
