// SPDX-License-Identifier: GPL-2.0-only
/*
 * Find the compute DSP, start a session from a shell, open a module by its URI,
 * as the DSP's remotectl has it, and let it sum up a vector.
 */

#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <drm/qda_accel.h>

#define URI "file:///libcalculator_skel.so?calculator_skel_handle_invoke&_modver=1.0"

static int dev;

static void *buffer(size_t size, uint32_t *handle)
{
	struct drm_qda_gem_create create = { .size = size };
	struct drm_qda_gem_mmap_offset map = {};
	void *mem;

	if (ioctl(dev, DRM_IOCTL_QDA_GEM_CREATE, &create))
		err(1, "create");
	*handle = map.handle = create.handle;
	if (ioctl(dev, DRM_IOCTL_QDA_GEM_MMAP_OFFSET, &map))
		err(1, "offset");
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, dev, map.offset);
	if (mem == MAP_FAILED)
		err(1, "mmap");
	return mem;
}

static void invoke(uint32_t module, uint32_t scalars, struct drm_qda_arg *args)
{
	struct drm_qda_invoke request = {
		.module = module, .scalars = scalars, .args = (uintptr_t)args,
	};

	if (ioctl(dev, DRM_IOCTL_QDA_INVOKE, &request))
		err(1, "invoke");
	if (request.result)
		errx(1, "the DSP returned %#x", request.result);
}

/* Other drivers have accel devices too, and ioctls of the same numbers. */
static int is_compute_dsp(void)
{
	char name[8] = "";
	struct drm_version version = { .name = name, .name_len = sizeof(name) - 1 };
	struct drm_qda_device device;
	struct drm_qda_query query = {
		.type = DRM_QDA_QUERY_DEVICE,
		.size = sizeof(device),
		.data = (uintptr_t)&device,
	};

	return !ioctl(dev, DRM_IOCTL_VERSION, &version) && !strcmp(name, "qda") &&
	       !ioctl(dev, DRM_IOCTL_QDA_QUERY, &query) &&
	       device.domain == DRM_QDA_DOMAIN_CDSP;
}

int main(int argc, char **argv)
{
	struct drm_qda_session_create session = {
		.kind = DRM_QDA_SESSION_USER,
		.attributes = DRM_QDA_SESSION_UNSIGNED,
	};
	struct drm_qda_arg args[4] = {};
	char path[32], *shell, *mem;
	int i, fd, *vector;
	uint32_t handle;
	ssize_t size;
	int64_t sum;

	for (i = 0; i < 64; i++) {
		snprintf(path, sizeof(path), "/dev/accel/accel%d", i);
		dev = open(path, O_RDWR);
		if (dev >= 0 && is_compute_dsp())
			break;
		if (dev >= 0)
			close(dev);
	}
	if (i == 64)
		errx(1, "no compute DSP");

	shell = buffer(1 << 21, &session.shell_handle);
	fd = open(argc > 1 ? argv[1] : argv[0], O_RDONLY);
	size = read(fd, shell, 1 << 21);
	if (size <= 0)
		err(1, "shell");
	session.shell_size = size;
	if (ioctl(dev, DRM_IOCTL_QDA_SESSION_CREATE, &session))
		err(1, "session (%#x)", session.result);

	/* Small arguments lie together in a buffer; 128 bytes apart do not hurt. */
	mem = buffer(8192, &handle);
	((uint32_t *)mem)[0] = sizeof(URI);
	((uint32_t *)mem)[1] = 64;
	memcpy(mem + 128, URI, sizeof(URI));
	args[0] = (struct drm_qda_arg){ .handle = handle, .length = 8 };
	args[1] = (struct drm_qda_arg){ .handle = handle, .offset = 128,
					.length = sizeof(URI) };
	args[2] = (struct drm_qda_arg){ .handle = handle, .offset = 256, .length = 8 };
	args[3] = (struct drm_qda_arg){ .handle = handle, .offset = 384, .length = 64 };
	invoke(0, DRM_QDA_SCALARS(0, 2, 2, 0, 0), args);
	if (((int32_t *)(mem + 256))[1])
		errx(1, "the module cannot be opened");

	((uint32_t *)mem)[0] = 1000;
	vector = (int *)(mem + 4096);
	for (i = 0; i < 1000; i++)
		vector[i] = i;
	args[0].length = 4;
	args[1].offset = 4096;
	args[1].length = 4000;
	args[2].offset = 512;
	invoke(*(uint32_t *)(mem + 256), DRM_QDA_SCALARS(2, 2, 1, 0, 0), args);
	memcpy(&sum, mem + 512, sizeof(sum));
	printf("the sum is %lld\n", (long long)sum);
	return 0;
}
