// SPDX-License-Identifier: GPL-2.0-only
/*
 * The accel device: files and their ioctls, in front of sessions.
 */

#include <linux/capability.h>
#include <linux/cleanup.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include <drm/drm_accel.h>
#include <drm/drm_drv.h>
#include <drm/drm_file.h>
#include <drm/drm_gem.h>
#include <drm/drm_ioctl.h>
#include <drm/qda_accel.h>

#include "qda.h"

#define QDA_MAX_SHELL	SZ_2M
#define QDA_MAX_NAME	128
#define QDA_ATTRIBUTES	(DRM_QDA_SESSION_DEBUG | DRM_QDA_SESSION_PTRACE | \
			 DRM_QDA_SESSION_UNSIGNED | DRM_QDA_SESSION_ADAPTIVE_QOS | \
			 DRM_QDA_SESSION_SYSTEM | DRM_QDA_SESSION_PRIVILEGED)

/* The same for 32-bit and for 64-bit programs. */
static_assert(sizeof(struct drm_qda_device) == 48);
static_assert(sizeof(struct drm_qda_query) == 16);
static_assert(sizeof(struct drm_qda_gem_create) == 16);
static_assert(sizeof(struct drm_qda_gem_mmap_offset) == 16);
static_assert(sizeof(struct drm_qda_session_create) == 56);
static_assert(sizeof(struct drm_qda_session_release) == 8);
static_assert(sizeof(struct drm_qda_arg) == 24);
static_assert(sizeof(struct drm_qda_invoke) == 24);
static_assert(sizeof(struct drm_qda_map) == 40);
static_assert(sizeof(struct drm_qda_unmap) == 24);

/**
 * struct qda_file - an open file
 * @lock: protects @session; taken before any lock of a session
 * @session: its session, which the file has a reference to, or NULL
 * @busy: a session is being created; protected by @lock
 */
struct qda_file {
	/* session */
	struct mutex lock;
	struct qda_session *session;
	bool busy;
};

/* The caller gets a reference. */
static struct qda_session *get_session(struct drm_file *file)
{
	struct qda_file *qfile = file->driver_priv;

	guard(mutex)(&qfile->lock);
	if (!qfile->session)
		return ERR_PTR(-ENOTCONN);
	kref_get(&qfile->session->ref);
	return qfile->session;
}

static void put_session(struct qda_session *session)
{
	if (!IS_ERR_OR_NULL(session))
		qda_session_put(session);
}

DEFINE_FREE(put_session, struct qda_session *, put_session(_T))
DEFINE_FREE(put_object, struct drm_gem_object *, drm_gem_object_put(_T))

void qda_gem_close(struct drm_gem_object *obj, struct drm_file *file)
{
	struct qda_session *session __free(put_session) = get_session(file);

	if (!IS_ERR(session))
		qda_mapping_close(session, obj);
}

/*
 * A handle that is closed while its buffer is being mapped may be closed before
 * there is a mapping for qda_gem_close() to find.
 */
static void check_handle(struct drm_file *file, u32 handle, struct qda_session *session,
			 struct drm_gem_object *obj)
{
	struct drm_gem_object *now __free(put_object) = drm_gem_object_lookup(file, handle);

	if (now != obj)
		qda_mapping_close(session, obj);
}

static void fill_device(struct qda_device *qda, struct drm_qda_device *device)
{
	unsigned int i;

	strscpy(device->name, qda->name);
	device->domain = qda->domain;
	if (qda->secure)
		device->flags |= DRM_QDA_DEVICE_SECURE;
	if (qda->unsigned_pd)
		device->flags |= DRM_QDA_DEVICE_UNSIGNED;
	if (qda->poll)
		device->flags |= DRM_QDA_DEVICE_POLL;
	if (qda_heap_usable(qda))
		device->flags |= DRM_QDA_DEVICE_STATIC;
	device->sessions = qda->nslots;
	scoped_guard(mutex, &qda->session_lock)
		for (i = 0; i < qda->nslots; i++)
			device->sessions_free += !qda->slots[i].used;
	device->max_calls = qda_max_calls(qda);
	device->max_shell_size = QDA_MAX_SHELL;
	device->max_buffer_size = qda_gem_max_size(qda);
}

