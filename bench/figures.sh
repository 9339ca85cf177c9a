#!/usr/bin/env bash
# Measures the figures of bench/README.md on this machine: ROUNDS (5) rounds of all
# scenarios in turn, so that a machine whose speed drifts does so for all of them, and
# prints the median of each figure. Each scenario starts a fresh gateway. Everything runs
# over loopback. A round takes about thirteen minutes; the first MAXROUNDS (3) also search for
# the highest rate, which takes three more. OUT (bench-results/figures.txt) gets one line
# for each figure of each round.
#
#   bench/figures.sh                                  everything
#   ROUNDS=1 MAXROUNDS=0 bench/figures.sh             a first look
#   SCENARIOS='sparse stream' bench/figures.sh        some scenarios
#   BIN=./sluice BASE=/tmp/before/sluice bench/figures.sh
#
#   DENSE=12s bench/figures.sh                        a dense run shorter than 60s
#
# BASE compares two gateways: each round measures each scenario with BASE and with BIN,
# one right after the other and in alternating order, and the medians are printed with
# their ratio, BIN divided by BASE. Both are tested by the tester of this tree. A scenario
# whose flags BASE does not know is skipped for BASE.
set -euo pipefail
cd "$(dirname "$0")/.."
ulimit -n "$(ulimit -Hn)"

rounds=${ROUNDS:-5}
maxrounds=${MAXROUNDS:-3}
scenarios=${SCENARIOS:-idle10k idle19k idle_sse sparse burst max dense ten ten_one hundred hundred_one thousand thousand_one storm stream compressed recover churn tls_idle tls_sparse tls_storm
	hooks hooks_hang hooks_hang_client hooks_cost client_idle client_sparse client_dense client_connect client_recover client_joins client_channels client_many
	upgrade upgrade_dense upgrade_19k upgrade_mixed upgrade_filled upgrade_tls
	reload_19k reload_load}
out=${OUT:-bench-results/figures.txt}
port=${PORT:-18000} # the one after it for the internal listener, the next for TLS
mkdir -p "$(dirname "$out")"
: >"$out"
dir=$(mktemp -d)
gateway=
stop() {
	[[ -z $gateway ]] || { kill "$gateway" && wait "$gateway"; } 2>"$dir/stop" || true
	gateway=
}
trap 'stop; rm -rf "$dir"' EXIT
go build -o "$dir/sluice" ./cmd/sluice

# start FLAGS runs a fresh gateway. It fails if the gateway does not start, as one that
# does not know a flag yet.
start() {
	stop
	"$binary" serve --listen "127.0.0.1:$port" --internal-listen "127.0.0.1:$((port + 1))" --log-level warn "$@" &
	gateway=$!
	until (exec 3<>"/dev/tcp/127.0.0.1/$((port + 1))") 2>"$dir/start"; do
		kill -0 "$gateway" 2>"$dir/start" || return 1
		sleep 0.1
	done
	sleep 1
}

# note NAME FIGURE VALUE records one figure of this round.
note() { printf '%s %s %s %s\n' "$which" "$1" "$2" "$3" >>"$out"; }

# run NAME FIGURE,... -- ARGUMENTS runs one scenario and records these figures.
run() {
	local name=$1 figures=${2//,/ } figure
	shift 3
	printf 'round %d, %s: %s\n' "$round" "$which" "bench $*" >&2
	"$dir/sluice" bench "$@" --json >"$dir/json" || true
	for figure in $figures verdict; do
		note "$name" "$figure" "$(sed -n "s/^ *\"${figure//./\\.}\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$dir/json" | head -n 1)"
	done
}
# loaded runs a scenario against the gateway.
loaded() { run "$@" --url "ws://127.0.0.1:$port" --pid "$gateway"; }
# sealed does the same over TLS. The tester does not verify the certificate: that would be
# work of a client, on the cores that the gateway needs.
sealed() { run "$@" --url "wss://127.0.0.1:$((port + 2))" --insecure-skip-verify --pid "$gateway"; }
# floor runs a scenario that needs no gateway, once per round.
floor() { [[ $which != "${gateways[0]}" ]] || run "$@"; }

