//! Who looks on while a batch is computed, or works between its layers.

use crate::cache::Rows;

/// Sees a layer's rotated queries, rotated keys, and values.
pub(crate) type Observe<'a> = dyn FnMut(usize, [Rows<'_>; 3]) + 'a;

/// Who is called while a batch is computed.
#[derive(Default)]
pub(crate) struct Hooks<'a, 'b> {
    /// after the projections of each layer
    pub(crate) observe: Option<&'a mut Observe<'b>>,
    /// after each layer but the last
    pub(crate) between: Option<&'a mut (dyn FnMut() + 'b)>,
}
