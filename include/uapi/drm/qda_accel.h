/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * Qualcomm DSPs: calling functions on them by FastRPC.
 *
 * A program opens /dev/accel/accelN, makes GEM buffers for what the DSP shall
 * see, creates a session, and invokes methods of modules in it. The page
 * Documentation/accel/qda/uapi.rst has an example that is complete.
 *
 * Fields that are reserved or padding must be 0: EINVAL if not. Sizes and offsets
 * are in bytes. Besides the errors that are named here, each ioctl gives EFAULT
 * where memory of the program's is not accessible, ENODEV when the device is
 * gone, and ENOMEM. Those that ask the DSP for something give what its transport
 * does if that takes no request, such as EAGAIN and ECANCELED.
 *
 * DRM_IOCTL_PRIME_FD_TO_HANDLE takes dma-bufs of whole pages, and says EINVAL to
 * others. The driver never synchronises what was imported with the CPU's caches:
 * programs do, by DMA_BUF_IOCTL_SYNC. Where the DSP's DMA is not coherent, buffers of
 * DRM_IOCTL_QDA_GEM_CREATE are synchronised by DRM_IOCTL_QDA_INVOKE, for its arguments,
 * by DRM_IOCTL_QDA_SESSION_CREATE, for its shell, and by nothing else. There, import
 * from a dma-buf heap what the DSP uses at other times: what is mapped, handles that it
 * keeps, and buffers of another DSP.
 */

#ifndef _UAPI_QDA_ACCEL_H_
#define _UAPI_QDA_ACCEL_H_

#include "drm.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DRM_QDA_QUERY			0x00
#define DRM_QDA_GEM_CREATE		0x01
#define DRM_QDA_GEM_MMAP_OFFSET		0x02
#define DRM_QDA_SESSION_CREATE		0x03
#define DRM_QDA_SESSION_RELEASE		0x04
#define DRM_QDA_INVOKE			0x05
#define DRM_QDA_MAP			0x06
#define DRM_QDA_UNMAP			0x07

/**
 * enum drm_qda_query_type - what DRM_IOCTL_QDA_QUERY can tell
 */
enum drm_qda_query_type {
	/** @DRM_QDA_QUERY_DEVICE: &struct drm_qda_device */
	DRM_QDA_QUERY_DEVICE = 0,
	/**
	 * @DRM_QDA_QUERY_CAPABILITIES: &struct drm_qda_capabilities. A DSP
	 * that has told them, or does not answer at all, is not asked again
	 * before it restarts. EOPNOTSUPP if it says that it does not support the
	 * question, ETIMEDOUT if it does not answer, EREMOTEIO for another error
	 * of its, EPIPE if it goes away, EBUSY if it has too many calls. EINTR if
	 * a signal came while another program asked.
	 */
	DRM_QDA_QUERY_CAPABILITIES = 1,
};

/**
 * enum drm_qda_domain - which DSP a device is
 */
enum drm_qda_domain {
	/** @DRM_QDA_DOMAIN_ADSP: audio */
	DRM_QDA_DOMAIN_ADSP = 0,
	/** @DRM_QDA_DOMAIN_MDSP: modem */
	DRM_QDA_DOMAIN_MDSP = 1,
	/** @DRM_QDA_DOMAIN_SDSP: sensors */
	DRM_QDA_DOMAIN_SDSP = 2,
	/** @DRM_QDA_DOMAIN_CDSP: compute */
	DRM_QDA_DOMAIN_CDSP = 3,
	/** @DRM_QDA_DOMAIN_GDSP: general purpose */
	DRM_QDA_DOMAIN_GDSP = 4,
};

/* The domain is secure: see DRM_IOCTL_QDA_SESSION_CREATE. */
#define DRM_QDA_DEVICE_SECURE		(1 << 0)
/* Unsigned user domains are possible. */
#define DRM_QDA_DEVICE_UNSIGNED		(1 << 1)
/* DRM_QDA_SESSION_POLL is possible. */
#define DRM_QDA_DEVICE_POLL		(1 << 2)
/* It has a heap for static domains. */
#define DRM_QDA_DEVICE_STATIC		(1 << 3)

/**
 * struct drm_qda_device - the answer to DRM_QDA_QUERY_DEVICE
 */
