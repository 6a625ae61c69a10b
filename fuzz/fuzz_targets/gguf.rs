//! Any bytes, taken for a GGUF file: an error, or tensors of which every byte can be read and computed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lossy_formats::gguf::Gguf;

fuzz_target!(|data: &[u8]| {
    let Ok(model) = Gguf::from_bytes(data) else { return };
    for (key, value) in model.metadata().iter() {
        assert_eq!(model.metadata().get(key).map(|found| found.value_type()), Some(value.value_type()));
    }
    for tensor in model.tensors() {
        let n_values = tensor.shape.iter().product();
        assert_eq!(tensor.dtype.bytes_for(n_values), Some(tensor.bytes.len()));
        assert_eq!(model.tensor(tensor.name).map(|found| found.bytes.as_ptr()), Some(tensor.bytes.as_ptr()));
        if tensor.dtype.is_computable() {
            lossy_quant::dequantize(tensor.dtype, tensor.bytes, &mut vec![0.0; n_values]).unwrap();
        }
    }
});