static int qda_ioctl_query(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct qda_device *qda = to_qda_device(drm);
	struct drm_qda_device device = {};
	struct drm_qda_query *query = data;
	const void *answer;
	size_t size;
	int ret;

	switch (query->type) {
	case DRM_QDA_QUERY_DEVICE:
		answer = &device;
		size = sizeof(device);
		break;
	case DRM_QDA_QUERY_CAPABILITIES:
		BUILD_BUG_ON(sizeof(qda->capabilities) != sizeof(struct drm_qda_capabilities));
		answer = qda->capabilities;
		size = sizeof(qda->capabilities);
		break;
	default:
		return -EINVAL;
	}
	if (!query->data) {
		query->size = size;
		return 0;
	}
	if (query->type == DRM_QDA_QUERY_DEVICE) {
		fill_device(qda, &device);
	} else {
		ret = qda_capabilities(qda);
		if (ret)
			return ret;
	}
	ret = copy_struct_to_user(u64_to_user_ptr(query->data), query->size, answer, size, NULL);
	/* If not, the program may ask again with what it has got back. */
	if (!ret)
		query->size = size;
	return ret;
}

static int qda_ioctl_gem_create(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_qda_gem_create *request = data;

	if (request->flags)
		return -EINVAL;
	return qda_gem_create(to_qda_device(drm), file, request->size, &request->handle);
}

static int qda_ioctl_gem_mmap_offset(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_qda_gem_mmap_offset *request = data;
	struct drm_gem_object *obj __free(put_object) = NULL;

	if (request->pad)
		return -EINVAL;
	obj = drm_gem_object_lookup(file, request->handle);
	if (!obj)
		return -ENOENT;
	if (qda_gem_imported(obj))
		return -EINVAL;
	request->offset = drm_vma_node_offset_addr(&obj->vma_node);
	return 0;
}

/* What a kind of session does not have must be 0. */
static int check_create(struct qda_device *qda, const struct drm_qda_session_create *request)
{
	bool user = request->kind == DRM_QDA_SESSION_USER;
	bool named = request->kind == DRM_QDA_SESSION_STATIC;

	if (request->kind > DRM_QDA_SESSION_SENSORS || request->pad ||
	    request->flags & ~DRM_QDA_SESSION_POLL)
		return -EINVAL;
	if (!user && (request->flags || request->attributes || request->shell_handle ||
		      request->shell_offset || request->shell_size || request->signature_size))
		return -EINVAL;
	if (user && (request->attributes & ~QDA_ATTRIBUTES || !request->shell_size ||
		     request->shell_size > QDA_MAX_SHELL))
		return -EINVAL;
	if (!named && (request->name || request->name_size))
		return -EINVAL;
	if (named && (!request->name_size || request->name_size > QDA_MAX_NAME))
		return -EINVAL;
	if (named && !qda_heap_usable(qda))
		return -EOPNOTSUPP;
	if (request->flags & DRM_QDA_SESSION_POLL && !qda->poll)
		return -EOPNOTSUPP;
	return 0;
}

/* It has its NUL at the end, and nowhere else. */
static char *get_name(const struct drm_qda_session_create *request)
{
	char *name = memdup_user(u64_to_user_ptr(request->name), request->name_size);

	if (IS_ERR(name))
		return name;
	if (strnlen(name, request->name_size) == request->name_size - 1)
		return name;
	kfree(name);
	return ERR_PTR(-EINVAL);
}

/*
 * Today's policy of /dev/fastrpc-*: the files that only privileged users can open
 * are the ones that end in -secure. A secure channel has another one only where
 * there are unsigned domains, and user domains by that must be such.
 */
static bool allowed(struct qda_device *qda, const struct drm_qda_session_create *request)
{
	if (!qda->secure || capable(CAP_SYS_ADMIN))
		return true;
	if (!qda->unsigned_pd)
		return false;
	return request->kind != DRM_QDA_SESSION_USER ||
	       request->attributes & DRM_QDA_SESSION_UNSIGNED;
}