struct drm_qda_device {
	/** @name: name of the DSP, such as "cdsp1", with a NUL */
	__u8 name[16];
	/** @domain: &enum drm_qda_domain */
	__u32 domain;
	/** @flags: DRM_QDA_DEVICE_* */
	__u32 flags;
	/** @sessions: how many sessions there can be at a time */
	__u32 sessions;
	/** @sessions_free: how many of them are not in use */
	__u32 sessions_free;
	/** @max_calls: how many calls of a session can be pending at a time */
	__u32 max_calls;
	/** @max_shell_size: how large the shell of a user domain can be */
	__u32 max_shell_size;
	/** @max_buffer_size: how large a buffer can be */
	__u64 max_buffer_size;
};

/**
 * struct drm_qda_capabilities - the answer to DRM_QDA_QUERY_CAPABILITIES
 */
struct drm_qda_capabilities {
	/** @attributes: what the DSP says of each attribute; their numbers are its own */
	__u32 attributes[256];
};

/**
 * struct drm_qda_query - DRM_IOCTL_QDA_QUERY
 *
 * Needs no session. EINVAL for a type that is not known.
 */
struct drm_qda_query {
	/** @type: &enum drm_qda_query_type */
	__u32 type;
	/**
	 * @size: room at @data; on return, the size of the answer, unless there was
	 * an error. A shorter room gets the beginning of it; a longer one is filled
	 * up with zeros.
	 */
	__u32 size;
	/** @data: pointer to the room; 0 to ask for the size only */
	__u64 data;
};

/**
 * struct drm_qda_gem_create - DRM_IOCTL_QDA_GEM_CREATE
 *
 * Makes a buffer, filled with zeros. EINVAL for a size of 0 or above
 * &drm_qda_device.max_buffer_size, ENOSPC if there is no offset left to map it at.
 */
struct drm_qda_gem_create {
	/** @size: size, rounded up to whole pages */
	__u64 size;
	/** @flags: 0 */
	__u32 flags;
	/** @handle: returned: the handle, which DRM_IOCTL_GEM_CLOSE closes */
	__u32 handle;
};

/**
 * struct drm_qda_gem_mmap_offset - DRM_IOCTL_QDA_GEM_MMAP_OFFSET
 *
 * ENOENT if there is no such handle, EINVAL for a buffer that was imported:
 * that is mapped by its dma-buf.
 */
struct drm_qda_gem_mmap_offset {
	/** @handle: the buffer */
	__u32 handle;
	/** @pad: 0 */
	__u32 pad;
	/** @offset: returned: what mmap() on the device takes as offset */
	__u64 offset;
};

/**
 * enum drm_qda_session_kind - where a session's methods run
 */
enum drm_qda_session_kind {
	/** @DRM_QDA_SESSION_USER: in a user domain of its own, which a shell starts */
	DRM_QDA_SESSION_USER = 0,
	/** @DRM_QDA_SESSION_STATIC: in a static domain that has a name: audio */
	DRM_QDA_SESSION_STATIC = 1,
	/** @DRM_QDA_SESSION_ROOT: in the root domain */
	DRM_QDA_SESSION_ROOT = 2,
	/** @DRM_QDA_SESSION_SENSORS: in the domain of the sensors */
	DRM_QDA_SESSION_SENSORS = 3,
};

/*
 * What a user domain is like; the other bits are reserved. The firmware decides what
 * comes of each, and may refuse it: the kernel looks at UNSIGNED only.
 */
/* It can be debugged. */
#define DRM_QDA_SESSION_DEBUG		(1 << 0)
/* It can be traced. */
#define DRM_QDA_SESSION_PTRACE		(1 << 1)
/* It loads modules without a signature, and can do less for it. */
#define DRM_QDA_SESSION_UNSIGNED	(1 << 3)
/* The DSP adapts its clocks to how often it is called. */
#define DRM_QDA_SESSION_ADAPTIVE_QOS	(1 << 4)
/* It is one of the system's processes. */
#define DRM_QDA_SESSION_SYSTEM		(1 << 5)
/* It has the privileges of a trusted process. */
#define DRM_QDA_SESSION_PRIVILEGED	(1 << 6)

/* Look for replies in memory for a while before sleeping; for user domains. */
#define DRM_QDA_SESSION_POLL		(1 << 0)

/**
 * struct drm_qda_session_create - DRM_IOCTL_QDA_SESSION_CREATE
 *
 * An open file has one session at a time: EEXIST if it has one. EBUSY if all of
 * the device's are in use. EINVAL for a kind, flag or attribute that does not
 * exist, and fields that the kind does not have. ENOENT if there is no such
 * handle. EOPNOTSUPP for what the device does not have: polling, or a heap for
 * static domains. ECONNREFUSED for lack of privilege: on a secure device, a
 * user domain that is not unsigned needs CAP_SYS_ADMIN, and so does every
 * session where unsigned ones are not possible.
 *
 * EREMOTEIO if the DSP fails it; then @result has its code. ETIMEDOUT if it
 * does not answer within ten seconds, EPIPE if it goes away. EINTR if a signal
 * came while another static domain was created. For the shell, errors as
 * DRM_IOCTL_QDA_INVOKE has them for buffers.
 */
