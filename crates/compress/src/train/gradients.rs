//! The way of a step's windows through student and back, and the gradient of all that is trained.

use lossy_kernels::Compute;
use lossy_kernels::dense::{Into, View, ViewMut, product};

use crate::block::{Gradient, Projection};
use crate::lessons::{Lessons, compare, rows_of_both};
use crate::network::{Head, Network, OUTPUT_NORM};
use crate::student::{Adapter, Student};
use crate::weights::{WeightError, WeightSource};

/// One window on its way.
struct Work<'a> {
    /// the teacher's last hidden states
    teacher: &'a [f32],
    n_tokens: usize,
    /// the student's residual stream before each block, and behind the last
    inputs: Vec<Vec<f32>>,
    d_x: Vec<f32>,
    d_norm: Vec<f32>,
    kl: f64,
    /// gradients of what a block trains, by name
    found: Vec<(String, Vec<f32>)>,
}

/// The student's way forward, the divergence of its predictions, and the gradient of its last hidden states.
fn forward<'a>(
    cx: &Compute,
    network: &Network<'_, f32>,
    lessons: &'a Lessons<'_>,
    batch: &[usize],
) -> Result<Vec<Work<'a>>, WeightError> {
    let start = |&window: &usize| {
        let tokens = lessons.windows()[window];
        Ok(Work {
            teacher: lessons.hidden(window),
            n_tokens: tokens.len(),
            inputs: vec![network.embed(tokens)?],
            d_x: Vec::new(),
            d_norm: vec![0.0; network.info().n_embd],
            kl: 0.0,
            found: Vec::new(),
        })
    };
    let mut works = batch.iter().map(start).collect::<Result<Vec<Work<'_>>, WeightError>>()?;
    for layer in 0..network.info().n_layers {
        let block = network.block(layer)?;
        cx.pool.run_mut(&mut works, |_, work| {
            let mut x = work.inputs[layer].clone();
            block.forward(network.rotations(), &mut x);
            work.inputs.push(x);
        });
    }
    let (ours, theirs) = (network.head()?, lessons.head()?);
    cx.pool.run_mut(&mut works, |_, work| work.compare(&ours, &theirs));
    Ok(works)
}

impl Work<'_> {
    fn compare(&mut self, ours: &Head<f32>, theirs: &Head<f32>) {
        let last = self.inputs.pop().unwrap_or_default();
        for (x, teacher) in rows_of_both(self.n_tokens, &last, self.teacher) {
            let mut logits = ours.logits(x);
            self.kl += compare(&theirs.logits(teacher), &mut logits, ours.n_vocab());
            self.d_x.extend(ours.backward(x, &logits, &mut self.d_norm));
        }
    }
}

/// The mean divergence of some windows, and the gradient of all that is trained, in the order of the student's parameters.
pub(super) fn gradients(
    cx: &Compute,
    student: &Student<'_>,
    lessons: &Lessons<'_>,
    batch: &[usize],
) -> Result<(f64, Vec<Vec<f64>>), WeightError> {
    let lengths = || batch.iter().map(|&window| lessons.windows()[window].len());
    let network = Network::<f32>::new(student, lengths().max().unwrap_or(0))?;
    let n_total = lengths().sum::<usize>() as f64;
    let mut works = forward(cx, &network, lessons, batch)?;
    let names: Vec<String> = student.parameter_names().collect();
    let mut sums: Vec<Vec<f64>> = student.parameters().map(|values| vec![0.0; values.len()]).collect();
    for work in &mut works {
        work.found.push((OUTPUT_NORM.to_owned(), std::mem::take(&mut work.d_norm)));
    }
    add(&names, &mut sums, &mut works, n_total);
    for layer in (0..network.info().n_layers).rev() {
        let block = network.block(layer)?;
        cx.pool.run_mut(&mut works, |_, work| {
            let Work { inputs, d_x, found, .. } = work;
            let x = inputs.pop().unwrap_or_default();
            let tape = block.forward(network.rotations(), &mut x.clone());
            block.backward(network.rotations(), &x, tape, d_x, &mut |gradient| match gradient {
                Gradient::Norm { norm, gradient } => found.push((norm.weight(layer), gradient.to_vec())),
                Gradient::Output { projection, input, gradient } => {
                    let output = Output { projection, layer, input, gradient };
                    output.gradients(student, block.weight(projection), found);
                }
            });
        });
        add(&names, &mut sums, &mut works, n_total);
    }
    Ok((works.iter().map(|work| work.kl).sum::<f64>() / n_total, sums))
}

/// What comes by on the way back through a matrix.
struct Output<'a> {
    projection: Projection,
    layer: usize,
    /// `[n_tokens, columns]`
    input: &'a [f32],
    /// `[n_tokens, rows]`
    gradient: &'a [f32],
}

impl Output<'_> {
    /// The gradients of all that is trained of the matrix and its bias, by name.
    fn gradients(&self, student: &Student<'_>, weight: &[f32], found: &mut Vec<(String, Vec<f32>)>) {
        let (name, bias) = (self.projection.weight(self.layer), self.projection.bias(self.layer));
        let [n_out, n_in] = self.projection.shape(student.info());
        if student.vectors.contains_key(&bias) {
            found.push((bias, column_sums(self.gradient, n_out)));
        }
        if let Some(adapter) = student.adapters.get(&name) {
            found.extend(Adapter::names(&name).into_iter().zip(adapter.gradients(self.input, self.gradient)));
        }
        let factors = student.factors.get(&name);
        if factors.is_none() && !student.matrices.contains_key(&name) {
            return;
        }
        let mut d_weight = vec![0.0; n_out * n_in];
        let d_y = View::rows(self.gradient, n_out).transposed();
        product(Into::Set, ViewMut::rows(&mut d_weight, n_in), d_y, View::rows(self.input, n_in));
        let own = factors.map(|factors| factors.gradient(weight, &d_weight));
        found.push((name, own.unwrap_or(d_weight)));
    }
}

fn column_sums(rows: &[f32], n: usize) -> Vec<f32> {
    let mut sums = vec![0.0; n];
    for row in rows.chunks_exact(n) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    sums
}

/// Adds what windows found, in their order, and forgets it.
fn add(names: &[String], sums: &mut [Vec<f64>], works: &mut [Work<'_>], n_total: f64) {
    for (name, gradient) in works.iter_mut().flat_map(|work| work.found.drain(..)) {
        if let Some(at) = names.iter().position(|known| *known == name) {
            sums[at].iter_mut().zip(&gradient).for_each(|(sum, &g)| *sum += f64::from(g) / n_total);
        }
    }
}
