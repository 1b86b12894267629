// SPDX-License-Identifier: GPL-2.0-only
/*
 * The rpmsg channel of a DSP: it comes and goes with the DSP, and carries the
 * requests.
 */

#include <linux/cleanup.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/rpmsg.h>

#include <drm/drm_drv.h>
#include <drm/drm_managed.h>
#include <drm/qda_accel.h>

#include "qda.h"

static bool claim = !IS_ENABLED(CONFIG_QCOM_FASTRPC);
module_param(claim, bool, 0444);
MODULE_PARM_DESC(claim, "Take every DSP that no other driver has, not only those whose driver_override is \"qda\" (default: if there is no fastrpc driver)");

static int qda_rpmsg_send(struct qda_device *qda, const struct qda_request *request)
{
	struct rpmsg_device *rpdev = qda->transport_priv;

	return rpmsg_send(rpdev->ept, (void *)request, sizeof(*request));
}

static const struct qda_transport_ops qda_rpmsg_ops = {
	.send = qda_rpmsg_send,
};

static int qda_rpmsg_callback(struct rpmsg_device *rpdev, void *data, int len, void *priv, u32 src)
{
	struct qda_device *qda = dev_get_drvdata(&rpdev->dev);
	const struct qda_reply *reply = data;

	if (len < sizeof(*reply))
		return -EINVAL;
	if (qda)
		qda_receive(qda, le64_to_cpu(reply->ctx), le32_to_cpu(reply->result));
	return 0;
}

static const struct {
	const char *prefix;
	enum drm_qda_domain domain;
} qda_domains[] = {
	{ "adsp", DRM_QDA_DOMAIN_ADSP },
	{ "mdsp", DRM_QDA_DOMAIN_MDSP },
	{ "sdsp", DRM_QDA_DOMAIN_SDSP },
	{ "cdsp", DRM_QDA_DOMAIN_CDSP },
	{ "gdsp", DRM_QDA_DOMAIN_GDSP },
};

/* SoCs that have the default compatible, and can poll. New ones have a compatible that says so. */
static const struct of_device_id qda_poll_machines[] = {
	{ .compatible = "qcom,milos" },
	{ .compatible = "qcom,qcs8300" },
	{ .compatible = "qcom,sa8775p" },
	{ .compatible = "qcom,sar2130p" },
	{ .compatible = "qcom,sm8450" },
	{ .compatible = "qcom,sm8550" },
	{ .compatible = "qcom,sm8650" },
	{ .compatible = "qcom,sm8750" },
	{ .compatible = "qcom,x1e80100" },
	{ .compatible = "qcom,x1p42100" },
	{ }
};

static int qda_identify(struct qda_device *qda, struct device *dev)
{
	const char *label;
	unsigned int i;
	int ret;

	ret = of_property_read_string(dev->of_node, "label", &label);
	if (ret)
		return dev_err_probe(dev, ret, "the DSP has no label\n");
	/* Open files may outlive the node. */
	qda->name = drmm_kstrdup(&qda->drm, label, GFP_KERNEL);
	if (!qda->name)
		return -ENOMEM;
	for (i = 0; i < ARRAY_SIZE(qda_domains); i++)
		if (str_has_prefix(qda->name, qda_domains[i].prefix))
			break;
	if (i == ARRAY_SIZE(qda_domains))
		return dev_err_probe(dev, -EINVAL, "DSP %s is not known\n", qda->name);
	qda->domain = qda_domains[i].domain;
	qda->secure = !of_property_read_bool(dev->of_node, "qcom,non-secure-domain");
	qda->unsigned_pd = qda->domain == DRM_QDA_DOMAIN_CDSP ||
			   qda->domain == DRM_QDA_DOMAIN_GDSP;
	qda->poll = qda->soc->poll || of_machine_get_match(qda_poll_machines);
	return 0;
}