struct drm_qda_session_create {
	/** @kind: &enum drm_qda_session_kind */
	__u32 kind;
	/** @flags: DRM_QDA_SESSION_POLL */
	__u32 flags;
	/** @attributes: DRM_QDA_SESSION_DEBUG and so on, of a user domain */
	__u32 attributes;
	/** @shell_handle: buffer with the ELF file that starts a user domain */
	__u32 shell_handle;
	/** @shell_offset: where it begins there */
	__u64 shell_offset;
	/** @shell_size: its size, &drm_qda_device.max_shell_size at most */
	__u64 shell_size;
	/** @name: pointer to the name of a static domain, such as "audiopd" */
	__u64 name;
	/** @name_size: size of the name with its NUL, which is its last byte; 128 at most */
	__u32 name_size;
	/** @signature_size: size of the signature within the shell, if it has one */
	__u32 signature_size;
	/** @result: returned: what the DSP says of it */
	__s32 result;
	/** @pad: 0 */
	__u32 pad;
};

/**
 * struct drm_qda_session_release - DRM_IOCTL_QDA_SESSION_RELEASE
 *
 * Ends the session, as closing the file does, which mappings of its buffers keep
 * open. Calls that are pending end with what the DSP answers, or with EPIPE. Only user
 * domains end with their session: elsewhere, what a call uses, and with it the
 * session's room, stays until the DSP has answered it. So it does anywhere after
 * ETIMEDOUT of DRM_IOCTL_QDA_MAP or DRM_IOCTL_QDA_UNMAP, and if the DSP fails the
 * release: EREMOTEIO.
 * ENOTCONN if the file has none. Errors of the DSP are as for
 * DRM_IOCTL_QDA_SESSION_CREATE, and EBUSY, never EAGAIN, if it takes no call; the
 * session has ended all the same.
 */
struct drm_qda_session_release {
	/** @result: returned: what the DSP says of it */
	__s32 result;
	/** @pad: 0 */
	__u32 pad;
};

/**
 * struct drm_qda_arg - an argument of DRM_IOCTL_QDA_INVOKE: a part of a buffer
 *
 * All 0 for an argument that is empty.
 */
struct drm_qda_arg {
	/** @handle: the buffer */
	__u32 handle;
	/** @flags: 0 */
	__u32 flags;
	/** @offset: where the part begins */
	__u64 offset;
	/** @length: its length */
	__u64 length;
};

/**
 * DRM_QDA_SCALARS - the number of a method, and of its arguments by kind
 * @method: number of the method, 31 at most
 * @in: input buffers, 255 at most
 * @out: output buffers, 255 at most
 * @in_handles: input handles, 15 at most
 * @out_handles: output handles, 15 at most
 *
 * The arguments are in this order. A handle is a buffer that the DSP can keep a
 * mapping of; it knows it by the number of the GEM handle.
 */
#define DRM_QDA_SCALARS(method, in, out, in_handles, out_handles)	\
	(((__u32)(method) & 0x1f) << 24 | ((__u32)(in) & 0xff) << 16 |	\
	 ((__u32)(out) & 0xff) << 8 | ((__u32)(in_handles) & 0xf) << 4 |	\
	 ((__u32)(out_handles) & 0xf))

/**
 * struct drm_qda_invoke - DRM_IOCTL_QDA_INVOKE
 *
 * Calls a method and waits for it to return. A buffer is there for the DSP to read
 * and write as a whole, whatever part of it is an argument, from the first call that
 * uses it until its handle is closed or the session ends. What the DSP wrote to
 * outputs is there for the CPU to read when the call returns. Where the DSP's DMA is
 * not coherent, the CPU must not write within 128 bytes of an output meanwhile.
 *
 * ENOTCONN without a session, EPERM for module 1, which is the kernel's own.
 * EINVAL for a flag, or an argument that is not within its buffer, ENOENT for
 * one that has no such handle, EOPNOTSUPP for a buffer that
 * cannot be mapped contiguously, and what its exporter or the DMA API return if it
 * cannot be mapped at all, such as EIO. EBUSY for too many calls at a time. EINPROGRESS
 * if a signal came first: the call goes on, and what it returns is lost. That is not
 * EINTR, so that drmIoctl() does not make the call again. EPIPE if the DSP goes away,
 * or the session ends.
 */
