// SPDX-License-Identifier: GPL-2.0-only
/*
 * Context banks, and the sessions that they have room for.
 */

#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/of.h>
#include <linux/qda_bus.h>
#include <linux/slab.h>

#include <drm/drm_print.h>
#include <drm/qda_accel.h>

#include "qda.h"

static struct qda_bank *to_bank(struct device *dev)
{
	return container_of(dev, struct qda_bank, dev);
}

/* The driver of banks is there so that the driver core configures their DMA. */
static int qda_bank_probe(struct device *dev)
{
	/* Never go around the IOMMU that a bank shall be behind. */
	if (of_property_present(dev->of_node, "iommus") && !device_iommu_mapped(dev))
		return -ENODEV;

	/* Buffers are one segment for the DSP, whatever their size. */
	dma_set_max_seg_size(dev, UINT_MAX);
	dma_set_seg_boundary(dev, ULONG_MAX);
	to_bank(dev)->error = dma_set_mask_and_coherent(dev, *dev->dma_mask);
	return to_bank(dev)->error;
}

static struct device_driver qda_bank_driver = {
	.name = "qda-bank",
	/* qda_bank_add() looks at what came of it. */
	.probe_type = PROBE_FORCE_SYNCHRONOUS,
	.bus = &qda_bus_type,
	.probe = qda_bank_probe,
	.suppress_bind_attrs = true,
};

int qda_bank_register_driver(void)
{
	return driver_register(&qda_bank_driver);
}

void qda_bank_unregister_driver(void)
{
	driver_unregister(&qda_bank_driver);
}

/* With the device, what the DMA API keeps for it. */
struct qda_bank_alloc {
	struct qda_bank bank;
	struct device_dma_parameters dma_parms;
	u64 dma_mask;
};

/* qda_bus_release() frees what the device begins. */
static_assert(!offsetof(struct qda_bank_alloc, bank.dev));

static struct qda_bank *qda_bank_create(struct qda_device *qda, struct device *parent,
					struct device_node *np)
{
	struct qda_bank_alloc *alloc;
	struct qda_bank *bank;
	int ret;

	alloc = kzalloc_obj(*alloc);
	if (!alloc)
		return ERR_PTR(-ENOMEM);
	bank = &alloc->bank;
	bank->error = -ENODEV;
	alloc->dma_mask = DMA_BIT_MASK(qda->domain == DRM_QDA_DOMAIN_CDSP ?
				       qda->soc->cdsp_dma_bits : qda->soc->dma_bits);
	device_initialize(&bank->dev);
	bank->dev.bus = &qda_bus_type;
	bank->dev.parent = parent;
	bank->dev.release = qda_bus_release;
	bank->dev.dma_parms = &alloc->dma_parms;
	bank->dev.dma_mask = &alloc->dma_mask;
	bank->dev.coherent_dma_mask = alloc->dma_mask;
	device_set_node(&bank->dev, of_fwnode_handle(of_node_get(np)));

	/* Without a number, addresses are as they are. */
	of_property_read_u32(np, "reg", &bank->sid);
	ret = dev_set_name(&bank->dev, "%s.%pOFn.%u", dev_name(parent), np, qda->nbanks);
	if (!ret)
		ret = device_add(&bank->dev);
	if (ret) {
		put_device(&bank->dev);
		return ERR_PTR(ret);
	}
	return bank;
}

/**
 * qda_slots_add() - add room for sessions
 * @qda: the DSP
 * @bank: where they map their memory
 * @sessions: how many; those above %QDA_MAX_SESSIONS in all are left out
 */
void qda_slots_add(struct qda_device *qda, struct qda_bank *bank, u32 sessions)
{
	while (sessions-- && qda->nslots < QDA_MAX_SESSIONS)
		qda->slots[qda->nslots++].bank = bank;
}

static bool qda_bank_in_use(struct qda_device *qda, struct qda_bank *bank)
{
	struct qda_slot *slot;

	for (slot = qda->slots; slot < qda->slots + qda->nslots; slot++)
		if (slot->used && slot->bank == bank)
			return true;
	return false;
}

