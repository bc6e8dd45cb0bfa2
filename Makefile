# Two commands: `make demo` and `make test`. Both install what they need from Debian's packages, as root or
# with sudo, and leave nothing running behind.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Cargo's own test runner where nextest is not installed.
NEXTEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo nextest run || echo test)
FUZZ_SECONDS ?= 5
METERING_CALLS ?= 10000

include bench/bench.mk

.PHONY: help
help:
	@echo "make demo       build and start everything on the embedded database (DEMO_ARGS='--listen 127.0.0.1:8080')"
	@echo "make test       every check: format, lints, tests on both stores, SDKs, fuzzing, short torture"
	@echo "make torture    200 rounds of SIGKILL under load (TORTURE_ROUNDS, TORTURE_SEED)"
	@echo "make torture-tasks  100 rounds of SIGKILL under a load of task submissions (TORTURE_ROUNDS, TORTURE_SEED)"
	@echo "make metering   10,000 mixed calls, each held against its row of the upstream's bill (METERING_CALLS, METERING_SEED)"
	@echo "make books-torture  ten thousand random movements of money, each step verified, all compared (BOOKS_STEPS)"
	@echo "make bench      beside nginx and the direct upstream, some 5 minutes"
	@echo "make fuzz       longer fuzzing (FUZZ_SECONDS)"

.PHONY: demo
DEMO_ARGS ?= --listen 127.0.0.1:8080 --data target/demo
demo: tools-build
	cargo build --release --bin tallygate
	target/release/tallygate demo $(DEMO_ARGS)

.PHONY: test test-format test-lint test-unit test-planted test-fuzz
test: tools-test test-format test-lint test-unit test-planted test-fuzz

test-format:
	cargo fmt --all --check

# The fuzz targets are built on demand alone, so they are named.
test-lint:
	cargo clippy --workspace --all-targets -- -D warnings
	cargo check --package tallygate-fuzz --features libfuzzer --bins

# One binary of unit tests, the ledger's simulator, and one of integration tests.
test-unit:
	cargo $(NEXTEST) --workspace

# The ledger's simulator and the naive ladder must each find ten planted bugs.
test-planted:
	cargo $(NEXTEST) --package ledger --features planted-bugs planted
	cargo $(NEXTEST) --package tallygate --features planted-bugs --test it planted

test-fuzz:
	fuzz/run.sh all $(FUZZ_SECONDS)

.PHONY: torture torture-tasks metering fuzz
metering: tools-test
	METERING_CALLS=$(METERING_CALLS) cargo $(NEXTEST) --release --test it metering --no-capture

# Ten thousand random orders, calls, refunds, disputes, expiries and crashes, each step verified, then compared.
.PHONY: books-torture
BOOKS_STEPS ?= 10000
books-torture: tools-test
	BOOKS_STEPS=$(BOOKS_STEPS) cargo $(NEXTEST) --release --test it books_torture

torture: TORTURE_ROUNDS ?= 200
torture: tools-test
	TORTURE_ROUNDS=$(TORTURE_ROUNDS) cargo $(NEXTEST) --release --test it torture::s16

torture-tasks: TORTURE_ROUNDS ?= 100
torture-tasks: tools-test
	TORTURE_ROUNDS=$(TORTURE_ROUNDS) cargo $(NEXTEST) --release --test it torture_tasks::g2

fuzz: tools-build
	fuzz/run.sh all $(FUZZ_SECONDS)

.PHONY: tools-build tools-test
tools-build:
	@./tools.sh build

tools-test:
	@./tools.sh test
