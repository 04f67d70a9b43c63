"""All claims, by number."""

from studies.batches import c03_statistics, c04_batch_size
from studies.claim import Claim

CLAIMS: dict[str, Claim] = {module.CLAIM.number: module.CLAIM for module in (c03_statistics, c04_batch_size)}
