"""Claims about Add & Norm: residuals, gradients, placement, values."""
