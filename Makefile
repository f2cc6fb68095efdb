# Podlane: everything a user or a developer runs. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(VERSION)
# The race detector needs cgo; without a C compiler the tests run without it.
RACE ?= $(shell command -v $${CC:-gcc} >/dev/null 2>&1 && echo -race)
FUZZTIME ?= 60s
SOAK ?= 10m
# Where `make demo` listens.
HTTP ?= 127.0.0.1:8080
HTTPS ?= 127.0.0.1:8443
ADMIN ?= 127.0.0.1:9090

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Use

.PHONY: build
build: ## Build bin/podlane
	@$(GO) build -ldflags '$(LDFLAGS)' -o bin/podlane ./cmd/podlane

.PHONY: demo
demo: build ## Two demo Pods and Podlane in front of them, without a cluster: try it with curl
	@$(GO) build -o bin/backend ./test/backend
	@HTTP=$(HTTP) HTTPS=$(HTTPS) ADMIN=$(ADMIN) test/demo/demo.sh

.PHONY: cluster
cluster: ## A real cluster of one node on this machine (Linux, root, Debian), with the chart and the samples, until Ctrl-C
	@$(GO) run ./test/node/cmd/cluster up -http $(HTTP) -https $(HTTPS)

.PHONY: cluster-enter
cluster-enter: ## A shell where the users of that cluster are; CMD='kubectl get pods -A' runs one command
	@$(GO) run ./test/node/cmd/cluster enter $(CMD)

.PHONY: cluster-down
cluster-down: ## End that cluster, where Ctrl-C does not reach it, and remove everything of it
	@$(GO) run ./test/node/cmd/cluster down

.PHONY: run
run: build ## The controller on this host, against the current kubeconfig
	bin/podlane controller --http-address=$(HTTP) --https-address=$(HTTPS) --update-status=false

# The image's name, with its tag.
IMAGE ?= podlane:$(VERSION)

.PHONY: image
image: ## Podlane's image for amd64 and arm64 in dist/, as an OCI archive named IMAGE, with bills of materials; needs no container engine
	@$(GO) run ./test/image/cmd/build -version '$(VERSION)' -name '$(IMAGE)' -created "$$(git log -1 --format=%ct 2>/dev/null || echo 0)"

.PHONY: image-push
image-push: ## Push what `make image` built as IMAGE, with the credentials in ~/.docker/config.json; prints its digest
	@$(GO) tool -modfile=test/image/crane/go.mod crane push --index dist/podlane-image '$(IMAGE)'

##@ Check

.PHONY: test
test: control-plane clients ## Every test; a real control plane is built on first use and cached
	$(GO) test $(RACE) -timeout 30m ./...

.PHONY: test-fast
test-fast: ## The tests that need no control plane
	$(GO) test $(RACE) -timeout 10m $$($(GO) list ./... | grep -v -e /test/e2e -e /test/cluster -e /controllers -e /test/chart)

# In the cluster of KUBECONFIG, or in one that is brought up for it. E2E is for the test program: E2E='-test.run S07'.
SCENARIOS = PODLANE_E2E=1 $(if $(KUBECONFIG),,$(GO) run ./test/node/cmd/cluster run --) bin/scenarios.test -test.v -test.timeout 60m $(E2E)

.PHONY: e2e
e2e: node scenarios ## The scenarios S1 to S16 in a real cluster: one that is brought up, or that of KUBECONFIG
	@$(SCENARIOS) -test.skip TestRollouts

.PHONY: e2e-rollouts
e2e-rollouts: node scenarios ## Rolling updates, Helm upgrades, a dead leader, no API server: at 500 requests a second none may fail (9 minutes)
	@$(SCENARIOS) -test.run TestRollouts

.PHONY: e2e-processes
e2e-processes: control-plane ## The scenarios, and more, where Pods are processes, with what they measure; `make test` runs them too
	$(GO) test -v -count=1 -timeout 30m ./test/e2e

