// SPDX-License-Identifier: GPL-2.0-only
/*
 * The bus of context banks: devices that do nothing but DMA, each by a stream of
 * its own, which their devicetree nodes give. It is built in, because the IOMMU
 * core has to know it. Neither the auxiliary nor the faux bus configures DMA, and
 * platform devices would be taken by drivers/misc/fastrpc.c.
 */

#include <linux/dma-map-ops.h>
#include <linux/init.h>
#include <linux/iommu.h>
#include <linux/of_device.h>
#include <linux/qda_bus.h>
#include <linux/slab.h>

/* One kind of device, one driver. */
static int qda_bus_match(struct device *dev, const struct device_driver *drv)
{
	return 1;
}

static int qda_bus_dma_configure(struct device *dev)
{
	/* As on other buses: the IOMMU layer calls this too, before there is a driver. */
	struct device_driver *drv = READ_ONCE(dev->driver);
	int ret;

	ret = of_dma_configure(dev, dev->of_node, true);
	if (ret || !drv)
		return ret;
	ret = iommu_device_use_default_domain(dev);
	if (ret)
		arch_teardown_dma_ops(dev);
	return ret;
}

static void qda_bus_dma_cleanup(struct device *dev)
{
	iommu_device_unuse_default_domain(dev);
}

/**
 * qda_bus_release() - release function of the devices on the bus
 * @dev: the device, with which the memory begins that it lies in
 *
 * Built in too: the last reference to a device may go after the module that made it,
 * as device links to its IOMMU are dropped by a worker.
 */
void qda_bus_release(struct device *dev)
{
	of_node_put(dev->of_node);
	kfree(dev);
}
EXPORT_SYMBOL_GPL(qda_bus_release);

const struct bus_type qda_bus_type = {
	.name = "qda",
	.match = qda_bus_match,
	.dma_configure = qda_bus_dma_configure,
	.dma_cleanup = qda_bus_dma_cleanup,
};
EXPORT_SYMBOL_GPL(qda_bus_type);

static int __init qda_bus_init(void)
{
	return bus_register(&qda_bus_type);
}
postcore_initcall(qda_bus_init);
