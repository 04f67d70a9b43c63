"""AddNorm: train, export and serve Transformer encoders, and see what every normalization layer sees.

`addnorm.cli` is the command line, `addnorm.client` asks a running service. Importing this imports neither.
"""