.PHONY: scenarios
scenarios: # Helm and the program of the tests
	@$(GO) run ./test/chart/cmd/build
	@$(GO) test -c -o bin/scenarios.test ./test/scenarios

.PHONY: control-plane
control-plane: ## Build etcd, kube-apiserver, kube-controller-manager, kubectl and Helm into the cache (once)
	@$(GO) run ./test/cluster/cmd/build
	@$(GO) run ./test/chart/cmd/build

.PHONY: node
node: control-plane ## Build kubelet, containerd, kube-proxy, CoreDNS and the rest of a node into the cache too (once)
	@$(GO) run ./test/cluster/cmd/build -node

.PHONY: clients
clients: ## Install the clients that the tests drive (curl, Chromium, nghttp2, Node, testssl.sh), as root on Debian; else say what is missing
	@$(GO) run ./test/clients/cmd/install

.PHONY: check
check: ## gofmt, vet, linters and the rules of ARCHITECTURE.md
	@echo "gofmt"; out=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); test -z "$$out" || { echo "gofmt would change:"; echo "$$out"; exit 1; }
	@echo "go vet"; $(GO) vet ./...
	@echo "golangci-lint (built from its module on first use: some minutes)"; $(GO) tool -modfile=test/lint/go.mod golangci-lint run ./...
	@echo "architecture"; $(GO) test ./test/arch

.PHONY: golden
golden: ## Write the golden files anew, from what the code does now
	$(GO) test ./router/... -update

.PHONY: bench
bench: ## Go benchmarks beside the code
	$(GO) test -run '^$$' -bench . -benchmem ./router/... ./proxy/... ./tls/...

.PHONY: bench-peers
bench-peers: ## Podlane beside nginx, HAProxy, Caddy and httputil.ReverseProxy, as far as installed: BENCH='-only small-64 -runs 3', -help
	@$(GO) run ./test/bench $(BENCH)

.PHONY: bench-admin
bench-admin: build ## /metrics and the admin pages with 5,000 routes, and what a scrape every second takes of a core (5 runs, median): ADMINBENCH='-routes 1000', -help
	@$(GO) run ./test/bench/cmd/admin $(ADMINBENCH)

.PHONY: bench-policies
bench-policies: ## CPU of a request on a route with ten policies and with none (5 runs, median); Build and migrate of 2,000 Ingresses
	@$(GO) test ./test/policies -run '^$$' -bench TenPolicies -benchtime 30000x -count 5 </dev/null \
	  | awk '/cpu-us/ { split($$1, n, /[\/-]/); v[n[2], ++c[n[2]]] = $$(NF-1); print } \
	    function median(k,  i, j, t) { for (i = 1; i <= c[k]; i++) for (j = i + 1; j <= c[k]; j++) if (v[k, j] < v[k, i]) { t = v[k, i]; v[k, i] = v[k, j]; v[k, j] = t } return v[k, int((c[k] + 1) / 2)] } \
	    END { printf "median CPU per request, client and Pod included: %.2f us with none, %.2f us with ten: %.2f us more\n", median("none"), median("ten"), median("ten") - median("none") }'
	$(GO) test ./router/migrate -run '^$$' -bench . -benchtime 20x </dev/null

.PHONY: fuzz
fuzz: ## Every fuzz target, or those that match FUZZ, for FUZZTIME (60s) each
	@grep -rHo --include='*_test.go' '^func Fuzz[[:alnum:]_]*' cmd config controllers proxy router test tls \
	  | sed 's|/[^/]*:func | |' | grep -E -- '$(or $(FUZZ),.)' | sort | while read -r dir name; do \
	    echo "$$dir $$name"; \
	    $(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x ./$$dir </dev/null || exit 1; \
	  done

.PHONY: soak
soak: ## A mixed load with churn, aborts and resets for SOAK (10m): no wrong answer, flat memory
	$(GO) test -v -count=1 -timeout 2h ./test/soak -duration $(SOAK)

.PHONY: clean
clean: ## Remove what was built here (the control plane stays in its cache)
	rm -rf bin dist
