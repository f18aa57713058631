# raftcache. `make help` lists the targets. Only cargo is needed (and curl for start-cluster, python3
# besides for bench-table and bench-compare, a C++ compiler for fuzz, and a Docker engine for image, up
# and down).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

CARGO ?= cargo
# Directory of the three-process cluster: configurations, logs, process ids, data.
RUN_DIR ?= run
# Seconds to wait for a node to become ready, or to stop.
WAIT_S ?= 60
DURABILITY ?= memory
# Ports of the first node; gRPC and HTTP of each next one are 2 more, its peer port 1 more.
GRPC_PORT ?= 8080
HTTP_PORT ?= 8081
PEER_PORT ?= 9001
# Port for clients of Redis of the first node; that of each next one is 1 more.
RESP_PORT ?= 7001
# Cargo profile of the cluster's binary: release or dev.
PROFILE ?= release
SHARDS ?= 16
NODES := 1 2 3
# Threads of each node: the three share this machine's cores.
WORKERS ?= $(shell echo $$(( ($$(nproc) + 2) / 3 )))
# Name of the container image, and the binary that `make image` puts into it (empty: build one).
IMAGE ?= raftcache:local
BINARY ?=
# The Compose that is there: v2, else v1.
COMPOSE ?= $(shell if docker compose version > /dev/null 2>&1; then echo docker compose; else echo docker-compose; fi)
# 1: `make down` removes the data too.
VOLUMES ?=
# Seconds that make fuzz spends on each target, and the targets (empty: all).
FUZZ_S ?= 600
FUZZ_TARGETS ?=
# Where cargo puts the binary of $(PROFILE); sets `binary`.
BUILD = $(CARGO) build --profile $(PROFILE) --locked; \
	target=$$($(CARGO) metadata --locked --no-deps --format-version 1 | sed -E 's/.*"target_directory":"([^"]*)".*/\1/'); \
	binary="$$target/$(patsubst dev,debug,$(PROFILE))/raftcache"
# alive PID NODE: true if that process lives and is that node (a number may have been given anew).
ALIVE = alive() { kill -0 "$$1" 2>/dev/null && [[ "$$(ps -p "$$1" -o args=)" == *"$(RUN_DIR)/node$$2.toml"* ]]; }

.PHONY: help run test fuzz verify start-cluster stop-cluster image up down bench bench-table bench-compare

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 18

run: ## Run a cluster of three nodes in one process, in the foreground
	@echo "building first (optimised; the first time takes minutes)" >&2
	exec $(CARGO) run --release --locked -- dev

test: ## Run every test, whatever fails, and sum up: which failed, seconds of each binary
	@CARGO="$(CARGO)" tests/run.sh

fuzz: ## Coverage-guided random input for every parser, FUZZ_S seconds each (600); wants a C++ compiler
	@FUZZ_S="$(FUZZ_S)" CARGO="$(CARGO)" tests/fuzz/guided/run.sh $(FUZZ_TARGETS)

verify: ## Formatting, lints, tidiness, tests; changes no file of the tree
	@echo "== formatting"
	$(CARGO) fmt --all -- --check
	echo "== lints"
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	echo "== tidy"
	$(CARGO) test --locked --test tidy --test docs
	echo "== tests"
	CARGO="$(CARGO)" tests/run.sh

start-cluster: ## Start three nodes as background processes, wait until each is ready
	@$(ALIVE)
	$(BUILD)
	mkdir -p "$(RUN_DIR)"
	for id in $(NODES); do
	  pid_file="$(RUN_DIR)/node$$id.pid"
	  if [[ -f "$$pid_file" ]] && alive "$$(cat "$$pid_file")" $$id; then
	    echo "node $$id already runs (process $$(cat "$$pid_file")); make stop-cluster stops it" >&2
	    exit 1
	  fi
	done
	seeds="$$(printf '"127.0.0.1:%d", ' $$(($(PEER_PORT))) $$(($(PEER_PORT) + 1)) $$(($(PEER_PORT) + 2)))"
	for id in $(NODES); do
	  data="$(RUN_DIR)/node$$id-$(DURABILITY)"
	  # Nothing of a memory cluster survives its stop: what is left would only be told as lost.
	  if [[ "$(DURABILITY)" == memory ]]; then rm -rf "$$data"; fi
	  {
	    echo "durability = \"$(DURABILITY)\""
	    echo "[node]"
	    echo "id = $$id"
	    echo "zone = \"local$$id\""
	    echo "data_dir = \"$$data\""
	    echo "[listen]"
	    echo "grpc = \"127.0.0.1:$$(($(GRPC_PORT) + 2 * id - 2))\""
	    echo "http = \"127.0.0.1:$$(($(HTTP_PORT) + 2 * id - 2))\""
	    echo "peer = \"127.0.0.1:$$(($(PEER_PORT) + id - 1))\""
	    echo "resp = \"127.0.0.1:$$(($(RESP_PORT) + id - 1))\""
	    echo "[cluster]"
	    echo "seeds = [$${seeds%, }]"
	    echo "expected_nodes = 3"
	    echo "shards = $(SHARDS)"
	    echo "[runtime]"
	    echo "worker_threads = $(WORKERS)"
	    # stop-cluster stops all nodes together: the last ones have nobody to hand over to.
	    echo "[shutdown]"
	    echo "hand_over_ms = 1000"
	  } > "$(RUN_DIR)/node$$id.toml"
	  nohup "$$binary" serve --config "$(RUN_DIR)/node$$id.toml" \
	    >> "$(RUN_DIR)/node$$id.log" 2>&1 < /dev/null &
	  echo $$! > "$(RUN_DIR)/node$$id.pid"
	done
	deadline=$$((SECONDS + $(WAIT_S)))
	for id in $(NODES); do
	  url="http://127.0.0.1:$$(($(HTTP_PORT) + 2 * id - 2))/ready"
	  until curl --silent --fail --max-time 2 --output /dev/null "$$url"; do
	    if ! alive "$$(cat "$(RUN_DIR)/node$$id.pid")" $$id; then
	      echo "node $$id has stopped; the end of its log:" >&2
	      tail -n 20 "$(RUN_DIR)/node$$id.log" >&2
	      exit 1
	    fi
	    if (( SECONDS >= deadline )); then
	      echo "node $$id is not ready after $(WAIT_S) s: $$url, $(RUN_DIR)/node$$id.log" >&2
	      exit 1
	    fi
	    sleep 0.2
	  done
	  echo "node $$id is ready: gRPC 127.0.0.1:$$(($(GRPC_PORT) + 2 * id - 2)), HTTP 127.0.0.1:$$(($(HTTP_PORT) + 2 * id - 2)), Redis 127.0.0.1:$$(($(RESP_PORT) + id - 1)), log $(RUN_DIR)/node$$id.log"
	done

