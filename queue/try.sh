# What the topics' demonstrations have in the guest, where what begins with "> " is
# shown.
# shellcheck shell=sh

# try DIR PROGRAM ARGUMENT...: run tests of a kselftest, and show how they ended
try() {
	dir=$1 program=$2
	shift 2
	if ! (cd "/tests/$dir" && "./$program" "$@" >/tmp/log 2>&1); then
		echo ">     WRONG: $(grep -m 1 Expected /tmp/log | sed 's/.*:Expected/expected/')"
	elif grep -q '# SKIP' /tmp/log; then
		echo ">     not possible: $(sed -n 's/.*# SKIP *//p' /tmp/log | head -n 1)"
	else
		echo ">     as it should be"
	fi
}

heaps() {
	echo ">     /dev/dma_heap: $(find /dev/dma_heap -type c -exec basename {} \; 2>/dev/null | sort | tr '\n' ' ')"
}
