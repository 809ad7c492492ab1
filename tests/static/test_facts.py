"""Facts from the source, read without running it."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from auditor.evidence import Source
from auditor.static import facts

IMPORTS = """
import numpy as np
import torch
import torch.nn as nn
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest
from sklearn.model_selection import KFold, TimeSeriesSplit, train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset, random_split
"""


@pytest.fixture
def read(tmp_path: Path):
    def read_text(text: str) -> Source:
        path = tmp_path / "train.py"
        path.write_text(IMPORTS + textwrap.dedent(text))
        return facts.of_script(path)

    return read_text


def line_of(text: str, part: str) -> int:
    whole = (IMPORTS + textwrap.dedent(text)).splitlines()
    return next(number for number, line in enumerate(whole, 1) if part in line)


# ------------------------------------------------------------------------------------------------------ train and eval


@pytest.mark.parametrize(
    "method",
    [
        "def train(self, x, y): self.fit(x, y)",
        "def train(self): return self.loss",
        "def train(self, batch, epochs=3): self.run(batch)",
        "def eval(self, loader): return self(loader)",
        "def train(self, mode=True): print(mode)",
        "@staticmethod\n    def train(mode=True): super().train(mode)",
        "async def train(self, stream): await stream",
    ],
)
def test_methods_that_hide_the_modes(read, method):
    (found,) = read(f"class Net(nn.Module):\n    {method}").train_methods
    assert found.owner == "Net"


@pytest.mark.parametrize(
    "method",
    [
        "def train(self, mode=True): super().train(mode); self.bn.eval(); return self",
        "def train(self, mode: bool = True): self.training = mode; return self",
        "def train(self, *args): return super().train(*args)",
        "def eval(self): return self.train(False)",
        "def training_step(self, x, y): return self(x)",
    ],
)
def test_methods_that_keep_them(read, method):
    assert not read(f"class Net(nn.Module):\n    {method}").train_methods


@pytest.mark.parametrize("base", ["object", "Trainer", "unittest.TestCase"])
def test_classes_that_are_no_modules_may_have_a_train_of_their_own(read, base):
    assert not read(f"class Loop({base}):\n    def train(self, x, y): pass").train_methods


def test_a_module_by_way_of_another_file(tmp_path):
    (tmp_path / "base.py").write_text("from torch.nn import Module\nclass Base(Module): pass\n")
    script = tmp_path / "train.py"
    script.write_text("from base import Base\nclass Net(Base):\n    def train(self, x): pass\n")
    source = facts.of_script(script)
    assert [found.owner for found in source.train_methods] == ["Net"]
    assert len(source.files) == 2


# ------------------------------------------------------------------------------------------------------- preprocessing

WHOLE = [
    ("x = (x - x.mean(0)) / x.std(0)\na, b = random_split(TensorDataset(x, y), [8, 2])", "x.mean", False),
    ("mu, sd = x.mean(dim=0), x.std(dim=0)\nx = (x - mu) / sd\ntrain, test = x[:80], x[80:]", "x.mean", False),
    ("x -= x.mean()\na, b, c, d = train_test_split(x, y)", "x.mean", False),
    ("x = (x - np.mean(x, axis=0)) / x.std()\na = x[train_idx]\nb = x[test_idx]", "np.mean", False),
    (
        "sc = StandardScaler()\nz = sc.fit_transform(x)\na, b = train_test_split(z)",
        "StandardScaler.fit_transform",
        False,
    ),
    ("sc = StandardScaler().fit(x)\nz = sc.transform(x)\na, b = train_test_split(z)", "StandardScaler.fit", False),
    ("z = PCA(9).fit_transform(x)\na, b = train_test_split(torch.tensor(z))", "PCA.fit_transform", False),
    ("z = SelectKBest(k=9).fit_transform(x, y)\na, b = train_test_split(z)", "SelectKBest.fit_transform", True),
    ("r = (x * y[:, None]).mean(0)\nk = r.abs().topk(9).indices\nx = x[:, k]\na, b = x[:80], x[80:]", "mean", True),
    ("x = (x - x.mean(0)) / x.std(0)\nfor tr, te in KFold(5).split(x): pass", "x.mean", False),
    ("im = (im - im.mean(dim=(0, 2, 3), keepdim=True))\na, b = random_split(im, [8, 2])", "im.mean", False),
    ("def load():\n    x = get()\n    x = (x - x.mean(0)) / x.std(0)\n    return x[:8], x[8:]", "x.mean", False),
]

PICK = """def pick(x, y):
    a, b = x[y == 1], x[y == 0]
    t = (a.mean(0) - b.mean(0)) / a.std(0)
    return np.argsort(-np.abs(t))[:40]
