# The machines that guests are. Sourced, not run.
# shellcheck shell=bash disable=SC2034

# machine NAME ARCH: set machine_archs (where it exists), machine_long (1: only
# with LONG=1), machine_flavour (the kernel's fragment), machine_append (kernel
# parameters) and machine_qemu (devices).
machine() {
	machine_archs=(arm64 x86_64)
	machine_long=0
	machine_flavour=debug
	machine_append=
	machine_qemu=()
	case $1 in
	plain) ;;
	swiotlb) # every streaming mapping bounces, as in a confidential guest
		machine_append='swiotlb=force'
		;;
	pages-64k)
		machine_archs=(arm64)
		machine_long=1
		machine_flavour=pages-64k
		;;
	bench) # what two boots agree on: one CPU, time counted in instructions
		machine_flavour=bench
		machine_append=nokaslr
		machine_qemu=(-smp 1 -icount 'shift=0,sleep=off')
		;;
	*) die "machine $1 is not known" ;;
	esac
}
