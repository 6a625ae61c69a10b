//! Sequences in files.

use super::*;
use crate::cache::SavedKey;

impl Suite<'_> {
    pub(super) fn a_saved_sequence_is_the_same_when_it_is_restored(&self) {
        let key =
            |model: &str| SavedKey::new(vec![("model", model.to_string()), ("scheme", "x".to_string())]);
        let (key, other_key) = (key("seven"), key("eight"));
        for len in [0, 1, PAGE_TOKENS - 1, PAGE_TOKENS, PAGE_TOKENS + 1, 4 * PAGE_TOKENS + 5] {
            let pool = self.pool(None);
            let tokens: Vec<Token> = (0..len as u64).collect();
            let ids: Vec<u32> = (0..len as u32).collect();
            let mut held = Held::new(&pool);
            self.extend(&self.one, &mut held, &tokens, &[]);
            let mut file = Vec::new();
            held.cache.save(&key, &ids, &mut file).unwrap();

            let other = self.pool(None);
            let (cache, restored) = other.restore(&key, len, &file[..]).unwrap();
            assert_eq!(restored, ids);
            assert_eq!(cache.bytes(), held.cache.bytes());
            let mut again = Held { cache, tokens };
            let wanted = self.extend(&self.one, &mut held, &[50, 51, 52], &[]);
            assert_same(&self.extend(&self.one, &mut again, &[50, 51, 52], &[]), &wanted, "restored");

            let error = |key: &SavedKey, n_ctx, file: &[u8]| {
                other.restore(key, n_ctx, file).expect_err("not as it was saved").to_string()
            };
            // Whatever the context is, since the other error is the one that helps.
            for n_ctx in [len, 0] {
                assert!(error(&other_key, n_ctx, &file).contains("its model is seven, but eight is in use"));
            }
            assert!(error(&key, len, &[&file[..], &[0]].concat()).contains("something follows its end"));
            if len > 0 {
                assert!(error(&key, len - 1, &file).contains("tokens, but the context holds"));
            }
            for cut in [0, 5, 20, 50, file.len() / 2, file.len() - 1] {
                error(&key, len, &file[..cut.min(file.len() - 1)]);
            }
            for wrong in [0, 45, file.len() / 2, file.len() - 33, file.len() - 1] {
                let mut file = file.clone();
                file[wrong] ^= 0x10;
                error(&key, len + 1000, &file);
            }
            drop(again);
            assert_eq!(other.bytes_in_use(), 0, "a refused file leaves nothing");
        }
    }
}
