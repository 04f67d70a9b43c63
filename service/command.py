"""`addnorm serve` and `addnorm stats`."""

from pydantic import Field
from pydantic_settings import BaseSettings, CliPositionalArg

from runtime.options import option_config
from service.settings import Settings


class Serve(Settings):
    """Serves an artifact over HTTP; every option is also a variable, ADDNORM_ and its name in capitals."""

    model_config = option_config("addnorm serve")

    def cli_cmd(self) -> None:
        from service.server import serve

        serve(self)


class Stats(BaseSettings):
    """Prints the normalization statistics of a running service, beside those of its validation data."""

    model_config = option_config("addnorm stats")

    url: CliPositionalArg[str] = "http://127.0.0.1:8000"
    """Address of the service."""
    timeout: float = Field(10.0, gt=0)
    """Seconds to wait for its answer."""

    def cli_cmd(self) -> None:
        from service.stats_table import print_stats

        print_stats(self.url, self.timeout)