/**
 * qda_slot_get() - take room for a session
 * @qda: the DSP, whose session_lock is held
 *
 * Sessions share a bank, and can reach each other's memory, only when each bank
 * has one.
 *
 * Return: the slot, now used; NULL if all are
 */
struct qda_slot *qda_slot_get(struct qda_device *qda)
{
	struct qda_slot *slot, *found = NULL;

	for (slot = qda->slots; slot < qda->slots + qda->nslots; slot++) {
		if (slot->used)
			continue;
		if (!found)
			found = slot;
		if (!qda_bank_in_use(qda, slot->bank)) {
			found = slot;
			break;
		}
	}
	if (found)
		found->used = true;
	return found;
}

/* With an identity domain, addresses are physical although there is an IOMMU. */
static bool qda_bank_is_translated(struct qda_bank *bank)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(&bank->dev);

	return domain && domain->type != IOMMU_DOMAIN_IDENTITY;
}

static int qda_bank_add(struct qda_device *qda, struct device *parent, struct device_node *np)
{
	u32 sessions = 1;
	struct qda_bank *bank;

	if (qda->nslots == QDA_MAX_SESSIONS) {
		dev_warn(parent, "%pOF is one too many\n", np);
		return 0;
	}
	bank = qda_bank_create(qda, parent, np);
	if (IS_ERR(bank))
		return PTR_ERR(bank);
	qda->banks[qda->nbanks++] = bank;

	if (bank->error)
		return dev_err_probe(parent, bank->error, "%pOF cannot be used\n", np);
	if (!qda_bank_is_translated(bank))
		qda->contiguous = true;
	of_property_read_u32(np, "qcom,nsessions", &sessions);
	qda_slots_add(qda, bank, max(sessions, 1U));
	return 0;
}

static bool qda_is_bound(struct device_node *np)
{
	struct device *dev __free(put_device) = get_dev_from_fwnode(of_fwnode_handle(np));

	if (!dev)
		return false;
	guard(device)(dev);
	return device_is_bound(dev);
}

/**
 * qda_banks_ready() - tell whether the context banks of a DSP can be made
 * @np: devicetree node of the DSP
 *
 * To be asked before anything else: a probe that has made devices may not be
 * tried again.
 *
 * Return: true if every bank's IOMMU has its driver
 */
bool qda_banks_ready(struct device_node *np)
{
	struct of_phandle_args args;
	bool ready = true;
	int i;

	for_each_available_child_of_node_scoped(np, bank) {
		for (i = 0; !of_parse_phandle_with_args(bank, "iommus", "#iommu-cells", i, &args);
		     i++) {
			ready &= qda_is_bound(args.np);
			of_node_put(args.np);
		}
	}
	return ready;
}

/**
 * qda_banks_create() - make the context banks of a DSP, all or none
 * @qda: the DSP
 * @parent: the device whose devicetree node has the banks
 *
 * Return: 0, or an error
 */
int qda_banks_create(struct qda_device *qda, struct device *parent)
{
	int ret;

	for_each_available_child_of_node_scoped(parent->of_node, np) {
		if (!of_device_is_compatible(np, "qcom,fastrpc-compute-cb"))
			continue;
		ret = qda_bank_add(qda, parent, np);
		if (ret)
			goto destroy;
	}
	ret = qda->nslots ? 0 : dev_err_probe(parent, -ENODEV, "no context bank\n");
	if (!ret)
		return 0;
destroy:
	qda_banks_destroy(qda);
	return ret;
}

/**
 * qda_banks_destroy() - remove the context banks of a DSP
 * @qda: the DSP, for which nothing is mapped
 *
 * Queries that are under way may count the slots still; nobody takes one.
 */
void qda_banks_destroy(struct qda_device *qda)
{
	while (qda->nbanks)
		device_unregister(&qda->banks[--qda->nbanks]->dev);
}