struct drm_qda_invoke {
	/** @module: number of the module, as the DSP gave it */
	__u32 module;
	/** @scalars: DRM_QDA_SCALARS() */
	__u32 scalars;
	/** @args: pointer to an array of &struct drm_qda_arg, as many as @scalars says */
	__u64 args;
	/** @flags: 0 */
	__u32 flags;
	/** @result: returned: what the method returns, or why the DSP did not call it */
	__s32 result;
};

/**
 * enum drm_qda_map_type - what DRM_IOCTL_QDA_MAP is for
 */
enum drm_qda_map_type {
	/** @DRM_QDA_MAP_STATIC: mapped at the same address for the whole session */
	DRM_QDA_MAP_STATIC = 0,
	/** @DRM_QDA_MAP_BUFFER: mapped, and known to the DSP by the number of the handle */
	DRM_QDA_MAP_BUFFER = 2,
	/** @DRM_QDA_MAP_DELAYED: the same, mapped when the DSP's program asks for it */
	DRM_QDA_MAP_DELAYED = 3,
	/** @DRM_QDA_MAP_NO_CPU: the same, not for the DSP's own cores */
	DRM_QDA_MAP_NO_CPU = 16,
	/** @DRM_QDA_MAP_HEAP: more memory for the heap of the session's domain */
	DRM_QDA_MAP_HEAP = 0x1000,
};

/**
 * struct drm_qda_map - DRM_IOCTL_QDA_MAP
 *
 * Maps whole pages of a buffer for the DSP's program; the DSP could reach all of
 * it, as with DRM_IOCTL_QDA_INVOKE. The buffer stays, even if
 * its handle is closed, until DRM_IOCTL_QDA_UNMAP or the end of the session.
 * ENOTCONN without a session, ENOENT if there is no such handle, EINVAL for a
 * type that does not exist, and a range that is empty, not of whole pages or
 * not within the buffer. EOPNOTSUPP for a buffer that cannot be mapped
 * contiguously. The DSP is asked for one at a time: EINTR if a signal comes while
 * this waits for another one, EBUSY once it has not answered too many of the session's
 * within ten seconds. Errors of the DSP are as for DRM_IOCTL_QDA_SESSION_CREATE.
 */
struct drm_qda_map {
	/** @handle: the buffer */
	__u32 handle;
	/** @type: &enum drm_qda_map_type */
	__u32 type;
	/** @offset: where the range begins */
	__u64 offset;
	/** @length: its length */
	__u64 length;
	/** @dsp_address: returned: where the DSP's program sees it */
	__u64 dsp_address;
	/** @result: returned: what the DSP says of it */
	__s32 result;
	/** @pad: 0 */
	__u32 pad;
};

/**
 * struct drm_qda_unmap - DRM_IOCTL_QDA_UNMAP
 *
 * ENOTCONN without a session, EINVAL for what DRM_IOCTL_QDA_MAP has not
 * returned, EINTR and EBUSY as there. Errors of the DSP are as for
 * DRM_IOCTL_QDA_SESSION_CREATE, and the range stays mapped; after ETIMEDOUT it
 * cannot be unmapped before the session ends.
 */
struct drm_qda_unmap {
	/** @dsp_address: what DRM_IOCTL_QDA_MAP returned */
	__u64 dsp_address;
	/** @length: the length that it was given */
	__u64 length;
	/** @result: returned: what the DSP says of it */
	__s32 result;
	/** @pad: 0 */
	__u32 pad;
};

#define DRM_IOCTL_QDA_QUERY \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_QDA_QUERY, struct drm_qda_query)
#define DRM_IOCTL_QDA_GEM_CREATE \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_QDA_GEM_CREATE, struct drm_qda_gem_create)
#define DRM_IOCTL_QDA_GEM_MMAP_OFFSET \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_QDA_GEM_MMAP_OFFSET, struct drm_qda_gem_mmap_offset)
#define DRM_IOCTL_QDA_SESSION_CREATE \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_QDA_SESSION_CREATE, struct drm_qda_session_create)
#define DRM_IOCTL_QDA_SESSION_RELEASE \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_QDA_SESSION_RELEASE, struct drm_qda_session_release)
#define DRM_IOCTL_QDA_INVOKE \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_QDA_INVOKE, struct drm_qda_invoke)
#define DRM_IOCTL_QDA_MAP \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_QDA_MAP, struct drm_qda_map)
#define DRM_IOCTL_QDA_UNMAP \
	DRM_IOWR(DRM_COMMAND_BASE + DRM_QDA_UNMAP, struct drm_qda_unmap)

#ifdef __cplusplus
}
#endif

#endif
