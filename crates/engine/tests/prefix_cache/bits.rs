//! What is found can be gone on from with the bits of a prompt that is read anew.

use lossy_engine::prefix_cache::{Known, PrefixCache};
use lossy_engine::{CacheOptions, PositionScheme};

use crate::reader::{PAGE, Reader, SCHEMES, cache_options, in_memory, scope};

/// The first prompt's length, and how much of it the second has.
const SHARED: [(usize, &[usize]); 9] = [
    (1, &[0, 1]),
    (2, &[1, 2]),
    (127, &[1, 126, 127]),
    (128, &[5, 127, 128]),
    (129, &[127, 128, 129]),
    (130, &[0, 128, 129, 130]),
    (257, &[64, 255, 256, 257]),
    (300, &[1, 128, 129, 200, 255, 256, 298, 299, 300]),
    (515, &[300, 383, 384, 386, 512, 514, 515]),
];

fn prompts(reader: &Reader, n_first: usize, n_shared: usize) -> Vec<Vec<u32>> {
    let (first, other) = (reader.text(1, n_first), reader.text(2, 700));
    let tails = [0, 1, 2, 3, 40, 128, 200].map(|n| [&first[..n_shared], &other[..n]].concat());
    tails.into_iter().filter(|prompt| !prompt.is_empty()).collect()
}

#[test]
fn prompts_that_share_any_beginning_have_the_bits_of_cold_ones() {
    for scheme in SCHEMES {
        let mut reader = Reader::tiny(scheme);
        let mut n_reused = 0;
        for (n_first, shares) in SHARED {
            for n_shared in shares {
                for (n, prompt) in prompts(&reader, n_first, *n_shared).into_iter().enumerate() {
                    let mut store = in_memory();
                    let first = reader.text(1, n_first);
                    reader.warm(&mut store, &first, 128);
                    let max = [128, 2, 33, 512, 100][n % 5];
                    let found = reader.warm(&mut store, &prompt, max);
                    let what = format!("{scheme}: {n_first} tokens, {n_shared} of {}", prompt.len());
                    assert!(found.logits == reader.cold(&prompt, 128), "{what}, {} found", found.n_found());
                    n_reused += found.n_found();
                    // And a third time, from what the second has left.
                    let again = reader.warm(&mut store, &prompt, 128);
                    assert!(again.logits == found.logits, "{what}, again, {} found", again.n_found());
                    assert!(again.n_found() >= found.n_found(), "{what}");
                }
            }
        }
        assert!(n_reused > 10_000, "{scheme}: {n_reused} tokens were not read again");
    }
}

#[test]
fn a_repeated_prompt_reads_a_token_or_two() {
    const LENGTHS: [usize; 9] = [1, 2, 127, 128, 129, 255, 256, 257, 300];
    // At the end of a page, what a shorter beginning needs of the page before is gone.
    let of_schemes = [
        ("f16", [0, 1, 126, 127, 128, 254, 255, 256, 299]),
        ("k2v2:calibration=none", [0, 1, 126, 127, 128, 254, 0, 256, 299]),
        ("q8", [0, 0, 125, 0, 128, 253, 128, 256, 298]),
    ];
    for (scheme, wanted) in of_schemes {
        let mut reader = Reader::tiny(scheme);
        for (n_prompt, wanted) in LENGTHS.into_iter().zip(wanted) {
            let mut store = in_memory();
            let prompt = reader.text(3, n_prompt);
            assert_eq!(reader.warm(&mut store, &prompt, 128).n_found(), 0);
            assert_eq!(reader.warm(&mut store, &prompt, 128).n_found(), wanted, "{scheme}, {n_prompt}");
        }
    }
}

