"""AddNorm: train, export and serve Transformer encoders, and see what every normalization layer sees.

Exit codes: 0 done; 2 the user can mend it, one sentence says how; 130 interrupted, what was done is saved.
"""

import sys
from importlib import import_module
from importlib.util import find_spec

from pydantic import BaseModel, ValidationError
from pydantic_settings import CliApp, SettingsError

from runtime.errors import AddNormError

# command -> where it lives, what it does; each is a class whose fields are its options
COMMANDS = {
    "train": ("addnorm.commands.train:Train", "data -> a run: best weights, metrics, curves"),
    "export": ("addnorm.commands.export:Export", "a run -> a verified ONNX artifact in the model repository"),
    "adopt": ("addnorm.commands.adopt:Adopt", "anybody's text encoder -> an artifact, with a baseline of your texts"),
    "serve": ("addnorm.commands.serve:Serve", "an artifact -> HTTP: answers, and normalization statistics"),
    "study": ("addnorm.commands.study:Study", "the claims about normalization, measured -> docs/study.md"),
    "score": (
        "addnorm.commands.score:Score",
        "a file of texts -> predictions, and a verdict on them, without a service",
    ),
    "stats": ("addnorm.commands.stats:Stats", "a running service -> its normalization layers as a table"),
}
# command -> a package that it needs, the extra that has it, the lock that has that
NEEDS = {
    "train": ("torch", "train", "train"),
    "export": ("torch", "train", "train"),
    "adopt": ("onnx_ir", "adopt", "serve"),
    "study": ("statsmodels", "study", "test"),
}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name not in COMMANDS:
        return fail(f"{name!r} is not a command, expected one of {', '.join(COMMANDS)}.")
    module, extra, lock = NEEDS.get(name, ("", "", ""))
    if module and find_spec(module) is None:
        return fail(
            f"`addnorm {name}` needs the {extra} extra: install requirements/{lock}.txt, or run `make install`."
        )
    try:
        CliApp.run(load(name), cli_args=rest)
    except AddNormError as error:
        return fail(str(error))
    except ValidationError as error:
        return fail(complaint(load(name), error))
    except SettingsError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        return 130
    return 0


def load(name: str) -> type[BaseModel]:
    module, _, command = COMMANDS[name][0].partition(":")
    return getattr(import_module(module), command)  # type: ignore[no-any-return]


def complaint(command: type[BaseModel], error: ValidationError) -> str:
    """The first thing that is wrong with a command's options, as a sentence."""
    first = error.errors()[0]
    where, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing" and (field := command.model_fields.get(where)) is not None:
        what = " ".join((field.description or "").split()).partition(". ")[0].removesuffix(".")
        return f"give --{where.replace('_', '-')}: {lowered(what)}."  # argparse itself asks for what has no option
    if not where:  # of several options together, which it names
        return f"{message}."
    return f"{where} is not usable: {lowered(message)}."


def lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def usage() -> str:
    lines = [f"  addnorm {name:7} {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        [__doc__.strip().splitlines()[0], "", *lines, "", "`addnorm COMMAND --help` lists a command's options."]
    )


def fail(message: str) -> int:
    print(f"addnorm: {message}", file=sys.stderr)
    return 2
