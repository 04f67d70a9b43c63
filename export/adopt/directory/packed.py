"""An encoder of transformers as a module that takes packed batches and tells what its norms saw."""

# P packs, S tokens per pack, N = P * S, R rows (sequences), D d_model, C classes, L norms

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForSequenceClassification
from transformers.utils import logging as transformers_logging

from export.adopt.directory.families import Family, Packed, family_of
from export.adopt.directory.source import Source
from export.adopt.directory.watched import Record, is_norm, norm_eps, norm_kind, norm_runs, watch
from export.adopt.modules import DenseLayer
from export.graph import PACKED, ROWS
from runtime.errors import ExportError
from runtime.manifest import NormLayer

# rotary positions of these types depend on the longest text of a batch
UNSTEADY_ROPE = ("dynamic", "longrope")
# bytes of weights in a file of ONNX, which is one message of protobuf; 32 MB are left for all else
LARGEST = (2 << 30) - (32 << 20)


class PackedTransformer(nn.Module):
    """An encoder of transformers over packed batches, with pooling, and linear layers or a head behind it.

    Attributes:
        outputs: the dynamic dimensions that each output begins with, by its name.
        d_model: width of the embedding.
        norms: norm l has columns 2l (mean) and 2l + 1 (1/sigma) of `norm_statistics`.
        unobserved: the other norms, and why they are left out.
    """

    def __init__(self, model: Any, dense: nn.Module, family: Family, source: Source) -> None:
        super().__init__()
        self.model, self.dense, self.family = model, dense, family
        self.task, self.pooling, self.type_ids = source.task, source.pooling, source.type_ids
        self.position_offset, self.vocab_size = source.position_offset, source.vocab_size
        self.num_heads: int = model.config.num_attention_heads
        self.d_model: int = source.dense[-1].out_features if source.dense else model.config.hidden_size
        self.outputs: dict[str, tuple[str, ...]] = {"embedding": ROWS, "norm_statistics": PACKED}
        if self.task != "embedding":
            self.outputs = {"logits": ROWS} | self.outputs
        self.record = Record()
        self.norms: list[NormLayer] = []
        self.unobserved: list[tuple[str, str]] = []
        self.watch_norms()

    @property
    def encoder(self) -> Any:
        return self.model.base_model

    @property
    def input_names(self) -> list[str]:
        return ["input_ids", "position_ids", "segment_ids", "pooling"] + ["type_ids"] * self.type_ids

    def forward(
        self,
        input_ids_PS: Tensor,
        position_ids_PS: Tensor,
        segment_ids_PS: Tensor,
        pooling: Tensor,
        type_ids_PS: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Encodes R packed sequences: logits of a classifier [R, C], embedding [R, D], norm statistics [P, S, 2L].

        Args:
            input_ids_PS: token ids.
            position_ids_PS: position of every token in its sequence, from 0.
            segment_ids_PS: the row of the sequence that a token belongs to, plus one; 0 for none.
            pooling: [R, P * S], the weights that make one vector of each sequence's tokens.
            type_ids_PS: token types, where the model has them.
        """
        tokens_PSD = self.encode(input_ids_PS, position_ids_PS, segment_ids_PS, type_ids_PS)
        seen = [part for norm in self.record.take() for part in (norm.mean, norm.inv_std)]
        statistics_PSL2 = torch.cat(seen, dim=-1)
        pooled_RD = self.pool(tokens_PSD.flatten(0, 1), segment_ids_PS, pooling)
        if self.task == "embedding":
            return self.dense(pooled_RD), statistics_PSL2
        return self.family.head(self.model, pooled_RD), pooled_RD, statistics_PSL2

    def encode(self, input_ids: Tensor, position_ids: Tensor, segment_ids: Tensor, type_ids: Tensor | None) -> Tensor:
        types = torch.zeros_like(input_ids) if type_ids is None else type_ids
        packed = Packed(input_ids, position_ids + self.position_offset, segment_ids, types)
        return self.family.encode(self.encoder, packed)

    def plain(self, ids_1N: Tensor, pooling: Tensor, type_ids_1N: Tensor | None = None) -> Tensor:
        """What transformers' own call gives for one text that is not packed: logits [1, C], or an embedding [1, D]."""
        types = {} if type_ids_1N is None else {"token_type_ids": type_ids_1N}
        output = self.model(ids_1N, attention_mask=torch.ones_like(ids_1N), **types)
        self.record.take()  # the norms of packed batches are what is told
        if self.task != "embedding":
            answer: Tensor = output.logits
        else:
            answer = self.dense(self.pool(output.last_hidden_state[0], torch.ones_like(ids_1N), pooling))
        return answer

    def pool(self, tokens_ND: Tensor, segment_ids_PS: Tensor, pooling: Tensor) -> Tensor:
        if self.pooling != "max":
            return pooling @ tokens_ND
        rows, width = pooling.shape[0] + 1, tokens_ND.shape[1]  # the first row takes the padding
        segment_ids_ND = segment_ids_PS.flatten().unsqueeze(1).expand(-1, width)
        lowest = tokens_ND.new_full((rows, width), torch.finfo(tokens_ND.dtype).min)
        return lowest.scatter_reduce(0, segment_ids_ND, tokens_ND, "amax")[1:]

    @torch.inference_mode()
    def watch_norms(self) -> None:
        """Runs the encoder once to find out which norms run, and on what; watches those that see tokens."""
        ids_PS = torch.zeros(2, 3, dtype=torch.int64)
        inputs = ids_PS, ids_PS, torch.ones_like(ids_PS), None
        runs = norm_runs(self.encoder, lambda: self.eval().encode(*inputs))
        elsewhere = {run.name for run in runs if len(run.shape) != 3 or run.shape[:2] != ids_PS.shape}
        self.observed = {run.name for run in runs} - elsewhere
        watch(self.encoder, self.observed, self.record)
        times, before = Counter(run.name for run in runs), Counter[str]()
        for name, norm, shape in runs:
            if name not in elsewhere:
                self.norms.append(
                    NormLayer(
                        name=name if times[name] == 1 else f"{name}.{before[name]}",
                        kind=norm_kind(norm),
                        placement=self.family.placement,
                        d_model=shape[-1],
                        eps=norm_eps(norm),
                    )
                )
            before[name] += 1
        self.unobserved = [(name, "it does not see one vector for each token") for name in sorted(elsewhere)]
        self.unobserved += self.idle_norms(set(times))

    def observed_norms(self) -> list[nn.Module]:
        """The modules of the norms that are observed; one of them may run several times."""
        return [module for name, module in self.encoder.named_modules() if name in self.observed]

    def idle_norms(self, ran: set[str]) -> list[tuple[str, str]]:
        inside = {module: name for name, module in self.encoder.named_modules()}
        norms = [(name, module) for name, module in self.model.named_modules() if is_norm(module)]
        return [
            (inside[module], "it never runs") if module in inside else (name, "it sees pooled rows, not tokens")
            for name, module in norms
            if inside.get(module) not in ran
        ]


def load(source: Source) -> PackedTransformer:
    """The network of a directory, in float32.

    Raises:
        ExportError: its weights cannot be read, or do not fit its config.json.
    """
    family = family_of(source.model_type)
    model = load_model(source, family)
    dense, width = nn.Sequential(), model.config.hidden_size
    for layer in source.dense:
        if layer.in_features != width:
            raise ExportError(f"The Dense layer {layer.weights} takes {layer.in_features} numbers of {width}.")
        dense.extend(load_dense(layer))
        width = layer.out_features
    return PackedTransformer(model, dense, family, source).eval()


def load_model(source: Source, family: Family) -> Any:
    auto: Any = AutoModel if source.task == "embedding" else AutoModelForSequenceClassification
    bare = {"add_pooling_layer": False} if source.task == "embedding" and family.pooler else {}
    safe = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    told = {"output_loading_info": True, "ignore_mismatched_sizes": True}  # check_fit refuses what does not fit
    try:
        with quiet_transformers():
            model, found = auto.from_pretrained(
                source.path, dtype=torch.float32, attn_implementation=family.attention, **safe, **told, **bare
            )
    except Exception as error:  # whatever transformers and its libraries raise
        raise unreadable(source.path, error) from error
    check_fit(source, model, found)
    check_rope(source, model)
    check_size(source, model)
    return model


def check_fit(source: Source, model: Any, found: dict[str, Any]) -> None:
    """Refuses weights that are missing, of another shape, or of a part of the encoder that config.json leaves out."""
    parts = {name for name, _ in model.base_model.named_children()} - {"pooler"}
    prefix = f"{model.base_model_prefix}."
    surplus = [key for key in found["unexpected_keys"] if key.removeprefix(prefix).split(".")[0] in parts]
    mismatched = [key for key, *_ in found["mismatched_keys"]]
    problems = {"missing": found["missing_keys"], "of another shape": mismatched, "too many": surplus}
    for problem, keys in problems.items():
        if keys:
            raise ExportError(
                f"The weights in {source.path} do not fit its config.json ({len(keys)} are {problem}, for example "
                f"{min(keys)}): download or save the model again."
            )


def check_size(source: Source, model: Any) -> None:
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    if size > LARGEST:
        raise ExportError(
            f"{source.path} has {size / 1e9:.1f} GB of weights in float32, and up to 2 GB can be adopted."
        )


def check_rope(source: Source, model: Any) -> None:
    rope = str(getattr(model.config, "rope_parameters", None))
    for kind in UNSTEADY_ROPE:
        if f"'{kind}'" in rope:  # of one of the types of layers
            raise ExportError(
                f"{source.path} has rotary positions of the type {kind}, which depend on the longest text of a batch: "
                "they cannot be packed, export it to ONNX and adopt that file instead."
            )


def load_dense(layer: DenseLayer) -> list[nn.Module]:
    linear = nn.Linear(layer.in_features, layer.out_features, layer.bias)
    try:
        weights = load_file(layer.weights)
        linear.load_state_dict({name.removeprefix("linear."): weight.float() for name, weight in weights.items()})
    except Exception as error:  # of safetensors, of torch, or of the file system
        raise unreadable(layer.weights, error) from error
    return [linear, nn.Tanh() if layer.activation == "tanh" else nn.Identity()]


def unreadable(path: Any, error: Exception) -> ExportError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return ExportError(f"{path} cannot be loaded ({reason}): download or save the model again.")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps progress bars, reports and notes to developers from the user; what matters is checked here."""
    logging: Any = transformers_logging  # it has no types
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
