"""Train a linear classifier on the features of a network with published weights, and write the whole network.

Example: python benchmarks/linear_probe.py tf_efficientnet_lite0 lite0.safetensors clothing.zip runs/lite0.safetensors

The result loads by `plainvision evaluate tf_efficientnet_lite0:num_classes=10 --checkpoint runs/lite0.safetensors`.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import plainvision as pv
from plainvision.data.batches import EvaluationBatches
from plainvision.training.evaluation import data_of


def main() -> None:
    """Train, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a name of timm's or ours")
    parser.add_argument("checkpoint", help="its published weights")
    parser.add_argument("data", help="class folders with the splits train and validation")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    network: Any = pv.load_checkpoint(pv.create_model(given.model), given.checkpoint).eval()
    data = replace(data_of(network), root=given.data, workers=0)
    features, labels = {}, {}
    classes: tuple[str, ...] = EvaluationBatches(data, batch_size=1).classes
    for split in ("train", "validation"):
        batches = EvaluationBatches(replace(data, validation_split=split), batch_size=32, classes=classes)
        kept, known = [], []
        with torch.inference_mode():
            for batch in batches:
                kept.append(network.forward_head(network.forward_features(batch.images), pre_logits=True).numpy())
                known.append(batch.labels.numpy())
        features[split], labels[split] = np.concatenate(kept), np.concatenate(known)
        print(split, features[split].shape, flush=True)
    scaler = StandardScaler().fit(features["train"])
    best = max(
        (
            LogisticRegression(C=strength, max_iter=2000).fit(scaler.transform(features["train"]), labels["train"])
            for strength in (1e-4, 1e-3, 1e-2)
        ),
        key=lambda one: one.score(scaler.transform(features["validation"]), labels["validation"]),
    )
    print(f"validation top-1 {100 * best.score(scaler.transform(features['validation']), labels['validation']):.2f} %")
    whole = timm.create_model(given.model, num_classes=len(classes))
    weight = best.coef_ / scaler.scale_
    head = {"weight": torch.tensor(weight), "bias": torch.tensor(best.intercept_ - weight @ scaler.mean_)}
    state = dict(network.state_dict())
    name = network.default_cfg["classifier"]
    state |= {f"{name}.{key}": value.float() for key, value in head.items()}
    whole.load_state_dict(state)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(whole.state_dict(), given.out)


if __name__ == "__main__":
    main()
