"""The tables at the end of the page: the program, the phases, the environment."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.evidence import Model, Program, Run
from auditor.result import Audit

from . import configuration, data_facts, layer_facts, words
from .page import Grid, grid

_MOST_MODELS = 8  # whose layers are listed


def tables(audit: Audit) -> list[Grid]:
    """Every table that has rows."""
    found: list[Grid | None] = []
    program = audit.evidence.program
    if program is not None:
        found += _program(program, layer_facts.measured(audit.evidence))
    found += data_facts.tables(audit.evidence)
    found += [
        grid("Configuration in force", ("setting", "value"), configuration.settings(audit)),
        configuration.limits(audit),
        _phases(audit.run),
        grid("Environment", ("what", "value"), _environment(audit)),
    ]
    return [table for table in found if table is not None]


def _program(program: Program, measured: layer_facts.Measured) -> Iterator[Grid | None]:
    yield grid(
        "Models",
        ("model", "class", "parameters", "trainable", "built at"),
        ((m.name, m.kind, f"{m.parameters:,}", f"{m.trainable:,}", words.place(m.location)) for m in program.models),
        (2, 3),
    )
    for model in program.models[:_MOST_MODELS]:
        yield _layers(model, measured)
    yield grid(
        "Optimizers",
        ("optimizer", "learning rate", "momentum", "weight decay", "parameters", "steps", "built at"),
        (
            (
                o.kind,
                words.listed([words.number(rate) for rate in o.learning_rates], 4),
                words.number(o.momentum),
                words.number(o.weight_decay),
                f"{o.parameters:,}",
                f"{o.steps:,}",
                words.place(o.location),
            )
            for o in program.optimizers
        ),
        (1, 2, 3, 4, 5),
    )
    yield grid(
        "Schedulers",
        ("scheduler", "steps", "built at"),
        ((s.kind, f"{s.steps:,}", words.place(s.location)) for s in program.schedulers),
        (1,),
    )
    yield _losses(program)
    yield _loaders(program)
    yield grid(
        "Clipping",
        ("by", "limit", "calls", "at"),
        ((c.kind, words.number(c.limit), f"{c.calls:,}", words.place(c.location)) for c in program.clippings),
        (1, 2),
    )
    yield grid("Loop", ("what", "value"), _loop(program))


def _layers(model: Model, measured: layer_facts.Measured) -> Grid | None:
    return grid(
        f"Layers of {model.name}",
        ("layer", "kind", "weight", "parameters", *measured.head, "built at"),
        (
            (
                layer.name,
                layer.kind,
                "×".join(map(str, layer.shape)) or "–",
                f"{layer.parameters:,}"
                + ("" if layer.trainable == layer.parameters else f" ({layer.trainable:,} trainable)"),
                *measured.cells(layer.name),
                words.place(layer.location),
            )
            for layer in model.layers
        ),
        range(3, 4 + len(measured.head)),
    )


def _losses(program: Program) -> Grid | None:
    return grid(
        "Losses",
        ("function", "reduction", "weighted", "label smoothing", "calls", "at"),
        (
            (
                loss.name,
                loss.reduction,
                "yes" if loss.weighted else "no",
                words.number(loss.label_smoothing),
                f"{loss.calls:,}",
                words.place(loss.location),
            )
            for loss in program.losses
        ),
        (3, 4),
    )


def _loaders(program: Program) -> Grid | None:
    return grid(
        "Loaders",
        ("loader", "role", "data set", "samples", "batch", "shuffled", "sampler", "workers", "built at"),
        (
            (
                loader.name,
                loader.role,
                loader.dataset,
                words.integer(loader.samples),
                words.integer(loader.batch_size),
                {True: "yes", False: "no", None: "–"}[loader.shuffled],
                loader.sampler,
                loader.workers,
                words.place(loader.location),
            )
            for loader in program.loaders
        ),
        (3, 4, 7),
    )


def _loop(program: Program) -> Iterator[tuple[str, str]]:
    fed = {"loader": "a DataLoader", "tensors": "tensors, without a DataLoader", "target": "the audit's own loop"}
    yield "fed by", fed[program.loop]
    if program.loss_location:
        yield "backward() called at", words.place(program.loss_location)
    yield "backward() calls a step", words.number(program.backwards_per_step)
    yield "gradient scaler", "yes" if program.scaler else "no"
    yield "autocast", program.autocast or "off"
    if program.closure:
        yield "optimizer step", "with a closure"
    if program.manual_updates:
        yield "updates", "by hand, without torch.optim"


def _phases(run: Run) -> Grid | None:
    return grid(
        "Phases of the probe",
        ("phase", "result", "time", "steps", "remark"),
        ((p.name, p.status, words.seconds(p.seconds), f"{p.steps:,}", p.reason) for p in run.phases),
        (2, 3),
    )


def _environment(audit: Audit) -> Iterator[tuple[str, str]]:
    run = audit.run
    yield "command", words.command(run)
    if run.source_only:
        yield "Python", run.python
        yield audit.tool.name, audit.tool.version
        return
    yield "status", run.status.value
    if run.exit_code is not None:
        yield "exit code of the script", str(run.exit_code)
    yield "device", run.device
    yield "PyTorch", run.torch or "–"
    yield "Python", run.python or "–"
    yield "seed", str(run.seed) if run.seed is not None else "the script's own"
    yield "time of a step", words.seconds(run.step_seconds)
    yield "overhead of observing", words.overhead(run.overhead) if run.overhead is not None else "–"
    yield audit.tool.name, audit.tool.version
    yield "schema", audit.schema_version
