# make demo          sets up all it needs and scores the flights example
# make demo-text     the same for texts: which sentences of a novel mean the same?
# make demo-images   the same for images: what is in these photos?
# make test          sets up all it needs and passes every test
#
# Needs Rust, Python 3.11 or newer with pip, and a C compiler. ONNX Runtime comes from its PyPI wheel into a cache
# (pinned, hash-checked); the Python packages that the tests compare with go into .venv.

CARGO ?= cargo
FLOE  := target/release/floe

.PHONY: demo demo-text demo-images test build bench lint schema clean onnxruntime providers python

demo: onnxruntime build
	@scripts/demo $(FLOE)

demo-text: onnxruntime build
	@scripts/demo-text $(FLOE)

demo-images: onnxruntime build
	@scripts/demo-images $(FLOE)

test: onnxruntime providers python
	$(CARGO) test --locked --features fail-points --all-targets
	$(CARGO) test --locked --features fail-points --doc
	.venv/bin/python tests/peers/test_checkers.py
	@scripts/what-was-left-out

build:
	$(CARGO) build --locked --release

bench: onnxruntime
	$(CARGO) bench --locked

# What must be clean before anything lands, beside the tests.
lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --all-targets --features fail-points -- -D warnings
	$(CARGO) clippy --locked --all-targets --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items --quiet

# Files that are generated from the code; a test fails when they are out of date.
schema:
	UPDATE_GOLDEN=1 $(CARGO) test --locked --test it drift

onnxruntime:
	@scripts/fetch-onnxruntime > /dev/null

# Execution providers are published for few machines; what is not here its tests expect to be refused.
providers: onnxruntime
	@[ "$$(uname -sm)" != "Linux x86_64" ] || scripts/fetch-onnxruntime --with openvino > /dev/null

python:
	@scripts/python-env > /dev/null

clean:
	$(CARGO) clean
	rm -rf .venv out
