/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _LINUX_QDA_BUS_H
#define _LINUX_QDA_BUS_H

#include <linux/device/bus.h>

#ifdef CONFIG_DRM_ACCEL_QDA_BUS
extern const struct bus_type qda_bus_type;
void qda_bus_release(struct device *dev);
#endif

#endif
