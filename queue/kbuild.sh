# What compiles kernels: toolchain, ccache, make, configuration. Sourced behind lib.sh, not run.
# shellcheck shell=bash disable=SC2034

need ccache flex bison bc libelf-dev libssl-dev kmod rsync make gcc libc6-dev python3

export CCACHE_DIR=${CCACHE_DIR:-$CACHE/ccache} CCACHE_NOHASHDIR=1 CCACHE_DEPEND=1 CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-8G}
export KBUILD_BUILD_TIMESTAMP='Sat Jan  1 00:00:00 UTC 2000' KBUILD_BUILD_USER=queue KBUILD_BUILD_HOST=queue
export LOCALVERSION=
unset ARCH

# toolchain ARCH [gcc|clang]: have the compiler, and kmake use it. Sets
# $cross, its prefix, and $nm.
toolchain() {
	local karch=$1 version
	cross=
	case $1 in
	arm) cross=arm-linux-gnueabihf- ;;
	arm64) cross=aarch64-linux-gnu- ;;
	ppc64le) karch=powerpc cross=powerpc64le-linux-gnu- ;;
	riscv64) karch=riscv cross=riscv64-linux-gnu- ;;
	s390x) karch=s390 cross=s390x-linux-gnu- ;;
	x86_64) cross=x86_64-linux-gnu- ;;
	*) die "there is no toolchain for $1" ;;
	esac
	if [[ ${2:-gcc} == clang ]]; then
		version=$(clang_version) || exit
		need "clang-$version" "lld-$version" "llvm-$version"
		kmake_args=(ARCH="$karch" LLVM="-$version" CC="ccache clang-$version" HOSTCC=gcc)
		nm=llvm-nm-$version
		return
	fi
	[[ $cross != "$(uname -m)"-* ]] || cross=
	[[ -z $cross ]] || need "gcc-$(tr _ - <<<"${cross%-}")"
	kmake_args=(ARCH="$karch" CROSS_COMPILE="$cross" CC="ccache ${cross}gcc")
	nm=${cross}nm
}

# clang_version: the newest that is installed, else that apt offers; Linux 7.3
# wants 17.0.1 or later, and Debian's default may be older.
clang_version() {
	local version
	for version in \
		$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 'clang-*' 2>/dev/null |
			sed -nE 's/^installed clang-([0-9]+)$/\1/p' | sort -rn) \
		$(apt-cache search --names-only '^clang-[0-9]+$' |
			sed -nE 's/^clang-([0-9]+) .*/\1/p' | sort -rn); do
		((version < 17)) || { echo "$version"; return; }
	done
	die "apt offers no clang-17 or later; if its lists are old: apt-get update"
}

kmake() {
	local tree=$1 objects=$2
	shift 2
	make -C "$tree" O="$objects" "${kmake_args[@]}" -j"$JOBS" "$@"
}

# quietly LOG COMMAND...: its output goes to LOG; the errors in it, if it fails, here too
quietly() {
	local log=$1
	shift
	local ticker status=0
	{ while sleep 60; do say "  ... $(tail -n 1 "$log" | cut -c 1-70)" 2>&3; done; } 3>&2 2>/dev/null &
	ticker=$!
	"$@" >"$log" 2>&1 || status=$?
	{ pkill -P "$ticker" sleep; kill "$ticker"; wait "$ticker"; } 2>/dev/null || true
	((status == 0)) || {
		grep -nE 'error|Error|ERROR|undefined reference' "$log" | head -n 20 >&2
		die "failed: $* (whole output in $log)"
	}
}

