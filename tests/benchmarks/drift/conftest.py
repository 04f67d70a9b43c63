from tests.runtime.drift.conftest import reference

__all__ = ["reference"]