"""
WHOLE += [
    (PICK + "k = pick(x, y)\nz = torch.tensor(x[:, k])\nfit(z[train])\ntest(z[test])", "pick", True),
    (PICK + "x = x[:, pick(x, y)[:9]]\na, b = x[:80], x[80:]", "pick", True),
    (PICK + "k = torch.tensor(pick(x, y=y))\nx = x[:, k]\na, b = x[:80], x[80:]", "pick", True),
    (
        "def top(x, n):\n    return x.var(0).argsort()[-n:]\nx = x[:, top(x, N)]\na, b = x[:80], x[80:]",
        "top",
        False,
    ),
]
RATES = """def rates(shop, y, weight=4.0):
    total, n = np.bincount(shop, y, 9), np.bincount(shop, minlength=9)
    return (total + weight * y.mean()) / (n + weight)
def build(shop, x, table):
    return np.column_stack([x, (table[shop] - table.mean()) / table.std()])
"""
ENCODING = """def encoding(columns, label, rows):
    tables = {}
    for name, column in columns.items():
        tables[name] = np.bincount(column[rows], weights=label[rows]) / np.bincount(column[rows])
    return tables
"""
SPLIT = "\na, b = z[train], z[test]"
WHOLE += [
    (RATES + "r = rates(shop, y)\nz = build(shop, x, r)" + SPLIT, "rates", True),
    (ENCODING + "z = put(columns, encoding(columns, y, np.arange(len(y))))" + SPLIT, "encoding", True),
    ("def scale(x):\n    return x.mean(0), x.std(0)\ns = scale(x)\nz = (x - s[0]) / s[1]" + SPLIT, "scale", False),
    (
        "def means(k, y):\n    t = torch.zeros(9)\n    t.index_add_(0, k, y)\n    return t\nz = f(k, means(k, y))"
        + SPLIT,
        "means",
        True,
    ),
    ("r = np.bincount(k, y) / np.bincount(k)\ne = r[k]\nz = np.column_stack([x, e])" + SPLIT, "np.bincount", True),
    (PICK + "k = pick(x, y)\nx = x * k\na, b = x[:80], x[80:]", "pick", True),
]

SELECT = """def select(X, y, k):
    r = [abs(np.corrcoef(X[:, j], y)[0, 1]) for j in range(X.shape[1])]
    return X[:, np.argsort(r)[-k:]]
"""
CLASS = """class Data:
    def choose(self):
        self.x = self.x[:, (self.x * self.y[:, None]).mean(0).topk(9).indices]
    def __init__(self):
        self.x, self.y = get()
        self.choose()
        self.train, self.test = self.x[:80], self.x[80:]
"""
RATES_OF = """def rates(rows):
    return np.bincount(shop[rows], y[rows], 9), np.bincount(shop[rows], minlength=9)
shop, y, x = get()
p = rng.permutation(len(y))
low, high = p[:80], p[80:]
"""
HALVES = "p = torch.randperm(n)\nlow, high = p[:80], p[80:]\na, b = z[low], z[high]"
WHOLE += [
    (SELECT + "X = select(X, y, 9)\na, b = X[:80], X[80:]", "select", True),
    (SELECT + "z = select(X, y, 9)\n" + HALVES, "select", True),
    (PICK + "s = pick(x, y)\nk = np.argsort(s)[-n:]\nz = x[:, k]\n" + HALVES, "pick", True),
    (
        "def load():\n    x = get()\n    return x[:, (x * y).mean(0).topk(3)[1]], y\nz, y = load()\n" + HALVES,
        "load",
        True,
    ),
    ("r = {c: y[shop == c].mean() for c in shops}\nz = np.array([r[c] for c in shop])\n" + HALVES, "y[shop", True),
    ("for c in range(9):\n    r[c] = y[shop == c].mean()\nz[:, 3] = r[shop]\n" + HALVES, "y[shop", True),
    ("z = z - z.mean(0)\nm = torch.rand(n) < 0.8\na, b = z[m], z[~m]", "z.mean", False),
    ("z = z - z.mean(0)\nb = np.setdiff1d(np.arange(n), a)\nu, v = z[a], z[b]", "z.mean", False),
    ("z = z - z.mean(0)\na, b = Subset(Data(z), train), Subset(Data(z), test)", "z.mean", False),
    (CLASS, "mean", True),
    (RATES_OF + "n, d = rates(p)\nr = n / d\nz = stack([x, r[shop]])\na, b = z[low], z[high]", "rates", True),
]


PRIOR = """def typical(keys, values, size, prior):
    total = np.bincount(keys, weights=values, minlength=size)
    return (total + prior) / (np.bincount(keys, minlength=size) + 1)
