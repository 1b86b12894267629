# Debian packages through an apt configuration of the queue's own. Sourced, not run.
# shellcheck shell=bash

# The lists, sources and cache are private; the mirror, the proxy and the
# archive's keys are the machine's. Nothing under /etc or /var is written.
apt_dir=$CACHE/apt
apt() { local tool=$1; shift; APT_CONFIG=$apt_dir/apt.conf "$tool" "$@"; }

# apt_sources INSTEAD SUITE...: read the lists of these suites (of their sources
# with apt_types=deb-src); INSTEAD tells the user what to do where that is not
# possible.
apt_sources() {
	local instead=$1 suite uri label mirror=${DEBIAN_MIRROR:-} security=
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	shift
	command -v apt-get >/dev/null || die "this machine has no apt; $instead"
	# One user of the private apt at a time, until the shell that called ends
	mkdir -p "$apt_dir"
	exec 9>"$apt_dir/lock"
	flock 9
	[[ -e $keyring ]] || need debian-archive-keyring
	while read -r uri label; do
		case $label in
		Debian-Security) security=${security:-$uri} ;;
		Debian) mirror=${mirror:-$uri} ;;
		esac
	done < <(apt-get indextargets --format '$(REPO_URI) $(LABEL)' 'Created-By: Packages')
	if [[ -z $mirror ]]; then # no lists were ever read, so there are no labels
		mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 -E '/debian/?$') ||
			die "this machine's apt names no Debian mirror; set DEBIAN_MIRROR= to one, or $instead"
	fi
	rm -rf "$apt_dir/sources"
	mkdir -p "$apt_dir"/{sources,state/lists/partial,cache/archives/partial}
	: >"$apt_dir/status"
	{
		apt-config dump | grep '^Acquire::'
		cat <<-EOF
			APT::Architectures { "$(dpkg --print-architecture)"; "arm64"; "amd64"; };
			APT::Sandbox::User "root";
			Dir::Etc::parts "/dev/null";
			Dir::Etc::sourcelist "/dev/null";
			Dir::Etc::sourceparts "$apt_dir/sources";
			Dir::Etc::preferences "/dev/null";
			Dir::Etc::preferencesparts "/dev/null";
			Dir::State "$apt_dir/state";
			Dir::State::status "$apt_dir/status";
			Dir::Cache "$apt_dir/cache";
		EOF
	} >"$apt_dir/apt.conf"
	for suite; do
		uri=$mirror
		[[ $suite == *-security ]] && uri=$security
		[[ -n $uri ]] || continue
		printf 'Types: %s\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
			"${apt_types:-deb}" "$uri" "$suite" "$keyring" >"$apt_dir/sources/$suite.sources"
	done
	apt apt-get update -q --error-on=any >"$apt_dir/update.log" 2>&1 || {
		grep -E '^(E|W|Err)' "$apt_dir/update.log" | head -n 3 >&2
		die "apt cannot read $* from the Debian mirror; check the network or DEBIAN_MIRROR=, or $instead"
	}
}

# apt_fetch PACKAGE[:ARCH] [VERSION]: print the path of the .deb, downloaded and
# verified; fail where the suites that were read do not have it.
apt_fetch() {
	local dir=$CACHE/debs/${1//:/_}
	mkdir -p "$dir"
	(cd "$dir" && apt apt-get download -q "$1${2:+=$2}") >"$apt_dir/download.log" 2>&1 || return 1
	find "$dir" -name '*.deb' -printf '%T@ %p\n' | sort -n | sed -n '$s/^[^ ]* //p'
}

apt_offers() { apt apt-cache policy "$1" | awk '$1 == "Candidate:" && $2 != "(none)" { print $2 }'; }
