"""Settings of the service: `ADDNORM_*` variables and the same-named options of `addnorm serve`."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings

from runtime.options import option_config
from runtime.session import Device

EMBEDDED = Path(__file__).parent.parent / "models" / "intents" / "1"


class Settings(BaseSettings):
    """Every setting has a default that works; an option wins over a variable."""

    model_config = option_config("addnorm serve")

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all."""
    port: int = Field(8000, ge=0, le=65535)
    """TCP port to listen on; 0 takes a free one."""
    model: Path = EMBEDDED
    """Directory of the artifact to serve."""
    device: Device = "auto"
    """auto, cpu, cuda or tensorrt; auto takes a GPU that works, else the CPU, and says so."""
    threads: int = Field(1, ge=1)
    """Threads of one run of the graph on the CPU."""
    max_rows: int = Field(128, ge=1)
    """Most inputs in one request."""
    max_body_bytes: int = Field(1 << 20, ge=1)
    """Largest request body, in bytes."""
    max_batch_tokens: int = Field(2048, ge=1)
    """Tokens at which a batch stops taking further requests."""
    state: Path | None = None
    """Directory where statistics are kept over restarts; none keeps them in memory only."""
    deep_budget: float = Field(0.02, ge=0, le=1)
    """Share of a worker's time that may go into looking deeply at a sample of the traffic; 0 looks at none."""
    api_keys: str = ""
    """Keys, separated by commas, one of which changes of state then need; none lets everybody."""
    api_keys_file: Path | None = None
    """A file with further such keys, one a line."""
    log_level: str = Field("info", pattern="^(critical|error|warning|info|debug)$")
    """critical, error, warning, info or debug."""