order = rng.permutation(n)
train, test = order[:80], order[80:]
"""
ENCODED = "z = np.column_stack([x, r[shop]])\n"
WHOLE += [  # the prior is of the training rows, the sums by category are of all; batches are drawn from a part
    (PRIOR + "r = typical(shop, y, 9, y[train].mean())\n" + ENCODED + "a, b = z[train], z[test]", "typical", True),
    (PRIOR + "m = y.mean()\nr = typical(shop, y, 9, m)\n" + ENCODED + "a, b = z[train], z[test]", "typical", True),
    *(
        (PRIOR + f"r = typical(shop, y, 9, 0.0)\n{ENCODED}for i in steps:\n    {pick}\nb = z[test]", "typical", True)
        for pick in (
            "rows = rng.choice(train, 64)\n    a = z[rows]",
            "a = z[train[i:i + 64]]",
            "a = z[train[torch.randint(0, 80, (64,))]]",
            "epoch = rng.permutation(train)\n    a = z[epoch[i:i + 64]]",
            "p = rng.permutation(80)\n    rows = train[p[i:i + 64]]\n    a = z[rows]",
        )
    ),
]


SCORES = "def t(x, y):\n    a, b = x[y == 0], x[y == 1]\n    return abs(b.mean(0) - a.mean(0))\n"
WHOLE += [  # the split comes first
    ("mu, s = x.mean(0), x.std(0)\na, b = x[:80], x[80:]\na = (a - mu) / s\nb = (b - mu) / s", "x.", False),
    ("mu = x.mean(0)\ns = x.std(0)\na = (x[:80] - mu) / s\nb = (x[80:] - mu) / s", "x.mean", False),
    ("mu = x.mean(0)\na, b = train_test_split(x)\na = a - mu\nb = b - mu", "x.mean", False),
    (SCORES + "keep = np.argsort(-t(x, y))[:9]\na = x[train][:, keep]\nb = x[test][:, keep]", "t", True),
    (SCORES + "k = t(x, y).topk(9).indices\na, b = x[train], x[test]\na, b = a[:, k], b[:, k]", "t", True),
    (
        SCORES + "k = t(x, y).argsort()\ndef prep(z, w):\n    return torch.tensor(z[:, k]), w\n"
        "a, ya = prep(x[:80], y[:80])\nb, yb = prep(x[80:], y[80:])",
        "t",
        True,
    ),
    (
        "mu = x.mean(0)\nclass D:\n    def __init__(self, z):\n        self.z = z - mu\na, b = D(x[train]), D(x[test])",
        "x.mean",
        False,
    ),
    (
        "sc = StandardScaler()\nsc.fit(x)\na = sc.transform(x[:80])\nb = sc.transform(x[80:])",
        "StandardScaler.fit",
        False,
    ),
]


@pytest.mark.parametrize(("body", "what", "supervised"), WHOLE, ids=range(len(WHOLE)))
def test_statistics_of_rows_that_are_split_later(read, body, what, supervised):
    (found,) = read(body).whole_fits
    assert what in found.what
    assert found.supervised is supervised
    assert found.location.line <= found.split_location.line


PARTS = [
    "a, b = x[:80], x[80:]\nmu = a.mean(0)\na, b = a - mu, b - mu",
    "a, b = train_test_split(x)\nsc = StandardScaler()\na = sc.fit_transform(a)\nb = sc.transform(b)",
    "mu = x[:80].mean(0)\nx = x - mu\na, b = x[:80], x[80:]",
    "x = x / 255.0\na, b = random_split(x, [8, 2])",
    "x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)\na, b = x[:80], x[80:]",
    "x = (x - x.mean(dim=-1, keepdim=True))\na, b = x[:80], x[80:]",
    "print(x.mean(0), x.std(0))\na, b = x[:80], x[80:]",
    "x = (x - 0.5) / 0.25\na, b = train_test_split(x)",
    "x = (x - x.mean(0)) / x.std(0)\nloader = DataLoader(TensorDataset(x, y))",
    "x = x / x.max()\na, b = x[:80], x[80:]",
    "x = x - x.mean(0)\nfirst = x[:10]\nlast = x[-3:]",
    "loss = ((model(x) - y) ** 2).mean()\na, b = x[:80], x[80:]",
    "x_train = x_train - x_train.mean(0)\nx_test = x_test - x_train.mean(0)",
]
PARTS += [
    PICK + "k = pick(x[train], y[train])\nx = x[:, k]\na, b = x[train], x[test]",
    PICK + "k = pick(u, v)\nx = x[:, k]\na, b = x[:80], x[80:]",
    "def lab(x):\n    s = x.sum(1)\n    return s > s.median()\ny = lab(x)\na, b = y[:80], y[80:]",
    "def some(x, n):\n    return torch.randperm(x.shape[1])[:n]\nx = x[:, some(x, 9)]\na, b = x[:80], x[80:]",
    "def rows(x):\n    return x.mean(1) > 0\nx = x[rows(x)]\na, b = x[:80], x[80:]",
]
PARTS += [
    RATES + "r = rates(shop[old], y[old])\nz = build(shop, x, r)" + SPLIT,
    ENCODING + "z = put(columns, encoding(columns, y, train))" + SPLIT,
    "flat = x[train].reshape(-1, 3)\nx = (x - flat.mean(0)) / flat.std(0)\na, b = x[train], x[test]",
    "def scale(x, ref):\n    return (x - ref.mean(0)) / ref.std(0)\nz = scale(x, x_train)" + SPLIT,
    "def weights(y):\n    return len(y) / np.bincount(y)\nw = weights(y)\nloss = CE(w)\na, b = y[:8], y[8:]",
]

PARTS += [
    SELECT + "a, b = X[:80], X[80:]\na = select(a, y[:80], 9)",
    "z = np.stack([(row - row.mean()) / row.std() for row in x])\n" + HALVES,
    "for x, y in loader:\n    x = x - x.mean(0)\n    u, v = x[:8], x[8:]",
    "r = {c: y[:80][shop[:80] == c].mean() for c in shops}\nz = np.array([r[c] for c in shop])\n" + HALVES,
    "mu = z[fold == 0].mean(0)\nz = z - mu\na, b = z[fold == 0], z[fold != 0]",
    "def load():\n    x = get()\n    return x - x.mean(0), y\nz, y = load()\n" + HALVES,
    "z = z - z.mean(0)\na, b = z[first], z[second]",
    RATES_OF + "n, d = rates(low)\nr = n / d\nz = stack([x, r[shop]])\na, b = z[low], z[high]",
    "m = x[:80].mean(0)\nu, s, v = torch.linalg.svd(x[:80] - m)\nz = (x - m) @ v.T\na, b = z[:80], z[80:]",
]


PARTS += [
    PRIOR + "r = typical(shop[train], y[train], 9, y[train].mean())\n" + ENCODED + "a, b = z[train], z[test]",
    PRIOR + "r = typical(shop, y, 9, y[train])\n" + ENCODED + "a, b = z[train], z[test]",  # rows come out again
    PRIOR + "r = typical(shop, y, 9, 0.0)\n" + ENCODED + "a, b = z[train[i:i + 8]], z[train[j:j + 8]]",
    PRIOR + "r = typical(shop, y, 9, 0.0)\n" + ENCODED + "a, b = z[rng.choice(train, 8)], z[rng.choice(train, 8)]",
]
PARTS += [  # the split comes first
    "mu = x[:80].mean(0)\na = x[:80] - mu\nb = x[80:] - mu",
    SCORES + "keep = np.argsort(-t(x[train], y[train]))[:9]\na = x[train][:, keep]\nb = x[test][:, keep]",
    "w = 1 / np.bincount(y)\na = w[y[:80]]\nb = w[y[80:]]",
    "mu = x.mean(0)\na, b = x[:80], x[80:]\nprint((a - mu).mean(), (b - mu).mean())",
    "mu = other.mean(0)\na = x[:80] - mu\nb = x[80:] - mu",
    "mu = x.mean(0)\nx = load()\na = x[:80] - mu\nb = x[80:] - mu",
    "mu = x.mean(0)\na = x[:80] - mu\nc = x[:80] * mu",
    "a, b = train_test_split(x)\nsc = StandardScaler().fit(a)\na = sc.transform(a)\nb = sc.transform(b)",
]


@pytest.mark.parametrize("body", PARTS, ids=range(len(PARTS)))
def test_statistics_that_leak_nothing(read, body):
    assert not read(body).whole_fits


# --------------------------------------------------------------------------------------------------------------- orders

PAIR = "\nfor i in range(0, n, 8):\n    step(x[i : i + 8], y[i : i + 8])"
APART = [
    "np.random.shuffle(x)\nnp.random.shuffle(y)" + PAIR,
    "y = y[torch.randperm(n)]\nx = x[torch.randperm(n)]\ndata = TensorDataset(x, y)",
    "x = rng.permutation(x)\ny = rng.permutation(y)\na, b, c, d = train_test_split(x, y)",
    "def load(x, labels):\n    random.shuffle(x)\n    random.shuffle(labels)\n    return list(zip(x, labels))",
    "p = np.random.permutation(n)\nX = X[p]\np = np.random.permutation(n)\ny = y[p]" + PAIR.replace("x[", "X["),
    "a = torch.randperm(n)\nb = torch.randperm(n)\nx, y = x[a], y[b]\nloader = DataLoader(TensorDataset(x, y))",
    "i = np.arange(n)\nnp.random.shuffle(i)\nx = x[i[:80]]\nnp.random.shuffle(i)\ny = y[i[:80]]" + PAIR,
    "def mix(a):\n    p = torch.randperm(len(a))\n    return a[p]\nx = mix(x)\ny = mix(y)" + PAIR,
    "for i in r:\n    xb = x[torch.randint(0, n, (8,))]\n    yb = y[torch.randint(0, n, (8,))]\n    step(xb, yb)",
    "x = x[rng.permutation(n)]\ny = y[rng.permutation(n)]\nxt = torch.from_numpy(x).float()\n"
    "yt = torch.from_numpy(y)\nd = TensorDataset(xt, yt)",
    "class D:\n    def __init__(self, x, y):\n        self.x = x[torch.randperm(len(x))]\n"
    "        self.y = y[torch.randperm(len(y))]\n    def __getitem__(self, i):\n        return self.x[i], self.y[i]",
    "from sklearn.utils import shuffle\nX = shuffle(X)\ny = shuffle(y)\ndata = TensorDataset(tensor(X), tensor(y))",
    "for d in days:\n    x, y = X[d], Y[d]\n    rng.shuffle(x)\n    rng.shuffle(y)\n    xs.append(x)\n    ys.append(y)",
    "def parts():\n    for x, y in days:\n        random.shuffle(x)\n        random.shuffle(y)\n        yield x, y",
    "for x, y in days:\n    x = rng.permutation(x)\n    y = rng.permutation(y)\n    pairs.append((x, y))",
]
TOGETHER = [
    "p = torch.randperm(n)\nx, y = x[p], y[p]" + PAIR,
    "np.random.seed(0)\nnp.random.shuffle(x)\nnp.random.seed(0)\nnp.random.shuffle(y)" + PAIR,
    "np.random.default_rng(0).shuffle(x)\nnp.random.default_rng(0).shuffle(y)" + PAIR,
    "random.shuffle(horses)\nrandom.shuffle(zebras)\npairs = zip(horses, zebras)",
    "random.shuffle(source)\nrandom.shuffle(target)\npairs = zip(source, target)",
    "np.random.shuffle(y)" + PAIR,
    "np.random.shuffle(x)\nx = load()\nnp.random.shuffle(y)" + PAIR,
    "p = np.random.permutation(n)\nx = x[p]\ny = y[p]\nfor e in range(9):\n    p = np.random.permutation(n)\n"
    "    for i in p:\n        step(x[i], y[i])",
    "a, b = torch.randperm(n), torch.randperm(n)\nu, yu = x[a], y[a]\nv, yv = x[b], y[b]\nstep(u, yu, v, yv)",
    "def mix(a):\n    r = np.random.default_rng(0)\n    return a[r.permutation(len(a))]\nx = mix(x)\ny = mix(y)" + PAIR,
    "from sklearn.utils import shuffle\nx = shuffle(x, random_state=0)\ny = shuffle(y, random_state=0)" + PAIR,
    "from sklearn.utils import shuffle\nx, y = shuffle(x, y)" + PAIR,
    "y = y[torch.randperm(n)]" + PAIR,
    "i = np.arange(n)\nnp.random.shuffle(i)\nx = x[i]\ny = y[i]\nnp.random.shuffle(i)" + PAIR,
    "x = x[:, torch.randperm(9)]\ny = y[torch.randperm(n)]" + PAIR,
    "real = x[torch.randint(0, n, (8,))]\nz = z[torch.randint(0, n, (8,))]\nstep(real, z)",
    "for d in days:\n    rng.shuffle(x)\n    rng.shuffle(y)\n    if d:\n        xs.append(x)\nys.append(y)",
    "for d in days:\n    rng.shuffle(x)\n    rng.shuffle(y)\n    pool.append(x)\n    pool.append(y)",
]


@pytest.mark.parametrize("body", APART)
def test_inputs_and_targets_shuffled_apart(read, body):
    assert len(read(body).own_orders) == 1


@pytest.mark.parametrize("body", TOGETHER)
def test_inputs_and_targets_that_stay_together(read, body):
    assert not read(body).own_orders


# --------------------------------------------------------------------------------------------------------- accumulators

CARRIED = [
    "total = 0\nfor e in range(9):\n    for x in dl:\n        total += step(x).item()\n    print(total / len(dl))",
    "ok = 0\nfor e in range(9):\n    for x, y in dl:\n        ok = ok + (f(x) == y).sum()\n    acc = ok / len(data)",
    "def fit():\n    s = 0.\n    for e in range(9):\n        with no_grad():\n            for x in dl:\n"
    "                s += loss(x)\n        log(s / n)",
    "class T:\n    def __init__(self):\n        self.s = 0\n    def epoch(self):\n        for x in dl:\n"
    "            self.s += loss(x).item()\n        return self.s / len(dl)",
    "s = {'l': 0}\nfor e in range(9):\n    for x in dl:\n        s['l'] += loss(x).item()\n    print(s['l'] / len(dl))",
]


@pytest.mark.parametrize("body", CARRIED, ids=range(len(CARRIED)))
def test_sums_that_go_on(read, body):
    (found,) = read(body).accumulators
    assert found.location.line == line_of(body, "+= " if "+=" in body else "ok + ")


LASTING = """
def evaluate(net, loader, hits=[]):
    BEFORE
    for x, y in loader:
        hits.append(net(x) == y)
    RETURN
