"""A run's config: frozen and strict, a section a module, read from one JSON file.

A field has its default, its unit and its sane range where it is declared, and nowhere else. `loading` reads,
checks and overrides; `hyperparameters` makes the record of the floats that a sweep may vary, which are marked
`Swept` on their fields.
"""

from tftjax import face

__all__, __getattr__ = face(
    __name__,
    data="DataConfig",
    evaluation="EvaluationConfig",
    functions="Functions",
    hyperparameters="Hyperparameters",
    loading="Config from_dict load settings",
    loss="LossConfig",
    model="ModelConfig",
    section="",
    train="TrainConfig",
)
