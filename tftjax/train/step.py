"""One training run as a compiled program: state, step, epoch.

An epoch, with its validation, is one compiled program over a mesh of devices: every device holds the whole
state and the whole series, computes the forecasts of its share of the batch, and sees all forecasts for the
loss, whose moments are those of the whole batch.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Float32, Int32, Key, UInt32

from tftjax.config.functions import NO_FUNCTIONS, Functions
from tftjax.config.hyperparameters import Hyperparameters, static_settings
from tftjax.config.loading import Config
from tftjax.data.prepared import Data, cardinalities
from tftjax.data.windows import Inputs, Series, gather
from tftjax.errors import UserError
from tftjax.model.forecast import forecast_batch, map_windows, to_returns
from tftjax.model.layers import Dropout
from tftjax.model.parameters import (
    Layout,
    build_model,
    control_vectors,
    init_parameters,
    parameter_layout,
    part_slices,
    to_tree,
    to_vector,
)
from tftjax.model.regime import balance_penalty
from tftjax.model.tft import TemporalFusionTransformer
from tftjax.runtime import MESH_AXIS, OnMesh
from tftjax.train.losses import median_of, t_log_score, total_loss
from tftjax.train.monitor import distinct, entropies
from tftjax.train.optimizer import averaged, make_optimizer

# Fewest elements for a first, second and third round of `jax.random.permutation`: it sorts by 32 random bits,
# ceil(3 log(elements) / log(2^32 - 1)) times.
ROUNDS = (2, 1626, 2642246)

# Written out, because the state holds the key's data: another default would read it differently. Not `rbg`:
# its numbers differ between a vmapped program and a single one.
KEY_IMPL = "threefry2x32"

# Settings that the loop and the evaluation read, and no compiled program.
NOT_TRACED = ("train.checkpoint_every", "functions.metrics", "functions.baselines")


class TrainState(NamedTuple):
    """The state of training; N parameters as one vector.

    Attributes:
      params: the parameters.
      opt_state: the optimizer's state, arrays only.
      step: optimizer steps made.
      epoch: epochs finished.
      key: data of the run's random key; what is random at a step follows from it and the step.
      best_params: parameters after the epoch with the lowest validation loss.
      best_loss: the lowest validation loss, in return units.
      best_epoch: the epoch with the lowest validation loss, from 1; 0 before the first.
    """

    params: Float32[Array, " N"]
    opt_state: Any
    step: Int32[Array, ""]
    epoch: Int32[Array, ""]
    key: UInt32[Array, "2"]
    best_params: Float32[Array, " N"]
    best_loss: Float32[Array, ""]
    best_epoch: Int32[Array, ""]


class Program(NamedTuple):
    """The static side of training: constants of the compiled program.

    Attributes:
      val_counts: numbers of validation windows that the data may have, ascending.
      functions: functions that were handed in.
    """

    config: Config
    model: TemporalFusionTransformer
    layout: Layout
    mesh: Mesh
    val_counts: tuple[int, ...]
    functions: Functions


def make_program(config: Config, data: Data, mesh: Mesh, functions: Functions = NO_FUNCTIONS) -> Program:
    """Builds model and layout for a config and its data; the mesh's size must divide the batch size."""
    model = build_model(config, *cardinalities(data.panel, data.encoding), functions)
    lengths = config.model.encoder_length, config.model.prediction_length
    inputs = jax.eval_shape(lambda s: gather(s, jnp.zeros(1, jnp.int32), *lengths)[0], data.series)
    layout = parameter_layout(model, inputs)
    return Program(config, model, layout, mesh, (len(data.starts["val"]),), functions)


def _optimizer(
    program: Program, hyperparameters: Hyperparameters, steps_per_epoch: int | Int32[Array, ""]
) -> optax.GradientTransformation:
    decayed = np.concatenate(
        [
            np.full(np.prod(shape), path[-1].endswith("kernel"), np.float32)
            for path, shape in zip(program.layout.paths, program.layout.shapes, strict=True)
        ]
    )
    train = program.config.train
    scales = control_vectors(program.layout, train)
    return make_optimizer(train, hyperparameters, steps_per_epoch, decayed, *scales)


