"""What can be the name of a model or of its version."""


def check_printable(name: str) -> str:
    """The name; raises ValueError where it would break lines that have it, of a log for one."""
    if not name.isprintable():
        raise ValueError(f"{name!r} is no name: expected letters, digits and signs that can be printed, and spaces")
    return name