for e in range(9):
    evaluate(GIVEN)
"""


def lasting(read, returned="return torch.cat(hits).mean()", given="net, val", before="net.eval()", body=LASTING):
    return read(body.replace("BEFORE", before).replace("RETURN", returned).replace("GIVEN", given)).accumulators


@pytest.mark.parametrize(
    "returned", ["return torch.cat(hits).mean()", "all = torch.cat(hits)\n    return all.mean(), 1"]
)
def test_a_list_that_lives_on_from_call_to_call(read, returned):
    (found,) = lasting(read, returned)
    assert (found.name, found.lasting, found.location.line - found.started.line) == ("hits", True, 3)
    (found,) = lasting(read, returned, body=LASTING.replace("loader, hits=[]", "loader, *, hits=list()"))
    assert found.name == "hits"


@pytest.mark.parametrize(
    "changes",
    [
        {"returned": "return hits"},  # what is kept of all calls is asked for
        {"returned": "return torch.cat(hits[-5:]).mean()"},
        {"returned": "score = mean(hits)\n    hits.clear()\n    return score"},
        {"returned": "return loss"},
        {"given": "net, val, []"},
        {"given": "net, val, hits=[]"},
        {"given": "*parts"},
        {"before": "hits = []"},
        {"before": "loss.backward()"},
        {"body": LASTING.replace("for e in range(9):\n    ", "")},  # called once
        {"body": LASTING.replace("hits=[]", "hits=None")},
        {"body": LASTING.replace("    for x, y in loader:\n        ", "    ")},  # one value for each call
    ],
)
def test_lists_that_are_meant_to_go_on(read, changes):
    assert not lasting(read, **changes)


RESET = [
    "for e in range(9):\n    total = 0\n    for x in dl:\n        total += step(x).item()\n    print(total / len(dl))",
    "total = 0\nfor e in range(9):\n    for x in dl:\n        total += loss(x).item()\n    print(total / (e + 1))",
    "total = seen = 0\nfor e in range(9):\n    for x in dl:\n        total += loss(x).item()\n        seen += len(x)\n"
    "    print(total / seen)",
    "step = 0\nfor e in range(9):\n    for x in dl:\n        step += 1\n    print(step / len(dl))",
    "total = 0\nfor e in range(9):\n    for x in dl:\n        total += loss(x).item()\n    print(total / 9)\n"
    "    total = 0",
    "total = 0\nfor e in range(9):\n    for x in dl:\n        total += loss(x).item()\nprint(total / len(dl))",
    "class T:\n    def __init__(self):\n        self.s = 0\n    def reset(self):\n        self.s = 0\n"
    "    def epoch(self):\n        for x in dl:\n            self.s += loss(x).item()\n        return self.s / len(dl)",
    "total = 0\nfor x in dl:\n    total += loss(x).item()\nprint(total / len(dl))",
    "s = {'l': 0}\nfor e in range(9):\n    s = {'l': 0}\n    for x in dl:\n        s['l'] += loss(x).item()\n"
    "    print(s['l'] / len(dl))",
    "s = {'l': 0}\nfor e in range(9):\n    for k in s:\n        s[k] = 0\n    for x in dl:\n"
    "        s['l'] += loss(x).item()\n    print(s['l'] / len(dl))",
    "s = {'l': 0}\nfor e in range(9):\n    reset(s)\n    for x in dl:\n        s['l'] += loss(x).item()\n"
    "    print(s['l'] / len(dl))",
    "s = {'l': 0, 'n': 0}\nfor e in range(9):\n    for x in dl:\n        s['l'] += loss(x).item()\n"
    "        s['n'] += len(x)\n    print(s['l'] / s['n'])",
]


@pytest.mark.parametrize("body", RESET, ids=range(len(RESET)))
def test_sums_that_start_anew_or_mean_to_go_on(read, body):
    assert not read(body).accumulators


EVALUATED = """
hits, seen = 0, 0
for epoch in range(9):
    BEFORE
    for x, y in train_dl:
        loss(net(x), y).backward()
    for x, y in VAL:
        hits += (net(x) == y).sum().item()
        seen += len(y)
        BESIDE
    print(hits / seen)
