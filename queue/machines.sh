# The machines that guests are. Sourced, not run.
# shellcheck shell=bash disable=SC2034

# with_iommu ARCH: let the machine have one; arm64's has. That of x86_64 does not
# remap interrupts here, which vfio and iommufd want to be told is well.
with_iommu() {
	[[ $1 != arm64 ]] || return 0
	machine_qemu+=(-device 'intel-iommu,intremap=off')
	machine_append+=' iommufd.allow_unsafe_interrupts=1 vfio_iommu_type1.allow_unsafe_interrupts=1'
}

# machine NAME ARCH: set machine_archs (where it exists), machine_long (1: only
# with LONG=1), machine_flavour (the kernel's fragment), machine_append (kernel
# parameters), machine_devicetree (an overlay of configs/ on QEMU's own),
# machine_accel and machine_qemu (devices).
machine() {
	machine_archs=(arm64 x86_64)
	machine_long=0
	machine_flavour=debug
	machine_append=
	machine_devicetree=
	machine_accel=tcg
	machine_qemu=()
	case $1 in
	plain) ;;
	swiotlb) # every streaming mapping bounces, as in a confidential guest; IOMMUs, which would not, are passed through
		[[ $2 == arm64 ]] || machine_long=1
		machine_append='swiotlb=force iommu.passthrough=1'
		;;
	cma) # a CMA region that the command line asks for; heaps charge cgroups; vfio-pci has a device; caches are maintained
		machine_append='cma=64M dma_heap.mem_accounting=1 fastrpc-sim.coherent=0'
		machine_qemu=(-object 'memory-backend-ram,id=shm,size=1M' -device 'pcie-root-port,id=port1,chassis=1'
			-device 'ivshmem-plain,memdev=shm,bus=port1')
		with_iommu "$2"
		;;
	regions) # reserved memory of each kind, which only a devicetree can have
		machine_archs=(arm64)
		machine_devicetree=regions
		machine_append='mem=1G fastrpc-sim.heap=adsp-heap fastrpc-sim.non_secure=1'
		machine_qemu=(-m 5120)
		;;
	pages-64k) # and heaps that are built in
		machine_archs=(arm64)
		machine_long=1
		machine_flavour=pages-64k+builtin
		machine_devicetree=regions
		machine_append='mem=1G'
		machine_qemu=(-m 5120)
		;;
	modules) # nothing that a test may load is there before
		machine_archs=(arm64)
		machine_long=1
		machine_flavour=debug+long
		machine_append='deferred_probe_timeout=12'
		;;
	iommufd) # it can be tested, with the huge pages that its tests use
		machine_archs=(arm64)
		machine_long=1
		machine_flavour=debug+long
		machine_append='hugepages=160'
		machine_qemu=(-m 2048)
		;;
	vfio | vfio-long | vfio-64k) # devices for user space, each behind a root port of its own, which can reset it
		[[ $1 == vfio ]] || machine_long=1
		if [[ $1 == vfio-64k ]]; then
			machine_archs=(arm64)
			machine_flavour=pages-64k+builtin
		fi
		# With a thread for each CPU, QEMU 7.2 at times loses a CPU's timer while
		# the other CPU resets a device, and the guest stands still.
		[[ $2 == arm64 ]] || machine_accel=tcg,thread=single
		machine_qemu=(
			-object 'memory-backend-ram,id=shm0,size=64M' -object 'memory-backend-ram,id=shm1,size=4M'
			-drive 'id=disk,if=none,driver=null-co,read-zeroes=on,size=16M'
		)
		local slot=1 device
		for device in ivshmem-plain,memdev=shm0 ivshmem-plain,memdev=shm1 nvme,drive=disk,serial=1 edu; do
			machine_qemu+=(-device "pcie-root-port,id=port$slot,chassis=$slot,addr=$((slot + 7))"
				-device "$device,bus=port$slot")
			slot=$((slot + 1))
		done
		# and one that has two functions
		machine_qemu+=(
			-object 'memory-backend-ram,id=shm2,size=1M' -object 'memory-backend-ram,id=shm3,size=1M'
			-device 'pcie-root-port,id=port5,chassis=5,addr=12'
			-device 'ivshmem-plain,memdev=shm2,bus=port5,addr=0.0,multifunction=on'
			-device 'ivshmem-plain,memdev=shm3,bus=port5,addr=0.1'
			-device 'pcie-root-port,id=port6,chassis=6,addr=13' -device 'pci-testdev,membar=1M,bus=port6'
		)
		if [[ $1 == vfio-long ]]; then # and one that can have a virtual function
			machine_append='vfio_pci.enable_sriov=1'
			machine_qemu+=(
				-device 'pcie-root-port,id=port7,chassis=7,addr=14' -device 'nvme-subsys,id=subsystem'
				-device 'nvme,serial=2,subsys=subsystem,bus=port7,sriov_max_vfs=1,sriov_vq_flexible=2,sriov_vi_flexible=1,max_ioqpairs=4,msix_qsize=3'
			)
		fi
		with_iommu "$2"
		;;
	bench) # what two boots agree on: one CPU, time counted in instructions
		machine_flavour=bench
		machine_append=nokaslr
		machine_qemu=(-smp 1 -icount 'shift=0,sleep=off' -object 'memory-backend-ram,id=shm,size=64M'
			-device 'pcie-root-port,id=port1,chassis=1' -device 'ivshmem-plain,memdev=shm,bus=port1')
		if [[ $2 == arm64 ]]; then
			machine_devicetree=regions
			machine_append+=' mem=1G cma=128M'
			machine_qemu+=(-m 5120)
		fi
		with_iommu "$2"
		;;
	*) die "machine $1 is not known" ;;
	esac
}
