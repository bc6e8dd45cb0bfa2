#!/bin/sh
# Runs fuzz targets for a bounded time: fuzz/run.sh TARGET|all [SECONDS]
# Needs a C++ compiler for libFuzzer's runtime, and the stable toolchain, no more. Seeds are in
# fuzz/seeds/TARGET; what a run learns is kept in target/fuzz/TARGET for the next one. A crash ends with
# status 1 and the input in target/fuzz/; run the printed command with that file to see it again.
set -eu
cd "$(dirname "$0")/.."
targets="key_checker chat_request sse_reader journal payment_callback conversations upstream_streams"
case "${1:-}" in
all) ;;
"") echo "usage: fuzz/run.sh TARGET|all [SECONDS]; targets: $targets" >&2; exit 2 ;;
*) targets=$1 ;;
esac
seconds=${2:-10}
out=${CARGO_TARGET_DIR:-target}

RUSTC_WORKSPACE_WRAPPER="$PWD/fuzz/instrument" cargo build --quiet --package tallygate-fuzz --features libfuzzer --bins
for target in $targets; do
	corpus=$out/fuzz/$target
	mkdir -p "$corpus"
	log=$out/fuzz/$target.log
	if ! "$out/debug/fuzz_$target" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -max_len=4096 \
		-artifact_prefix="$out/fuzz/$target-" -print_final_stats=1 "$corpus" "fuzz/seeds/$target" >"$log" 2>&1; then
		tail -n 60 "$log" >&2
		echo "fuzz $target: FAILED; again with: $out/debug/fuzz_$target FILE" >&2
		exit 1
	fi
	runs=$(sed -n 's/^stat::number_of_executed_units: //p' "$log")
	covered=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
	[ "${covered:-0}" -gt 50 ] || { echo "fuzz $target: covers ${covered:-0} branches: not instrumented?" >&2; exit 1; }
	echo "fuzz $target: $runs runs in $seconds s, $covered branches, no fault"
done