def init_state(program: Program, hyperparameters: Hyperparameters, seed: int) -> TrainState:
    """The state before the first step, as numpy arrays."""
    params = init_parameters(program.layout, seed)
    opt_shapes = jax.eval_shape(_optimizer(program, hyperparameters, 1).init, params)
    return TrainState(
        params=params,
        opt_state=jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), opt_shapes),
        step=np.int32(0),
        epoch=np.int32(0),
        key=np.array([0, seed], np.uint32),
        best_params=params.copy(),
        best_loss=np.float32(np.inf),
        best_epoch=np.int32(0),
    )


def _device(mesh: Mesh) -> int | Int32[Array, ""]:
    """This device's place in a mesh; a program of a single device names no mesh, so that it can be mapped."""
    return jax.lax.axis_index(MESH_AXIS) if mesh.size > 1 else 0


def _gathered(share: Array, mesh: Mesh) -> Array:
    """The shares of all devices, joined along the first axis."""
    return jax.lax.all_gather(share, MESH_AXIS, tiled=True) if mesh.size > 1 else share


def forecast_losses(
    forecast, targets, scale, hyperparameters: Hyperparameters, program: Program, weight=None
) -> dict[str, Array]:
    """The loss of forecasts [B P Q] of targets [B P], and its terms, as training and validation weigh them.

    Args:
      scale: the target's scale at each window [B].
      weight: of each window [B]; None weighs all alike.
    """
    config = program.config
    own_weights = config.loss.own_weights
    own = {name: (f, own_weights.get(name, 1.0)) for name, f in program.functions.penalties.items()}
    if config.loss.unit == "scale":
        in_scales = hyperparameters.target_std / scale
        weight = in_scales if weight is None else weight * in_scales
    weight = _of_steps(weight, targets, program)
    quantiles, penalty_scale = config.model.quantiles, config.loss.scale
    loss, terms = total_loss(forecast, targets, quantiles, hyperparameters, penalty_scale, weight, own)
    return {"loss": loss, **terms}


def _of_steps(
    weight: Float[Array, " B"] | None, targets: Float[Array, "B P"], program: Program
) -> Float[Array, "B #P"] | None:
    """The weight of each step of each window in the loss; None weighs all alike."""
    weights = None if weight is None else weight[:, None]
    if not program.config.loss.horizon_weights:
        return weights
    steps = jnp.array([program.config.loss.weights_of(targets.shape[1])], targets.dtype)
    return jnp.broadcast_to(steps, targets.shape) if weights is None else weights * steps


def _training_penalties(program: Program) -> dict[str, tuple[str, Callable[..., Array]]]:
    """Penalties of training alone, since validation judges forecasts: a field of TFTOutput, a function."""
    model = program.config.model
    penalties: dict[str, tuple[str, Callable[..., Array]]] = {}
    if model.attention.regime.by == "router":
        penalties["balance_penalty"] = "regime", lambda x, h: h.balance_weight * balance_penalty(x)
    if model.corrects:
        penalties["correction_penalty"] = "correction", lambda x, h: h.correction_weight * jnp.mean(x**2)
    return penalties


def _training_losses(
    forecast: Float[Array, "B P Q"],
    outputs: dict[str, Array],
    targets: Float[Array, "B P"],
    batch: Inputs,
    hyperparameters: Hyperparameters,
    program: Program,
) -> dict[str, Array]:
    """`forecast_losses` of a whole batch, with what counts in training alone.

    Args:
      outputs: the fields of TFTOutput that `_training_penalties` are of.
    """
    metrics = forecast_losses(forecast, targets, batch.scale, hyperparameters, program, batch.weight)
    for name, (of, penalty) in _training_penalties(program).items():
        # In return units, as the loss is.
        metrics[name] = hyperparameters.target_std * penalty(outputs[of], hyperparameters)
        metrics["loss"] += metrics[name]
    if program.config.loss.objective == "likelihood":
        score = _log_score(outputs["correction"], targets, batch, program)
        metrics["log_score"] = hyperparameters.target_std * score
        metrics["loss"] += metrics["log_score"] - metrics["quantile_loss"]
    return metrics


def _log_score(
    numbers: Float[Array, "B P R"], targets: Float[Array, "B P"], batch: Inputs, program: Program
) -> Array:
    """The mean negative log-likelihood of a whole batch's scaled targets."""
    scaled = (targets - batch.center[:, None]) / batch.scale[:, None]
    own_freedom = program.config.model.quantile_head == "student_t"
    scores = t_log_score(numbers, scaled, batch.classical.density, own_freedom=own_freedom)
    weights = _of_steps(batch.weight, targets, program)
    return jnp.mean(scores if weights is None else weights * scores)


