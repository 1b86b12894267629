// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the DSP's program of a session has mapped, by request of user space.
 */

#include <linux/cleanup.h>
#include <linux/slab.h>

#include <drm/drm_gem.h>
#include <drm/qda_accel.h>

#include "qda.h"

/* Ask the DSP to map a range. */
static int map(struct qda_session *session, struct qda_range *range, u64 addr, u32 type,
	       s32 *result)
{
	struct qda_wire_mem_map mem_map = {
		.client_id = cpu_to_le32(session->client_id),
		.handle = cpu_to_le32(range->handle),
		.flags = cpu_to_le32(type),
		.pages_size = cpu_to_le32(sizeof(struct qda_wire_page)),
	};
	struct qda_wire_mmap mmap = {
		.client_id = cpu_to_le32(session->client_id),
		.flags = cpu_to_le32(type),
		.pages_size = cpu_to_le32(sizeof(struct qda_wire_page)),
	};
	struct qda_wire_page page = {
		.addr = cpu_to_le64(addr),
		.size = cpu_to_le64(range->len),
	};
	u32 scalars = range->heap ? DRM_QDA_SCALARS(QDA_PROCESS_MMAP, 2, 1, 0, 0) :
				    DRM_QDA_SCALARS(QDA_PROCESS_MEM_MAP, 3, 1, 0, 0);
	__le64 dsp_addr;
	struct qda_call *call;
	void *out;
	int ret;

	call = qda_call_get(session, true, QDA_MODULE_PROCESS, scalars,
			    QDA_INLINE(sizeof(mem_map)) + QDA_INLINE(sizeof(page)) +
			    QDA_INLINE(sizeof(dsp_addr)));
	if (IS_ERR(call))
		return PTR_ERR(call);
	if (range->heap)
		qda_call_inline_arg(call, 0, &mmap, sizeof(mmap));
	else
		qda_call_inline_arg(call, 0, &mem_map, sizeof(mem_map));
	qda_call_inline_arg(call, 1, &page, sizeof(page));
	/* The third argument of MEM_MAP is empty. */
	out = qda_call_inline_arg(call, range->heap ? 2 : 3, NULL, sizeof(dsp_addr));
	ret = qda_call_kernel(call, result);
	if (!ret)
		ret = qda_call_read(call, out, &dsp_addr, sizeof(dsp_addr));
	if (!ret)
		range->dsp_addr = le64_to_cpu(dsp_addr);
	qda_call_put(call);
	return ret;
}

static int unmap(struct qda_session *session, struct qda_range *range, s32 *result)
{
	struct qda_wire_mem_unmap mem_unmap = {
		.client_id = cpu_to_le32(session->client_id),
		.handle = cpu_to_le32(range->handle),
		.addr = cpu_to_le64(range->dsp_addr),
		.len = cpu_to_le64(range->len),
	};
	struct qda_wire_munmap munmap = {
		.client_id = cpu_to_le32(session->client_id),
		.addr = cpu_to_le64(range->dsp_addr),
		.len = cpu_to_le64(range->len),
	};
	unsigned int method = range->heap ? QDA_PROCESS_MUNMAP : QDA_PROCESS_MEM_UNMAP;
	struct qda_call *call;
	int ret;

	call = qda_call_get(session, true, QDA_MODULE_PROCESS, DRM_QDA_SCALARS(method, 1, 0, 0, 0),
			    QDA_INLINE(sizeof(mem_unmap)));
	if (IS_ERR(call))
		return PTR_ERR(call);
	if (range->heap)
		qda_call_inline_arg(call, 0, &munmap, sizeof(munmap));
	else
		qda_call_inline_arg(call, 0, &mem_unmap, sizeof(mem_unmap));
	ret = qda_call_kernel(call, result);
	qda_call_put(call);
	return ret;
}

static void free_range(struct qda_session *session, struct qda_range *range)
{
	scoped_guard(mutex, &session->lock) {
		session->nbusy -= range->busy;
		list_del(&range->node);
		qda_mapping_put(session, range->mapping);
	}
	kfree(range);
}

/* The kernel's calls are for all sessions, and one more of each ends it. */
static bool too_many_busy(struct qda_session *session)
{
	return session->nbusy >= QDA_KERNEL_CALLS / session->qda->nslots - 1;
}

