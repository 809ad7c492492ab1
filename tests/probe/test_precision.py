"""Half precision: the order of a GradScaler's calls, underflow, and updates that the weights cannot hold."""

from __future__ import annotations

import pytest

from auditor.paired import compare

approx = pytest.approx
LOOP = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
loader = torch.utils.data.DataLoader(torch.randn(4000, 8), batch_size=16)
criterion = nn.MSELoss()
for step, x in enumerate(loader):
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.float16):
        loss = criterion(model(x), x.sum(1, keepdim=True))
    BODY
"""


def run(zygote, body, parts=("scaler_use",), steps=12, **options):
    script = LOOP.replace("BODY", "\n    ".join(body.strip().splitlines()))
    return zygote.probe(script, steps=steps, parts=parts, **options)


RIGHT = """
scaler.scale(loss).backward()
scaler.unscale_(optimizer)
nn.utils.clip_grad_norm_(model.parameters(), max_norm=0.1)
scaler.step(optimizer)
scaler.update()
"""


def test_the_calls_in_their_right_order(zygote):
    seen = run(zygote, RIGHT, parts=("scaler_use", "scale_change"), experiments=True)
    use = seen["scaler_use"]
    assert (use.steps, use.scalers, use.single_step_scalers, use.scaler_steps, use.updates) == (12, 1, 0, 12, 11)
    assert (use.direct_steps, use.unscaled_losses, use.skipped) == (0, 0, ())
    assert use.scales == (1024.0,) * 12
    assert len(use.clips) == 12
    assert all(clip.unscaled and clip.limit == 0.1 for clip in use.clips)
    assert (use.built_location.line, use.step_location.line) == (7, 17)
    assert seen["scale_change"].ratios == (approx(1.0, rel=1e-3),)


@pytest.mark.parametrize(
    ("limit", "ratio"),
    [("0.1", 2.0), ("0.1 * scaler.get_scale()", 1.0)],
    ids=["forgotten", "limit-times-scale"],
)
def test_clipping_before_unscaling(zygote, limit, ratio):
    body = RIGHT.replace("scaler.unscale_(optimizer)", "norm = loss.item()").replace("0.1", limit)
    body = body.replace(
        "norm = loss.item()",
        "note(norm=torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item())",
    )
    seen = run(zygote, body, parts=("scaler_use", "scale_change"), experiments=True)
    clips = seen["scaler_use"].clips
    assert not any(clip.unscaled for clip in clips)
    assert [clip.seen for clip in clips] == approx(seen.noted("norm")[:12], rel=1e-5)
    assert seen["scaler_use"].clip_location.line == 16
    assert seen["scale_change"].ratios == (approx(ratio, rel=1e-2),)
    assert seen["scale_change"].limit_ratio == (0.5 if "get_scale" in limit else 1.0)


def test_clipping_values_before_unscaling(zygote):
    body = RIGHT.replace(
        "scaler.unscale_(optimizer)", "note(most=max(p.grad.abs().max().item() for p in model.parameters()))"
    )
    seen = run(
        zygote,
        body.replace("clip_grad_norm_(model.parameters(), max_norm=0.1)", "clip_grad_value_(model.parameters(), 0.1)"),
    )
    clips = seen["scaler_use"].clips
    assert {(clip.kind, clip.unscaled) for clip in clips} == {("value", False)}
    assert [clip.seen for clip in clips] == approx(seen.noted("most")[:12], rel=1e-5)


def test_a_scaler_for_every_step(zygote):
    body = 'scaler = torch.amp.GradScaler("cpu", init_scale=2.0)\n' + RIGHT
    use = run(zygote, body)["scaler_use"]
    assert (use.scalers, use.single_step_scalers) == (12, 12)
    assert use.built_location.line == 14


def test_gradients_never_unscaled(zygote):
    seen = run(
        zygote,
        "scaler.scale(loss).backward()\noptimizer.step()",
        parts=("scaler_use", "scale_change"),
        experiments=True,
    )
    use = seen["scaler_use"]
    assert (use.direct_steps, use.scaler_steps, use.step_location.line) == (12, 0, 15)
    assert seen["scale_change"].ratios == (approx(0.5, rel=1e-2),)


def test_gradients_divided_by_hand(zygote):
    body = """
