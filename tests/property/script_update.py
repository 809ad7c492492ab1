"""One step of random training scripts: the loss, the backward pass, the update."""

from __future__ import annotations

from script_draft import Draft, indent

LOSSES = {
    "classes": (
        "F.cross_entropy({out}, y)",
        "nn.CrossEntropyLoss()({out}, y)",
        "F.nll_loss(F.log_softmax({out}, dim=1), y)",
        "-F.log_softmax({out}, dim=1).gather(1, y[:, None]).mean()",
        "F.cross_entropy({out}, y, label_smoothing=0.1)",
    ),
    "values": ("F.mse_loss({out}, y)", "nn.SmoothL1Loss()({out}, y)", "(({out} - y) ** 2).mean()"),
    "binary": ("F.binary_cross_entropy_with_logits({out}, y)", "nn.BCELoss()(torch.sigmoid({out}), y)"),
    "next": (
        "F.cross_entropy({out}.flatten(0, 1), y.flatten())",
        "nn.CrossEntropyLoss()({out}.transpose(1, 2), y)",
    ),
    "self": ("F.mse_loss({out}, x)", "nn.MSELoss()({out}, y)", "({out} - x).abs().mean()"),
}
OPTIMIZERS = (
    "torch.optim.SGD({p}, lr=0.05)",
    "torch.optim.SGD({p}, lr=0.02, momentum=0.9, nesterov=True)",
    "torch.optim.SGD({p}, lr=0.05, weight_decay=1e-4)",
    "torch.optim.Adam({p}, lr=1e-2)",
    "torch.optim.AdamW({p}, lr=3e-3, weight_decay=0.1, foreach=False)",
    "torch.optim.RMSprop({p}, lr=1e-3)",
    "torch.optim.Adagrad({p}, lr=1e-2)",
)
SCHEDULERS = {
    "step": "torch.optim.lr_scheduler.StepLR({o}, step_size=5, gamma=0.5)",
    "cosine": "torch.optim.lr_scheduler.CosineAnnealingLR({o}, T_max=20)",
    "warm-up": "torch.optim.lr_scheduler.LambdaLR({o}, lambda step: min(1.0, (step + 1) / 10))",
    "plateau": "torch.optim.lr_scheduler.ReduceLROnPlateau({o}, patience=2)",
}


def update(draft: Draft) -> tuple[list[str], list[str]]:
    """The lines of one step behind the unpacking, and what has to be built before the loop."""
    kinds = ["one"] * 6 + ["closure", "two", "by hand", "by grad", "groups"]
    kind = draft.one("update", *kinds)
    if kind in {"two", "groups"} and draft.model in {"functional", "frozen", "lazy", "tokens"}:
        kind = "one"
    prepare: list[str] = []
    loss, forward = _forward(draft, kind)
    prepare += _optimizers(draft, kind)
    if kind == "closure":
        return _closure_step(forward), prepare
    if kind in {"by hand", "by grad"}:
        return _manual_step(draft, kind, forward), prepare
    names = ["optimizer", "second"] if kind == "two" else ["optimizer"]
    return _optimizer_step(draft, names, forward, loss, prepare), prepare


def _forward(draft: Draft, kind: str) -> tuple[str, list[str]]:
    """The lines that compute `loss`."""
    if draft.in_model:
        pair = "model returns a pair" in draft.features
        lines = ["out, loss = model(x, y)" if pair else "loss = model(x, y)"]
    else:
        loss = draft.dice.choice(LOSSES[draft.target])
        draft.features.append(f"loss:{loss}")
        if loss.startswith("nn."):
            draft.setup.append(f"criterion = {loss.partition('(')[0]}()")
            loss = "criterion" + loss[loss.index(")(") + 1 :]
        lines = ["out = model(x)", f"loss = {loss.format(out='out')}"]
    plain = draft.inputs == "features" and draft.model not in {"complex", "checkpointed", "mlp-norm"}
    if plain and not draft.in_model and kind != "closure" and draft.has("gradient penalty", 0.15):
        lines = [
            "x = x.clone().requires_grad_(True)",
            *lines,
            "(slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)",
            "loss = loss + 0.1 * slope.pow(2).mean()",
        ]
    elif not (draft.double or draft.model in {"recurrent", "complex"} or draft.target == "binary") and draft.has(
        "autocast", 0.15
    ):
        lines = ['with torch.autocast("cpu", dtype=torch.bfloat16):', *indent(lines)]
    return "loss", lines


