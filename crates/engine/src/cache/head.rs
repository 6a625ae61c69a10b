//! The bytes of one head of a page, as a pool knows them: codes, and behind them the sinks of the first page.

use std::cell::RefCell;

use lossy_kernels::Isa;
use lossy_kernels::kv::{ExactHead, ExactHeadMut, HeadF32, Sinks};

use super::KvPool;
use super::code::Place;

thread_local! {
    pub(super) static UNPACKED: RefCell<HeadF32> = RefCell::default();
}

impl KvPool {
    pub(super) fn exact_head<'a>(&self, bytes: &'a [u8]) -> ExactHead<'a> {
        ExactHead::new(self.layout().exact, self.heads().head_dim, bytes)
    }

    /// Bytes of the codes of a head of a packed page; what is behind them are sinks.
    pub(super) fn code_bytes(&self, layer: usize) -> usize {
        self.packed().map_or(0, |packed| packed.codes[layer].bytes_per_head())
    }

    /// Packs a head of a full page, and keeps the sinks if it is the first.
    pub(super) fn pack(&self, isa: Isa, layer: usize, place: Place<'_>, exact: &[u8], packed: &mut [u8]) {
        let Some(layers) = self.packed() else { return };
        let (codes, sinks) = packed.split_at_mut(self.code_bytes(layer));
        let exact = self.exact_head(exact);
        layers.codes[layer].pack(isa, place, exact, codes);
        if layers.has_sinks(place.page) {
            exact.copy_first(layers.sink_capacity(), &mut sinks[..self.sink_bytes()]);
        }
    }

    fn sink_bytes(&self) -> usize {
        let capacity = self.packed().map_or(0, |packed| packed.sink_capacity());
        self.layout().exact.bytes_of_tokens(capacity, self.heads().head_dim)
    }

    /// A packed head's codes, and its sinks if it has any.
    pub(super) fn parts<'a>(
        &self,
        layer: usize,
        page: usize,
        packed: &'a [u8],
    ) -> (&'a [u8], Option<Sinks<'a>>) {
        let (codes, rest) = packed.split_at(self.code_bytes(layer));
        let sinks = self.packed().filter(|layers| layers.has_sinks(page)).map(|layers| {
            let (kv_type, head_dim) = (self.layout().exact, self.heads().head_dim);
            let bytes = &rest[..self.sink_bytes()];
            let head = ExactHead::with_capacity(kv_type, head_dim, layers.sink_capacity(), bytes);
            Sinks { head, n_tokens: layers.sinks }
        });
        (codes, sinks)
    }

    /// What a packed head stands for, sinks as they are.
    pub(super) fn unpack(&self, isa: Isa, layer: usize, place: Place<'_>, packed: &[u8], out: &mut HeadF32) {
        let Some(layers) = self.packed() else { return };
        let (codes, sinks) = self.parts(layer, place.page, packed);
        layers.codes[layer].unpack(isa, place, codes, out);
        if let Some(sinks) = sinks {
            out.copy_from(sinks.head, sinks.n_tokens);
        }
    }

    /// What a packed head stands for, as an exact head.
    pub(super) fn unpack_exact(&self, layer: usize, place: Place<'_>, packed: &[u8], exact: &mut [u8]) {
        UNPACKED.with_borrow_mut(|unpacked| {
            self.unpack(Isa::best(), layer, place, packed, unpacked);
            let head_dim = self.heads().head_dim;
            ExactHeadMut::new(self.layout().exact, head_dim, exact).set_f32(unpacked.head());
        });
    }
}
