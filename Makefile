# The commands of the queue; each is a script of queue/. See README.md.

BASES  := 7.3 6.12
ARCHS  := $(strip arm64 x86_64 $(if $(filter matrix,$(MAKECMDGOALS)),arm riscv64 s390x ppc64le))
TOPICS := $(shell sed 's/\#.*//' series/$(or $(BASE),*)/order 2>/dev/null | awk 'NF { print $$1 }' | sort -u)

# $(call one-of,VARIABLE,VALUES): a value that is not one of these ends it here
one-of = $(if $($(1)),$(if $(and $(filter $($(1)),$(2)),$(filter 1,$(words $($(1))))),,$(error $(1)=$($(1)) is not known; it is one of: $(2))))

$(call one-of,BASE,$(BASES))
$(call one-of,ARCH,$(ARCHS))
$(call one-of,SERIES,all none)
$(call one-of,LONG,0 1)
$(call one-of,TOPIC,$(TOPICS))

# A source is of one base.
BASE := $(or $(BASE),$(if $(KERNEL_SRC)$(KERNEL_TARBALL),7.3))

export ARCH BASE TOPIC SERIES LONG KERNEL_SRC KERNEL_TARBALL DEBIAN_MIRROR
MAKEFLAGS += --no-print-directory

.PHONY: demo check lint bisect matrix bench export selftest tree refresh roundtrip clean help
.DEFAULT_GOAL := demo

demo check lint bisect matrix bench export roundtrip selftest:
	@queue/$@
tree:
	@queue/tree $(or $(SERIES),all)
refresh:
	@queue/refresh
clean:
	rm -rf build

help:
	@echo 'make            build and boot the kernel, show what each topic does'
	@echo 'make check      run every test; the last line counts them'
	@echo 'make lint       checkpatch, sparse, W=1, kernel-doc, coccicheck, documentation'
	@echo 'make bisect     build each commit of each topic'
	@echo 'make matrix     build what the queue touches for six architectures, two compilers'
	@echo 'make bench      measure against the unpatched base'
	@echo 'make export     build/export: each topic as a mailable series, all as a quilt series'
	@echo 'make tree       build/linux-BASE: the series as a git tree, to edit'
	@echo 'make refresh    write that tree back to the repo'
	@echo 'make roundtrip  prove that tree and refresh are inverse'
	@echo 'make selftest   test the queue'"'"'s own tools'
	@echo 'make clean      remove build (the cache is ~/.cache/dmabuf-queue)'
	@echo
	@echo 'ARCH=arm64|x86_64   one architecture   TOPIC=name    one topic: $(TOPICS)'
	@echo '                     (matrix: arm, riscv64, s390x, ppc64le too)'
	@echo 'BASE=7.3|6.12       one base           SERIES=none   the base without the series'
	@echo 'LONG=1              full-length races and the machines that take long'
	@echo 'KERNEL_SRC=dir, KERNEL_TARBALL=file    this source in place of Debian'"'"'s package'