idle10k() { loaded idle10k rss_per_connection,slab_per_connection,server_cpu_percent -- idle --connections 10000 --settle 30s --duration 26s; }
idle19k() { loaded idle19k rss_per_connection,slab_per_connection -- idle --connections 19000 --settle 30s --duration 2s; }
idle_sse() { loaded idle_sse rss_per_connection,slab_per_connection,server_cpu_percent -- idle --protocol sse --connections 10000 --settle 30s --duration 26s; }
sparse() {
	floor floor_sparse sender_cpu_per_delivery -- floor --connections 10000 --rate 4 --duration 10s
	loaded sparse server_cpu_per_delivery,p99,lost -- fanout --subscribers 10000 --rate 4 --duration 10s
}
burst() {
	floor floor_burst deliveries_per_second,sender_cpu_per_delivery -- floor --connections 10000 --burst 100
	loaded burst deliveries_per_second,server_cpu_per_delivery,lost -- fanout --subscribers 10000 --burst 200
}
max() { ((round > maxrounds)) || loaded max rate_held,deliveries_per_second,lost,cut -- fanout --subscribers 10000 --find-max --rate 1600 --duration 20s; }
dense() { loaded dense server_cpu_per_delivery,p50,p99,lost,cut -- fanout --subscribers 10000 --rate 100 --duration "${DENSE:-60s}"; }
# Medium rates, at which a loop mostly waits: with two loops, and with one.
ten_flags=(--loops 2) hundred_flags=(--loops 2) thousand_flags=(--loops 2)
ten_one_flags=(--loops 1) hundred_one_flags=(--loops 1) thousand_one_flags=(--loops 1)
medium() { loaded "$scenario" server_cpu_per_delivery,p50,p99,lost -- fanout --subscribers "$1" --rate "$2" --duration 10s; }
ten() { medium 10 500; }
ten_one() { medium 10 500; }
hundred() { medium 100 200; }
hundred_one() { medium 100 200; }
thousand() { medium 1000 20; }
thousand_one() { medium 1000 20; }
storm() { loaded storm server_cpu_per_upgrade,upgrades_per_second,elapsed,p99,failed,listen_overflows -- storm --connections 10000 --outstanding 512; }
# stream measures SSE beside raw WebSocket, in one gateway.
stream() {
	local protocol
	for protocol in raw sse; do
		loaded "stream_$protocol" server_cpu_per_delivery,p99,lost -- fanout --protocol "$protocol" --path /ws/stream --subscribers 10000 --rate 4 --duration 10s
	done
	note stream_sse by_raw "$(beside stream_raw stream_sse server_cpu_per_delivery '$2 / $1')"
}
# compressed measures compression beside none, in one gateway, with 1 KB of JSON.
compressed_flags=(--compression shared)
compressed() {
	local kind figure
	for kind in raw_json raw_json-ids sse_json sse_json-ids; do
		set -- fanout --protocol "${kind%%_*}" --path /ws/compressed --subscribers 10000 --rate 4 --duration 10s --size 1024 --content "${kind#*_}"
		loaded "plain_$kind" server_cpu_per_delivery,bytes_per_delivery,p99,lost -- "$@"
		loaded "compressed_$kind" server_cpu_per_delivery,bytes_per_delivery,p99,lost -- "$@" --compression
		for figure in server_cpu_per_delivery bytes_per_delivery; do
			note "compressed_$kind" "${figure}_by_plain" "$(beside "plain_$kind" "compressed_$kind" "$figure" '$2 / $1')"
		done
	done
}
# beside NAME OTHER FIGURE EXPRESSION computes with $1 and $2, the last values of FIGURE in
# NAME and OTHER.
beside() {
	values "$which" "$1" "$3" tail | paste -d' ' - <(values "$which" "$2" "$3" tail) | awk "NF == 2 && \$1 > 0 { print $4 }"
}
tls_flags=(--tls-listen "127.0.0.1:$((port + 2))" --tls-self-signed)
tls_idle_flags=("${tls_flags[@]}") tls_sparse_flags=("${tls_flags[@]}") tls_storm_flags=("${tls_flags[@]}")
tls_idle() { sealed tls_idle exchanged,rss_per_connection,slab_per_connection,server_cpu_percent -- idle --connections 5000 --path /echo --exchange 1KiB --settle 30s --duration 26s; }
# tls_sparse measures TLS beside plain, in one gateway.
tls_sparse() {
	loaded tls_sparse_ws server_cpu_per_delivery,p50,p99,lost -- fanout --subscribers 5000 --rate 4 --duration 20s
	sealed tls_sparse_wss server_cpu_per_delivery,p50,p99,lost -- fanout --subscribers 5000 --rate 4 --duration 20s
	note tls_sparse_wss above_ws "$(beside tls_sparse_ws tls_sparse_wss server_cpu_per_delivery '$2 - $1')"
}
tls_storm() {
	sealed tls_storm server_cpu_per_upgrade,upgrades_per_second,elapsed,p99,failed,listen_overflows -- storm --connections 3000 --outstanding 3000
	sealed tls_storm_resumed server_cpu_per_upgrade,upgrades_per_second,elapsed,p99,failed,tls_resumed -- storm --connections 3000 --outstanding 512 --resume
}
churn() {
	loaded churn cycles,failed,cycles_per_second,server_cpu_per_cycle,descriptors_left,goroutines_left,epoll_left,rss_growth -- \
		churn --cycles "${CYCLES:-200000}" --metrics "http://127.0.0.1:$((port + 1))/metrics"
}
# The tester is the backend, on one more port. With a backend that takes 20 ms, all processes sleep in between, and wake up more slowly.
backend=127.0.0.1:$((port + 3))
hooks_flags=(--connect-hook "http://$backend/connect" --publish-hook "http://$backend/publish" --hook-max-in-flight 100)
hooks() {
	loaded hooks elapsed,failed,calls_in_flight,p99,publish_beyond,breaker_p99,recovered_after -- \
		hooks --backend "$backend" --measure connect,publish,breaker
	loaded hooks_publish publish_p50,publish_beyond -- hooks --backend "$backend" --measure publish --takes 1ms
}
# hooks_hang lets clients wait for as long as the queue does: with the default timeout the breaker opens before.
hooks_hang_flags=(--connect-hook "http://$backend/connect" --hook-timeout 60s)
hooks_hang() {
	loaded hooks_hang hung_by_quiet,quiet_p99,hung_p99,pending,rss_per_pending,refused,lost,cut -- \
		hooks --backend "$backend" --measure hang --hang "${HANG:-30s}" --publish-url "http://127.0.0.1:$((port + 1))/publish/lobby"
}
# A gateway with a short history would have gaps here.
recover_flags=(--history 10000 --history-bytes 16MiB)
recover() { loaded recover joins,joins_per_second,lost,holes,repeats,wrong,gaps,failed,p50,p99,server_cpu_per_join -- recover --joins "${JOINS:-100000}"; }

