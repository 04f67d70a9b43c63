"""The claims of the notes about BatchNorm, LayerNorm and Add & Norm, as experiments: `addnorm study`."""
