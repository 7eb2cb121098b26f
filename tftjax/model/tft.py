"""The Temporal Fusion Transformer (Lim et al. 2021, arXiv 1912.09363): its wiring, in the order of the paper.

Einsum letters, here and in the layers: B batch, T time (encoder + decoder), E encoder, P prediction, V
variable, D hidden, H head, K per-head, Q quantile; i, o, c are a layer's own input, output and category.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tftjax.config.hyperparameters import Hyperparameters
from tftjax.config.hyperparameters import hyperparameters as hyperparameters_of
from tftjax.config.loading import Config
from tftjax.config.model import ModelConfig
from tftjax.data.windows import Inputs
from tftjax.model.attention import InterpretableAttention
from tftjax.model.heads import HEADS
from tftjax.model.layers import (
    LSTM,
    CategoricalEmbedding,
    Dense,
    Dropout,
    Embedded,
    GateAddNorm,
    GatedResidualNetwork,
    RealEmbedding,
    StaticContexts,
    StaticEncoder,
    VariableSelection,
    join,
)
from tftjax.model.regime import RegimeGates, Router, by_thresholds
from tftjax.model.staleness import StepStaleness, VariableStaleness

CORRECTION = "output_correction"  # the output layer of a head that corrects, zero at the start


class TFTOutput(NamedTuple):
    """Forecast and the weights that explain it.

    Attributes:
      quantiles: forecasts, in units of the scaled target.
      attention: weight of each step for each prediction step, by head; sums to 1 over T.
      encoder_selection: weight of each observed, then known variable at each encoder step; sums to 1 over V.
      decoder_selection: weight of each known variable at each prediction step; None without known inputs.
      static_selection: weight of each static variable; None without static inputs.
      regime: probability of each regime, which sum to 1; None without regimes.
      correction: numbers by which the head corrects a forecast; None for a head that does not.
    """

    quantiles: Float[Array, "B P Q"]
    attention: Float[Array, "B H P T"]
    encoder_selection: Float[Array, "B E V"]
    decoder_selection: Float[Array, "B P Vk"] | None
    static_selection: Float[Array, "B Vs"] | None
    regime: Float[Array, "B R"] | None = None
    correction: Float[Array, "B P C"] | None = None


class Selected(NamedTuple):
    """What the network makes of each row by itself, of the steps of windows.

    Attributes:
      past: mix of the observed and known variables at each encoder step.
      future: mix of the known variables at each prediction step; None without known inputs.
      encoder_weights: weight of each observed, then known variable in `past`.
      decoder_weights: weight of each known variable in `future`; None without known inputs.
      contexts: what static inputs give to the network; None without static inputs.
      static_weights: weight of each static variable; None without static inputs.
    """

    past: Float[Array, "D E B"]
    future: Float[Array, "D P B"] | None
    encoder_weights: Float[Array, "V E B"]
    decoder_weights: Float[Array, "Vk P B"] | None
    contexts: StaticContexts | None
    static_weights: Float[Array, "Vs 1 B"] | None


class RowNetwork(nn.Module):
    """The part of the network that sees one row at a time: embeddings, static contexts, variable selection.

    Of windows of a single row it makes what is `past` and what is `future` there.

    Attributes:
      config, known_cardinalities, static_cardinalities, observed_cardinalities: see
        `TemporalFusionTransformer`.
    """

    config: ModelConfig
    known_cardinalities: tuple[int, ...] = ()
    static_cardinalities: tuple[int, ...] = ()
    observed_cardinalities: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, inputs: Inputs, noise: Dropout | None, hyperparameters: Hyperparameters) -> Selected:
        size, encoder_length = self.config.hidden_size, self.config.encoder_length
        dtype = self.config.dtype
        observed, known, static = self._embed(inputs)
        contexts, static_weights = None, None
        if static is not None:
            contexts, static_weights = StaticEncoder(size, dtype, name="static_encoder")(static, noise)

        selection_context = contexts.selection if contexts else None
        past, present = observed, inputs.present
        if known is not None:
            past = join([past, known.steps(0, encoder_length)])
            if present is not None:
                present = jnp.pad(present, ((0, known.num_variables), (0, 0), (0, 0)), constant_values=True)
        penalty = self._variable_penalty(inputs, past.num_variables, hyperparameters)
        selected, encoder_weights = VariableSelection(size, dtype, name="encoder_selection")(
            past, noise, selection_context, present, penalty
        )
        future, decoder_weights = None, None
        if known is not None:
            future, decoder_weights = VariableSelection(size, dtype, name="decoder_selection")(
                known.steps(-self.config.prediction_length, None), noise, selection_context
            )
        return Selected(selected, future, encoder_weights, decoder_weights, contexts, static_weights)

    def _embed(self, inputs: Inputs) -> tuple[Embedded, Embedded | None, Embedded | None]:
        """Embeds observed, known and static variables; None for a kind without any."""
        size = self.config.hidden_size

        def both(name, real, categorical, cardinalities, present=None):
            parts = []
            if real.shape[0]:
                embedding = RealEmbedding(size, indicator=present is not None, name=f"{name}_real")
                parts.append(embedding(real, present))
            if categorical.shape[0]:
                embedding = CategoricalEmbedding(size, cardinalities, name=f"{name}_categorical")
                parts.append(embedding(categorical))
            return join(parts) if parts else None

        present, num_reals = inputs.present, len(inputs.observed)
        of_reals, of_categories = (
            (None, None) if present is None else (present[:num_reals], present[num_reals:])
        )
        observed = RealEmbedding(size, name="embedding_observed")(inputs.observed, of_reals)
        if inputs.observed_categorical is not None:
            embedding = CategoricalEmbedding(
                size, self.observed_cardinalities, name="embedding_observed_categorical"
            )
            observed = join([observed, embedding(inputs.observed_categorical, of_categories)])
        known = both(
            "embedding_known",
            inputs.known_real,
            inputs.known_categorical,
            self.known_cardinalities,
            inputs.known_present,
        )
        static = both(
            "embedding_static",
            inputs.static_real[:, None],
            inputs.static_categorical[:, None],
            self.static_cardinalities,
        )
        return observed, known, static

    def _variable_penalty(
        self, inputs: Inputs, num_variables: int, hyperparameters: Hyperparameters
    ) -> Float[Array, "V E B"] | None:
        """Penalties on the selection of each observed, then known variable; known ones are never old."""
        staleness = self.config.attention.staleness
        if staleness.mode != "variable_selection":
            return None
        penalty = VariableStaleness(staleness, name="encoder_selection_staleness")(
            inputs.age, hyperparameters
        )
        return jnp.pad(penalty, ((0, num_variables - len(penalty)), (0, 0), (0, 0)))


class TemporalFusionTransformer(nn.Module):
    """Network that forecasts quantiles of the target for each of the next steps.

    Variables are in the order real, then categorical within static, known and observed inputs.

    Attributes:
      config: sizes and lengths.
      known_cardinalities: number of codes of each known categorical variable, the unseen slot included.
      static_cardinalities: the same for static categorical variables.
      head: a quantile head in place of the config's.
      observed_cardinalities: the same as of known ones for observed categorical variables.
    """

    config: ModelConfig
    known_cardinalities: tuple[int, ...] = ()
    static_cardinalities: tuple[int, ...] = ()
    head: Callable[..., Any] | None = None
    observed_cardinalities: tuple[int, ...] = ()

    @property
    def cardinalities(self) -> tuple[tuple[int, ...], ...]:
        """Those of the observed, known and static variables."""
        return self.observed_cardinalities, self.known_cardinalities, self.static_cardinalities

    def setup(self):
        self.row_network = RowNetwork(
            self.config, self.known_cardinalities, self.static_cardinalities, self.observed_cardinalities
        )
        nn.share_scope(self, self.row_network)  # its parameters stand beside the others

    @nn.compact
    def __call__(
        self,
        inputs: Inputs,
        noise: Dropout | None = None,
        hyperparameters: Hyperparameters | None = None,
        selected: Selected | None = None,
    ) -> TFTOutput:
        """Forecasts windows; `selected` is what `select` made of their rows, None makes it here."""
        size, encoder_length = self.config.hidden_size, self.config.encoder_length
        dtype = self.config.dtype
        if hyperparameters is None:
            hyperparameters = hyperparameters_of(Config(model=self.config))
        if selected is None:
            selected = self.row_network(inputs, noise, hyperparameters)
        past, future, encoder_weights, decoder_weights, contexts, static_weights = selected
        if future is None:
            future = jnp.zeros_like(past[:, :1])
            future = jnp.repeat(future, self.config.prediction_length, axis=1)
        temporal = self._locality_enhancement(past, future, contexts, noise, inputs.seen)

        enrichment_context = contexts.enrichment if contexts else None
        enriched = GatedResidualNetwork(size, size, dtype=dtype, name="static_enrichment")(
            temporal, noise, enrichment_context
        )
        queries = enriched[:, encoder_length:]
        regime, gates = self._regime(
            inputs, temporal[:, encoder_length - 1], enrichment_context, hyperparameters
        )
        attended, attention = InterpretableAttention(
            self.config.num_heads, self.config.attention_mask, dtype, name="attention"
        )(queries, enriched, noise, self._step_penalty(inputs, hyperparameters), gates, self._seen(inputs))
        attended = GateAddNorm(dtype=dtype, name="attention_gate")(attended, queries, noise)
        decoded = GatedResidualNetwork(size, size, dtype=dtype, name="position_wise")(attended, noise)
        # The last gate has no dropout, and skips the whole transformer part (eq. 22).
        decoded = GateAddNorm(dtype=dtype, name="output_gate")(decoded, temporal[:, encoder_length:], None)
        quantiles, correction = self._head(decoded, inputs)
        return TFTOutput(
            quantiles=quantiles.transpose(2, 1, 0),
            attention=attention.transpose(3, 0, 1, 2),
            encoder_selection=encoder_weights.transpose(2, 1, 0),
            decoder_selection=None if decoder_weights is None else decoder_weights.transpose(2, 1, 0),
            static_selection=None if static_weights is None else static_weights[:, 0].T,
            regime=None if regime is None else regime.T,
            correction=None if correction is None else correction.transpose(2, 1, 0),
        )

    def select(self, inputs: Inputs, hyperparameters: Hyperparameters | None = None) -> Selected:
        """What the network makes of each row by itself, without dropout; see `RowNetwork`."""
        if hyperparameters is None:
            hyperparameters = hyperparameters_of(Config(model=self.config))
        return self.row_network(inputs, None, hyperparameters)

    def _head(
        self, decoded: Float[Array, "D P B"], inputs: Inputs
    ) -> tuple[Float[Array, "Q P B"], Float[Array, "R P B"] | None]:
        """The quantiles, and the numbers by which a head corrects; of float32 whatever `model.dtype` is."""
        levels = self.config.quantiles
        if self.head is not None:
            return self.head(Dense(len(levels), name="output")(decoded), levels), None
        head = HEADS[self.config.quantile_head]
        raw = Dense(head.outputs(len(levels)), name=CORRECTION if head.corrects else "output")(decoded)
        return head.quantiles(raw, levels, inputs.classical), raw if head.corrects else None

    def _locality_enhancement(
        self,
        past: Float[Array, "D E B"],
        future: Float[Array, "D P B"],
        contexts: StaticContexts | None,
        noise: Dropout | None,
        seen: Bool[Array, "E B"] | None,
    ) -> Float[Array, "D T B"]:
        """LSTM encoder and decoder with one gated skip over both (section 4.5.1).

        Without static inputs the LSTM starts at zero; where steps are not seen, at the first that is.
        """
        size, dtype = self.config.hidden_size, self.config.dtype
        start = jnp.zeros_like(past[:, 0])
        hidden, cell = (contexts.lstm_hidden[:, 0], contexts.lstm_cell[:, 0]) if contexts else (start, start)
        encoded, decoded = past, future
        for layer in range(self.config.lstm_layers):
            encoded, last_hidden, last_cell = LSTM(size, dtype, name=f"lstm_encoder_{layer}")(
                encoded, hidden, cell, seen
            )
            decoded, _, _ = LSTM(size, dtype, name=f"lstm_decoder_{layer}")(decoded, last_hidden, last_cell)
        inputs = jnp.concatenate([past, future], axis=1)
        outputs = jnp.concatenate([encoded, decoded], axis=1)
        return GateAddNorm(dtype=dtype, name="lstm_gate")(outputs, inputs, noise)

    def _seen(self, inputs: Inputs) -> Bool[Array, "T B"] | None:
        """The steps that attention may look at, of all; None: as the mask says."""
        if inputs.seen is None:
            return None
        return jnp.pad(inputs.seen, ((0, self.config.prediction_length), (0, 0)), constant_values=True)

    def _step_penalty(self, inputs: Inputs, hyperparameters: Hyperparameters) -> Float[Array, "H T B"] | None:
        staleness = self.config.attention.staleness
        if staleness.mode != "attention":
            return None
        sizes = self.config.num_heads, self.config.prediction_length
        return StepStaleness(staleness, *sizes, name="attention_staleness")(inputs.age, hyperparameters)

    def _regime(
        self,
        inputs: Inputs,
        encoded: Float[Array, "D B"],
        context: Array | None,
        hyperparameters: Hyperparameters,
    ) -> tuple[Float[Array, "R B"] | None, Float[Array, "H B"] | None]:
        """The probability of each regime, and the heads' gates."""
        config = self.config.attention.regime
        if config.by == "none":
            return None, None
        if config.by == "router":
            regime = Router(config.num_regimes, name="attention_router")(encoded, context)
        else:
            regime = by_thresholds(inputs.regime, config.num_regimes, hyperparameters)
        return regime, RegimeGates(config, self.config.num_heads, name="attention_gates")(
            regime, hyperparameters
        )
