"""AddNorm: train, export and serve Transformer encoders, and see what every normalization layer sees.

Exit codes: 0 done; 2 the user can mend it, one sentence says how; 130 interrupted by Ctrl+C, or by SIGTERM (train and
score), what was done is saved; 141 nobody reads the output any more.
"""

import errno
import os
import re
import select
import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec

from pydantic import BaseModel, ValidationError
from pydantic_settings import CliApp, SettingsError

from runtime.errors import AddNormError
from runtime.options import PREFIX
from runtime.words import is_unicode

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
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    try:
        try:
            return run(sys.argv[1:] if arguments is None else arguments)
        finally:
            flush()  # what is left would fail where nobody can say so
    except OSError as error:
        if not is_of_output(error):
            return fail(explain(error))
        drop_output()
        if isinstance(error, BrokenPipeError):
            return 141
        reason = error.strerror or error
        return fail(f"What is told cannot be written ({reason}): free some space, or send it to another place.")


def run(arguments: list[str]) -> int:
    if odd := [each for each in arguments if not is_unicode(each)]:
        return fail(f"{os.fsencode(odd[0])!r} is no Unicode text, as all names have to be: choose another.")
    if odd := [name for name, value in os.environ.items() if name.startswith(PREFIX) and not is_unicode(value)]:
        return fail(f"The value of {odd[0]} is no Unicode text: give it another, or unset it.")
    name, *rest = arguments or ["--help"]
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
        return fail(explain_setting(error))
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


def explain_setting(error: SettingsError) -> str:
    """What is wrong with a variable that has to be JSON; the fields that have to are lists."""
    if found := re.search(r'value for field "(\w+)" from source "EnvSettingsSource"', str(error)):
        return f'{PREFIX}{found[1].upper()} is not usable: expected a list in JSON, such as ["first", "second"].'
    return str(error)


def explain(error: OSError) -> str:
    """What the system refused, in one sentence."""
    reason = error.strerror or str(error)
    if isinstance(error.filename, str | bytes):  # a number is of a file that is open
        return f"{os.fsdecode(error.filename)} cannot be used ({reason}): check the name, and who may use it."
    if error.errno in FULL:
        return f"Something cannot be written ({reason}): free some space."
    return f"The system refused what is needed ({reason}): allow it or free it, then run the command again."


def flush() -> None:
    if sys.stdout is not None:  # closed by who started this
        sys.stdout.flush()


def is_of_output(error: OSError) -> bool:
    """Whether standard output is what cannot be written: then it fails again, if it is buffered, or nobody reads it."""
    try:
        flush()
    except OSError:
        return True
    if isinstance(error, BrokenPipeError):  # long texts are gone once they could not be written
        with suppress(OSError, AttributeError):
            events = select.poll()
            events.register(sys.stdout.fileno(), 0)
            return any(found & select.POLLERR for _, found in events.poll(0))
    return False


def drop_output() -> None:
    """Lets go of an output that cannot be written, so that it does not fail once more when Python ends."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message: str) -> int:
    with suppress(OSError):  # who cannot be told gets the exit code
        print(f"addnorm: {message}", file=sys.stderr)
    return 2
