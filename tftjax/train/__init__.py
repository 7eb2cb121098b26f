"""Training: losses, optimizer, the compiled epoch, engines, and the loop that drives them.

`loop` trains one member or many and alone decides, writes and shows; an engine of `engine` only computes;
`step` is the pure function that an engine compiles.
"""

from tftjax import face

__all__, __getattr__ = face(
    __name__,
    cluster="EngineType engine_on",
    engine="BatchEngine MembersEngine Training",
    loop="Group Round train_members",
    monitor="",
    pictures="",
    progress="",
    run="train",
    tracking="Tracking",
)
