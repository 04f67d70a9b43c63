"""How every command reads its options: from the command line, then from `ADDNORM_*` variables, then its defaults."""

from typing import Any, Literal

from pydantic_settings import BaseSettings, SettingsConfigDict

from runtime.described import docstring

Device = Literal["auto", "cpu", "cuda", "tensorrt"]
TrainingDevice = Literal["auto", "cpu", "cuda"]  # TensorRT only serves
PREFIX = "ADDNORM_"  # of all variables


def option_config(program: str) -> SettingsConfigDict:
    """The pydantic-settings configuration of a command.

    Args:
        program: what the user types, for the usage line.
    """
    return SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        cli_prog_name=program,
        cli_kebab_case=True,
        cli_implicit_flags=True,
    )


LATE = SettingsConfigDict(use_attribute_docstrings=False, defer_build=True)


class Options(BaseSettings):
    """Options of a command that starts fast, with LATE in its configuration: docstrings are read a file at once."""

    @classmethod
    def __pydantic_init_subclass__(cls, **arguments: Any) -> None:
        super().__pydantic_init_subclass__(**arguments)
        for name, field in cls.model_fields.items():
            field.description = field.description or docstring(cls, name)