static const struct qda_soc qda_kaanapali = {
	.sid_shift = 56,
	.dma_bits = 32,
	.cdsp_dma_bits = 34,
	.poll = true,
};

static const struct qda_soc qda_default = {
	.sid_shift = 32,
	.dma_bits = 32,
	.cdsp_dma_bits = 32,
};

static const struct of_device_id qda_of_match[] = {
	{ .compatible = "qcom,kaanapali-fastrpc", .data = &qda_kaanapali },
	{ .compatible = "qcom,fastrpc", .data = &qda_default },
	{ }
};
MODULE_DEVICE_TABLE(of, qda_of_match);

static int qda_rpmsg_probe(struct rpmsg_device *rpdev)
{
	const struct of_device_id *match = of_match_node(qda_of_match, rpdev->dev.of_node);
	struct qda_device *qda;
	int ret;

	/* By driver_override, anything may come here. */
	if (!match)
		return -ENODEV;
	if (!qda_banks_ready(rpdev->dev.of_node))
		return dev_err_probe(&rpdev->dev, -EPROBE_DEFER, "an IOMMU is not ready\n");
	qda = devm_drm_dev_alloc(&rpdev->dev, &qda_drm_driver, struct qda_device, drm);
	if (IS_ERR(qda))
		return PTR_ERR(qda);
	qda->transport = &qda_rpmsg_ops;
	qda->transport_priv = rpdev;
	qda->soc = match->data;
	INIT_LIST_HEAD(&qda->sessions);
	qda_calls_init(qda);
	ret = drmm_mutex_init(&qda->drm, &qda->session_lock);
	if (!ret)
		ret = drmm_mutex_init(&qda->drm, &qda->capability_lock);
	if (!ret)
		ret = qda_identify(qda, &rpdev->dev);
	if (!ret)
		ret = qda_heap_init(qda, rpdev->dev.of_node);
	if (ret)
		return ret;
	ret = qda_banks_create(qda, &rpdev->dev);
	if (ret)
		goto release_heap;
	/* What buffers are made for; the channel itself does no DMA. */
	drm_dev_set_dma_dev(&qda->drm, &qda->banks[0]->dev);

	dev_set_drvdata(&rpdev->dev, qda);
	ret = drm_dev_register(&qda->drm, 0);
	if (!ret)
		return 0;
	qda_banks_destroy(qda);
release_heap:
	qda_heap_release(qda);
	return ret;
}

static void qda_rpmsg_remove(struct rpmsg_device *rpdev)
{
	struct qda_device *qda = dev_get_drvdata(&rpdev->dev);

	/* First let everybody go who waits for the DSP, so that nobody is waited for. */
	qda_calls_kill(qda);
	scoped_guard(rwsem_write, &qda->transport_lock)
		qda->transport = NULL;
	drm_dev_unplug(&qda->drm);
	qda_sessions_detach(qda);
	qda_banks_destroy(qda);
	qda_heap_release(qda);
}

static struct rpmsg_driver qda_rpmsg_driver = {
	.probe = qda_rpmsg_probe,
	.remove = qda_rpmsg_remove,
	.callback = qda_rpmsg_callback,
	.drv = {
		.name = "qda",
		.of_match_table = qda_of_match,
	},
};

static int __init qda_init(void)
{
	int ret;

	ret = qda_bank_register_driver();
	if (ret)
		return ret;
	if (!claim)
		qda_rpmsg_driver.drv.of_match_table = NULL;
	ret = register_rpmsg_driver(&qda_rpmsg_driver);
	if (ret)
		qda_bank_unregister_driver();
	return ret;
}
module_init(qda_init);

static void __exit qda_exit(void)
{
	unregister_rpmsg_driver(&qda_rpmsg_driver);
	qda_bank_unregister_driver();
}
module_exit(qda_exit);

MODULE_DESCRIPTION("Qualcomm DSP accelerator");
MODULE_IMPORT_NS("DMA_BUF");
MODULE_LICENSE("GPL");
