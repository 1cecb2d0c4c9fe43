#!/usr/bin/env bash
# Real coding agents against ds4 serve, with the embedded model, on a machine that has
# no network: each works inside a network namespace that holds the loopback interface
# and nothing else.
#
#	agents.sh PATH-OF-DS4 [AGENT...]
#
# The agents (codex, claude, opencode; all without names) come from the npm registry,
# pinned by package-lock.json, about 1 GB: this is for the night, not for every change.
set -euo pipefail

[ $# -ge 1 ] || { echo "usage: $0 PATH-OF-DS4 [AGENT...]" >&2; exit 2; }
binary=$(realpath "$1")
shift
cd "$(dirname "$0")"

# As the lock file says. Not npm ci: it insists on an entry for every system that
# opencode is made for, and registries do not hold all of those packages.
npm install --no-save --no-audit --no-fund --loglevel=error
exec unshare -rn bash -c 'ip link set lo up && exec node agents.mjs "$@"' agents "$binary" "$@"
