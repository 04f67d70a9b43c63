HEAD = """# The notes' claims, measured

<!-- Written by `addnorm study`; the words are in studies/, change them there. -->

AddNorm grew from notes that explain BatchNorm, LayerNorm and Add & Norm. Here each of their claims is an experiment:
**supported**, **conditional** (some of its sentences hold, or only under a condition) or **contradicted**.

`addnorm study` runs them with three seeds, which is exploratory: half an hour on two cores, as measured before C16 and
C18 grew. `addnorm study --full` does so with ten: 95 minutes on two cores that had other work, too, 116 minutes of CPU
time (2026-11-27). Cells that were run are kept in `studies/results/`, so that it goes on where it stopped; without them,
or with `--results EMPTY_FOLDER`, all is run again.
`addnorm study --only C4 --one` runs a single cell: change `studies/batches/c04_batch_size.py`, and look.

How to read a row: arms are compared seed by seed, with the same order of the data and the same initialization. Each arm
has the learning rate that was best for it on two other seeds and other digits than those it is reported on. What is
asked, and how large a difference must be to matter, is in the code before a run. A comparison holds if the median
difference is that large, its 95 % interval (bootstrap) does not reach zero, and, with ten seeds, Wilcoxon's signed-rank test gives p <= .05 after Holm's correction
within the claim. Cliff's delta says how often one arm is above the other: 1 is always. Losses are in nats, and are told
as 4.6, twice that of a guess, where they are larger. Networks are small (a width of 64) and learn digits,
of 8 x 8 pixels and, in C16 and C18, written with a pen or spoken: what holds here need not hold for a large model, and
the published results beside each row are of larger ones.

To look at both norms in a running service, use `make run`: it serves one encoder with LayerNorm and its twin with BatchNorm
([statistics.md](statistics.md#side-by-side-layernorm-and-batchnorm))."""

REWORDED = """## Four sentences to say otherwise

1. "By reducing internal covariate shift": contested for BatchNorm, unsupported for LayerNorm (C2). Say: *they stabilize
   training; why is still discussed*.
2. "Gradients reach lower layers more weakly": weak with the norm after the residual, the reverse with the norm before it
   (C14). Say: *how gradients are shared out over the layers depends on the placement and the initialization*.
3. "dL/dx = dL/dy (1 + dF/dx)": of the bare residual. Through Add & Norm it is dL/dy J_LN (1 + dF/dx) (C12).
4. "Transformers use LayerNorm everywhere": dated. Many of today's use RMSNorm, before the sublayer (C11, C19)."""

CHOICE = """## Which norm, which placement?

| you have | take |
|---|---|
| an encoder or another Transformer | LayerNorm or RMSNorm; before the sublayer if it is deep or trained without warm-up |
| sequences of unequal length, batches of a few samples, or one sample at a time | LayerNorm or RMSNorm |
| a convolutional or fully connected network, batches of 16 and more | BatchNorm, between the linear layer and the activation |
| a network that is served | whichever: in inference BatchNorm is a fixed scale and shift, and this service observes them all |"""
