# Targets of the benchmark; included by the Makefile. bench/README.md tells how to read the figures.

BENCH_BIN := target/release/tallygate

.PHONY: bench bench-quick bench-tools bench-micro

# The plain proxy to measure beside. RUNLEVEL keeps Debian from starting it as a service.
bench-tools:
	@command -v nginx >/dev/null || { \
		if [ "$$(id -u)" = 0 ]; then run=; else run=sudo; fi; \
		$$run env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nginx-light; }

# Everything, some 5 minutes: nothing else should run on the machine meanwhile.
bench: bench-tools
	cargo build --release --bin tallygate
	$(BENCH_BIN) bench --out bench/results/latest

# The same, short: for a look at a change.
bench-quick: bench-tools
	cargo build --release --bin tallygate
	$(BENCH_BIN) bench --rounds 3 --millis 700

# The parts alone: decide, windows, batch encoding, commit; formats; reserve and settle in the ledger.
bench-micro:
	cargo bench -p tallygate --bench books
	cargo bench -p tallygate --bench convert
	cargo bench -p ledger --benches

# `verify` over ten million movements of money: at most 60 s and 300 MiB.
.PHONY: bench-verify
bench-verify:
	cargo build --release --bin tallygate
	$(BENCH_BIN) bench verify --rows 10000000 --out bench/results/verify

# A statement of a month with a million rows, and cost reports of a year.
.PHONY: bench-statement
bench-statement:
	STATEMENT_ROWS=1000000 STATEMENT_KEYS=100 STATEMENT_OUT=$(CURDIR)/bench/results/statement.md \
		cargo test --release --test it statements_scale

# A million rows of a bill beside a million attempts: at most 60 s and 500 MiB.
.PHONY: bench-reconcile
bench-reconcile:
	cargo build --release --bin tallygate
	$(BENCH_BIN) bench reconcile --rows 1000000 --out bench/results/reconcile
