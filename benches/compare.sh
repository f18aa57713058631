#!/usr/bin/env bash
# raftcache, etcd and Redis under the same load, in one table: `make bench-compare` runs it. Three
# nodes of raftcache, three members of etcd, a Redis and a Redis Cluster of three, all on this machine,
# on free loopback ports, data in a temporary directory (TMPDIR; a tmpfs makes every disk fast), one
# system at a time. What is missing here is said and left out.
#
#   CALLERS=64  READS=0.5  DURATION_S=10  DURABILITY=memory  SYSTEMS="raftcache etcd redis redis-cluster"
#   VIA="unary smart"  PLOT=out.svg  JSON=out.json  benches/compare.sh [more flags of bench]
set -euo pipefail
cd "$(dirname "$0")/.."

binary="${BINARY:-target/release/raftcache}"
callers="${CALLERS:-64}"
duration_s="${DURATION_S:-10}"
reads="${READS:-0.5}"
systems="${SYSTEMS:-raftcache etcd redis redis-cluster}"
durability="${DURABILITY:-memory}"
read -r -a vias <<< "${VIA:-unary pipeline smart}"
dir="$(mktemp -d)"
pids=()

# Stops what was started here, by process id, and waits for it.
stop() {
  for pid in "${pids[@]}"; do kill -TERM "$pid" 2> /dev/null || true; done
  for pid in "${pids[@]}"; do
    for _ in $(seq 100); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
    kill -KILL "$pid" 2> /dev/null || true
  done
  rm -rf "$dir"
}
trap stop EXIT

# ports N: as many ports nobody listens on.
ports() { python3 - "$1" <<'PYTHON'
import random, socket, sys
found = []
while len(found) < int(sys.argv[1]):
    # Below the range of outgoing connections; a Redis of a cluster also takes its port plus 10000.
    port = random.randrange(10240, 22000)
    try:
        held = [socket.create_server(("127.0.0.1", p)) for p in (port, port + 10000)]
        for s in held: s.close()
        if port not in found: found.append(port)
    except OSError:
        pass
print(*found)
PYTHON
}

# start NAME COMMAND...: in the background, its output in a file.
start() {
  local name="$1"; shift
  "$@" > "$dir/$name.log" 2>&1 < /dev/null &
  pids+=($!)
}