scaler.scale(loss).backward()
for p in model.parameters():
    p.grad /= scaler.get_scale()
optimizer.step()
"""
    seen = run(zygote, body, parts=("scaler_use", "scale_change"), experiments=True)
    assert seen["scaler_use"].direct_steps == 12  # the calls look wrong
    assert seen["scale_change"].ratios == (approx(1.0, rel=1e-3),)  # the effect is right


@pytest.mark.parametrize("by_hand", [False, True], ids=["forgotten", "multiplied-by-hand"])
def test_a_loss_beside_the_scaled_one(zygote, by_hand):
    body = f"""
scaler.scale(loss).backward(retain_graph=True)
(loss * {"scaler.get_scale()" if by_hand else "3.0"}).backward()
scaler.step(optimizer)
scaler.update()
"""
    seen = run(zygote, body, parts=("scaler_use", "scale_change"), experiments=True)
    use = seen["scaler_use"]
    assert (use.mixed_losses, use.unscaled_losses, use.plain_location.line) == (12, 0, 15)
    (apart,) = seen["scale_change"].unscaled
    if by_hand:
        assert apart.share < 0.01 or apart.error > 0.3
    else:
        assert (apart.share, apart.error) == (approx(0.75, rel=0.02), approx(0.0, abs=0.05))


def test_a_loss_that_is_scaled_in_the_first_step_only(zygote):
    body = "(loss if step else scaler.scale(loss)).backward()\nscaler.step(optimizer)\nscaler.update()"
    use = run(zygote, body)["scaler_use"]
    assert (use.scaler_steps, use.unscaled_losses, use.direct_steps) == (12, 11, 0)


def test_accumulated_gradients(zygote):
    body = """
scaler.scale(loss / 4).backward()
if step % 4 == 3:
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    scaler.step(optimizer)
    scaler.update()
"""
    use = run(zygote, body.replace("optimizer.zero_grad()", ""), steps=6)["scaler_use"]
    assert (use.steps, use.scaler_steps, use.direct_steps, use.unscaled_losses) == (6, 6, 0, 0)
    assert all(clip.unscaled for clip in use.clips)


def test_skipped_steps(zygote):
    body = "scaler.scale(loss * 1e30).backward()\nscaler.step(optimizer)\nscaler.update()"
    use = run(zygote, body)["scaler_use"]
    assert use.skipped == tuple(range(12))
    assert use.finite_losses
    assert use.scales[0] == 1024.0
    assert use.scales[-1] == 0.5  # halved by each update before


def test_gradients_of_skipped_steps_are_not_lost(zygote):
    """The scaler has looked at them: zero_grad() may clear them then."""
    body = "scaler.scale(loss * (1e30 if step % 3 == 0 else 1)).backward()\nscaler.step(optimizer)\nscaler.update()"
    trace = run(zygote, body, parts=("event_trace", "scaler_use"))["event_trace"]
    assert (trace.backwards, trace.used_backwards) == (12, 12)
    assert not trace.cleared


def test_without_a_scaler(zygote):
    body = "loss.backward()\noptimizer.step()"
    assert "not-applicable: no GradScaler" in run(zygote, body).absent("scaler_use")
    off = 'scaler = torch.amp.GradScaler("cpu", enabled=False)\n' + RIGHT
    assert "not-applicable: no GradScaler" in run(zygote, off).absent("scaler_use")


def test_nothing_changes_under_observation(zygote):
    script = LOOP.replace("BODY", "\n    ".join(RIGHT.strip().splitlines()))
    assert zygote.probe(script, record=12).notes == zygote.bare(script, record=12).notes


# ----------------------------------------------------------------------------------------------------------- underflow

FADING = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4)).to(STORED)
optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
loader = torch.utils.data.DataLoader(torch.randn(4000, 8).to(STORED), batch_size=16)
criterion = nn.MSELoss()


def backward(x, scale=1.0):
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=COMPUTED, enabled=AUTOCAST):
        loss = 1e-5 * criterion(model(x), x[:, :4])
    loss.backward(torch.full_like(loss, scale))
    return torch.cat([(p.grad == 0).flatten() for p in model.parameters()])


for step, x in enumerate(loader):
    if COMPARE and step < 8:
        scaled = backward(x, 65536.0)
        note(lost=(backward(x) & ~scaled).sum().item() / (~scaled).sum().item())
    backward(x)
    optimizer.step()
"""


