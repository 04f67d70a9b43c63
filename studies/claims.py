"""All claims, by number."""

from studies.batches import c03_statistics, c04_batch_size
from studies.claim import Claim
from studies.optimization import (
    c01_faster,
    c02_covariate_shift,
    c05_rates,
    c06_encoders,
    c07_regularization,
    c08_smoothness,
)

MODULES = (
    c01_faster,
    c02_covariate_shift,
    c03_statistics,
    c04_batch_size,
    c05_rates,
    c06_encoders,
    c07_regularization,
    c08_smoothness,
)
CLAIMS: dict[str, Claim] = {module.CLAIM.number: module.CLAIM for module in MODULES}
