"""All claims, by number."""

from studies.batches import (
    c03_statistics,
    c04_batch_size,
    c09_where,
    c10_padding,
    c16_recurrent,
    c17_online,
    c18_dropout,
)
from studies.blocks import (
    c11_add_and_norm,
    c12_jacobian,
    c13_residuals,
    c14_gradients,
    c15_values,
    c19_rms_norm,
    c20_served,
)
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
    c09_where,
    c10_padding,
    c11_add_and_norm,
    c12_jacobian,
    c13_residuals,
    c14_gradients,
    c15_values,
    c16_recurrent,
    c17_online,
    c18_dropout,
    c19_rms_norm,
    c20_served,
)
CLAIMS: dict[str, Claim] = {module.CLAIM.number: module.CLAIM for module in MODULES}
