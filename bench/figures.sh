#!/usr/bin/env bash
# Measures the figures of README on this machine: ROUNDS (5) rounds of every
# scenario in turn, so that a machine whose speed drifts does so for all of them, and
# the median of each. Each round begins with a fresh gateway. It talks to loopback
# only. A round takes about three and a half minutes; the first MAXROUNDS (3) also
# look for the highest rate, which takes three more. What was measured is kept
# in OUT (bench-results/figures.txt), one line for each figure of each round.
#
#   bench/figures.sh                        all of it
#   ROUNDS=1 MAXROUNDS=0 bench/figures.sh   a first look
set -euo pipefail
cd "$(dirname "$0")/.."
ulimit -n "$(ulimit -Hn)"

rounds=${ROUNDS:-5}
maxrounds=${MAXROUNDS:-3}
out=${OUT:-bench-results/figures.txt}
port=${PORT:-18000} # and the one after it, for the internal listener
mkdir -p "$(dirname "$out")"
: >"$out"
dir=$(mktemp -d)
gateway=
stop() {
	[[ -z $gateway ]] || { kill "$gateway" && wait "$gateway" || true; }
	gateway=
}
trap 'stop; rm -rf "$dir"' EXIT
go build -o "$dir/sluice" ./cmd/sluice

start() {
	stop
	"$dir/sluice" serve --listen "127.0.0.1:$port" --internal-listen "127.0.0.1:$((port + 1))" --log-level warn "$@" &
	gateway=$!
	until (exec 3<>"/dev/tcp/127.0.0.1/$((port + 1))") 2>/dev/null; do sleep 0.1; done
	sleep 1
}

# run NAME FIGURE,... -- ARGUMENTS runs one scenario and notes these figures of it.
run() {
	local name=$1 figures=${2//,/ } figure
	shift 3
	printf 'round %d: %s\n' "$round" "bench $*" >&2
	"$dir/sluice" bench "$@" --json >"$dir/json" || true
	for figure in $figures verdict; do
		printf '%s %s %s\n' "$name" "$figure" \
			"$(sed -n "s/^ *\"${figure//./\\.}\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$dir/json" | head -n 1)" >>"$out"
	done
}
server() { printf -- '--url ws://127.0.0.1:%d --pid %d' "$port" "$gateway"; }

for ((round = 1; round <= rounds; round++)); do
	# shellcheck disable=SC2046 # server gives several words
	{
		start
		run idle10k rss_per_connection,slab_per_connection,server_cpu_percent -- idle --connections 10000 --settle 30s --duration 26s $(server)
		start
		run idle19k rss_per_connection,slab_per_connection -- idle --connections 19000 --settle 30s --duration 2s $(server)
		start
		run floor_sparse sender_cpu_per_delivery -- floor --connections 10000 --rate 4 --duration 10s
		run sparse server_cpu_per_delivery,p99,lost -- fanout --subscribers 10000 --rate 4 --duration 10s $(server)
		run floor_burst deliveries_per_second,sender_cpu_per_delivery -- floor --connections 10000 --burst 100
		run burst deliveries_per_second,server_cpu_per_delivery,lost -- fanout --subscribers 10000 --burst 200 $(server)
		start
		((round > maxrounds)) || run max rate_held,deliveries_per_second,lost,cut -- fanout --subscribers 10000 --find-max --rate 1600 --duration 20s $(server)
		start
		run dense server_cpu_per_delivery,p50,p99,lost,cut -- fanout --subscribers 10000 --rate 100 --duration 60s $(server)
		run thousand server_cpu_per_delivery,p50,p99,lost -- fanout --subscribers 1000 --rate 20 --duration 10s $(server)
		run storm server_cpu_per_upgrade,upgrades_per_second,p99,failed -- storm --connections 10000 --outstanding 512 $(server)
	}
done

# The median of each figure, and all of its rounds.
cut -d' ' -f1,2 "$out" | awk '!seen[$0]++' | while read -r name figure; do
	awk -v n="$name" -v f="$figure" '$1 == n && $2 == f { print $3 }' "$out" | sort -g >"$dir/values"
	median=$(awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }' "$dir/values")
	printf '%-13s %-26s %-22s (%s)\n' "$name" "$figure" "$median" "$(paste -sd' ' "$dir/values")"
done
