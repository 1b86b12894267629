/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef QDA_H
#define QDA_H

#include <linux/completion.h>
#include <linux/hashtable.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rwsem.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include <drm/drm_device.h>
#include <drm/drm_gem.h>

#include "qda_wire.h"

/* The other driver of the same channels has this many; firmware may count on it. */
#define QDA_MAX_SESSIONS	14
/* Calls that are left for the kernel when every session has as many as it may. */
#define QDA_KERNEL_CALLS	64
#define QDA_CAPABILITIES	256

struct qda_device;
struct qda_session;
struct sg_table;
struct dma_buf_attachment;

/**
 * struct qda_soc - how the hardware differs, by compatible
 * @sid_shift: where the number of a bank's stream is in a bus address
 * @dma_bits: how many bits a bank can address
 * @cdsp_dma_bits: the same, on a compute DSP
 * @poll: every DSP can be told to reply in memory
 */
struct qda_soc {
	unsigned int sid_shift;
	unsigned int dma_bits;
	unsigned int cdsp_dma_bits;
	bool poll;
};

/**
 * struct qda_transport_ops - what carries requests
 * @send: send a request; may sleep. What comes back goes to qda_receive().
 */
struct qda_transport_ops {
	int (*send)(struct qda_device *qda, const struct qda_request *request);
};

/**
 * struct qda_bank - a context bank: a stream of DMA that an IOMMU translates
 * @dev: its device, on &qda_bus_type
 * @sid: number of its stream
 * @error: why its DMA is not configured, 0 once it is
 */
struct qda_bank {
	struct device dev;
	u32 sid;
	int error;
};

/**
 * struct qda_slot - room for a session
 * @bank: where it maps its memory; several may share one, as the devicetree says
 * @used: by a session, until nothing of it is mapped any more
 */
struct qda_slot {
	struct qda_bank *bank;
	bool used;
};

/**
 * struct qda_heap - memory of a DSP's static domains
 * @addr: its physical address
 * @size: its size in bytes, 0 if there is none
 * @mem: what was allocated of a region that others may use too, or NULL
 * @dma_addr: where the device of the DSP has that: at @addr
 * @owners: virtual machines that it is lent to
 * @lock: protects @given; taken before any lock of a session
 * @given: the DSP has been told of it
 */
struct qda_heap {
	phys_addr_t addr;
	u64 size;
	void *mem;
	dma_addr_t dma_addr;
	u64 owners;
	/* given */
	struct mutex lock;
	bool given;
};

/**
 * struct qda_device - a DSP
 * @drm: the accel device
 * @transport: what carries requests; NULL once it has gone
 * @transport_priv: whatever belongs to that
 * @transport_lock: held for reading while it is used
 * @soc: how the hardware differs
 * @name: of the DSP
 * @domain: &enum drm_qda_domain
 * @secure: signed user domains need privilege
 * @unsigned_pd: there can be unsigned ones
 * @poll: it can be told to reply in memory
 * @contiguous: memory must be, as there are banks that no IOMMU translates for
 * @heap: memory of its static domains
 * @banks: its context banks
 * @nbanks: how many
 * @session_lock: protects @slots and @sessions; taken before &qda_session.lock
 * @slots: the sessions that there can be
 * @nslots: how many
 * @sessions: every session whose memory may be mapped
 * @call_lock: protects @calls, @last_id, @sequence, @dead, @reap and how calls
 *	end; taken with interrupts off, within anything
 * @calls: calls that the DSP has not ended, by their id
 * @last_id: of the last call
 * @sequence: counts calls
 * @dead: the DSP is gone
 * @reap: calls that the DSP ended after their callers had gone
 * @reap_work: frees these, and looks for those that are polled
 * @capability_lock: protects what follows
 * @capabilities: what the DSP says of itself
 * @capabilities_asked: it has been asked, and need not be again
 * @capabilities_error: what came of that
 */
struct qda_device {
	struct drm_device drm;
	const struct qda_transport_ops *transport;
	void *transport_priv;
	struct rw_semaphore transport_lock;
	const struct qda_soc *soc;
	const char *name;
	u32 domain;
	bool secure;
	bool unsigned_pd;
	bool poll;
	bool contiguous;
	struct qda_heap heap;

	struct qda_bank *banks[QDA_MAX_SESSIONS];
	unsigned int nbanks;
	/* sessions */
	struct mutex session_lock;
	struct qda_slot slots[QDA_MAX_SESSIONS];
	unsigned int nslots;
	struct list_head sessions;

	/* calls */
	spinlock_t call_lock;
	struct qda_call *calls[QDA_MAX_ID + 1];
	u32 last_id;
	u64 sequence;
	bool dead;
	struct list_head reap;
	struct delayed_work reap_work;

	/* capabilities */
	struct mutex capability_lock;
	u32 capabilities[QDA_CAPABILITIES];
	bool capabilities_asked;
	int capabilities_error;
};

#define to_qda_device(ddev) container_of(ddev, struct qda_device, drm)