static void set_busy(struct qda_session *session, struct qda_range *range, bool busy)
{
	lockdep_assert_held(&session->lock);
	range->busy = busy;
	session->nbusy += busy ? 1 : -1;
}

/**
 * qda_range_map() - map a range of a buffer for the DSP's program
 * @session: the session
 * @obj: the buffer
 * @handle: what the DSP calls it
 * @type: &enum drm_qda_map_type
 * @offset: where the range begins, of whole pages
 * @len: its length in bytes, of whole pages
 * @dsp_addr: where to put the address that the program sees it at
 * @result: where to put what the DSP says of it
 *
 * Return: 0, -EINVAL if the buffer has no such range, -EINTR if a signal comes
 * before the session's last one is answered, -EBUSY if too many have not been, or
 * an error of qda_mapping_get() or qda_call_kernel()
 */
int qda_range_map(struct qda_session *session, struct drm_gem_object *obj, u32 handle, u32 type,
		  u64 offset, u64 len, u64 *dsp_addr, s32 *result)
{
	struct qda_range *range;
	u64 addr = 0;
	int ret = 0;

	if (!len || offset > obj->size || len > obj->size - offset)
		return -EINVAL;
	ACQUIRE(mutex_intr, lock)(&session->range_lock);
	if (ACQUIRE_ERR(mutex_intr, &lock))
		return -EINTR;
	range = kzalloc_obj(*range, GFP_KERNEL_ACCOUNT);
	if (!range)
		return -ENOMEM;
	range->heap = type == DRM_QDA_MAP_HEAP;
	range->handle = handle;
	range->len = len;

	scoped_guard(mutex, &session->lock) {
		range->mapping = too_many_busy(session) ? ERR_PTR(-EBUSY) :
							  qda_mapping_get(session, obj);
		if (IS_ERR(range->mapping)) {
			ret = PTR_ERR(range->mapping);
		} else {
			addr = range->mapping->addr + offset;
			list_add_tail(&range->node, &session->ranges);
			set_busy(session, range, true);
		}
	}
	if (ret) {
		kfree(range);
		return ret;
	}

	ret = map(session, range, addr, type, result);
	if (!ret) {
		*dsp_addr = range->dsp_addr;
		scoped_guard(mutex, &session->lock)
			set_busy(session, range, false);
	} else if (ret != -ETIMEDOUT) {
		free_range(session, range);
	}
	/* What the DSP may map yet stays until the session ends, with no address. */
	return ret;
}

static struct qda_range *take_range(struct qda_session *session, u64 dsp_addr, u64 len)
{
	struct qda_range *range;

	guard(mutex)(&session->lock);
	if (too_many_busy(session))
		return ERR_PTR(-EBUSY);
	list_for_each_entry(range, &session->ranges, node) {
		if (range->busy || range->dsp_addr != dsp_addr || range->len != len)
			continue;
		set_busy(session, range, true);
		return range;
	}
	return ERR_PTR(-EINVAL);
}

/**
 * qda_range_unmap() - unmap a range
 * @session: the session
 * @dsp_addr: where the DSP's program sees it
 * @len: its length in bytes
 * @result: where to put what the DSP says of it
 *
 * Return: 0, -EINVAL if there is no such range, -EINTR and -EBUSY as
 * qda_range_map(), or an error of qda_call_kernel(), with which it stays mapped
 */
int qda_range_unmap(struct qda_session *session, u64 dsp_addr, u64 len, s32 *result)
{
	struct qda_range *range;
	int ret;

	ACQUIRE(mutex_intr, lock)(&session->range_lock);
	if (ACQUIRE_ERR(mutex_intr, &lock))
		return -EINTR;
	range = take_range(session, dsp_addr, len);
	if (IS_ERR(range))
		return PTR_ERR(range);
	ret = unmap(session, range, result);
	if (!ret) {
		free_range(session, range);
		return 0;
	}
	/* What the DSP may unmap yet cannot be unmapped again: its address may be another's. */
	if (ret == -ETIMEDOUT)
		return ret;
	scoped_guard(mutex, &session->lock)
		set_busy(session, range, false);
	return ret;
}

/**
 * qda_ranges_free() - forget what a session has mapped, as it has ended
 * @session: the session, to which nobody has a reference
 */
void qda_ranges_free(struct qda_session *session)
{
	struct qda_range *range, *tmp;

	list_for_each_entry_safe(range, tmp, &session->ranges, node)
		free_range(session, range);
}
