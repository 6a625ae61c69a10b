//! Stand-in.
use super::element::{Element, TypedHead};
use super::tile::RowBlock;
use super::{Partial, Tile, TokenQueries, scalar};
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn attend_token<E: Element>(
    h: &TypedHead<'_, E>,
    n: usize,
    t: &mut TokenQueries,
    _next: Option<&[u8]>,
    p: &mut Partial<'_>,
) {
    scalar::attend_token(h, n, t, p)
}
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn load_tile<E: Element>(h: &TypedHead<'_, E>, n: usize, t: &mut Tile) {
    scalar::load_tile(h, n, t)
}
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn attend_tile(b: &mut RowBlock, t: &Tile, first: usize) {
    scalar::attend_tile(b, t, first)
}
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn merge_outputs(state: &mut [f32], keep: f32, partial: &[f32], take: f32) {
    for (o, x) in state.iter_mut().zip(partial) {
        *o = o.mul_add(keep, x * take);
    }
}
