"""An encoder of transformers as a module that takes packed batches and tells what its norms saw."""

# P packs, S tokens per pack, N = P * S, R rows (sequences), D d_model, C classes, L norms

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from model.pretrained.families import Family, Packed
from model.pretrained.source import Source
from model.pretrained.watched import Record, is_norm, norm_eps, norm_kind, norm_runs, watch
from runtime.graph.packing import PACKED, ROWS
from runtime.manifest import NormLayer


class PackedTransformer(nn.Module):
    """An encoder of transformers over packed batches, with pooling, and linear layers or a head behind it.

    Args:
        head: logits [R, C] of pooled rows [R, D], in the place of the family's own head.

    Attributes:
        outputs: the dynamic dimensions that each output begins with, by its name.
        d_model: width of the embedding.
        norms: norm l has columns 2l (mean) and 2l + 1 (1/sigma) of `norm_statistics`.
        unobserved: the other norms, and why they are left out.
    """

    def __init__(
        self, model: Any, dense: nn.Module, family: Family, source: Source, head: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.model, self.dense, self.family, self.head = model, dense, family, head
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
        logits_RC = self.family.head(self.model, pooled_RD) if self.head is None else self.head(pooled_RD)
        return logits_RC, pooled_RD, statistics_PSL2

    def encode(self, input_ids: Tensor, position_ids: Tensor, segment_ids: Tensor, type_ids: Tensor | None) -> Tensor:
        types = torch.zeros_like(input_ids) if type_ids is None else type_ids
        packed = Packed(input_ids, position_ids + self.position_offset, segment_ids, types)
        return self.family.encode(self.encoder, packed)

    def plain(self, ids_1N: Tensor, pooling: Tensor, type_ids_1N: Tensor | None = None) -> Tensor:
        """What transformers' own call gives for one text that is not packed: logits [1, C], or an embedding [1, D]."""
        types = {} if type_ids_1N is None else {"token_type_ids": type_ids_1N}
        output = self.model(ids_1N, attention_mask=torch.ones_like(ids_1N), **types)
        self.record.take()  # the norms of packed batches are what is told
        if self.task != "embedding" and self.head is None:
            answer: Tensor = output.logits
            return answer
        behind = self.dense if self.head is None else self.head
        return behind(self.pool(output.last_hidden_state[0], torch.ones_like(ids_1N), pooling))

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