# Clients of the Centrifugo protocol. In these gateways they have tokens, and namespaces
# set what they may do; raw clients have no tokens and may subscribe as well. What is
# compared with raw is measured in one gateway.
(umask 077 && printf 'the secret of a gateway that is only measured\n' >"$dir/secret")
namespaces() { # FILE HISTORY_SIZE [MORE]
	printf '{"without_namespace":{"allow_subscribe_for_client":true,"allow_subscribe_for_anonymous":true,"history_size":%s,"history_ttl":"300s","force_recovery":true%s}}\n' "$2" "${3:-}" >"$1"
}
namespaces "$dir/namespaces" 100
# POSTs one by one are not fast enough for 2,000 a second beside all those joins.
namespaces "$dir/namespaces_joins" 10000 ',"allow_publish_for_client":true,"allow_publish_for_anonymous":true,"allow_raw_publish":true'
open_flags=(--namespaces "$dir/namespaces" --insecure)
keyed_flags=(--namespaces "$dir/namespaces" --token-hmac-secret-file "$dir/secret")
client_sparse_flags=("${open_flags[@]}") client_dense_flags=("${open_flags[@]}") client_connect_flags=("${keyed_flags[@]}")
client_idle_flags=("${keyed_flags[@]}") client_recover_flags=("${keyed_flags[@]}") client_channels_flags=("${keyed_flags[@]}" --max-channels 200000)
client_many_flags=("${keyed_flags[@]}")
client_joins_flags=(--raw publish --namespaces "$dir/namespaces_joins" --token-hmac-secret-file "$dir/secret" --history-bytes 16MiB)
tokens=(--token-hmac-secret-file "$dir/secret")
posted="http://127.0.0.1:$((port + 1))/publish"
client_idle() {
	loaded client_idle rss_per_connection,slab_per_connection,server_cpu_percent -- \
		idle --protocol centrifugo "${tokens[@]}" --channel news --connections 10000 --settle 30s --duration 26s
}
# client_beside NAME ARGUMENTS measures a fan-out over raw and over both forms of the protocol.
client_beside() {
	local name=$1 protocol
	shift
	for protocol in raw centrifugo centrifugo-protobuf; do
		local where=(--channel news)
		[[ $protocol != raw ]] || where=(--path /ws/news)
		loaded "${name}_$protocol" server_cpu_per_delivery,p50,p99,lost,cut -- \
			fanout --protocol "$protocol" "${where[@]}" --publish-url "$posted/news" --subscribers 10000 "$@"
		[[ $protocol == raw ]] || note "${name}_$protocol" by_raw "$(beside "${name}_raw" "${name}_$protocol" server_cpu_per_delivery '$2 / $1')"
	done
}
client_sparse() { client_beside client_sparse --rate 4 --duration 20s; }
# client_dense searches for the highest rate that is held, and measures all protocols at it.
client_dense() {
	((round > maxrounds)) || loaded client_max rate_held,deliveries_per_second,lost,cut -- \
		fanout --protocol centrifugo --channel news --publish-url "$posted/news" --subscribers 10000 --find-max --rate 50 --duration 20s
	local rate
	rate=$(values "$which" client_max rate_held tail)
	[[ -z $rate ]] || client_beside client_dense --rate "$rate" --duration 20s
}
# client_connect measures what a token and a subscription cost beyond the upgrade. A first
# storm, which is not measured, comes before both.
client_connect() {
	loaded client_connect_first failed -- storm --protocol centrifugo "${tokens[@]}" --channel news --connections 10000
	loaded client_connect_raw server_cpu_per_upgrade,upgrades_per_second,failed -- storm --path /ws/news --connections 10000
	loaded client_connect server_cpu_per_upgrade,upgrades_per_second,p99,failed -- \
		storm --protocol centrifugo "${tokens[@]}" --channel news --connections 10000
	note client_connect above_raw "$(beside client_connect_raw client_connect server_cpu_per_upgrade '$2 - $1')"
}
# hooks_cost measures what a hook costs beyond a token. A first storm, which is not measured, comes before both.
hooks_cost_flags=("${keyed_flags[@]}" --connect-hook "http://$backend/connect")
hooks_cost() {
	loaded hooks_cost_first failed -- storm --protocol centrifugo "${tokens[@]}" --channel news --connections 10000
	loaded hooks_cost_token server_cpu_per_upgrade,failed -- storm --protocol centrifugo "${tokens[@]}" --channel news --connections 5000
	loaded hooks_cost server_cpu_per_connect,failed,elapsed -- \
		hooks --backend "$backend" --takes 1ms --protocol centrifugo --channel news --connections 5000
	note hooks_cost above_token "$(values "$which" hooks_cost_token server_cpu_per_upgrade tail | paste -d' ' - <(values "$which" hooks_cost server_cpu_per_connect tail) | awk 'NF == 2 { print $2 - $1 }')"
}
# hooks_hang_client lets clients of the Centrifugo protocol wait: each has a session.
hooks_hang_client_flags=("${hooks_cost_flags[@]}" --hook-timeout 60s)
hooks_hang_client() {
	loaded hooks_hang_client hung_by_quiet,pending,rss_per_pending,lost,cut -- \
		hooks --backend "$backend" --measure hang --hang "${HANG:-30s}" --protocol centrifugo --channel news --publish-url "$posted/news"
}
client_recover() {
	loaded client_recover returned,elapsed,p99,lost,repeated,holes,repeats,gaps,failed,server_cpu_per_return -- \
		reconnect "${tokens[@]}" --channel news --publish-url "$posted/news" --connections 10000 --missed 20
}
client_joins() {
	loaded client_joins joins,joins_per_second,lost,holes,repeats,wrong,gaps,failed,p50,p99,server_cpu_per_join -- \
		recover --protocol centrifugo "${tokens[@]}" --channel news --behind 100 --joins "${JOINS:-100000}"
}
client_channels() {
	loaded client_channels subscriptions,rss_per_connection,rss_per_subscription -- \
		idle --protocol centrifugo "${tokens[@]}" --connections 10000 --channels-each 10 --settle 30s --duration 2s
}
client_many() {
	loaded client_many published,p50,p99,lost,repeated,holes,late -- \
		fanout --protocol centrifugo "${tokens[@]}" --channel news --channels 1000 --subscribers 10000 \
		--publishers 4 --publish-url "$posted/{channel}" --rate 1000 --duration 20s
}