#[test]
fn a_conversation_reads_each_message_once() {
    for scheme in SCHEMES {
        let mut reader = Reader::tiny(scheme);
        let mut store = in_memory();
        let text = reader.text(4, 1200);
        let mut n_before = 0;
        for n_prompt in [70, 150, 160, 400, 405, 900, 1200] {
            let answer = reader.warm(&mut store, &text[..n_prompt], 128);
            assert!(answer.logits == reader.cold(&text[..n_prompt], 128), "{scheme}, {n_prompt}");
            assert!(answer.n_found() + 2 >= n_before, "{scheme}: {} of {n_before}", answer.n_found());
            n_before = n_prompt;
        }
    }
}

#[test]
fn checkpoints_inside_a_long_prompt_are_places_to_go_on_from() {
    for scheme in ["k2v2:calibration=none", "kivi2"] {
        let mut reader = Reader::tiny(scheme);
        let mut store = in_memory();
        let text = reader.text(5, 1000);
        let mut generation = reader.generation(reader.cache.sequence(), &text);
        let mut cursor = store.cursor(&reader.cache, &reader.scope);
        while generation.n_read() < 896 {
            reader.engine.forward(&mut [generation.item(128)]).unwrap();
            // The client leaves before the end is read.
            store.keep(&mut cursor, generation.sequence(), generation.n_read(), generation.n_read() == 512);
        }
        let mut prompt = text[..700].to_vec();
        prompt.extend(reader.text(6, 30));
        let answer = reader.warm(&mut store, &prompt, 128);
        assert_eq!(answer.n_found(), 512, "{scheme}: behind it there are no twins");
        assert!(answer.logits == reader.cold(&prompt, 128));
    }
}

#[test]
fn sequences_share_what_they_found_and_neither_sees_what_the_other_adds() {
    for scheme in SCHEMES {
        let mut reader = Reader::tiny(scheme);
        let mut store = in_memory();
        let text = reader.text(7, 300);
        reader.warm(&mut store, &text, 128);
        let before = reader.engine.budget().bytes_in_use();
        let prompts: Vec<Vec<u32>> =
            (0..3).map(|n| [&text[..290], &reader.text(10 + n, 150)[..]].concat()).collect();
        let found: Vec<_> =
            prompts.iter().map(|prompt| store.find(&reader.cache, &reader.scope, prompt)).collect();
        assert_eq!(reader.engine.budget().bytes_in_use(), before, "pages are shared");
        let mut generations: Vec<_> = found
            .into_iter()
            .zip(&prompts)
            .map(|(found, prompt)| {
                assert_eq!(found.n_ram, 290);
                reader.generation(found.sequence, prompt)
            })
            .collect();
        let mut logits = vec![Vec::new(); 3];
        while logits.iter().any(Vec::is_empty) {
            let mut items: Vec<_> = generations.iter_mut().map(|generation| generation.item(128)).collect();
            let rows = reader.engine.forward(&mut items).unwrap();
            for (n, logits) in logits.iter_mut().enumerate().filter(|(_, logits)| logits.is_empty()) {
                logits.extend(rows.of_item(n).iter().map(|logit| logit.to_bits()));
            }
        }
        for (prompt, logits) in prompts.iter().zip(logits) {
            assert!(logits == reader.cold(prompt, 128), "{scheme}");
        }
    }
}

#[test]
fn moved_positions_and_exact_prefill_have_the_same_bits_too() {
    let positions = |name: &str, scheme: &str| CacheOptions {
        positions: name.parse::<PositionScheme>().unwrap(),
        ..cache_options(scheme)
    };
    let all = [
        positions("self-extend:group=4,window=128", "f16"),
        positions("dca:chunk=256", "k2v2:calibration=none"),
        CacheOptions { exact_prefill: true, ..cache_options("k2v2:calibration=none") },
    ];
    for options in all {
        let mut reader = Reader::real(&options);
        let mut store = in_memory();
        let text = reader.text(8, 560);
        reader.warm(&mut store, &text[..530], 128);
        for n_shared in [1, 129, 300, 511, 512, 529] {
            let prompt = [&text[..n_shared], &reader.text(9 + n_shared, 30)[..]].concat();
            let answer = reader.warm(&mut store, &prompt, 100);
            assert!(answer.logits == reader.cold(&prompt, 128), "{options:?}, {n_shared}");
            assert!(n_shared < 512 || answer.n_found() >= 512, "{options:?}, {n_shared}");
        }
    }
}