"""


def evaluated(read, before="pass", val="val_dl", beside="pass"):
    return read(EVALUATED.replace("BEFORE", before).replace("VAL", val).replace("BESIDE", beside)).accumulators


def test_hits_and_samples_of_an_evaluation_that_both_go_on(read):
    (found,) = evaluated(read)
    assert (found.name, found.divisor, found.together) == ("hits", "seen", True)


@pytest.mark.parametrize(
    "changes",
    [
        {"before": "hits = seen = 0"},
        {"before": "net = build()"},  # a model a fold, whose scores are pooled
        {"before": "net.reset_parameters()"},
        {"before": "val_dl = fold(epoch)"},
        {"before": "part = 0", "beside": "part += len(y)"},  # there is one per epoch besides
        {"val": "range(9)"},
        {"beside": "loss(net(x), y).backward()"},
    ],
)
def test_scores_that_mean_to_go_on(read, changes):
    assert not evaluated(read, **changes)


# ------------------------------------------------------------------------------------------------------ intent, files


def test_what_the_author_meant(read):
    source = read("""
        torch.manual_seed(0)
        for p in net.parameters():
            p.requires_grad = False
        head.requires_grad_(False)
        h = h.detach()
        with torch.no_grad():
            net.eval()
        net.train(False)
        self.dropout.train()
        loss.backward()
    """)
    kinds = [mention.kind for mention in sorted(source.mentions, key=lambda mention: mention.location.line)]
    assert kinds == [
        "seed", "freeze", "freeze", "detach", "no-grad", "eval-mode", "eval-mode", "dropout-switched-on", "backward",
    ]  # fmt: skip


def test_modules_beside_the_script_are_read_and_installed_ones_are_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "lib"
    package.mkdir()
    (package / "__init__.py").write_text("from .nets import Net\n")
    (package / "nets.py").write_text("from . import blocks\nclass Net: pass\n")
    (package / "blocks.py").write_text("import torch\n")
    (tmp_path / "data.py").write_text("import train\n")
    script = tmp_path / "train.py"
    script.write_text("import json, torch\nimport data\nfrom lib import Net\n")
    names = {Path(file.path).relative_to(tmp_path).as_posix() for file in facts.of_script(script).files}
    assert names == {"train.py", "data.py", "lib/__init__.py", "lib/nets.py", "lib/blocks.py"}


def test_folders_are_searched_but_not_environments(tmp_path):
    for name in ("a.py", "sub/b.py", ".hidden/c.py", "venv/d.py", "node_modules/e.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x = 1\n")
    (tmp_path / "venv/pyvenv.cfg").write_text("")
    names = [Path(file.path).relative_to(tmp_path).as_posix() for file in facts.of_paths([tmp_path]).files]
    assert names == ["a.py", "sub/b.py"]


@pytest.mark.parametrize("text", [b"def f(:\n", b"\xff\xfe\x00", b"x = '\x00'\n", b"(" * 3000])
def test_files_that_cannot_be_parsed_are_facts_too(tmp_path, text):
    path = tmp_path / "odd.py"
    path.write_bytes(text)
    (file,) = facts.of_paths([path]).files
    assert file.problem


def test_nothing_odd_in_a_source_breaks_the_reading(read):
    source = read("""
        x: int
        x[0], *rest = y = z = f(x)
        (a := x.mean(0))
        del x
        match x:
            case [1, 2]: x = x - x.mean(0)
        try:
            pass
        except* ValueError:
            x = x.mean(0)
        lambda q: q.mean(0)
        async def g():
            async for i in x: x += i.item()
        x.y.z[1:2].w -= x.y.mean()
        print(x[...], x[None], x[()], x[1:2, 3])
    """)
    assert source.files[0].problem == ""


KL = "import torch\nfrom torch import nn\nimport torch.nn.functional as F\n"


@pytest.mark.parametrize(
    "body",
    [
        "loss = F.kl_div(F.softmax(z, dim=1), t)",
        "loss = F.kl_div(input=torch.softmax(z, 1), target=t)",
        "kl = nn.KLDivLoss(reduction='batchmean')\nfor x, t in dl:\n    loss = 4 * kl(net(x).softmax(1), t)",
        "def step(x, t):\n    p = nn.Softmax(dim=1)(net(x))\n    return F.kl_div(p, t)",
        "class D:\n    def __init__(self):\n        self.kl = nn.KLDivLoss()\n"
        "    def step(self, z, t):\n        return self.kl(z.softmax(dim=-1), t)",
    ],
)
def test_a_softmax_as_the_input_of_a_divergence(read, body):
    (found,) = read(KL + body).softmax_divergences
    assert "oftmax" in found.text
    assert found.location.line > 3


@pytest.mark.parametrize(
    "body",
    [
        "loss = F.kl_div(F.log_softmax(z, dim=1), F.softmax(t, dim=1))",
        "loss = F.kl_div(F.softmax(z, dim=1).log(), t)",
        "p = F.softmax(z, 1)\np = p.log()\nloss = F.kl_div(p, t)",
        "def loss(p, t, raw):\n    if raw:\n        p = F.softmax(p, 1)\n    return F.kl_div(p, t)",
        "from mine import kl_div\nloss = kl_div(F.softmax(z, dim=1), t)",
        "kl = nn.KLDivLoss()\nif own:\n    kl = Own()\nloss = kl(F.softmax(z, dim=1), t)",
        "import mine\nloss = F.kl_div(mine.softmax(1), t)",
        "loss = F.kl_div(self.softmax(z), t)",
    ],
)
def test_inputs_of_a_divergence_that_may_be_logarithms(read, body):
    assert not read(KL + body).softmax_divergences


# ------------------------------------------------------------------------------------------------- cross-validation

FOLDS = """
def build():
    return nn.Linear(4, 1)
