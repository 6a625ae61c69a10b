//! Statistics against sums as they are defined, in float64; their bits at any number of threads.

use lossy_compress::block::{Block, Projection};
use lossy_compress::network::Network;
use lossy_compress::statistics::{
    Input, LayerStatistics, StatisticsError, StatisticsOptions, collect, windows,
};
use lossy_compress::weights::WeightError;
use lossy_engine::ModelSource;
use lossy_testkit::{Fnv, TestModel, testdata};

fn statistics(source: &ModelSource, windows: &[&[u32]], n_threads: usize) -> Vec<LayerStatistics> {
    let mut all = Vec::new();
    let options = StatisticsOptions { moments: true, n_threads };
    let mut each = |layer| -> Result<(), StatisticsError> {
        all.push(layer);
        Ok(())
    };
    collect(source, windows, options, &mut each).unwrap();
    all
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n).map(|i| (i * i * 7 + i / 3) as u32 % 80).collect()
}

#[test]
fn sums_are_those_of_float64_token_by_token() {
    let source = ModelSource::open(&testdata().join("tiny/qwen3")).unwrap();
    let tokens = tokens(9 * 50);
    let windows: Vec<&[u32]> = tokens.chunks(50).collect();
    let found = statistics(&source, &windows, 2);
    let network = Network::<f64>::new(&source, 50).unwrap();
    let mut states: Vec<Vec<f64>> = windows.iter().map(|window| network.embed(window).unwrap()).collect();
    assert_eq!(found.len(), source.info().n_layers);
    for (layer, found) in found.iter().enumerate() {
        let block = Block::<f64>::load(&source, layer).unwrap();
        let tapes: Vec<_> =
            states.iter_mut().map(|state| block.forward(network.rotations(), state)).collect();
        for (matrix, projection) in found.matrices.iter().zip(Projection::ALL) {
            let n = projection.shape(source.info())[1];
            let rows = || tapes.iter().flat_map(|tape| tape.input(projection).chunks_exact(n));
            assert_eq!((matrix.n_tokens, &matrix.name), (rows().count(), &projection.weight(layer)));
            for (col, &found) in matrix.sum_x2.iter().enumerate() {
                let wanted: f64 = rows().map(|row| row[col] * row[col]).sum();
                assert!((f64::from(found) / wanted - 1.0).abs() < 1e-5, "{}: {found} {wanted}", matrix.name);
            }
            let Some(moments) = found.moments.iter().find(|m| m.input.projections()[0] == projection) else {
                continue;
            };
            for (a, b) in (0..n).flat_map(|a| (0..n).map(move |b| (a, b))) {
                let wanted: f64 = rows().map(|row| row[a] * row[b]).sum();
                let size = f64::from(matrix.sum_x2[a] * matrix.sum_x2[b]).sqrt();
                let error = (f64::from(moments.sums[a * n + b]) - wanted).abs();
                assert!(error < 1e-5 * size, "{} {a} {b}", matrix.name);
            }
        }
        assert_eq!(found.moments.iter().map(|m| m.input).collect::<Vec<_>>(), Input::ALL);
    }
}

/// Ends a collection.
enum Enough {
    Reached,
    Weights(WeightError),
}

impl From<WeightError> for Enough {
    fn from(error: WeightError) -> Enough {
        Enough::Weights(error)
    }
}

#[test]
fn the_bits_are_the_same_at_any_number_of_threads_and_an_error_of_the_caller_ends_it() {
    let source = ModelSource::open(&TestModel::SmolLm2.path()).unwrap();
    let golden = TestModel::SmolLm2.golden();
    let tokens: Vec<u32> = golden.iter().flat_map(|golden| golden.ids.iter().copied()).take(300).collect();
    let windows: Vec<&[u32]> = tokens.chunks(60).collect();
    let hash = |n_threads| {
        let (mut hash, mut n_layers) = (Fnv::default(), 0);
        let mut each = |layer: LayerStatistics| {
            layer.matrices.iter().for_each(|matrix| hash.floats(&matrix.sum_x2));
            layer.moments.iter().for_each(|moments| hash.floats(&moments.sums));
            n_layers += 1;
            if n_layers == 2 { Err(Enough::Reached) } else { Ok(()) }
        };
        let options = StatisticsOptions { moments: true, n_threads };
        let ended = collect(&source, &windows, options, &mut each);
        match ended {
            Err(Enough::Reached) => {}
            Err(Enough::Weights(error)) => panic!("{error}"),
            Ok(()) => panic!("it went on"),
        }
        assert_eq!(n_layers, 2);
        hash.finish()
    };
    let one = hash(1);
    assert_eq!((hash(2), hash(3)), (one, one));
}

#[test]
fn too_few_tokens_are_an_error_with_both_numbers() {
    let error = windows(&tokens(2047)).unwrap_err().to_string();
    assert!(error.contains("has 2047 tokens, but at least 2048"), "{error}");
    assert_eq!(windows(&tokens(2048)).unwrap().len(), 4);
    assert_eq!(windows(&tokens(2600)).unwrap().len(), 5);
}
