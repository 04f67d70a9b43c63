"""`addnorm serve`."""

import gc

from runtime.described import late_models
from runtime.options import LATE, option_config
from service.settings import Settings


class Serve(Settings):
    """Serves an artifact over HTTP; every option is also a variable, ADDNORM_ and its name in capitals."""

    model_config = option_config("addnorm serve") | LATE

    def cli_cmd(self) -> None:
        gc.disable()  # until it answers: what is loaded stays, to look through it again and again costs 50 ms
        try:
            with late_models():  # FastAPI's models of OpenAPI documents, for one: 40 ms
                from service.serve import serve

            serve(self)
        finally:
            gc.enable()