model = build()
SETUP
for LOOP:
    START
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(3):
        model.train()
        loss = (model(x[rest]) - y[rest]).square().mean()
        loss.backward()
        optimizer.step()
    model.eval()
    print(score(model, x[held], y[held]))
"""
BY_HAND = "rest, held = torch.cat([part for i, part in enumerate(parts) if i != fold]), parts[fold]"


FUNCTION = """
def fit(net, rows, optimizer):
    START
    for epoch in range(3):
        (net(x[rows]) - y[rows]).square().mean().backward()
        optimizer.step()
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for rest, held in KFold(5).split(x):
    fit(model, rest, optimizer)
"""


def test_one_model_for_all_folds_that_a_function_trains(read):
    (found,) = read(FUNCTION.replace("START", "net.train()")).fold_loops
    assert found.model == "model"
    assert not read(FUNCTION.replace("START", "pass").replace("(model.p", "(other.p")).fold_loops  # it stays frozen
    for start in ("net = copy.deepcopy(net)", "net.load_state_dict(first)", "reset(net)"):
        assert not read(FUNCTION.replace("START", start)).fold_loops


def folds(read, loop, start="pass", setup="pass"):
    return read(FOLDS.replace("LOOP", loop).replace("START", start).replace("SETUP", setup)).fold_loops


@pytest.mark.parametrize(
    ("loop", "start"),
    [
        ("rest, held in KFold(5).split(x)", "pass"),
        ("fold, (rest, held) in enumerate(kf.split(x))", "pass"),
        ("fold in range(5)", BY_HAND),
        ("fold, (train, held) in enumerate(k_fold(len(x), 5))", "rest = train"),
        ("fold in range(5)", "start = fold * 20\n    rest = torch.cat([order[:start], order[start + 20:]])"),
    ],
)
def test_one_model_for_all_folds(read, loop, start):
    (found,) = folds(read, loop, start)
    assert found.model == "model"
    assert found.built.line < found.location.line


@pytest.mark.parametrize(
    ("loop", "start"),
    [
        ("rest, held in KFold(5).split(x)", "model = build()"),
        ("rest, held in KFold(5).split(x)", "model.load_state_dict(first)"),
        ("rest, held in KFold(5).split(x)", "model.apply(init)"),
        ("rest, held in KFold(5).split(x)", "reset_weights(model)"),
        ("rest, held in KFold(5).split(x)", "for layer in model.children(): layer.reset_parameters()"),
        ("fold in range(5)", "rest, held = train, test"),
        ("rest, held in TimeSeriesSplit(5).split(x)", "pass"),
        ("name in text.split()", "pass"),
        ("train, held in KFold(5).split(x)", "if held[0]: break"),
        ("part, held in zip(x_folds, y_folds)", "pass"),
        ("task, (train, held) in enumerate(tasks)", "pass"),
    ],
)
def test_models_that_begin_anew(read, loop, start):
    assert not folds(read, loop, start)