/**
 * struct qda_mapping - a buffer in a session's bank
 * @node: in &qda_session.mappings
 * @obj: the buffer; the mapping holds a reference
 * @attach: of an imported buffer
 * @sgt: where it is; NULL once it has been unmapped
 * @addr: its bus address
 * @users: calls and maps of the DSP's that have it
 * @closed: to be unmapped when nobody uses it
 *
 * Made at first use. It is unmapped when the handle of the buffer is closed and
 * the last user gone, or with the session. All fields are protected by
 * &qda_session.lock.
 */
struct qda_mapping {
	struct hlist_node node;
	struct drm_gem_object *obj;
	struct dma_buf_attachment *attach;
	struct sg_table *sgt;
	u64 addr;
	unsigned int users;
	bool closed;
};

/**
 * struct qda_call - a call, and its payload
 * @node: in &qda_session.call_pool
 * @reap: in &qda_device.reap
 * @session: where it is made; a call in use holds a reference
 * @busy: in use
 * @kernel: the kernel makes it, not user space
 * @last: it ends the session
 * @reserved: it is kept for that
 * @capacity: how many arguments there is room for
 * @payload: memory that the DSP sees; NULL once the session has left its bank
 * @payload_addr: its DMA address
 * @payload_size: its size in bytes, of whole pages
 * @inline_size: how much of it, behind the metadata, has data in it
 * @sent: the DSP has it: nothing of it may go before @done
 * @done: set, with call_lock, by who takes it out of &qda_device.calls
 * @abandoned: the caller has gone; the DSP's reply frees it
 * @timed_out: nobody has looked at the reply, if it has come
 * @ended: completed when @done is set
 * @id: its number in &qda_device.calls
 * @ctx: what the reply has to have
 * @module: that it goes to
 * @scalars: method and number of arguments
 * @nargs: that number
 * @error: why there is no result, a negative errno
 * @result: what the method returned
 * @mappings: of each argument that is a buffer
 * @args: the arguments
 *
 * A caller owns its call until it abandons it; then the reply does.
 */
struct qda_call {
	struct list_head node;
	struct list_head reap;
	struct qda_session *session;
	bool busy;
	bool kernel;
	bool last;
	bool reserved;
	unsigned int capacity;
	void *payload;
	dma_addr_t payload_addr;
	size_t payload_size;
	size_t inline_size;

	bool sent;
	bool done;
	bool abandoned;
	bool timed_out;
	struct completion ended;
	u32 id;
	u64 ctx;
	u32 module;
	u32 scalars;
	unsigned int nargs;
	int error;
	s32 result;
	struct qda_mapping **mappings;
	struct qda_arg *args;
};

/**
 * struct qda_range - what the DSP's program has mapped
 * @node: in &qda_session.ranges
 * @mapping: the buffer
 * @busy: the DSP is being asked to map or unmap it, or has not answered
 * @heap: mapped for the domain's heap
 * @handle: what the DSP calls the buffer
 * @dsp_addr: where the program sees it
 * @len: its length in bytes
 */
struct qda_range {
	struct list_head node;
	struct qda_mapping *mapping;
	bool busy;
	bool heap;
	u32 handle;
	u64 dsp_addr;
	u64 len;
};

/**
 * struct qda_session - a session
 * @ref: held by the file that made it, and by each call in use
 * @qda: the DSP
 * @slot: room that it takes; NULL if it only serves to ask the DSP something
 * @node: in &qda_device.sessions
 * @orphan: the DSP has it, and only the end of that or of the device drops it;
 *	protected by &qda_device.session_lock
 * @ended: the DSP has said that it has ended it; protected by the same
 * @client_id: what the DSP calls it
 * @pd: protection domain that its calls go to
 * @shared_pd: that does not end with it
 * @poll: replies may be in memory
 * @sending: held for reading while a call goes to the DSP; protects @ending, and is
 *	taken before @lock
 * @ending: only the call that ends it is sent any more
 * @range_lock: taken before @sending; one range at a time is mapped or unmapped
 * @lock: protects what follows
 * @bank: where its memory is mapped; NULL when none is or can be any more
 * @mappings: buffers that are mapped
 * @ranges: what the DSP's program has mapped
 * @nbusy: how many of them are busy: the DSP has not answered
 * @call_pool: calls that are in use, and that are kept for later
 * @ncalls: how many of user space's are in use
 * @init_mem: memory that a user domain starts with
 * @init_addr: its DMA address
 * @init_size: its size in bytes
 *
 * It belongs to the open file, whatever process uses that. The DSP may use its
 * memory until it has answered all calls, the one that ends the session among
 * them, or is gone; only then nobody holds a reference.
 */
struct qda_session {
	struct kref ref;
	struct qda_device *qda;
	struct qda_slot *slot;
	struct list_head node;
	bool orphan;
	bool ended;
	u32 client_id;
	enum qda_pd pd;
	bool shared_pd;
	bool poll;

	/* ending */
	struct rw_semaphore sending;
	bool ending;
	/* one range at a time */
	struct mutex range_lock;

