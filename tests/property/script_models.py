"""The models and data of random training scripts, and how a script makes them."""

from __future__ import annotations

from script_draft import Draft, block
from script_update import LOSSES

PLAIN_MODELS = {
    "mlp": "nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, {out}))",
    "mlp-norm": (
        "nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, {out}))"
    ),
    "lazy": "nn.Sequential(nn.LazyLinear(12), nn.Tanh(), nn.LazyLinear({out}))",
}
IMAGE_MODELS = {
    "cnn": "nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, {out}))",
    "cnn-norm": (
        "nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True),"
        " nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, {out}))"
    ),
}
OWN_MODELS = {
    "shared": """\
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.first = nn.Linear(6, 8)
                self.again = nn.Linear(8, 8)
                self.head = nn.Linear(8, {out})

            def forward(self, x):
                x = torch.relu(self.first(x))
                x = torch.relu(self.again(x))
                return self.head(torch.relu(self.again(x)))
        """,
    "checkpointed": """\
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.stem = nn.Linear(6, 8)
                self.body = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
                self.head = nn.Linear(8, {out})

            def forward(self, x):
                x = torch.tanh(self.stem(x))
                return self.head(x + checkpoint(self.body, x, use_reentrant={reentrant}))
        """,
    "complex": """\
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.mix = nn.Parameter(torch.randn(6, 8, dtype=torch.cfloat) * 0.3)
                self.head = nn.Linear(8, {out})

            def forward(self, x):
                return self.head((x.to(torch.cfloat) @ self.mix).abs())
        """,
    "loose": """\
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = nn.ModuleList([nn.Linear(6, 10), nn.Linear(10, {out})])
                self.scale = nn.Parameter(torch.ones(1))
                self.register_buffer("seen", torch.zeros(()))

            def forward(self, x):
                self.seen += 1
                return self.layers[1](F.leaky_relu(self.layers[0](x * self.scale)))
        """,
}
SEQUENCE_MODEL = """\
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.{cell}(4, 10, batch_first=True)
            self.head = nn.Linear(10, {out})

        def forward(self, x):
            out, _ = self.cell(x)
            return self.head(out[:, -1])
    """
TOKEN_MODEL = """\
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(11, 12)
            self.norm = nn.LayerNorm(12)
            self.block = {block}
            self.head = nn.Linear(12, 11, bias=False)
            {tie}

        def forward(self, x):
            return self.head(self.block(self.norm(self.embed(x))))
    """
CODER_MODEL = """\
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(6, 3), nn.ReLU())
            self.decoder = nn.Linear(3, 6)

        def forward(self, x):
            return self.decoder(self.encoder(x))
    """
FUNCTIONAL_MODEL = """\
    w1 = (torch.randn(6, 12{double}) / 6**0.5).requires_grad_()
    b1 = torch.zeros(12{double}, requires_grad=True)
    w2 = (torch.randn(12, {out}{double}) / 12**0.5).requires_grad_()
    params = [w1, b1, w2]


    def model(x):
        return torch.relu(x @ w1 + b1) @ w2
    """

DATA = {
    "features": "X = torch.randn({n}, 6){double}",
    "images": "X = torch.rand({n}, 1, 8, 8){double}",
    "sequences": "X = torch.randn({n}, 5, 4){double}",
    "tokens": "X = torch.randint(0, 11, ({n}, 6))",
}
TARGETS = {
    "classes": "Y = (X.flatten(1).sum(1) > X.flatten(1).sum(1).median()).long()",
    "values": "Y = X.flatten(1).mean(1, keepdim=True)",
    "binary": "Y = (X.flatten(1).mean(1, keepdim=True) > 0.1).to(X.dtype)",
    "next": "Y = torch.roll(X, -1, dims=1)",
    "self": "Y = X.clone()",
}


def data_and_model(draft: Draft) -> None:
    model = draft.one(
        "model", *PLAIN_MODELS, *IMAGE_MODELS, *OWN_MODELS, "recurrent", "tokens", "coder", "functional", "frozen"
    )
    draft.model = model
    draft.inputs = "images" if model in IMAGE_MODELS else {"recurrent": "sequences", "tokens": "tokens"}.get(
        model, "features"
    )  # fmt: skip
    fixed = {"tokens": "next", "coder": "self"}
    draft.target = fixed.get(model) or draft.one("target", "classes", "classes", "values", "binary")
    draft.double = model not in {"tokens", "complex"} and draft.has("double", 0.12)
    draft.batch = int(draft.one("batch", "1", "4", "7", "8", "10"))
    if model in {"mlp-norm", "cnn-norm"}:
        draft.batch = max(draft.batch, 4)
    draft.samples = 12 if draft.batch == 1 else int(draft.one("samples", "24", "40", "50"))
    if model in {"mlp-norm"} and draft.samples % draft.batch == 1:
        draft.samples += 1  # a batch norm cannot train on one sample
    double = ".double()" if draft.double else ""
    draft.setup += [DATA[draft.inputs].format(n=draft.samples, double=double), TARGETS[draft.target]]
    draft.setup.append(_model(draft, model, 2 if draft.target == "classes" else 1))
    if draft.is_module and draft.target != "next" and model != "lazy" and draft.has("in-model loss", 0.15):
        _loss_into_model(draft)


def _model(draft: Draft, model: str, out: int) -> str:
    double = ".double()" if draft.double else ""
    if model in PLAIN_MODELS or model in IMAGE_MODELS or model == "frozen":
        source = {**PLAIN_MODELS, **IMAGE_MODELS, "frozen": PLAIN_MODELS["mlp"]}[model].format(out=out)
        lines = [f"model = {source}{double}"]
        if model == "lazy":
            lines.append("model(X[:2])")
        if model == "frozen":
            lines.append("for p in model[0].parameters():\n    p.requires_grad = False")
            if draft.dice.random() < 0.5:
                draft.parameters = "[p for p in model.parameters() if p.requires_grad]"
        return "\n".join(lines)
    if model == "functional":
        draft.is_module, draft.parameters = False, "params"
        return block(FUNCTIONAL_MODEL.format(out=out, double=", dtype=torch.float64" if draft.double else ""))
    if model == "recurrent":
        source = SEQUENCE_MODEL.format(out=out, cell=draft.one("cell", "LSTM", "GRU", "RNN"))
    elif model == "tokens":
        mixer = draft.one(
            "block", "nn.Linear(12, 12)", "nn.TransformerEncoderLayer(12, 2, 24, batch_first=True, dropout=0.1)"
        )
        tie = "self.head.weight = self.embed.weight" if draft.has("tied", 0.5) else "self.head.weight.data *= 0.5"
        source = TOKEN_MODEL.format(block=mixer, tie=tie)
    elif model == "coder":
        source = CODER_MODEL
    else:
        source = block(OWN_MODELS[model]).format(out=out, reentrant=draft.dice.random() < 0.3)
    draft.classes.append(block(source))
    return f"model = Net(){double}"


def _loss_into_model(draft: Draft) -> None:
    draft.in_model = True
    pair = draft.has("model returns a pair", 0.5)
    loss = draft.dice.choice(LOSSES[draft.target]).format(out="out")
    draft.classes.append(
        block(
            f"""
            class WithLoss(nn.Module):
                def __init__(self, net):
                    super().__init__()
                    self.net = net

                def forward(self, x, y=None):
                    out = self.net(x)
                    if y is None:
                        return out
                    loss = {loss}
                    return {"out, loss" if pair else "loss"}
            """
        )
    )
    draft.setup.append("model = WithLoss(model)")