stop-cluster: ## Stop the nodes that start-cluster started
	@$(ALIVE)
	failed=0
	for id in $(NODES); do
	  pid_file="$(RUN_DIR)/node$$id.pid"
	  [[ -f "$$pid_file" ]] || continue
	  if alive "$$(cat "$$pid_file")" $$id; then kill -TERM "$$(cat "$$pid_file")"; fi
	done
	deadline=$$((SECONDS + $(WAIT_S)))
	for id in $(NODES); do
	  pid_file="$(RUN_DIR)/node$$id.pid"
	  [[ -f "$$pid_file" ]] || continue
	  pid="$$(cat "$$pid_file")"
	  while alive "$$pid" $$id && (( SECONDS < deadline )); do sleep 0.1; done
	  if alive "$$pid" $$id; then
	    echo "node $$id (process $$pid) still runs after $(WAIT_S) s" >&2
	    failed=1
	  else
	    rm -f "$$pid_file"
	    echo "node $$id has stopped"
	  fi
	done
	exit $$failed

image: ## Build the container image without a registry, from a binary of this machine
	@binary="$(BINARY)"
	if [[ -z "$$binary" ]]; then $(BUILD); fi
	mkdir -p "$(RUN_DIR)"
	context="$$(mktemp -d "$(RUN_DIR)/image.XXXXXX")"
	trap 'rm -rf "$$context"' EXIT
	deploy/rootfs.sh "$$binary" "$$context"
	# The last stage of the Dockerfile, with the files from here instead of from the first stage.
	sed -n '/^FROM scratch/,$$p' deploy/Dockerfile | sed 's|--from=build ||; s|/out/||' > "$$context/Dockerfile"
	docker build --quiet --tag "$(IMAGE)" "$$context" > /dev/null
	docker image inspect --format '$(IMAGE): {{.Size}} bytes' "$(IMAGE)"

up: export RAFTCACHE_IMAGE = $(IMAGE)
up: ## Start three containers of that image, or those that are down; wait until all are healthy
	@started=$$SECONDS
	if ! docker image inspect "$(IMAGE)" > /dev/null; then
	  echo "there is no image $(IMAGE): make image builds it" >&2
	  exit 1
	fi
	$(COMPOSE) up --detach --no-build
	for id in $(NODES); do
	  until
	    container="$$($(COMPOSE) ps --quiet node$$id)"
	    [[ "$$(docker inspect --format '{{.State.Health.Status}}' "$$container" 2>&1)" == healthy ]]
	  do
	    if (( SECONDS - started >= $(WAIT_S) )); then
	      echo "node $$id is not healthy after $(WAIT_S) s; what it says:" >&2
	      $(COMPOSE) logs --tail=20 node$$id >&2
	      exit 1
	    fi
	    sleep 0.2
	  done
	  doors="$$(docker port "$$container" | sed -nE 's/^808[01].* -> //p' | paste -sd ' ')"
	  echo "node $$id is healthy: gRPC and HTTP on $$doors"
	done

down: export RAFTCACHE_IMAGE = $(IMAGE)
down: ## Stop and remove the containers; the data stays, unless VOLUMES=1
	@$(COMPOSE) down $(if $(filter 1,$(VOLUMES)),--volumes)

bench: ## Put load on a running cluster (make run) and measure it
	@$(CARGO) run --release --locked -- bench

bench-table: ## Measure the table of docs/performance.md (three processes, memory and wal)
	@$(CARGO) build --release --locked
	benches/table.sh

bench-compare: ## Put the same load on raftcache, etcd and Redis, and show one table
	@$(BUILD)
	BINARY="$$binary" benches/compare.sh
