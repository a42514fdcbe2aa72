# SPDX-License-Identifier: Apache-2.0
#
# common.sh - what the tests of the tools share: a directory, a daemon, checks.
#
# In: BIN, where the tools are, and TESTS, where json_has is.
set -u
dir=$(mktemp -d)
daemon=
failed=0
export TMPDIR=$dir
export KVD_SOCKET=$dir/kvd.sock

cleanup()
{
	[[ -z $daemon ]] || kill "$daemon" 2>/dev/null
	wait
	rm -rf "$dir"
}
trap cleanup EXIT

fail()
{
	echo "FAILED: $*" >&2
	failed=1
}

# expect STATUS COMMAND...: output goes to $dir/out and $dir/err.
expect()
{
	local want=$1 got

	shift
	"$@" >"$dir/out" 2>"$dir/err"
	got=$?
	[[ $got == "$want" ]] && return
	fail "$* ended with $got, not $want: $(head -c 500 "$dir/err")"
}

# expect_json CHECK... -- COMMAND...: its output is JSON that has these.
expect_json()
{
	local checks=()

	while [[ $1 != -- ]]; do
		checks+=("$1")
		shift
	done
	shift
	expect 0 "$@"
	"$TESTS/json_has" "${checks[@]}" <"$dir/out" ||
		fail "$*: $(head -c 500 "$dir/out")"
}

start_daemon()
{
	"$BIN/kvd" --config /dev/null --device host \
		--socket "$KVD_SOCKET" --state-dir "$dir" \
		"$@" >"$dir/kvd.log" 2>&1 &
	daemon=$!
	for ((i = 0; i < 500; i++)); do
		"$BIN/kvctl" status >/dev/null 2>&1 && return
		sleep 0.02
	done
	cat "$dir/kvd.log" >&2
	fail 'no daemon'
	exit 1
}

stop_daemon()
{
	kill "$daemon"
	wait "$daemon" || fail "kvd ended with $?: $(tail -n 3 "$dir/kvd.log")"
	daemon=
	[[ ! -e $KVD_SOCKET ]] || fail 'kvd left its socket'
}
