// SPDX-License-Identifier: GPL-2.0-only
/*
 * The devicetree nodes of the software DSPs, as
 * Documentation/devicetree/bindings/misc/qcom,fastrpc.yaml has them. They are
 * made when the module is loaded, because no firmware describes what is not
 * there.
 */

#include <linux/cleanup.h>
#include <linux/moduleparam.h>
#include <linux/of.h>

#include "sim.h"

/*
 * The function numbers of PCI bus 255, from where a root port's buses are
 * unlikely to reach; QEMU's SMMUv3 has 16 bits of stream id.
 */
static unsigned int stream = 0xff00;
module_param(stream, uint, 0444);
MODULE_PARM_DESC(stream, "First stream id behind an SMMUv3; each DSP has 8 (default 0xff00)");

static bool non_secure;
module_param(non_secure, bool, 0444);
MODULE_PARM_DESC(non_secure, "The domains are not secure: any user may have signed processes");

static bool coherent = true;
module_param(coherent, bool, 0444);
MODULE_PARM_DESC(coherent, "The DSPs see what is in the caches (default 1)");

static char *heap;
module_param(heap, charp, 0444);
MODULE_PARM_DESC(heap, "Node of /reserved-memory for static domains of the audio DSP, without its address (default none)");

static struct of_changeset changeset;
static struct device_node *container;

/* The SMMUv3 of the machine, if banks can be put behind it; put by the caller. */
static struct device_node *find_smmu(u32 *phandle)
{
	struct device_node *smmu;

	if (!IS_ENABLED(CONFIG_ARM_SMMU_V3))
		return NULL;

	for_each_compatible_node(smmu, NULL, "arm,smmu-v3") {
		u32 cells;

		if (of_device_is_available(smmu) && smmu->phandle &&
		    !of_property_read_u32(smmu, "#iommu-cells", &cells) && cells == 1) {
			*phandle = smmu->phandle;
			return smmu;
		}
	}
	return NULL;
}

/* The changeset holds the node, until it is destroyed. */
static struct device_node *create_node(struct device_node *parent, const char *name)
{
	struct device_node *np = of_changeset_create_node(&changeset, parent, name);

	of_node_put(np);
	return np;
}

static int create_bank(struct sim_dsp *dsp, unsigned int i, u32 smmu)
{
	struct device_node *np;
	char name[24];
	int ret;

	snprintf(name, sizeof(name), "compute-cb@%u", i + 1);
	np = create_node(dsp->node, name);
	if (!np)
		return -ENOMEM;

	ret = of_changeset_add_prop_string(&changeset, np, "compatible",
					   "qcom,fastrpc-compute-cb") ?:
	      of_changeset_add_prop_u32(&changeset, np, "reg", i + 1);
	if (!ret && coherent)
		ret = of_changeset_add_prop_bool(&changeset, np, "dma-coherent");
	/* The last bank serves two sessions, so that this is tested too. */
	if (!ret && i + 1 == sim_banks)
		ret = of_changeset_add_prop_u32(&changeset, np, "qcom,nsessions", 2);
	if (!ret && smmu) {
		u32 iommus[] = { smmu, stream + dsp->index * SIM_MAX_BANKS + i };

		ret = of_changeset_add_prop_u32_array(&changeset, np, "iommus", iommus,
						      ARRAY_SIZE(iommus));
	}
	return ret;
}

static int add_heap(struct sim_dsp *dsp)
{
	struct device_node *memory __free(device_node) =
		of_find_node_by_path("/reserved-memory");
	struct device_node *region __free(device_node) =
		of_get_child_by_name(memory, heap);

	if (!region || !region->phandle) {
		pr_err("fastrpc-sim: no reserved memory %s that nodes can refer to\n", heap);
		return -EINVAL;
	}
	return of_changeset_add_prop_u32(&changeset, dsp->node, "memory-region", region->phandle);
}

static int create_dsp(struct sim_dsp *dsp, u32 smmu)
{
	unsigned int i;
	char name[24];
	int ret;

	snprintf(name, sizeof(name), "fastrpc-%s", dsp->label);
	dsp->node = create_node(container, name);
	if (!dsp->node)
		return -ENOMEM;

	ret = of_changeset_add_prop_string(&changeset, dsp->node, "compatible", dsp->compatible) ?:
	      of_changeset_add_prop_string(&changeset, dsp->node, "label", dsp->label) ?:
	      of_changeset_add_prop_u32(&changeset, dsp->node, "#address-cells", 1) ?:
	      of_changeset_add_prop_u32(&changeset, dsp->node, "#size-cells", 0);
	if (!ret && non_secure)
		ret = of_changeset_add_prop_bool(&changeset, dsp->node, "qcom,non-secure-domain");
	if (!ret && heap && !strcmp(dsp->label, "adsp"))
		ret = add_heap(dsp);
	/* A node that is added goes before those that are there. */
	for (i = sim_banks; !ret && i > 0; i--)
		ret = create_bank(dsp, i - 1, smmu);
	return ret;
}

/**
 * sim_tree_create() - add nodes for DSPs to the devicetree
 * @dsps: the DSPs; sets their &sim_dsp.node
 * @count: how many
 *
 * Return: 0, -ENODEV if there is no devicetree, or another error
 */
int sim_tree_create(struct sim_dsp *dsps, unsigned int count)
{
	struct device_node *root __free(device_node) = of_find_node_by_path("/");
	struct device_node *smmu __free(device_node) = NULL;
	unsigned int i;
	u32 phandle = 0;
	int ret;

	if (!root)
		return -ENODEV;
	smmu = find_smmu(&phandle);

	of_changeset_init(&changeset);
	container = create_node(root, "fastrpc-sim");
	if (!container) {
		ret = -ENOMEM;
		goto drop;
	}
	/* Its devices are made by this module, not by the platform bus. */
	of_node_set_flag(container, OF_POPULATED);

	for (i = 0; i < count; i++) {
		ret = create_dsp(&dsps[i], phandle);
		if (ret)
			goto drop;
	}
	ret = of_changeset_apply(&changeset);
	if (!ret)
		return 0;
drop:
	of_changeset_destroy(&changeset);
	return ret;
}

/** sim_tree_remove() - take the nodes out of the devicetree and free them */
void sim_tree_remove(void)
{
	of_node_clear_flag(container, OF_POPULATED);
	of_changeset_revert(&changeset);
	of_changeset_destroy(&changeset);
}