def hide_categories(
    codes: Int32[Array, "V *T B"],
    rate: float | Float[Array, ""],
    key: Key[Array, ""],
    first: int | Int32[Array, ""],
    whole: int,
    cardinalities: tuple[int, ...] | None = None,
) -> Int32[Array, "V *T B"]:
    """Categories, a share of them 0 at random, the code of what was not in training.

    Each variable is hidden by itself, so that a model learns to do without an id where it knows a sector. Of
    a variable that changes within a window, each category is hidden by itself, at all its steps alike.

    Args:
      codes: of this device's windows.
      rate: share of windows in which a static variable, or a category of another one, is hidden.
      first: position in the whole batch of the first window, so that what is hidden does not depend on how
        a batch is divided over devices.
      whole: number of windows of the whole batch.
      cardinalities: number of codes of each variable; None: static ones, with one category a window.
    """
    count = codes.shape[0] if cardinalities is None else sum(cardinalities)
    kept = _draws(key, count, first, codes.shape[-1], whole) >= rate
    if cardinalities is not None:
        places = np.cumsum((0, *cardinalities[:-1]), dtype=np.int32)[:, None, None] + codes
        kept = kept[places, jnp.arange(codes.shape[-1])[None, None]]
    return jnp.where(kept, codes, 0)


def as_in_training(
    inputs: Inputs,
    hyperparameters: Hyperparameters,
    program: Program,
    key: Key[Array, ""],
    first: int | Int32[Array, ""],
    whole: int,
) -> Inputs:
    """Windows with what training alone hides from the network at random.

    Args:
      inputs: this device's windows.
      key: the step's; each part takes a stream of its own, as dropout takes its bits from the key itself.
      first, whole: see `hide_categories`.
    """
    train, sizes = program.config.train, program.model.cardinalities
    if train.static_dropout:
        stream = jax.random.fold_in(key, 0)
        hidden = hide_categories(inputs.static_categorical, train.static_dropout, stream, first, whole)
        inputs = inputs._replace(static_categorical=hidden)
    if train.category_dropout:
        for stream, (name, codes) in enumerate(zip(("observed", "known"), sizes, strict=False), 1):
            if codes:
                hidden = hide_categories(
                    getattr(inputs, f"{name}_categorical"),
                    hyperparameters.category_dropout,
                    jax.random.fold_in(key, stream),
                    first,
                    whole,
                    codes,
                )
                inputs = inputs._replace(**{f"{name}_categorical": hidden})
    if train.short_windows:
        stream, model = jax.random.fold_in(key, 3), program.config.model
        lengths = model.fewest_rows, model.encoder_length
        kept = shortened(hyperparameters.short_windows, stream, first, inputs.center.shape[0], whole, lengths)
        inputs = inputs._replace(seen=inputs.seen & kept)
    if train.known_dropout:
        present, stream = inputs.known_present, jax.random.fold_in(key, 4)
        draws = _draws(stream, len(present), first, inputs.center.shape[0], whole)
        past = jnp.arange(present.shape[1]) < program.config.model.encoder_length
        kept = (draws >= hyperparameters.known_dropout)[:, None] | past[None, :, None]
        inputs = inputs._replace(known_present=present & kept)
    return inputs


def _draws(
    key: Key[Array, ""], count: int, first: int | Int32[Array, ""], local: int, whole: int
) -> Float[Array, "N B"]:
    """Uniform numbers for this device's windows, a part of those for the whole batch."""
    return lax.dynamic_slice_in_dim(jax.random.uniform(key, (count, whole)), first, local, axis=1)


def shortened(
    rate: float | Float[Array, ""],
    key: Key[Array, ""],
    first: int | Int32[Array, ""],
    local: int,
    whole: int,
    lengths: tuple[int, int],
) -> Bool[Array, "E B"]:
    """The steps that windows keep, a share of which are cut at random: their last rows of the past.

    Args:
      rate: share of windows that are cut.
      first, whole: see `hide_categories`.
      local: number of this device's windows.
      lengths: fewest and most rows that a window keeps, one as likely as another.
    """
    fewest, most = lengths
    draws = _draws(key, 2, first, local, whole)
    rows = fewest + jnp.floor(draws[1] * (most + 1 - fewest)).astype(jnp.int32)
    kept = jnp.where(draws[0] < rate, rows, most)
    return jnp.arange(most - 1, -1, -1)[:, None] < kept[None]


