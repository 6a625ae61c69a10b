# Short ways to what .ci/run does; `just` lists them.

_list:
    @just --list --unsorted

# Fetch what the tests need: models, clients of other people, a suite of schemas.
models:
    python3 tools/fetch_for_tests.py

# All tests, as in the README.
test: models
    cargo test --release --workspace --locked

# What is quick: formatting, rules of the tree, lints.
check:
    cargo fmt --all --check
    python3 tools/check_tree.py
    python3 tools/make_measurements.py --check
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Everything that a change must pass.
ci:
    .ci/run

# Speed on this machine, like llama-bench.
bench *ARGS:
    cargo run --release -- bench {{ARGS}}

# Speed beside llama.cpp and OpenVINO; builds both on first use.
peers MODEL="smollm2" *ARGS:
    cargo build --release
    python3 bench/peers/run.py --model {{MODEL}} {{ARGS}}

# Distance from the reference on the golden texts.
accuracy MODEL="smollm2" *ARGS:
    cargo build --release
    python3 tools/golden_accuracy.py --model {{MODEL}} {{ARGS}}

# Licences, advisories and sources of all dependencies (needs cargo-deny).
deny:
    cargo deny check

# Kernel tests on a CPU with AVX2 and on one without, both of QEMU (needs qemu-user).
emulate:
    LOSSY_REQUIRE_ISA=avx2 CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="qemu-x86_64 -cpu max" cargo test --release --locked -p lossy-kernels --lib
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="qemu-x86_64 -cpu Nehalem" cargo test --release --locked -p lossy-kernels --lib

# Every interleaving of the thread pool's steps, by loom.
loom:
    RUSTFLAGS="--cfg loom" cargo test --release --locked -p lossy-kernels --lib --target-dir target/loom threads::

# Undefined behaviour in number formats, parsers, threads and scalar kernels, by Miri (needs nightly Rust with miri).
miri $MIRIFLAGS="-Zmiri-disable-isolation":
    cargo +nightly miri test --locked -p lossy-quant --lib
    cargo +nightly miri test --locked -p lossy-formats --lib -- gguf:: hf::
    cargo +nightly miri test --locked -p lossy-kernels --lib -- threads:: memory:: matmul::tests::several matmul::tests::rows \
        attention::tests::a_prompt attention::tests::what kv::tests::queries elementwise::tests::rope
