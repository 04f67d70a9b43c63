import pytest

import export.reference
from export.reference import fit_reference
from runtime.drift.detector import Reference
from tests.runtime.drift.world import CLASSES, world


@pytest.fixture(scope="session")
def reference() -> Reference:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export.reference, "DRAWS", 4000)
        found = fit_reference(*world(2400, seed=0), CLASSES)
    assert found is not None
    return found