def _norms(gradient: Array, updates: Array, layout: Layout) -> dict[str, Array]:
    """Norms of the loss's gradient, before any scale or clip, and of the update: whole and by part."""
    norms = {}
    for name, vector in (("gradient_norm", gradient), ("update_norm", updates)):
        parts = {
            part: sum(_squared_norm(vector[first:stop]) for first, stop in slices)
            for part, slices in part_slices(layout).items()
        }
        norms |= {f"{name}/{part}": jnp.sqrt(total) for part, total in parts.items()}
        norms[name] = jnp.sqrt(sum(parts.values()))
    return norms


def _squared_norm(vector: Array) -> Array:
    """The vector's product with itself; a CPU would add up its squares one by one."""
    return jnp.vdot(vector, vector, precision=jax.lax.Precision.HIGHEST)


def _metric_names(state: TrainState, hyperparameters: Hyperparameters, program: Program) -> list[str]:
    """The names of a step's metrics, without a trace of the model."""

    def metrics():
        config = program.config.model
        forecast = jnp.zeros((1, config.prediction_length, len(config.quantiles)))
        losses = forecast_losses(forecast, forecast[..., 0], forecast[:, 0, 0], hyperparameters, program)
        names = list(_training_penalties(program))
        names += ["log_score"] if program.config.loss.objective == "likelihood" else []
        losses |= dict.fromkeys(names, losses["loss"])
        return losses | _norms(state.params, state.params, program.layout)

    return list(jax.eval_shape(metrics))


def decided_by(program: Program) -> tuple[Any, ...]:
    """What a program of training depends on besides the shapes of its arguments: functions and values."""
    model = program.model
    sizes = model.cardinalities, program.layout, program.val_counts
    # Copied: where one dict stands for two kinds of functions, the fingerprint would be another.
    functions = dict(program.functions.penalties), dict(program.functions.head)
    static = {key: value for key, value in static_settings(program.config).items() if key not in NOT_TRACED}
    return type(model), model.head, functions, sizes, static


def rebuilt(results: list, state: TrainState, *_: Any) -> tuple[TrainState, dict]:
    """The state and metrics of the leaves of a state, and metrics."""
    leaves, metrics = results
    return jax.tree.unflatten(jax.tree.structure(state), leaves), metrics


def compile_epoch(program: Program, *, emitters: bool) -> OnMesh:
    """`train_epoch` as a compiled function of (state, hyperparameters, data)."""

    def epoch(state, hyperparameters, data):
        state, metrics = train_epoch(state, hyperparameters, data, program=program)
        return jax.tree.leaves(state), metrics

    everywhere = PartitionSpec()
    decides, specs = (
        (inspect.unwrap(compile_epoch).__code__, train_epoch, *decided_by(program)),
        (everywhere,) * 3,
    )
    return OnMesh(epoch, decides, program.mesh, specs, everywhere, rebuild=rebuilt, emitters=emitters)


def state_to_arrays(state: TrainState, layout: Layout) -> dict[str, Any]:
    """A state as the nested dict of a checkpoint: `params`, the best ones by name, and `state`."""
    state = jax.device_get(state)
    opt_state = {str(number): leaf for number, leaf in enumerate(jax.tree.leaves(state.opt_state))}
    return {"params": to_tree(state.best_params, layout), "state": state._asdict() | {"opt_state": opt_state}}


def state_from_arrays(arrays: dict[str, Any], template: TrainState) -> TrainState:
    """Rebuilds the state that `state_to_arrays` took apart.

    Args:
      template: a state of the same program; gives the structure of the optimizer's state.
    """
    saved = arrays["state"]
    structure = jax.tree.structure(template.opt_state)
    leaves = [saved["opt_state"].get(str(number)) for number in range(structure.num_leaves)]
    if len(saved["opt_state"]) != len(leaves) or saved["params"].shape != template.params.shape:
        raise UserError(
            f"the checkpoint holds {saved['params'].size} parameters and {len(saved['opt_state'])} arrays of "
            f"the optimizer, this program has {template.params.size} and {len(leaves)}: it is "
            "another model's. Resume with the config that wrote it."
        )
    return TrainState(**saved | {"opt_state": jax.tree.unflatten(structure, leaves)})


