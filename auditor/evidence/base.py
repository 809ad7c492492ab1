"""What all evidence is made of: frozen models, places in the source, and parts."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from auditor.untrusted import storable


class Frozen(BaseModel):
    """Immutable, strict about unknown keys; NaN and infinities survive JSON as strings."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings", defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _keep_text_storable(cls, data: Any) -> Any:
        """Whatever a script calls its things, its evidence can be written as UTF-8 and stays of bounded size."""
        return {key: _storable(value) for key, value in data.items()} if isinstance(data, dict) else data


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, tuple | list) and value and isinstance(value[0], str):
        return tuple(_storable(item) for item in value)
    if isinstance(value, dict):  # also the data of a nested model, whose own turn comes later
        return {_storable(key): item for key, item in value.items()}
    return value


class Location(Frozen):
    """A place in the user's source."""

    file: str
    line: int = Field(ge=1)
    function: str = ""


class Part(Frozen):
    """One piece of evidence; a rule asks for it by naming the class in its signature."""

    @classmethod
    def by_experiment(cls) -> bool:
        """Whether it comes of replays of the user's loop, whose truth is measured by their `fidelity`."""
        return "fidelity" in cls.model_fields
