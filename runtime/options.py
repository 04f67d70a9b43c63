"""How every command reads its options: from the command line, then from `ADDNORM_*` variables, then its defaults."""

from typing import Literal

from pydantic_settings import SettingsConfigDict

Device = Literal["auto", "cpu", "cuda", "tensorrt"]
TrainingDevice = Literal["auto", "cpu", "cuda"]  # TensorRT only serves


def option_config(program: str) -> SettingsConfigDict:
    """The pydantic-settings configuration of a command.

    Args:
        program: what the user types, for the usage line.
    """
    return SettingsConfigDict(
        env_prefix="ADDNORM_",
        env_ignore_empty=True,
        frozen=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        cli_prog_name=program,
        cli_kebab_case=True,
        cli_implicit_flags=True,
    )
