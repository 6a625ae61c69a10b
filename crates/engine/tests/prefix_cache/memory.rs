//! What goes when memory is short.

use lossy_engine::prefix_cache::{PrefixCache, PrefixCacheOptions};

use crate::reader::{PAGE, Reader, SCHEMES, in_memory, scope};

#[test]
fn the_least_recently_used_text_goes_first_and_its_end_before_its_beginning() {
    let mut reader = Reader::tiny("k2v2:calibration=none");
    let mut store = in_memory();
    let texts: Vec<Vec<u32>> = (0..3).map(|n| reader.text(20 + n, 5 * PAGE)).collect();
    for text in &texts {
        reader.warm(&mut store, text, 128);
    }
    reader.warm(&mut store, &texts[0], 128);
    let here =
        |store: &PrefixCache, n: usize| store.explain(&reader.cache, &reader.scope, &texts[n]).n_here / PAGE;
    assert_eq!([0, 1, 2].map(|n| here(&store, n)), [5, 5, 5]);
    let mut order = Vec::new();
    let mut before = [5, 5, 5];
    while store.make_room(1) > 0 {
        let now = [0, 1, 2].map(|n| here(&store, n));
        order.extend((0..3).filter(|n| now[*n] < before[*n]));
        assert!(now.iter().zip(before).all(|(now, before)| now + 1 >= before), "one page at a time");
        before = now;
    }
    assert_eq!(order, [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0]);
    assert_eq!(reader.engine.budget().bytes_in_use(), 0);
}

#[test]
fn twins_go_before_pages_and_what_is_left_is_gone_on_from_where_it_can_be() {
    let mut reader = Reader::tiny("k2v2:calibration=none");
    let mut store = in_memory();
    let text = reader.text(30, 650);
    reader.warm(&mut store, &text, 128);
    let page = reader.cache.bytes_per_token() * PAGE;
    // The tail, and the twins of the last page.
    store.make_room(page);
    store.make_room(page);
    assert_eq!(store.explain(&reader.cache, &reader.scope, &text).n_here, 640, "all pages are here");
    let answer = reader.warm(&mut store, &text, 128);
    assert_eq!(answer.n_found(), 0, "but none of them can be gone on from");
    assert!(answer.logits == reader.cold(&text, 128));
    assert_eq!(reader.warm(&mut store, &text, 128).n_found(), 649);
}

#[test]
fn idle_pages_stay_within_their_limit_and_pages_in_use_do_not_count() {
    for scheme in SCHEMES {
        let mut reader = Reader::tiny(scheme);
        let limit = 40 * reader.cache.bytes_per_token() * PAGE;
        let options = PrefixCacheOptions { ram: Some(limit), ..PrefixCacheOptions::default() };
        let mut store = PrefixCache::new(options).unwrap();
        let mut held = Vec::new();
        for n in 0..20 {
            let text = reader.text(40 + n, 1000);
            let (_, sequence) = reader.try_warm(&mut store, &text, 128).unwrap();
            assert!(store.bytes_idle() <= limit);
            if n < 3 {
                held.push((text, sequence));
            }
        }
        let stats = store.stats();
        assert!(stats.n_evicted > 0 && stats.bytes > stats.bytes_idle);
        for (text, _) in &held {
            assert!(store.explain(&reader.cache, &reader.scope, text).n_here >= 896, "{scheme}: in use");
        }
        drop(held);
        store.make_room(usize::MAX);
        assert_eq!(reader.engine.budget().bytes_in_use(), 0);
    }
}

#[test]
fn a_tight_budget_evicts_and_never_breaks_a_running_sequence() {
    for scheme in SCHEMES {
        let budget = {
            let mut reader = Reader::tiny(scheme);
            let text = reader.text(0, 1500);
            let (_, sequence) = reader.try_warm(&mut in_memory(), &text, 128).unwrap();
            2 * sequence.kv_bytes()
        };
        let mut reader = Reader::tiny_within(scheme, Some(budget));
        let mut store = in_memory();
        let mut running: Option<(Vec<u32>, lossy_engine::Sequence)> = None;
        for n in 0..12 {
            let text = reader.text(60 + n % 5, 600 + 37 * n);
            let (answer, sequence) = reader.try_warm(&mut store, &text, 128).unwrap();
            let mut free = Reader::tiny(scheme);
            assert!(answer.logits == free.cold(&text, 128), "{scheme}, text {n}, {} found", answer.n_found());
            // One that was running all the while goes on.
            if let Some((mut before, mut sequence)) = running.take() {
                let more = reader.text(99, 3);
                let needed = sequence.bytes_needed(more.len());
                store.make_room(needed);
                let item = lossy_engine::BatchItem {
                    sequence: &mut sequence,
                    tokens: &more,
                    logits: lossy_engine::Logits::Last,
                };
                let logits = reader.engine.forward(&mut [item]).unwrap().into_values();
                let n_before = before.len();
                before.extend(&more);
                // Its last page is computed in two parts, neither of one token.
                assert_ne!(n_before % PAGE, 1);
                let logits: Vec<u32> = logits.iter().map(|logit| logit.to_bits()).collect();
                assert!(logits == free.cold(&before, 128), "{scheme}, text {n}");
            }
            running = Some((text, sequence));
        }
        assert!(store.stats().n_evicted > 0, "{scheme}: the budget was tight");
    }
}

#[test]
fn purging_a_scope_erases_it_and_no_other() {
    let mut reader = Reader::tiny("q8");
    let mut store = in_memory();
    let text = reader.text(80, 300);
    for name in ["one", "other"] {
        reader.scope = scope(name);
        assert_eq!(reader.warm(&mut store, &text, 128).n_found(), 0);
    }
    let bytes = store.bytes();
    store.purge(Some(&scope("one"))).unwrap();
    assert_eq!(store.bytes(), bytes / 2);
    assert_eq!(store.find(&reader.cache, &scope("one"), &text).sequence.len(), 0);
    assert_eq!(store.find(&reader.cache, &scope("other"), &text).sequence.len(), 298);
    store.purge(None).unwrap();
    assert_eq!((store.bytes(), reader.engine.budget().bytes_in_use()), (0, 0));
}

#[test]
fn keeping_again_costs_nothing_and_stats_say_what_happened() {
    let mut reader = Reader::tiny("f16");
    let mut store = in_memory();
    let text = reader.text(81, 400);
    reader.warm(&mut store, &text, 128);
    let bytes = store.bytes();
    assert_eq!(bytes, 4 * reader.cache.bytes_per_token() * PAGE, "three pages and a tail");
    reader.warm(&mut store, &text, 128);
    let stats = store.stats();
    assert_eq!((stats.bytes, stats.bytes_idle, stats.n_pages), (bytes, bytes, 4));
    assert_eq!((stats.n_hit_ram, stats.n_missed, stats.n_evicted), (399, 401, 0));
}