#[test]
fn generated_pages_are_as_good_as_a_prompts_where_the_cache_computes_alike() {
    for scheme in ["f16", "k2v2:calibration=none"] {
        let mut reader = Reader::tiny(scheme);
        let mut store = in_memory();
        let prompt = reader.text(11, 120);
        let mut generation = reader.generation(reader.cache.sequence(), &prompt);
        let mut cursor = store.cursor(&reader.cache, &reader.scope);
        for _ in 0..200 {
            reader.engine.advance(&mut [(&mut generation, 128)]).unwrap();
            let n_tokens = generation.sequence().len();
            store.keep(&mut cursor, generation.sequence(), n_tokens, false);
            if generation.is_done() {
                break;
            }
        }
        store.keep(&mut cursor, generation.sequence(), usize::MAX, true);
        let next = [generation.sequence().tokens(), &[5, 6, 7]].concat();
        let answer = reader.warm(&mut store, &next, 128);
        assert_eq!(answer.n_found(), next.len() - 3, "{scheme}");
        assert!(answer.logits == reader.cold(&next, 128), "{scheme}");
    }
}

#[test]
fn scopes_schemes_and_position_maps_are_apart() {
    let mut reader = Reader::real(&cache_options("f16"));
    let mut store = in_memory();
    let text = reader.text(12, 300);
    reader.warm(&mut store, &text, 128);
    let n_found = |store: &mut PrefixCache, reader: &Reader| {
        store.find(&reader.cache, &reader.scope, &text).sequence.len()
    };
    assert_eq!(n_found(&mut store, &reader), 299);
    reader.scope = scope("somebody else");
    assert_eq!(n_found(&mut store, &reader), 0);
    reader.scope = scope("somebody");
    let others = [
        cache_options("f32"),
        cache_options("q8"),
        CacheOptions { positions: "self-extend:group=4,window=128".parse().unwrap(), ..cache_options("f16") },
        CacheOptions { start_position: 5, ..cache_options("f16") },
    ];
    for options in others {
        reader.cache = reader.engine.cache(&options).unwrap();
        assert_eq!(n_found(&mut store, &reader), 0, "{options:?}");
    }
    reader.cache = reader.engine.cache(&cache_options("f16")).unwrap();
    assert_eq!(n_found(&mut store, &reader), 299, "the same setting again");
}

#[test]
fn why_a_prompt_was_not_found_can_be_told() {
    let mut reader = Reader::tiny("k2v2:calibration=none");
    let mut store = in_memory();
    let text = reader.text(13, 600);
    let explain = |store: &PrefixCache, reader: &Reader, tokens: &[u32]| {
        store.explain(&reader.cache, &reader.scope, tokens)
    };
    assert_eq!(explain(&store, &reader, &text), Known { n_here: 0, n_seen: 0 });
    reader.warm(&mut store, &text, 128);
    assert_eq!(explain(&store, &reader, &text), Known { n_here: 600, n_seen: 600 });
    let changed = [&text[..530], &reader.text(14, 300)[..]].concat();
    assert_eq!(explain(&store, &reader, &changed), Known { n_here: 530, n_seen: 530 });
    store.make_room(usize::MAX);
    assert_eq!((store.bytes(), store.bytes_idle()), (0, 0));
    assert_eq!(explain(&store, &reader, &text), Known { n_here: 0, n_seen: 4 * PAGE });
    store.purge(Some(&reader.scope)).unwrap();
    assert_eq!(explain(&store, &reader, &text), Known { n_here: 0, n_seen: 0 });
}
