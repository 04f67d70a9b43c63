"""`addnorm serve` and `addnorm stats`."""

import gc
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, CliPositionalArg

from runtime.options import option_config
from service.settings import EMBEDDED, Settings


class Serve(Settings):
    """Serves an artifact over HTTP; every option is also a variable, ADDNORM_ and its name in capitals."""

    model_config = option_config("addnorm serve")

    def cli_cmd(self) -> None:
        gc.disable()  # until it answers: what is loaded stays, to look through it again and again costs 50 ms
        try:
            from service.server import serve

            serve(self)
        finally:
            gc.enable()


class Stats(BaseSettings):
    """Prints the normalization statistics of a running service; `merge A B ...` those of several states together.

    A state is the address of a service, or a file that GET /norm-stats/state wrote.
    """

    model_config = option_config("addnorm stats")

    of: CliPositionalArg[list[str]] = Field(["http://127.0.0.1:8000"], min_length=1)
    """Address of the service; or merge, and the states to merge."""
    model: Path = EMBEDDED
    """Merge: directory of the artifact that the states belong to."""
    timeout: float = Field(10.0, gt=0)
    """Seconds to wait for its answer."""
    api_key: str = ""
    """A key, where the service asks one of those who read."""

    def cli_cmd(self) -> None:
        from service.stats_table import print_merged, print_stats

        what, *states = self.of
        if what == "merge":
            print_merged(states, self.model, self.timeout, api_key=self.api_key)
        else:
            print_stats(what, self.timeout, api_key=self.api_key)