def fading(stored="torch.float32", computed="torch.float16", autocast="True", compare="False"):
    script = FADING.replace("STORED", stored).replace("COMPUTED", computed)
    return script.replace("AUTOCAST", autocast).replace("COMPARE", compare)


def test_underflow_is_what_a_loss_scale_brings_back(zygote):
    part = zygote.probe(fading(), steps=12, parts=("underflow",), experiments=True)["underflow"]
    plain = zygote.bare(fading(compare="True"))
    assert (part.source, part.autocast_location.line, part.scale) == ("autocast", 13, 65536.0)
    assert part.lost == approx(plain.noted("lost"), abs=1e-3)
    assert 0.05 < part.lost[0] < 0.95
    assert part.elements == 8 * 64 + 64 + 64 * 4 + 4


def test_weights_in_float16(zygote):
    script = fading(stored="torch.float16", autocast="False")
    part = zygote.probe(script, steps=12, parts=("underflow",), experiments=True)["underflow"]
    plain = zygote.bare(fading(stored="torch.float16", autocast="False", compare="True"))
    assert part.source == "weights"
    assert part.lost == approx(plain.noted("lost"), abs=1e-2)


@pytest.mark.parametrize("changes", [{"computed": "torch.bfloat16"}, {"autocast": "False"}])
def test_other_precisions_are_not_looked_at(zygote, changes):
    seen = zygote.probe(fading(**changes), steps=8, parts=("underflow",), experiments=True)
    assert seen.absent("underflow").startswith("not-applicable: nothing is computed in float16")


def test_a_scaler_that_is_switched_off_is_none(zygote):
    script = fading().replace("loss.backward(", 'torch.amp.GradScaler("cpu", enabled=False).scale(loss).backward(')
    assert zygote.probe(script, steps=12, parts=("underflow",), experiments=True)["underflow"].lost[0] > 0.05


# -------------------------------------------------------------------------------------------------------- lost updates

OPTIMIZERS = """
class Own(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                self.one(p, -group["lr"] * p.grad.float(), self.state[p])


class Plain(Own):
    def one(self, p, update, state):
        p.copy_(p.float() + update)


class Stochastic(Own):
    def one(self, p, update, state):
        bits = (p.float() + update).view(torch.int32)
        bits = (bits + torch.randint(0, 65536, bits.shape, dtype=torch.int32)) & -65536
        p.copy_(bits.view(torch.float32))


class Compensated(Own):
    def one(self, p, update, state):
        update = update + state.get("rest", 0.0)
        before = p.float().clone()
        p.copy_(before + update)
        state["rest"] = update - (p.float() - before)


class Master(Own):
    def one(self, p, update, state):
        state.setdefault("master", p.float().clone()).add_(update)
        p.copy_(state["master"])
"""
STORED = f"""
import torch
from torch import nn
{OPTIMIZERS}
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)).to(torch.DTYPE)
optimizer = KIND
for step in range(40):
    x = torch.randn(16, 8)
    optimizer.zero_grad()
    loss = (model(x.to(torch.DTYPE)).float() - x.sum(1, keepdim=True)).pow(2).mean()
    loss.backward()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.step()
    same = sum((p == b)[p.grad != 0].sum().item() for p, b in zip(model.parameters(), before))
    note(unchanged=same / sum((p.grad != 0).sum().item() for p in model.parameters()))
"""