# Upgrades, twenty in a row. The tester starts the gateway itself.
upgraded() {
	local name=$1
	shift
	stop
	run "$name" freeze_p50,freeze_max,pause_beyond,probe_max,baseline_probe_max,max,baseline_max,disconnected,lost,repeated,holes,parked_lost,parked_repeated,presence_missing,cpu_per_moved,records_per_connection,rss_above -- \
		upgrade --program "$binary" "$@"
}
upgrade() { upgraded upgrade; }
upgrade_dense() { upgraded upgrade_dense --rate 100; }
upgrade_19k() { upgraded upgrade_19k --connections 19000 --rate 20; }
upgrade_mixed() { upgraded upgrade_mixed --connections 9000 --parked 1000 --rate 20 --protocols raw,json,sse,centrifugo,centrifugo-protobuf; }
upgrade_filled() { upgraded upgrade_filled --connections 1000 --fill 64MiB --upgrades 10; }
# upgrade_tls: clients with TLS come back, without a history and with one.
upgrade_tls() {
	local history
	stop
	for history in 0 1000; do
		run "upgrade_tls_$history" closed,asked,returned,recovered,unrecovered,lost,told,repeated,back_p50,back_p99,back_max -- \
			upgrade --program "$binary" --tls --connections 5000 --rate 10 --history "$history" --upgrades 3 --every 3s
	done
}