def _optimizers(draft: Draft, kind: str) -> list[str]:
    if kind in {"by hand", "by grad"}:
        return [f"trained = [p for p in {draft.parameters} if p.requires_grad]"]
    if kind == "closure":
        return [f"optimizer = torch.optim.LBFGS({draft.parameters}, lr=0.1, max_iter={draft.dice.choice([1, 4])})"]
    if kind == "two":
        first, second = (draft.dice.choice(OPTIMIZERS) for _ in range(2))
        return [
            "everything = list(model.parameters())",
            f"optimizer = {first.format(p='everything[:-2]')}",
            f"second = {second.format(p='everything[-2:]')}",
        ]
    if kind == "groups":
        groups = '[{"params": everything[:-2]}, {"params": everything[-2:], "lr": 0.001}]'
        return [
            "everything = list(model.parameters())",
            f"optimizer = {draft.dice.choice(OPTIMIZERS).format(p=groups)}",
        ]
    chosen = draft.one("optimizer", *OPTIMIZERS)
    if draft.model == "complex":
        chosen = OPTIMIZERS[draft.dice.choice([0, 3])]
    return [f"optimizer = {chosen.format(p=draft.parameters)}"]


def _closure_step(forward: list[str]) -> list[str]:
    body = ["optimizer.zero_grad()", *forward, "loss.backward()", "return loss"]
    return ["def closure():", *indent(body), "", "loss = optimizer.step(closure)", "losses.append(loss.item())"]


def _manual_step(draft: Draft, kind: str, forward: list[str]) -> list[str]:
    if kind == "by grad":
        lines = [*forward, "grads = torch.autograd.grad(loss, trained)", "with torch.no_grad():"]
        lines += ["    for p, g in zip(trained, grads):", "        p -= 0.05 * g"]
    else:
        clear = draft.one("clear", "p.grad = None", "p.grad.zero_()")
        lines = [*forward, "loss.backward()", "with torch.no_grad():", "    for p in trained:"]
        lines += ["        p -= 0.05 * p.grad", f"        {clear}"]
    return [*lines, "losses.append(loss.item())"]


def _optimizer_step(draft: Draft, names: list[str], forward: list[str], loss: str, prepare: list[str]) -> list[str]:
    zero = draft.one("zero", "zero_grad()", "zero_grad(set_to_none=False)", "model")
    clear = [f"{name}.{zero}" for name in names]
    if zero == "model":
        clear = ["model.zero_grad()"] if draft.is_module else ["for p in params:\n    p.grad = None"]
    backward = f"{loss}.backward(retain_graph=True)" if draft.has("retain_graph", 0.08) else f"{loss}.backward()"
    update = [f"{name}.step()" for name in names]
    if draft.has("clipping", 0.25):
        how = draft.dice.choice(["clip_grad_norm_({p}, 1.0)", "clip_grad_value_({p}, 0.5)"])
        if draft.model == "complex":  # cannot be clamped
            how = "clip_grad_norm_({p}, 1.0)"
        update.insert(0, "torch.nn.utils." + how.format(p=draft.parameters))
    if draft.has("scheduler", 0.3):
        kind = draft.one("scheduler", *SCHEDULERS)
        prepare.append(f"scheduler = {SCHEDULERS[kind].format(o='optimizer')}")
        if kind == "plateau":
            draft.epoch_end.append("scheduler.step(losses[-1])")
        elif draft.has("scheduler per epoch", 0.5):
            draft.epoch_end.append("scheduler.step()")
        else:
            update.append("scheduler.step()")
    if draft.is_module and draft.model != "lazy" and draft.has("average", 0.2):
        prepare.append("average = copy.deepcopy(model)")
        update.append(
            "with torch.no_grad():\n    for a, p in zip(average.parameters(), model.parameters()):\n"
            "        a.lerp_(p, 0.1)"
        )
    if draft.has("accumulation", 0.2):
        prepare.append("count = 0")
        inner = [*update, *clear]
        return [*forward, f"({loss} / 2).backward()", "count += 1", "if count % 2 == 0:", *indent(inner),
                f"losses.append({loss}.item())"]  # fmt: skip
    early = draft.has("clears early", 0.6)
    lines = [*clear, *forward, backward, *update] if early else [*forward, backward, *update, *clear]
    return [*lines, f"losses.append({loss}.item())"]