def stored(zygote, kind, dtype="bfloat16", **options):
    script = STORED.replace("KIND", kind).replace("DTYPE", dtype)
    return zygote.probe(script, parts=("low_precision",), steps=32, **options)


@pytest.mark.parametrize(
    "kind",
    [
        "torch.optim.SGD(model.parameters(), lr=1e-4)",
        "torch.optim.AdamW(model.parameters(), lr=1e-5, foreach=False)",
        "torch.optim.AdamW(model.parameters(), lr=1e-5, foreach=True)",
        "Plain(model.parameters(), lr=1e-4)",
    ],
    ids=["sgd", "adamw", "foreach", "own"],
)
def test_lost_updates(zygote, kind):
    seen = stored(zygote, kind)
    part = seen["low_precision"]
    assert (part.dtype, part.share) == ("bfloat16", 1.0)
    assert [look.step for look in part.looks] == [9, 29]
    for look in part.looks:
        assert look.unchanged == approx(seen.noted("unchanged")[look.step], abs=0.02)
        assert look.unchanged > 0.8
        assert look.agreement == 1.0
        assert look.stuck > 0.8
        assert look.tested > 200


@pytest.mark.parametrize("kind", ["Stochastic", "Compensated", "Master"])
def test_updates_that_are_only_delayed(zygote, kind):
    looks = stored(zygote, f"{kind}(model.parameters(), lr=1e-4)")["low_precision"].looks
    assert max(look.stuck for look in looks) < 0.4
    if kind != "Stochastic":
        assert min(look.unchanged for look in looks) > 0.8


def test_large_updates_arrive(zygote):
    looks = stored(zygote, "torch.optim.Adam(model.parameters(), lr=1e-2)")["low_precision"].looks
    assert max(look.unchanged for look in looks) < 0.3
    assert max(look.stuck for look in looks) < 0.2


def test_a_schedule_and_two_groups(zygote):
    kind = (
        "torch.optim.SGD([{'params': model[0].parameters()}, {'params': model[2:].parameters(), 'lr': 1e-5}], "
        "lr=1e-4)\n"
        "scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5)"
    )
    part = stored(zygote, kind)["low_precision"]
    assert part.looks[0].agreement == 1.0
    assert part.looks[0].unchanged > 0.9


@pytest.mark.parametrize(("kind", "better"), [("Plain", True), ("Master", False)])
def test_weights_in_float32(zygote, kind, better):
    """What an optimizer keeps exactly anyhow is not learned better."""
    script = STORED.replace("KIND", f"{kind}(model.parameters(), lr=3e-3)").replace("DTYPE", "bfloat16")
    script = "\n".join(line for line in script.splitlines() if "note(" not in line).replace("range(40)", "range(900)")
    seen = zygote.probe(script, parts=("full_precision", "low_precision"), steps=32, experiments=True)
    assert seen["low_precision"].looks[0].unchanged > 0.1
    found = compare(seen["full_precision"].looks[0])
    assert found.gain > 0.1 if better else abs(found.gain) < 0.05


def test_float32_weights_are_no_matter(zygote):
    seen = stored(zygote, "torch.optim.SGD(model.parameters(), lr=1e-4)", dtype="float32")
    assert "not-applicable" in seen.absent("low_precision")


@pytest.mark.parametrize(
    "kind", ["torch.optim.AdamW(model.parameters(), lr=1e-4)", "Stochastic(model.parameters(), lr=1e-4)"]
)
def test_looking_changes_nothing(zygote, kind):
    script = STORED.replace("KIND", kind).replace("DTYPE", "bfloat16")
    script = "\n".join(line for line in script.splitlines() if "note(" not in line)
    assert zygote.probe(script, record=35).notes == zygote.bare(script, record=35).notes