# fragments common ARCH FLAVOUR[+MORE]: these of configs/, FLAVOUR-ARCH if there is
# one, then what the topics want ($config_topics, or all), then MORE, without what
# the base is too old for
fragments() {
	local name flavour=${3%%+*} files=() lacks
	for name in "$1" "$2" "$flavour"; do files+=("$REPO/configs/$name.config"); done
	[[ ! -f $REPO/configs/$flavour-$2.config ]] || files+=("$REPO/configs/$flavour-$2.config")
	for name in ${config_topics:-$(topics)}; do
		[[ ! -f $(series_dir)/$name/config ]] || files+=("$(series_dir)/$name/config")
	done
	[[ $3 == "$flavour" ]] || files+=("$REPO/configs/${3#*+}.config")
	lacks=$(base_value lacks | sed 's/  */=|/g')
	cat "${files[@]}" | grep -vE "^(${lacks:-none}=)"
}

# configure TREE OBJECTS [insist]: a tinyconfig and what standard input asks for,
# all of which it must give if this is to insist
configure() {
	local tree=$1 objects=$1/$2 insist=${3:-} line option wanted
	mkdir -p "$objects"
	cat >"$objects/queue.config.new"
	if [[ -f $objects/.config ]] && cmp -s "$objects/queue.config"{.new,}; then
		return
	fi
	rm -f "$objects/queue.config"
	quietly "$objects/config.log" kmake "$tree" "$objects" tinyconfig
	cat "$objects/queue.config.new" >>"$objects/.config"
	quietly "$objects/config.log" kmake "$tree" "$objects" olddefconfig
	# An option that Kconfig dropped would silently test less.
	while read -r line; do
		case $line in
		CONFIG_*=*) grep -qxF "$line" "$objects/.config" ;;
		'# CONFIG_'*' is not set')
			option=${line#\# }
			option=${option% is not set}
			! grep -q "^$option=" "$objects/.config"
			;;
		*) continue ;;
		esac || wanted+="${wanted:+, }$line"
	done < <(tac "$objects/queue.config.new" | awk -F'[ =]' '/^CONFIG_/ { k = $1 } /^# CONFIG_/ { k = $2 } k && !seen[k]++; { k = "" }')
	if [[ -n ${wanted:-} && -n $insist ]]; then
		die "Kconfig of $tree does not give: $wanted"
	fi
	mv "$objects/queue.config.new" "$objects/queue.config"
}

# name_missing OPTION-FILE TREE OBJECTS: let Kconfig of TREE know the options that
# only the series defines. The base does not use them, but with them the
# generated autoconf.h, which every file includes, is the series' own to the
# byte, and ccache has all that the series does not change.
name_missing() {
	local option value
	{
		cat "$2/Kconfig"
		while IFS='=' read -r option value; do
			option=${option#CONFIG_}
			git -C "$2" grep -qE "^(menu)?config $option\$" HEAD -- '*Kconfig*' ||
				printf 'config %s\n\tdef_%s %s\n' "$option" \
					"$([[ $value == m ]] && echo tristate || echo bool)" "$value"
		done < <(tac "$1" | awk -F= '/^CONFIG_[A-Z0-9_]+=[ym]$/ && !seen[$1]++')
	} >"$3/Kconfig.queue"
	kmake_args+=(KBUILD_KCONFIG="$3/Kconfig.queue")
}

# build_in TREE: standard input, where an unpatched base that knows an option as
# built in only has it so, and not as the module that the series makes of it
build_in() {
	local line known
	while IFS= read -r line; do
		if [[ $SERIES == none && $line =~ ^CONFIG_([A-Z0-9_]+)=m$ ]]; then
			known=$(git -C "$1" grep -hE -A 1 "^config ${BASH_REMATCH[1]}\$" HEAD -- '*Kconfig*') || true
			[[ $known != *$'\n\t'bool* ]] || line=${line%m}y
		fi
		echo "$line"
	done
}

# topic_commits TREE TOPIC: the commits of its patches, in order
topic_commits() {
	git -C "$1" log --reverse --format='%H %s' refs/queue/base..HEAD |
		awk -v t="$2" '$2 == "topic" && $3 ~ /:$/ { topic = substr($3, 1, length($3) - 1); next } topic == t { print $1 }'
}
