# The commands of CONTRIBUTING.md by name. Nothing here is needed to build.

.PHONY: all check test race bench golden scenarios ci

all: check test

# What every change must pass.
check:
	@test -z "$$(git ls-files '*.go' | grep -v testdata/ | xargs gofmt -l | tee /dev/stderr)"
	go vet ./...
	go test -count=1 .

test:
	go test ./...

# The second line leaves the kernels uninstrumented: they take most of the time.
race:
	go test -race -short ./metal/... ./runtime/kvstore/... ./runtime/failpoint
	go test -race -short -gcflags=ds4/metal/cpu/...=-race=false ./runtime/engine ./runtime/scheduler ./runtime/server

# Logits, token ids and prompts against reference data.
golden:
	go test -count=1 -run 'Golden|DS4Reference|BitIdentical|History|Canonical' ./runtime/engine ./runtime/tokenizer ./runtime/chat

# The first line compares with llama.cpp if LLAMABENCH names a command for it.
bench:
	.ci/bench
	go test -run '^$$' -bench . -benchmem ./runtime/engine ./runtime/kvstore/... ./metal/...
	go run ./cmd/ds4bench speed
	go run ./cmd/ds4 kv bench

scenarios:
	go run ./cmd/ds4bench run

ci:
	bash .ci/run