# Reloads. The tester starts the gateway itself.
reloads() {
	local name=$1
	shift
	stop
	run "$name" took_p50,took_max,answered_max,pause_beyond,probe_max,baseline_probe_max,max,baseline_max,disconnected,ended,lost,repeated,holes,server_cpu_percent,baseline_cpu_percent -- \
		reload --program "$binary" "$@"
}
reload_19k() { reloads reload_19k --connections 19000 --subscriptions 10 --reloads 10 --every 3s; }
reload_load() { reloads reload_load --connections 5000 --subscriptions 10 --reloads 100 --every 300ms --rate 20; }

# values WHICH NAME FIGURE [tail] prints what was recorded: all in ascending order, or the
# last.
values() {
	awk -v w="$1" -v n="$2" -v f="$3" '$1 == w && $2 == n && $3 == f && NF == 4 { print $4 }' "$out" |
		if [[ ${4:-} == tail ]]; then tail -n 1; else sort -g; fi
}
median() { awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

gateways=(bin)
[[ -z ${BASE:-} ]] || gateways=(base bin)
for ((round = 1; round <= rounds; round++)); do
	order=("${gateways[@]}")
	((round % 2 == 1)) || [[ -z ${BASE:-} ]] || order=(bin base)
	for scenario in $scenarios; do
		for which in "${order[@]}"; do
			binary=${BIN:-$dir/sluice}
			[[ $which == bin ]] || binary=$BASE
			declare -n flags="${scenario}_flags"
			if start ${flags[@]+"${flags[@]}"}; then "$scenario"; fi
		done
	done
done
stop

# The median of each figure, and all of its rounds.
[[ -z ${BASE:-} ]] || printf '%-13s %-26s %-22s %-22s %s\n' scenario figure base bin bin/base
cut -d' ' -f2,3 "$out" | awk '!seen[$0]++' | while read -r name figure; do
	median=$(values bin "$name" "$figure" | median)
	if [[ -z ${BASE:-} ]]; then
		printf '%-13s %-26s %-22s (%s)\n' "$name" "$figure" "$median" "$(values bin "$name" "$figure" | paste -sd' ')"
		continue
	fi
	base=$(values base "$name" "$figure" | median)
	ratio=$(awk -v a="$median" -v b="$base" 'BEGIN { if (a + 0 > 0 && b + 0 > 0) printf "%.3f", a / b }')
	printf '%-13s %-26s %-22s %-22s %s\n' "$name" "$figure" "$base" "$median" "$ratio"
done
