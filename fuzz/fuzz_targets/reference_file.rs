//! Any bytes, taken for the predictions in a file of `lossy measure --reference` whose checksum is right: an error, or
//! predictions that can be compared with.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lossy_eval::RowSummary;
use lossy_eval::divergence::{Origin, OriginKey, SavedReference};
use sha2::{Digest, Sha256};

const N_VOCAB: usize = 64;

fuzz_target!(|data: &[u8]| {
    let Some((&n_scored, body)) = data.split_first() else { return };
    let origin = Origin {
        what: OriginKey {
            model_hash: String::new(),
            setting: "f16".to_string(),
            activations: "q8".to_string(),
            version: String::new(),
            start_position: 0,
            n_vocab: N_VOCAB,
            n_ctx: 8,
            n_scored: n_scored.into(),
            text_hash: String::new(),
        },
        bytes_per_token: 1,
        date: String::new(),
        model: String::new(),
    };
    let header = serde_json::to_vec(&origin).unwrap();
    let mut file = b"LOSSYREF".to_vec();
    file.extend((header.len() as u32).to_le_bytes());
    file.extend(header);
    file.extend(body);
    let digest = Sha256::digest(&file);
    file.extend(digest.as_slice());
    let Ok(kept) = SavedReference::load(&file[..], &origin.what) else { return };
    assert_eq!(kept.predictions.len(), usize::from(n_scored));
    let found = [0.0; N_VOCAB];
    let summary = RowSummary::of(&found).unwrap();
    for row in &kept.predictions {
        row.kl_divergence(&found, &summary);
    }
});
