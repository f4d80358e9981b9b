"""What other tools call a setting."""

from __future__ import annotations

__all__ = ["SYNONYMS"]

#: Another name to the setting that is meant.
SYNONYMS = {
    other: meant
    for meant, others in {
        "adversarial-training": "adversarial-train adv-training pgd-training madry",
        "attack": "attacks poison poisoning adversary",
        "attention": "se cbam squeeze-excitation",
        "augment": "augmentation augmentations transforms",
        "availability": "dropout stragglers dropout-rate late-joiners",
        "backbone": "model network net arch architecture",
        "batch-size": "batch batchsize bs",
        "client-timeout": "timeout",
        "clients": "hospitals nodes num-clients n-clients number-of-clients num-hospitals num-supernodes",
        "data": "dataset datasets source",
        "data-root": "data-dir data-folder data-path root",
        "device": "gpu cuda accelerator",
        "evaluate": "evaluation evaluations evasion adversarial corruption corruptions robustness",
        "image-size": "resolution resize img-size",
        "init": "pretrained weights checkpoint init-weights",
        "local-epochs": "epochs epoch num-epochs",
        "lr": "learning-rate eta",
        "malicious": "attackers n-malicious num-malicious n-attackers num-attackers byzantine num-byzantine "
        "adversaries poisoned",
        "noise-std": "noise sigma",
        "optimizer": "optimiser opt client-optimizer",
        "out": "output output-dir outdir out-dir run-dir",
        "participation": "fraction fraction-fit fraction-train client-fraction sample-rate c",
        "partition": "noniid non-iid iid dirichlet alpha",
        "per-round": "clients-per-round hospitals-per-round num-clients-per-round k",
        "precision": "dtype amp bf16 half",
        "proximal": "mu proximal-mu fedprox prox",
        "prune": "pruning sparsity prune-ratio",
        "rounds": "num-rounds n-rounds num-server-rounds",
        "seed": "random-seed random-state",
        "server-lr": "server-learning-rate eta-s",
        "server-momentum": "momentum fedavgm",
        "server-optimizer": "server-optimiser fedopt fedadam",
        "strategy": "defence defense aggregator aggregation aggregation-rule rule server-strategy",
        "threat": "threats",
        "tte": "tta test-time-augmentation test-time-ensembling views",
        "workers": "jobs n-jobs num-workers processes parallel threads cpus",
    }.items()
    for other in others.split()
}
