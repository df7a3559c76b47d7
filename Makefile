# The front door: `make` lists what can be asked. The work itself is in scripts/ and in `cargo xtask`.

.DEFAULT_GOAL := help
.PHONY: help try test test-kvm check bench clean

help: ## List these commands
	@awk -F ': ## ' '/^[a-z-]+: ## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

try: ## Install QEMU if missing, build, and run `git --version` inside a guest
	@scripts/try.sh

test: ## Run all tests, those on real guests included, and say how many guests were booted
	@scripts/install-qemu.sh
	@cargo xtask test

test-kvm: ## Run pyro under a real KVM, in an emulated host that has one: what works, not how fast
	@scripts/install-qemu.sh
	@cargo xtask test-kvm

check: ## Everything that continuous integration checks: format, lints, docs, tidy, all tests
	@scripts/install-qemu.sh
	@cargo xtask ci

bench: ## Print the benchmark table (make bench ARGS='--json', ARGS='warm-true cold-true', ARGS=choices)
	@scripts/install-qemu.sh
	@cargo xtask bench -- $(ARGS)

clean: ## Remove what was built here (environments stay: `pyro env prune --all` removes those)
	cargo clean
