"""`addnorm export`."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, CliPositionalArg
from rich.console import Console

from runtime.options import option_config


class Export(BaseSettings):
    """Exports a run as a verified ONNX artifact: MODELS/NAME/VERSION."""

    model_config = option_config("addnorm export")

    run: CliPositionalArg[Path]
    """Run directory that `addnorm train` wrote."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the model; letters, digits, dots, dashes and underscores."""
    version: int = Field(ge=1)
    """Version of the model."""
    models: Path = Path("models")
    """Model repository to write to."""
    data: Path = Path("data")
    """Folder of downloaded data sets."""
    overwrite: bool = False
    """Replace an artifact of this name and version."""

    def cli_cmd(self) -> None:
        from export.exporter import export_run

        console = Console()
        with console.status(f"exporting {self.run}"):
            artifact, errors = export_run(
                self.run, self.models, self.name, str(self.version), self.data, self.overwrite
            )
        facts = artifact.manifest.training
        size = sum(len(content) for content in artifact.files.values()) / 1e6
        console.print(f"{artifact.path}: {size:.2f} MB, {facts['parameters']:,} parameters", highlight=False)
        console.print(
            f"accuracy: validation {facts['validation_accuracy']:.4f}, test {facts['test_accuracy']}", highlight=False
        )
        for kind, error in errors.items():
            console.print(f"verified: {kind} within {error:.1e} of PyTorch", highlight=False)
