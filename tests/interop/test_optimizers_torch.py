"""Optimizers and schedules against those of PyTorch and transformers."""

import numpy as np
import pytest
import tensorflow as tf

torch = pytest.importorskip("torch", reason="PyTorch is not installed; run make interop")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed; run make interop"
)

from lib.model.optimizers import OPTIMIZERS  # noqa: E402
from lib.model.parameters import Parameter  # noqa: E402
from lib.model.schedules import schedule  # noqa: E402

TABLE = [
    Parameter("dense/kernel", (9, 5)),
    Parameter("dense/bias", (5,), "zeros", decays=False),
    Parameter("LayerNorm/gamma", (5,), "ones", decays=False),
]
BETAS, EPSILON, DECAY, STEPS = (0.9, 0.999), 1e-6, 0.1, 20


def inputs(
    table: list[Parameter] = TABLE,
) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]], list[float]]:
    """Weights, and for every step gradients and a learning rate."""
    draw = np.random.default_rng(5)
    weights = {p.name: draw.normal(0, 0.02, p.shape).astype(np.float32) for p in table}
    sets = [
        {
            p.name: draw.normal(0, 10.0 ** (-2 * (index % 3)), p.shape)
            for index, p in enumerate(table)
        }
        for _ in range(STEPS)
    ]
    rate = schedule("cosine", 0.01, 0.0, 5, STEPS + 1)
    return weights, sets, [rate(step) for step in range(1, STEPS + 1)]


def ours(name: str, table: list[Parameter] = TABLE) -> dict[str, np.ndarray]:
    weights, sets, rates = inputs(table)
    variables = {key: tf.Variable(array) for key, array in weights.items()}
    optimizer = OPTIMIZERS[name](table, DECAY, *BETAS, EPSILON)
    for step, (each, rate) in enumerate(zip(sets, rates, strict=True), 1):
        given = {key: tf.constant(array, tf.float32) for key, array in each.items()}
        given = optimizer.prepare(given)
        optimizer.apply(variables, given, tf.constant(rate), tf.constant(step))
    return {key: variable.numpy() for key, variable in variables.items()}


def error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_adamw_equals_torch():
    weights, sets, rates = inputs()
    theirs = {key: torch.tensor(array, dtype=torch.float64) for key, array in weights.items()}
    groups = [
        {"params": [theirs["dense/kernel"]], "weight_decay": DECAY},
        {"params": [theirs["dense/bias"], theirs["LayerNorm/gamma"]], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=BETAS, eps=EPSILON)
    for each, rate in zip(sets, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        for key, array in each.items():
            theirs[key].grad = torch.tensor(array)
        optimizer.step()
    for key, array in ours("adamw").items():
        assert error(array, theirs[key].numpy()) <= 1e-6, key


def test_lamb_equals_the_trust_ratio_on_torch_steps():
    """Adam's direction does not depend on the weights: PyTorch computes it, NumPy the rest."""
    weights, sets, rates = inputs()
    for key, array in ours("lamb").items():
        parameter = torch.zeros(array.shape, dtype=torch.float64)
        optimizer = torch.optim.Adam([parameter], lr=1.0, betas=BETAS, eps=EPSILON)
        expected = weights[key].astype(np.float64)
        for each, rate in zip(sets, rates, strict=True):
            before = parameter.clone()
            parameter.grad = torch.tensor(each[key])
            optimizer.step()
            update = (before - parameter).numpy()
            if key.endswith("kernel"):
                update = update + DECAY * expected
                update *= np.linalg.norm(expected) / np.linalg.norm(update)
            expected = expected - rate * update
        assert error(array, expected) <= 1e-6, key


def test_muon_equals_torch(monkeypatch):
    """In float64: PyTorch orthogonalises in bfloat16, which is taken out."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    layer = "bert/encoder/layer_0"
    table = [
        Parameter(f"{layer}/attention/self/query/kernel", (32, 32), matrices=1),
        Parameter(f"{layer}/attention/self/key/kernel", (32, 32), matrices=1),
        Parameter(f"{layer}/intermediate/dense/kernel", (32, 96), matrices=1),
        Parameter(f"{layer}/output/dense/kernel", (96, 32), matrices=1),
        Parameter("bert/embeddings/word_embeddings", (50, 32)),
        Parameter("bert/pooler/dense/kernel", (32, 32)),
        Parameter(f"{layer}/output/dense/bias", (32,), "zeros", decays=False),
        Parameter(f"{layer}/output/LayerNorm/gamma", (32,), "ones", decays=False),
    ]
    weights, sets, rates = inputs(table)
    theirs = {key: torch.tensor(array, dtype=torch.float64) for key, array in weights.items()}
    *matrices, embeddings, pooler, bias, gamma = theirs.values()
    muon = torch.optim.Muon(
        matrices, weight_decay=DECAY, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    groups = [
        {"params": [embeddings, pooler], "weight_decay": DECAY},
        {"params": [bias, gamma], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, betas=BETAS, eps=EPSILON)
    for each, rate in zip(sets, rates, strict=True):
        for key, array in each.items():
            theirs[key].grad = torch.tensor(array)
        for optimizer in (muon, adamw):
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
    for key, array in ours("muon", table).items():
        expected = theirs[key].numpy()
        # Much of a weight is what the steps have made of it.
        assert error(weights[key], expected) > 0.4, key
        assert error(array, expected) <= 1e-5, key


@pytest.mark.parametrize(("warmup_steps", "steps"), [(0, 1), (0, 50), (7, 50), (49, 50)])
def test_schedules_equal_those_of_transformers(warmup_steps, steps):
    """Theirs count from 0: their rate before step k is ours at step k."""
    peak = 3e-4
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=peak)
    linear = transformers.get_linear_schedule_with_warmup(optimizer, warmup_steps, steps)
    cosine = transformers.get_cosine_schedule_with_warmup(optimizer, warmup_steps, steps)
    polynomial = transformers.get_polynomial_decay_schedule_with_warmup(
        optimizer, warmup_steps, steps, lr_end=1e-5, power=2.0
    )
    pairs = [
        (linear, schedule("polynomial", peak, 0.0, warmup_steps, steps)),
        (cosine, schedule("cosine", peak, 0.0, warmup_steps, steps)),
        (polynomial, schedule("polynomial", peak, 1e-5, warmup_steps, steps, 2.0)),
    ]
    if decay_steps := (steps - warmup_steps) // 3:
        for name, theirs in (
            ("polynomial", "linear"),
            ("cosine", "cosine"),
            ("one_minus_sqrt", "1-sqrt"),
        ):
            wsd = transformers.get_wsd_schedule(
                optimizer,
                num_warmup_steps=warmup_steps,
                num_decay_steps=decay_steps,
                num_training_steps=steps,
                decay_type=theirs,
            )
            rate = schedule(name, peak, 0.0, warmup_steps, steps, decay_steps=decay_steps)
            pairs.append((wsd, rate))
    for theirs, rate in pairs:
        factor = theirs.lr_lambdas[0]
        for step in range(1, steps + 1):
            assert rate(step) == pytest.approx(peak * factor(step), rel=1e-12, abs=1e-20)
