"""What pyproject.toml cannot say: which packages there are, where two of them do not lie at the root.

The wheel holds the client of clients/python, which `addnorm stats` asks with, and the embedded models, so that the
service runs without a clone.
"""

from setuptools import find_packages, setup

CLIENT = "clients/python/src"
PACKAGES = find_packages(include=["addnorm*", "runtime*", "service*", "model", "model.*", "export*", "studies*"])

setup(
    packages=[*PACKAGES, *find_packages(CLIENT), "service.models"],
    package_dir={"addnorm_client": f"{CLIENT}/addnorm_client", "service.models": "models"},
    include_package_data=False,  # but for these
    package_data={
        "": ["py.typed"],
        "service": ["page/static/**/*"],
        "service.models": ["intents/1/*", "intents-batchnorm/1/*"],
    },
)
