# Short ways to what .ci/run does; `just` lists them.

_list:
    @just --list --unsorted

# Fetch the models that the tests read.
models:
    python3 tools/fetch_test_models.py

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
