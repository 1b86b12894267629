# Shared by the queue's tools: paths, messages, packages. Sourced, not run.
# shellcheck shell=bash

set -euo pipefail
shopt -s inherit_errexit

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${BUILD:-$REPO/build}
# shellcheck disable=SC2034 # for those who source this
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/dmabuf-queue
JOBS=${JOBS:-$(nproc)}

BASE=${BASE:-7.3}
SERIES=${SERIES:-all}
TOPIC=${TOPIC:-}
LONG=${LONG:-0}
export BUILD BASE SERIES TOPIC LONG

say() { printf '%s\n' "queue: $*" >&2; }
die() { say "$*"; exit 1; }

# in_list WORD LIST...: is WORD one of LIST?
in_list() {
	local word=$1 each
	shift
	for each; do [[ $each == "$word" ]] && return; done
	return 1
}

# one_of NAME VALUE LIST...: refuse a value that LIST does not have
one_of() {
	local name=$1 value=$2
	shift 2
	in_list "$value" "$@" || die "$name=$value is not known; it is one of: $*"
}

series_dir() { echo "$REPO/series/$BASE"; }

# The topics of $BASE in order; behind each name in the file, what it needs.
topics() { sed 's/#.*//' "$(series_dir)/order" | awk 'NF { print $1 }'; }

# topic_needs TOPIC: the topics that it depends on, and theirs, in order
topic_needs() {
	local need
	sed 's/#.*//' "$(series_dir)/order" | awk -v t="$1" '$1 == t { for (i = 2; i <= NF; i++) print $i }' |
		while read -r need; do
			topic_needs "$need"
			echo "$need"
		done | awk '!seen[$0]++'
}

patches() {
	local file
	for file in "$(series_dir)/$1"/[0-9]*.patch; do
		[[ -e $file ]] && echo "$file"
	done
	return 0
}

# source_tree all|none: the git tree that a kernel is built from
source_tree() {
	if [[ $1 == none ]]; then
		echo "$BUILD/linux-$BASE-none"
	else
		echo "$BUILD/linux-$BASE"
	fi
}

# object_dir ARCH FLAVOUR: where the kernel of $SERIES is built. A folder of the
# source tree, so that every path the compiler sees is relative and a second
# tree, or a second clone, finds its objects in ccache.
object_dir() { echo "$(source_tree "$SERIES")/o-$1-$2"; }

selftest_dir() { echo "$BUILD/selftests-$BASE-$1"; }

base_value() { awk -v key="$1" '$1 == key { $1 = ""; print substr($0, 2) }' "$(series_dir)/base"; }

# need PACKAGE...: have these Debian packages, or say how to get them
need() {
	local each missing=()
	for each; do
		dpkg-query -W -f '${db:Status-Status}' "$each" 2>/dev/null | grep -qx installed ||
			missing+=("$each")
	done
	((${#missing[@]})) || return 0
	if [[ $(id -u) != 0 ]]; then
		die "packages are missing; as root: apt-get install --no-install-recommends ${missing[*]}"
	fi
	say "installing ${missing[*]}"
	mkdir -p "$BUILD"
	{
		export DEBIAN_FRONTEND=noninteractive
		apt-get update -q &&
			apt-get install -q -y --no-install-recommends "${missing[@]}"
	} >"$BUILD/apt.log" 2>&1 || {
		tail -n 5 "$BUILD/apt.log" >&2
		die "apt-get failed, see $BUILD/apt.log"
	}
}

# stage NAME BUDGET-MINUTES COMMAND...: run it, note how long it took
stage() {
	local name=$1 budget=$2 start=$SECONDS status=0
	shift 2
	say "$name ..."
	"$@" || status=$?
	mkdir -p "$BUILD"
	echo "$name|$((SECONDS - start))|$budget|$status" >>"$BUILD/stages"
	say "$name: $(((SECONDS - start) / 60)) min $(((SECONDS - start) % 60)) s (budget $budget min)"
	return "$status"
}

git_queue() {
	git -c user.name=queue -c user.email=queue@localhost -c gc.auto=0 \
		-c advice.detachedHead=false -c core.hooksPath=/dev/null "$@"
}
