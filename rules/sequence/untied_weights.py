"""SEQ106: embedding and output layer are declared tied, and are not."""

from __future__ import annotations

from auditor.declare import (
    Confidence,
    Finding,
    Judgement,
    Measured,
    NotApplicable,
    Severity,
    rule,
)
from auditor.evidence import Remedy, RemedyKind, TiedPair, TiedWeights

from ..symptoms import NOT_LEARNING
from ..words import count, number


@rule(
    "SEQ106",
    "untied-weights",
    severity=Severity.WARNING,
    explains=NOT_LEARNING,
    fix="""Make them one parameter, after everything that replaces parameters: `model.head.weight = model.embed.weight`
    (not `.data.copy_` and not `.clone()`), or drop the flag.""",
    remedies=(RemedyKind.TIE_WEIGHTS,),
    references=(
        "https://arxiv.org/abs/1608.05859",
        "https://huggingface.co/docs/transformers/main/en/main_classes/model",
    ),
)
def untied_weights(weights: TiedWeights) -> Judgement:
    """The output layer should share the embedding's weight, but has one of its own.

    ## What it does

    Looks at models that have an embedding and an output layer of the same shape: are the two weights one parameter,
    does a flag declare them tied, were they equal at the start, are they equal now?

    ## Why is it bad?

    The tie is part of the design: it halves the parameters of a small language model and lets every token train its
    embedding from both sides. Where it breaks - a copy instead of the same object, a weight that was tied before
    `deepcopy`, a wrapper or `load_state_dict(assign=True)` replaced it - nothing fails. The two drift apart with the
    first step, checkpoints hold one weight too many, and a library that ties them again on loading throws one of
    them away.

    ## How it is measured

    By identity: `tie_word_embeddings`, `tie_weights` or the like is true on the model or in its configuration, the
    two parameters are neither the same object nor share memory, an optimizer trains one, and they differ after the
    observed steps. In place of a flag, it counts as a declaration that the two modules have shared one parameter since
    the script began, or one of them with a module whose place the other has taken, unless the two were bit-equal
    before the first step: then they may have been parted on purpose. No limits. Otherwise, two weights that were
    bit-equal before the first step and are not after it are a note: random numbers do not agree by chance, so one was
    copied from the other.

    ## When it may be wrong

    - Models with separate weights by design have no flag, and weights that differ from the start: passed.
    - An output layer that is initialised from the embedding and then trained on its own is what the note describes;
      if that is meant, ignore it.
    - Where several layers have the embedding's shape, none is taken for the output.

    ## How to fix

    ```python
    model = LanguageModel(config).to(device)
    model.head.weight = model.embed.weight
    optimizer = torch.optim.AdamW(model.parameters())
    ```
    """
    trained = [pair for pair in weights.pairs if pair.trained]
    if not trained:
        raise NotApplicable("no embedding with an output layer of the same shape is trained")
    apart = [pair for pair in trained if not pair.tied and not pair.equal_end]
    broken = [pair for pair in apart if pair.declared or pair.equal_start or pair.was_tied]
    yield Measured(
        float(len(broken)),
        0.0,
        f"{count(len(trained), 'pair')} of embedding and output, {sum(pair.tied for pair in trained)} tied",
    )
    for pair in broken:
        yield _finding(pair)


def _undone(pair: TiedPair) -> bool:
    """Not by a copy of the weight, which parts the two on purpose."""
    return pair.was_tied and not pair.equal_start


def _finding(pair: TiedPair) -> Finding:
    shape = "x".join(map(str, pair.shape))
    sure = bool(pair.declared) or _undone(pair)
    if pair.declared:
        message = (
            f"{pair.declared} is set, but {pair.head} and {pair.embedding} are two parameters ({shape}) that differ "
            "after the observed steps"
        )
    elif _undone(pair):
        line = f" in line {number(pair.tie_location.line)}" if pair.tie_location is not None else ""
        message = (
            f"{pair.head} and {pair.embedding} were tied{line}, and something has since given one of them a new "
            f"parameter: they are two ({shape}) that differ"
        )
    else:
        message = (
            f"{pair.head} began as a bit-equal copy of {pair.embedding} ({shape}), and differs from it after the "
            "observed steps: a tie by copying holds until the first step"
        )
    return Finding(
        message=message,
        where=pair.head,
        location=(pair.tie_location if _undone(pair) else None) or pair.location or pair.embedding_location,
        measured=1.0,
        limit=0.0,
        severity=Severity.WARNING if sure else Severity.NOTE,
        confidence=Confidence.CONFIRMED if sure else Confidence.SUSPECTED,
        remedies=(Remedy(kind=RemedyKind.TIE_WEIGHTS, layers=(pair.embedding, pair.head)),),
        detail=(("they were equal before the first step" if pair.equal_start else "they were never equal"),),
    )
