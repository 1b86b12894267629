/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The software DSP, as Documentation/misc-devices/fastrpc-sim.rst describes it.
 */

#ifndef FASTRPC_SIM_H
#define FASTRPC_SIM_H

#include <dirent.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIM_DEBUGFS		"/sys/kernel/debug/fastrpc-sim"

#define SIM_REMOTECTL		0
#define SIM_PROCESS		1
#define SIM_LISTENER		3

#define SIM_ERROR(aee)		((int)(0x80000400 + (aee)))
#define SIM_EFAILED		SIM_ERROR(1)
#define SIM_ENOMEMORY		SIM_ERROR(2)
#define SIM_EUNABLETOLOAD	SIM_ERROR(6)
#define SIM_EEXPIRED		SIM_ERROR(12)
#define SIM_EBADSTATE		SIM_ERROR(13)
#define SIM_EBADPARM		SIM_ERROR(14)
#define SIM_EUNSUPPORTED	SIM_ERROR(20)

#define SIM_ARCH_VERSION	6
#define SIM_ARCH		0x68

/* Sessions of a DSP: one a bank, two in the last. */
#define SIM_SESSIONS		5

/* Mappings that a session can have. */
#define SIM_MAPS		256

/* Scalars: method, input and output buffers, input and output handles. */
#define SIM_SC(method, in, out, hin, hout) \
	((method) << 24 | (in) << 16 | (out) << 8 | (hin) << 4 | (hout))

/* Write @what to a file of the DSP in debugfs; 0, or -1 with errno. */
static inline int sim_write(const char *dsp, const char *file, const char *what)
{
	char path[128];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), SIM_DEBUGFS "/%s/%s", dsp, file);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return -1;
	n = write(fd, what, strlen(what));
	close(fd);
	return n == (ssize_t)strlen(what) ? 0 : -1;
}

/* The number in a file of the DSP in debugfs, or -1. */
static inline long sim_count(const char *dsp, const char *file)
{
	char path[128];
	long count;
	FILE *f;

	snprintf(path, sizeof(path), SIM_DEBUGFS "/%s/%s", dsp, file);
	f = fopen(path, "r");
	if (!f)
		return -1;
	if (fscanf(f, "%ld", &count) != 1)
		count = -1;
	fclose(f);
	return count;
}

/* Wait until the number is @count, for ten seconds at most; what it is then. */
static inline long sim_wait_count(const char *dsp, const char *file, long count)
{
	int i;

	for (i = 0; i < 1000 && sim_count(dsp, file) != count; i++)
		usleep(10000);
	return sim_count(dsp, file);
}

/* The region that the module was told of: a node's name, or "(null)". */
static inline void sim_heap(char name[64])
{
	FILE *f = fopen("/sys/module/fastrpc_sim/parameters/heap", "r");

	if (!f || fscanf(f, "%63s", name) != 1)
		strcpy(name, "(null)");
	if (f)
		fclose(f);
}

/* Whether the module was told of a region. */
static inline int sim_has_heap(void)
{
	char name[64];

	sim_heap(name);
	return strcmp(name, "(null)");
}

/* Whether the DSP has been given the region that the module was told of. */
static inline int sim_heap_is_right(const char *dsp)
{
	unsigned long long address = 0, start;
	char path[128], name[64];
	struct dirent *entry;
	int right = 0;
	FILE *f;
	DIR *dir;

	snprintf(path, sizeof(path), SIM_DEBUGFS "/%s/heap_address", dsp);
	f = fopen(path, "r");
	if (f) {
		if (fscanf(f, "%llx", &address) != 1)
			address = 0;
		fclose(f);
	}
	sim_heap(name);
	dir = opendir("/proc/device-tree/reserved-memory");
	while (dir && (entry = readdir(dir))) {
		if (sscanf(entry->d_name, "%*[^@]@%llx", &start) == 1 && start == address &&
		    !strncmp(entry->d_name, name, strlen(name)))
			right = sim_count(dsp, "heap_size") > 0;
	}
	if (dir)
		closedir(dir);
	return right;
}

/* Load a module; 0 if it is there now, and is no part of the kernel itself. */
static inline int sim_load_with(const char *module, const char *parameter)
{
	char path[128];
	int status = 1;
	pid_t pid = fork();

	if (!pid) {
		execlp("modprobe", "modprobe", "-q", module, parameter, NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		return -1;
	snprintf(path, sizeof(path), "/sys/module/%s/initstate", module);
	return access(path, F_OK);
}

static inline int sim_load(const char *module)
{
	return sim_load_with(module, NULL);
}

/* Unload a module that nothing uses; 0, or -1 with errno. */
static inline int sim_unload(const char *module)
{
	return syscall(SYS_delete_module, module, O_NONBLOCK);
}

static inline void sim_uri(char *uri, size_t size, const char *module)
{
	snprintf(uri, size, "file:///lib%s_skel.so?%s_skel_handle_invoke&_modver=1.0&_dom=cdsp",
		 module, module);
}

/* Whether an IOMMU group has a domain that translates nothing. */
static inline int sim_group_is_identity(const char *group)
{
	char path[300], type[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%s/type", group);
	f = fopen(path, "r");
	if (f) {
		if (!fgets(type, sizeof(type), f))
			type[0] = '\0';
		fclose(f);
	}
	return !strcmp(type, "identity\n");
}

/* How many IOMMU groups, of identity domains or not, have a context bank in them. */
static inline int sim_groups_of(int identity)
{
	int groups = 0, n;
	struct dirent *entry;
	char path[300];
	DIR *dir, *devices;

	dir = opendir("/sys/kernel/iommu_groups");
	if (!dir)
		return 0;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || sim_group_is_identity(entry->d_name) != identity)
			continue;
		snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%s/devices", entry->d_name);
		devices = opendir(path);
		for (n = 0; devices && (entry = readdir(devices));)
			n += !!strstr(entry->d_name, "compute-cb");
		if (devices)
			closedir(devices);
		groups += n == 1;
	}
	closedir(dir);
	return groups;
}

/* How many of those that translate. */
static inline int sim_groups(void)
{
	return sim_groups_of(0);
}

/* Whether banks must have translation: there is an SMMU, and nobody asked for passthrough. */
static inline int sim_has_iommu(void)
{
	glob_t found;
	int ret = glob("/sys/bus/platform/drivers/arm-smmu-v3/*/of_node", 0, NULL, &found);

	if (!ret)
		globfree(&found);
	return !ret && !sim_groups_of(1);
}

#endif