static int create_session(struct qda_device *qda, struct drm_qda_session_create *request,
			  struct drm_file *file)
{
	struct drm_gem_object *shell __free(put_object) = NULL;
	struct qda_file *qfile = file->driver_priv;
	struct qda_session *session;
	char *name = NULL;

	if (!allowed(qda, request))
		return -ECONNREFUSED;
	if (request->kind == DRM_QDA_SESSION_USER) {
		shell = drm_gem_object_lookup(file, request->shell_handle);
		if (!shell)
			return -ENOENT;
	}
	if (request->kind == DRM_QDA_SESSION_STATIC) {
		name = get_name(request);
		if (IS_ERR(name))
			return PTR_ERR(name);
	}
	session = qda_session_create(qda, request, shell, name);
	kfree(name);
	if (IS_ERR(session))
		return PTR_ERR(session);
	/* From here on, another thread may release it. */
	kref_get(&session->ref);
	scoped_guard(mutex, &qfile->lock)
		qfile->session = session;
	if (shell)
		check_handle(file, request->shell_handle, session, shell);
	qda_session_put(session);
	return 0;
}

static int qda_ioctl_session_create(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct qda_device *qda = to_qda_device(drm);
	struct drm_qda_session_create *request = data;
	struct qda_file *qfile = file->driver_priv;
	int ret;

	request->result = 0;
	ret = check_create(qda, request);
	if (ret)
		return ret;
	scoped_guard(mutex, &qfile->lock) {
		if (qfile->session || qfile->busy)
			return -EEXIST;
		qfile->busy = true;
	}
	ret = create_session(qda, request, file);
	scoped_guard(mutex, &qfile->lock)
		qfile->busy = false;
	return ret;
}

static int release_session(struct qda_file *qfile, s32 *result)
{
	struct qda_session *session __free(put_session) = NULL;

	scoped_guard(mutex, &qfile->lock) {
		session = qfile->session;
		qfile->session = NULL;
	}
	return session ? qda_session_end(session, result) : -ENOTCONN;
}

static int qda_ioctl_session_release(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_qda_session_release *request = data;

	if (request->pad)
		return -EINVAL;
	request->result = 0;
	return release_session(file->driver_priv, &request->result);
}

static int set_arg(struct qda_call *call, unsigned int i, const struct drm_qda_arg *arg,
		   struct drm_file *file)
{
	struct drm_gem_object *obj __free(put_object) = NULL;
	int ret;

	if (arg->flags)
		return -EINVAL;
	if (!arg->length)
		return arg->handle || arg->offset ? -EINVAL : 0;
	obj = drm_gem_object_lookup(file, arg->handle);
	if (!obj)
		return -ENOENT;
	ret = qda_call_set_arg(call, i, obj, arg->handle, arg->offset, arg->length);
	if (!ret)
		check_handle(file, arg->handle, call->session, obj);
	return ret;
}

static int set_args(struct qda_call *call, u64 args, struct drm_file *file)
{
	const struct drm_qda_arg __user *from = u64_to_user_ptr(args);
	unsigned int i, n = qda_scalars_args(call->scalars);
	struct drm_qda_arg arg;
	int ret = 0;

	for (i = 0; !ret && i < n; i++) {
		if (copy_from_user(&arg, from + i, sizeof(arg)))
			return -EFAULT;
		ret = set_arg(call, i, &arg, file);
	}
	return ret;
}

static int qda_ioctl_invoke(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct qda_session *session __free(put_session) = NULL;
	struct drm_qda_invoke *request = data;
	struct qda_call *call;
	int ret;

	if (request->flags || request->scalars & QDA_SCALARS_RESERVED)
		return -EINVAL;
	if (request->module == QDA_MODULE_PROCESS)
		return -EPERM;
	request->result = 0;
	session = get_session(file);
	if (IS_ERR(session))
		return PTR_ERR(session);

	call = qda_call_get(session, false, request->module, request->scalars, 0);
	if (IS_ERR(call))
		return PTR_ERR(call);
	ret = set_args(call, request->args, file);
	if (!ret)
		ret = qda_call_send(call, session->client_id);
	if (!ret)
		ret = qda_call_wait(call, true);
	if (!ret)
		request->result = call->result;
	qda_call_put(call);
	return ret;
}

