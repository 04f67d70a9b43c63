"""`addnorm serve`."""

import gc

from runtime.options import option_config
from service.settings import Settings


class Serve(Settings):
    """Serves an artifact over HTTP; every option is also a variable, ADDNORM_ and its name in capitals."""

    model_config = option_config("addnorm serve")

    def cli_cmd(self) -> None:
        gc.disable()  # until it answers: what is loaded stays, to look through it again and again costs 50 ms
        try:
            from service.serve import serve

            serve(self)
        finally:
            gc.enable()