# until_ready WHAT COMMAND...: for 60 seconds at most.
until_ready() {
  local what="$1"; shift
  for _ in $(seq 300); do
    if "$@" > /dev/null 2>&1; then return; fi
    sleep 0.2
  done
  echo "$what is not ready after 60 s; logs:" >&2
  tail -n 5 "$dir"/*.log >&2
  exit 1
}

here() { command -v "$1" > /dev/null; }
targets=()

start_raftcache() {
  read -r -a p <<< "$(ports 12)"
  for i in 0 1 2; do
    start "raftcache$i" "$binary" serve --node-id "$((i + 1))" --zone "z$i" \
      --durability "$durability" --data-dir "$dir/raftcache$i" --expected-nodes 3 \
      --grpc "127.0.0.1:${p[i]}" --http "127.0.0.1:${p[i + 3]}" --peer "127.0.0.1:${p[i + 6]}" \
      --resp "127.0.0.1:${p[i + 9]}" \
      --seeds "127.0.0.1:${p[6]},127.0.0.1:${p[7]},127.0.0.1:${p[8]}" \
      --set "runtime.worker_threads=$((($(nproc) + 2) / 3))"
  done
  for i in 0 1 2; do
    until_ready "raftcache $i" "$binary" health --addr "127.0.0.1:${p[i + 3]}"
  done
  for via in "${vias[@]}"; do
    local first=0
    case "$via" in http) first=3 ;; resp | resp-cluster) first=9 ;; esac
    targets+=("raftcache/$via=127.0.0.1:${p[first]},127.0.0.1:${p[first + 1]},127.0.0.1:${p[first + 2]}")
  done
}

start_etcd() {
  if ! here etcd; then echo "etcd is not installed: left out" >&2; return; fi
  read -r -a p <<< "$(ports 6)"
  local members="e0=http://127.0.0.1:${p[3]},e1=http://127.0.0.1:${p[4]},e2=http://127.0.0.1:${p[5]}"
  for i in 0 1 2; do
    local client="http://127.0.0.1:${p[i]}" peer="http://127.0.0.1:${p[i + 3]}"
    start "etcd$i" etcd --name "e$i" --data-dir "$dir/etcd$i" --log-level error \
      --listen-client-urls "$client" --advertise-client-urls "$client" \
      --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
      --initial-cluster "$members" --initial-cluster-token "$(basename "$dir")" \
      --quota-backend-bytes 8589934592
  done
  for i in 0 1 2; do
    until_ready "etcd $i" bash -c "exec 3<> /dev/tcp/127.0.0.1/${p[i]}"
  done
  # Its doors open before it has a leader.
  until_ready "etcd" python3 -c "import urllib.request as u, sys
sys.exit(b'true' not in u.urlopen('http://127.0.0.1:${p[0]}/health', timeout=2).read())"
  targets+=("etcd=127.0.0.1:${p[0]},127.0.0.1:${p[1]},127.0.0.1:${p[2]}")
}

start_redis() {
  if ! here redis-server || ! here redis-cli; then
    echo "redis-server or redis-cli is not installed: left out" >&2
    return
  fi
  local port
  port="$(ports 1)"
  mkdir "$dir/redis"
  start redis redis-server --bind 127.0.0.1 --port "$port" --dir "$dir/redis" --save '' --appendonly no
  until_ready redis redis-cli -p "$port" ping
  targets+=("redis=127.0.0.1:$port")
}

start_redis_cluster() {
  if ! here redis-server || ! here redis-cli; then
    echo "redis-server or redis-cli is not installed: left out" >&2
    return
  fi
  read -r -a p <<< "$(ports 3)"
  for port in "${p[@]}"; do
    mkdir "$dir/redis$port"
    start "redis$port" redis-server --bind 127.0.0.1 --port "$port" --dir "$dir/redis$port" \
      --save '' --appendonly no --cluster-enabled yes --cluster-config-file nodes.conf
    until_ready "redis $port" redis-cli -p "$port" ping
  done
  redis-cli --cluster create "${p[@]/#/127.0.0.1:}" --cluster-yes > "$dir/create.log"
  for port in "${p[@]}"; do
    until_ready "redis cluster" bash -c "redis-cli -p $port cluster info | grep -q cluster_state:ok"
  done
  targets+=("redis-cluster=127.0.0.1:${p[0]}")
}

for system in $systems; do
  case "$system" in
    raftcache) start_raftcache ;;
    etcd) start_etcd ;;
    redis) start_redis ;;
    redis-cluster) start_redis_cluster ;;
    *) echo "SYSTEMS: $system is none of raftcache, etcd, redis, redis-cluster" >&2; exit 1 ;;
  esac
done
if ((${#targets[@]} == 0)); then echo "nothing to measure" >&2; exit 1; fi

first="${targets[0]}"
system="${first%%=*}"
flags=(--target "${system%%/*}" --addr "${first#*=}")
if [[ "$system" == */* ]]; then flags+=(--via "${system#*/}"); fi
for target in "${targets[@]:1}"; do flags+=(--compare "$target"); done
if [[ -n "${PLOT:-}" ]]; then flags+=(--plot "$PLOT"); fi
flags+=(--callers "$callers" --reads "$reads" --duration "$duration_s")
if [[ -n "${JSON:-}" ]]; then
  "$binary" bench "${flags[@]}" --json "$@" > "$JSON"
else
  "$binary" bench "${flags[@]}" "$@"
fi
