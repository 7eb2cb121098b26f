"""What every section of a config is."""

from typing import Annotated

import pydantic

Fraction = Annotated[float, pydantic.Field(gt=0, lt=1)]


class Section(pydantic.BaseModel):
    """Frozen and strict: no key that is not declared, no value of another type, defaults checked too."""

    # Defaults are validated too: hidden_size=15 must clash with the default num_heads=2.
    model_config = pydantic.ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    def __hash__(self) -> int:
        return hash(self.model_dump_json())  # a dict among the values has no hash of its own