class TrainData(NamedTuple):
    """Training arrays on the device; starts beyond the counts are filling.

    Attributes:
      series: the whole panel.
      train_starts, val_starts: first rows of the windows.
      num_train, num_val: numbers of windows, the filling not counted.
    """

    series: Series
    train_starts: Int32[Array, " W"]
    val_starts: Int32[Array, " Wv"]
    num_train: Int32[Array, ""]
    num_val: Int32[Array, ""]


def train_step(
    state: TrainState,
    starts: Int32[Array, " B"],
    hyperparameters: Hyperparameters,
    data: TrainData,
    program: Program,
) -> tuple[TrainState, dict[str, Array]]:
    """Makes one optimizer step on a batch; runs on every device of the mesh, under `shard_map`.

    On a mesh of one device it needs neither: members of a sweep are trained side by side.

    Args:
      starts: first rows of the whole batch's windows.
    Returns:
      The next state, and the loss, its terms, and norms of gradient and update.
    """
    model_config = program.config.model
    local = starts.shape[0] // program.mesh.size
    first = _device(program.mesh) * local
    local_starts = jax.lax.dynamic_slice_in_dim(starts, first, local)
    lengths = model_config.encoder_length, model_config.prediction_length
    inputs, _ = gather(data.series, local_starts, *lengths)
    batch, targets = gather(data.series, starts, *lengths)
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key, impl=KEY_IMPL), state.step)
    noise = Dropout(hyperparameters.dropout_rate, jax.random.bits(key), first + jnp.arange(local))
    inputs = as_in_training(inputs, hyperparameters, program, key, first, starts.shape[0])

    def local_forecast(tree):
        forecast, output = forecast_batch(program.model, tree, inputs, noise, hyperparameters)
        return forecast, {of: getattr(output, of) for of, _ in _training_penalties(program).values()}

    def whole_loss(shares):
        metrics = _training_losses(*shares, targets, batch, hyperparameters, program)
        # In units of target_std gradients are O(1), so that Adam's epsilon and the clip mean what they say.
        return metrics["loss"] / hyperparameters.target_std, metrics

    shares, pullback = jax.vjp(local_forecast, to_tree(state.params, program.layout))
    whole = jax.tree.map(lambda share: _gathered(share, program.mesh), shares)
    cotangent, metrics = jax.grad(whole_loss, has_aux=True)(whole)
    (local_gradient,) = pullback(
        jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, local), cotangent)
    )
    gradient = to_vector(local_gradient, program.layout)
    if program.mesh.size > 1:
        gradient = jax.lax.psum(gradient, MESH_AXIS)

    optimizer = _optimizer(program, hyperparameters, data.num_train // program.config.train.batch_size)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    metrics |= _norms(gradient, updates, program.layout)
    state = state._replace(
        params=optax.apply_updates(state.params, updates), opt_state=opt_state, step=state.step + 1
    )
    return state, metrics


def validate(
    params: Float[Array, " N"], hyperparameters: Hyperparameters, data: TrainData, program: Program
) -> dict[str, Array]:
    """Computes loss, terms and `monitor`'s measures over the whole validation split at once.

    Each device takes a share of the windows.
    """
    num_windows, count = data.val_starts.shape[0], program.mesh.size
    local = -(-num_windows // count)
    padded = jnp.pad(data.val_starts, (0, local * count - num_windows), mode="edge")
    local_starts = jax.lax.dynamic_slice_in_dim(padded, _device(program.mesh) * local, local)
    tree = to_tree(params, program.layout)
    model_config = program.config.model

    def of(inputs, output):
        return to_returns(inputs, output), inputs.scale, entropies(output, model_config)

    shares = map_windows(program.model, tree, data.series, local_starts, of, hyperparameters)
    forecasts, scale, evenness = jax.tree.map(
        lambda share: _gathered(share, program.mesh)[:num_windows], shares
    )
    steps = model_config.encoder_length + jnp.arange(model_config.prediction_length)
    targets = data.series.target[data.val_starts[:, None] + steps[None, :]]

    def measure(count):
        losses = forecast_losses(forecasts[:count], targets[:count], scale[:count], hyperparameters, program)
        watched = {name: values[:count].mean() for name, values in evenness.items()}
        watched["distinct_forecasts"] = distinct(median_of(forecasts[:count], model_config.quantiles))
        return losses | watched

    # A branch for every number of windows: what is measured of all has no place for filling.
    number = jnp.searchsorted(jnp.array(program.val_counts), data.num_val)
    return jax.lax.switch(number, [functools.partial(measure, count) for count in program.val_counts])


def train_epoch(
    state: TrainState, hyperparameters: Hyperparameters, data: TrainData, *, program: Program
) -> tuple[TrainState, dict[str, Array]]:
    """Trains on every window once, in random order, then validates and keeps the best parameters.

    Without validation windows, as in a final fit, the last parameters are the best.
    The last windows of the order that fill no batch are left out; others are next time.

    Returns:
      The next state, and metrics: `steps` made, `losses` of each step (0 beyond), means of the terms over
      steps, and `val/...` if anything validates.
    """
    # Epochs and steps count from the same key; orders take a stream of their own.
    key = jax.random.fold_in(
        jax.random.fold_in(jax.random.wrap_key_data(state.key, impl=KEY_IMPL), 0x6F726472), state.epoch
    )
    batch_size = program.config.train.batch_size
    steps, most = data.num_train // batch_size, data.train_starts.shape[0] // batch_size
    if program.config.train.max_steps is not None:
        steps = jnp.minimum(steps, program.config.train.max_steps - state.step)
    order = shuffled(key, data.train_starts, data.num_train)[: most * batch_size].reshape(most, batch_size)

    def step(number, carry):
        state, per_step = carry
        state, metrics = train_step(state, order[number], hyperparameters, data, program)
        return state, {name: per_step[name].at[number].set(value) for name, value in metrics.items()}

    names = _metric_names(state, hyperparameters, program)
    per_step = {name: jnp.zeros(most) for name in names}
    state, per_step = jax.lax.fori_loop(0, steps, step, (state, per_step))
    params, validation = _validated(state, hyperparameters, data, program)
    loss = validation.get("loss", state.best_loss)
    chosen_by_loss = validation and program.config.train.keep == "best"
    better = loss < state.best_loss if chosen_by_loss else True
    epoch = state.epoch + 1
    state = state._replace(
        epoch=epoch,
        best_params=jnp.where(better, params, state.best_params),
        best_loss=jnp.where(better, loss, state.best_loss),
        best_epoch=jnp.where(better, epoch, state.best_epoch),
    )
    metrics = {name: values.sum() / steps for name, values in per_step.items()}
    metrics |= {
        "losses": per_step["loss"],
        "steps": steps,
        **{f"val/{name}": value for name, value in validation.items()},
    }
    return state, metrics


def _validated(
    state: TrainState, hyperparameters: Hyperparameters, data: TrainData, program: Program
) -> tuple[Float[Array, " N"], dict[str, Array]]:
    """The parameters to judge, the current or the averaged ones, and their validation; empty without windows.

    Of both the better are taken; without validation, or where the last are kept, the averaged ones.
    """
    validates, decay = max(program.val_counts) > 0, program.config.train.ema_decay
    current = validate(state.params, hyperparameters, data, program) if validates else {}
    if not decay:
        return state.params, current
    average = averaged(state.opt_state, decay, state.step)
    if not validates:
        return average, {}
    other = validate(average, hyperparameters, data, program)
    use = other["loss"] < current["loss"] if program.config.train.keep == "best" else jnp.bool_(True)
    chosen = {name: jnp.where(use, other[name], value) for name, value in current.items()}
    return jnp.where(use, average, state.params), chosen | {"averaged": use.astype(jnp.float32)}


def train_data(data: Data) -> TrainData:
    """Collects the training arrays, still on the host."""
    train, val = data.starts["train"], data.starts["val"]
    return TrainData(data.series, train, val, np.int32(len(train)), np.int32(len(val)))


def shuffled(key: Key[Array, ""], starts: Int32[Array, " W"], count: Int32[Array, ""]) -> Int32[Array, " W"]:
    """The first `count` starts in random order, then the filling.

    The order is that of `jax.random.permutation` of the first `count` alone: what a data set is padded to
    does not change it.
    """
    filling = jnp.arange(starts.shape[0]) >= count
    for fewest in ROUNDS:
        if starts.shape[0] < fewest:
            break
        key, subkey = jax.random.split(key)
        # The sort is stable, so that a start whose bits are all ones still comes before the filling.
        bits = jnp.where(filling, jnp.uint32(2**32 - 1), jax.random.bits(subkey, starts.shape))
        starts = jnp.where(count >= fewest, lax.sort_key_val(bits, starts)[1], starts)
    return starts
