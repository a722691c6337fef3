"""Prints every package that is installed here with its version and licence."""

import argparse
import re
from importlib import metadata

from cfaan_jax.runtime.text_tables import markdown

_LONGEST = 60  # characters; some packages put the whole text where its name belongs


def licence(package: metadata.PackageMetadata) -> str:
    """What a package says of its licence: an SPDX expression, or else a name, or else the classifiers."""
    if expression := package.get("License-Expression"):
        return expression
    named = package.get("License") or ""
    if 0 < len(named) <= _LONGEST and "\n" not in named and named != "UNKNOWN":
        return named
    classified = [each.rpartition(" :: ")[2] for each in package.get_all("Classifier", [])
                  if each.startswith("License :: ") and each != "License :: OSI Approved"]
    return ", ".join(classified) or (named.strip().splitlines() or ["not said"])[0][:_LONGEST]


def main() -> None:
    argparse.ArgumentParser(prog="python -m launch.licences", description=__doc__).parse_args()
    installed = {re.sub(r"[-_.]+", "-", each.name).lower(): each for each in metadata.distributions()}
    print(markdown(["package", "version", "licence"], [[name, each.version, licence(each.metadata)]
                                                       for name, each in sorted(installed.items())]))


if __name__ == "__main__":
    main()