static bool is_map_type(u32 type)
{
	switch (type) {
	case DRM_QDA_MAP_STATIC:
	case DRM_QDA_MAP_BUFFER:
	case DRM_QDA_MAP_DELAYED:
	case DRM_QDA_MAP_NO_CPU:
	case DRM_QDA_MAP_HEAP:
		return true;
	default:
		return false;
	}
}

static int qda_ioctl_map(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct qda_session *session __free(put_session) = NULL;
	struct drm_gem_object *obj __free(put_object) = NULL;
	struct drm_qda_map *request = data;
	int ret;

	if (request->pad || !is_map_type(request->type) ||
	    !PAGE_ALIGNED(request->offset) || !PAGE_ALIGNED(request->length))
		return -EINVAL;
	request->result = 0;
	request->dsp_address = 0;
	session = get_session(file);
	if (IS_ERR(session))
		return PTR_ERR(session);
	obj = drm_gem_object_lookup(file, request->handle);
	if (!obj)
		return -ENOENT;
	ret = qda_range_map(session, obj, request->handle, request->type, request->offset,
			    request->length, &request->dsp_address, &request->result);
	check_handle(file, request->handle, session, obj);
	return ret;
}

static int qda_ioctl_unmap(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct qda_session *session __free(put_session) = NULL;
	struct drm_qda_unmap *request = data;

	if (request->pad)
		return -EINVAL;
	request->result = 0;
	session = get_session(file);
	if (IS_ERR(session))
		return PTR_ERR(session);
	return qda_range_unmap(session, request->dsp_address, request->length, &request->result);
}

static int qda_open(struct drm_device *drm, struct drm_file *file)
{
	struct qda_file *qfile;

	qfile = kzalloc_obj(*qfile);
	if (!qfile)
		return -ENOMEM;
	mutex_init(&qfile->lock);
	file->driver_priv = qfile;
	return 0;
}

static void qda_postclose(struct drm_device *drm, struct drm_file *file)
{
	struct qda_file *qfile = file->driver_priv;

	mutex_destroy(&qfile->lock);
	kfree(qfile);
}

static const struct drm_ioctl_desc qda_ioctls[] = {
#define QDA_IOCTL(name, func) DRM_IOCTL_DEF_DRV(QDA_##name, qda_ioctl_##func, 0)
	QDA_IOCTL(QUERY, query),
	QDA_IOCTL(GEM_CREATE, gem_create),
	QDA_IOCTL(GEM_MMAP_OFFSET, gem_mmap_offset),
	QDA_IOCTL(SESSION_CREATE, session_create),
	QDA_IOCTL(SESSION_RELEASE, session_release),
	QDA_IOCTL(INVOKE, invoke),
	QDA_IOCTL(MAP, map),
	QDA_IOCTL(UNMAP, unmap),
};

/* What is mapped for the session stays until the DSP has been told of its end. */
static int qda_release(struct inode *inode, struct file *filp)
{
	struct drm_file *file = filp->private_data;
	s32 result;

	release_session(file->driver_priv, &result);
	return drm_release(inode, filp);
}

static const struct file_operations qda_fops = {
	.owner = THIS_MODULE,
	.open = accel_open,
	.release = qda_release,
	.unlocked_ioctl = drm_ioctl,
	.compat_ioctl = drm_compat_ioctl,
	.poll = drm_poll,
	.read = drm_read,
	.llseek = noop_llseek,
	.mmap = drm_gem_mmap,
	.fop_flags = FOP_UNSIGNED_OFFSET,
};

const struct drm_driver qda_drm_driver = {
	.driver_features = DRIVER_COMPUTE_ACCEL | DRIVER_GEM,
	.open = qda_open,
	.postclose = qda_postclose,
	.gem_create_object = qda_gem_create_object,
	.gem_prime_import = qda_gem_import,
	.ioctls = qda_ioctls,
	.num_ioctls = ARRAY_SIZE(qda_ioctls),
	.fops = &qda_fops,
	.name = "qda",
	.desc = "Qualcomm DSP accelerator",
	.major = 1,
	.minor = 0,
};