	/* what follows */
	struct mutex lock;
	struct qda_bank *bank;
	DECLARE_HASHTABLE(mappings, 6);
	struct list_head ranges;
	unsigned int nbusy;
	struct list_head call_pool;
	unsigned int ncalls;
	void *init_mem;
	dma_addr_t init_addr;
	size_t init_size;
};

/* qda_drv.c */
extern const struct drm_driver qda_drm_driver;

/* qda_bank.c */
int qda_bank_register_driver(void);
void qda_bank_unregister_driver(void);
bool qda_banks_ready(struct device_node *np);
int qda_banks_create(struct qda_device *qda, struct device *parent);
void qda_banks_destroy(struct qda_device *qda);
void qda_slots_add(struct qda_device *qda, struct qda_bank *bank, u32 sessions);
struct qda_slot *qda_slot_get(struct qda_device *qda);

static inline u64 qda_bus_address(const struct qda_soc *soc, u32 sid, dma_addr_t addr)
{
	return addr + ((u64)sid << soc->sid_shift);
}

/* Of a session whose lock is held and which is in its bank. */
static inline u64 qda_session_address(struct qda_session *session, dma_addr_t addr)
{
	return qda_bus_address(session->qda->soc, session->bank->sid, addr);
}

/* qda_gem.c */
int qda_gem_create(struct qda_device *qda, struct drm_file *file, u64 size, u32 *handle);
struct drm_gem_object *qda_gem_create_object(struct drm_device *drm, size_t size);
u64 qda_gem_max_size(struct qda_device *qda);
struct drm_gem_object *qda_gem_import(struct drm_device *drm, struct dma_buf *dmabuf);
struct dma_buf *qda_gem_imported(struct drm_gem_object *obj);
void qda_gem_close(struct drm_gem_object *obj, struct drm_file *file);

/* qda_contiguous.c */
#define QDA_CONTIGUOUS_MAX	(PAGE_SIZE << MAX_PAGE_ORDER)
struct drm_gem_object *qda_contiguous_create(struct qda_device *qda, size_t size);

/* qda_heap.c */
int qda_heap_init(struct qda_device *qda, struct device_node *np);
void qda_heap_release(struct qda_device *qda);
bool qda_heap_usable(struct qda_device *qda);

/* qda_mapping.c */
struct qda_mapping *qda_mapping_get(struct qda_session *session, struct drm_gem_object *obj);
void qda_mapping_put(struct qda_session *session, struct qda_mapping *mapping);
void qda_mapping_close(struct qda_session *session, struct drm_gem_object *obj);
void qda_mappings_unmap(struct qda_session *session);
void qda_mapping_for_device(struct qda_session *session, struct qda_mapping *mapping, u64 offset,
			    u64 len);
void qda_mapping_for_cpu(struct qda_session *session, struct qda_mapping *mapping, u64 offset,
			 u64 len);

/* Of what lies within a payload, as the DSP's cache lines are. */
#define QDA_ALIGN		128
#define QDA_INLINE(size)	ALIGN(size, QDA_ALIGN)

/* qda_call.c */
void qda_call_reserve(struct qda_session *session);
struct qda_call *qda_call_get(struct qda_session *session, bool kernel, u32 module, u32 scalars,
			      size_t inline_size);
void qda_call_put(struct qda_call *call);
int qda_call_set_arg(struct qda_call *call, unsigned int i, struct drm_gem_object *obj,
		     u32 handle, u64 offset, u64 len);
void *qda_call_inline_arg(struct qda_call *call, unsigned int i, const void *data, size_t len);
int qda_call_send(struct qda_call *call, u32 client_id);
int qda_call_wait(struct qda_call *call, bool interruptible);
int qda_call_kernel(struct qda_call *call, s32 *result);
int qda_call_read(struct qda_call *call, const void *from, void *to, size_t len);
void qda_calls_free(struct qda_session *session);
void qda_calls_init(struct qda_device *qda);
void qda_calls_end(struct qda_session *session, bool released);
void qda_calls_kill(struct qda_device *qda);
unsigned int qda_max_calls(struct qda_device *qda);
void qda_receive(struct qda_device *qda, u64 ctx, s32 result);

/* qda_session.c */
struct drm_qda_session_create;
struct qda_session *qda_session_new(struct qda_device *qda);
void qda_session_put(struct qda_session *session);
void qda_sessions_detach(struct qda_device *qda);
struct qda_session *qda_session_create(struct qda_device *qda,
				       struct drm_qda_session_create *request,
				       struct drm_gem_object *shell, const char *name);
int qda_session_end(struct qda_session *session, s32 *result);
void qda_session_ended(struct qda_session *session);
int qda_capabilities(struct qda_device *qda);

/* qda_range.c */
int qda_range_map(struct qda_session *session, struct drm_gem_object *obj, u32 handle, u32 type,
		  u64 offset, u64 len, u64 *dsp_addr, s32 *result);
int qda_range_unmap(struct qda_session *session, u64 dsp_addr, u64 len, s32 *result);
void qda_ranges_free(struct qda_session *session);

#endif
