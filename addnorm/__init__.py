"""AddNorm: train, export and serve Transformer encoders, and see what every normalization layer sees.

`addnorm.cli` is the command line, `addnorm.commands` what it does. Importing this imports neither.
"""
