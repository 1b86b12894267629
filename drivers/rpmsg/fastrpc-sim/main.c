// SPDX-License-Identifier: GPL-2.0-only
/*
 * A software DSP that speaks FastRPC, for drivers of it to run on where there is
 * no Qualcomm hardware: it offers their rpmsg channel and devicetree nodes,
 * takes their messages as the firmware does, and reaches memory through the
 * IOMMU.
 */

#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/device/faux.h>
#include <linux/module.h>
#include <linux/wait_bit.h>

#include "sim.h"

unsigned int sim_banks = 4;
module_param_named(banks, sim_banks, uint, 0444);
MODULE_PARM_DESC(banks, "Context banks of each DSP, 1 to 8 (default 4)");

static struct sim_dsp dsps[] = {
	{ .label = "adsp", .compatible = "qcom,fastrpc", .sid_shift = 32 },
	{ .label = "cdsp", .compatible = "qcom,kaanapali-fastrpc", .sid_shift = 56 },
};

static struct faux_device *parent;
static struct dentry *debugfs;

static void crash(struct work_struct *work)
{
	struct sim_dsp *dsp = container_of(work, struct sim_dsp, crash_work);

	guard(mutex)(&dsp->state_lock);
	if (!dsp->channel)
		return;
	sim_channel_stop(dsp);
	if (sim_channel_start(dsp))
		pr_err("fastrpc-sim: %s does not come back\n", dsp->label);
}

static void init_dsp(struct sim_dsp *dsp)
{
	dsp->index = dsp - dsps;
	dsp->parent = &parent->dev;
	dsp->delay_ms = 200;
	mutex_init(&dsp->state_lock);
	INIT_WORK(&dsp->crash_work, crash);
	spin_lock_init(&dsp->rx_lock);
	spin_lock_init(&dsp->lock);
	INIT_LIST_HEAD(&dsp->calls);
	INIT_LIST_HEAD(&dsp->runs);
	init_waitqueue_head(&dsp->run_ended);
	mutex_init(&dsp->process_lock);
	INIT_LIST_HEAD(&dsp->processes);
	mutex_init(&dsp->bank_lock);
}

static int start(void)
{
	struct sim_dsp *dsp;
	int ret;

	for (dsp = dsps; dsp < dsps + ARRAY_SIZE(dsps); dsp++) {
		guard(mutex)(&dsp->state_lock);
		ret = sim_channel_start(dsp);
		if (ret)
			return ret;
	}
	return 0;
}

/*
 * Returns when no driver holds a channel any more: its release function is ours.
 * The few instructions with which that returns after its wake-up may still be
 * ahead then, as with any release function that a module's exit waits for.
 */
static void stop(void)
{
	struct sim_dsp *dsp;

	for (dsp = dsps; dsp < dsps + ARRAY_SIZE(dsps); dsp++) {
		disable_work_sync(&dsp->crash_work);
		guard(mutex)(&dsp->state_lock);
		sim_channel_stop(dsp);
	}
	/* For as long as files are open, which is no task that hangs. */
	___wait_var_event(&sim_channels, !atomic_read(&sim_channels), TASK_IDLE, 0, 0, schedule());
}

static int __init sim_init(void)
{
	struct sim_dsp *dsp;
	int ret;

	if (!sim_banks || sim_banks > SIM_MAX_BANKS)
		return -EINVAL;
	sim_workqueue = alloc_workqueue("fastrpc-sim", WQ_UNBOUND, 0);
	if (!sim_workqueue)
		return -ENOMEM;
	parent = faux_device_create("fastrpc-sim", NULL, NULL);
	if (!parent) {
		ret = -ENODEV;
		goto destroy_workqueue;
	}
	for (dsp = dsps; dsp < dsps + ARRAY_SIZE(dsps); dsp++)
		init_dsp(dsp);
	ret = sim_tree_create(dsps, ARRAY_SIZE(dsps));
	if (ret)
		goto destroy_parent;
	ret = start();
	if (ret)
		goto stop;

	debugfs = debugfs_create_dir("fastrpc-sim", NULL);
	for (dsp = dsps; dsp < dsps + ARRAY_SIZE(dsps); dsp++)
		sim_debugfs_create(dsp, debugfs);
	return 0;

stop:
	stop();
	sim_tree_remove();
destroy_parent:
	faux_device_destroy(parent);
destroy_workqueue:
	destroy_workqueue(sim_workqueue);
	return ret;
}
late_initcall(sim_init);

static void __exit sim_exit(void)
{
	debugfs_remove(debugfs);
	stop();
	sim_tree_remove();
	faux_device_destroy(parent);
	destroy_workqueue(sim_workqueue);
}
module_exit(sim_exit);

MODULE_DESCRIPTION("Software DSP for FastRPC");
MODULE_LICENSE("GPL");
