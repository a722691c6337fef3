"""Config files: found by name or path, run, and changed by words of the command line, as in --config.FIELD=VALUE."""

import difflib
import inspect
import re
import runpy
import traceback
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from cfaan_jax.errors import InputError, shortened
from cfaan_jax.experiment.fields import FIELDS, RETIRED, SECTIONS, drop_retired, flatten

_PACKAGE = Path(__file__).parents[1]
_FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")  # of an installed wheel, of a checkout


def find(name: str) -> Path:
    """The file of a config: a path, or the name of one of this project's, such as "mars"; InputError if none has it."""
    if Path(name).is_file():
        return Path(name)
    files = {path.stem: path for folder in _FOLDERS for path in sorted(folder.glob("*.py"))}
    if name not in files:
        raise InputError(f"--config={name}: no such file, and none of this project's configs; write a path, or one of "
                         f"{shortened(files)}")
    return files[name]


def load(spec: str) -> ConfigDict:
    """Runs the file that `find` finds; a variant may follow, as in "mars:c2d". InputError if it gives no config."""
    name, *variant = spec.split(":", 1)
    path = find(name)
    try:
        get_config = runpy.run_path(str(path))["get_config"]
        if variant and not inspect.signature(get_config).parameters:
            raise InputError(f"--config={spec}: this config has no variants; write --config={name}")
        config = get_config(*variant)
    except InputError:
        raise
    except Exception as error:  # whatever somebody's file raises
        lines = [f", line {frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)
                 if frame.filename == str(path)]
        raise InputError(f"--config={spec}: cannot be run as a config ({type(error).__name__}: {error}"
                         f"{''.join(lines[-1:])}); write Python with a get_config(), as in configs/mars.py") from error
    if not isinstance(config, ConfigDict) or not all(isinstance(config.get(name), ConfigDict) for name in SECTIONS):
        raise InputError(f"--config={spec}: get_config() must return a ConfigDict with the sections "
                         f"{', '.join(SECTIONS)}; begin with the one of configs/mars.py")
    drop_retired(config)
    return config


def override(config: ConfigDict, words: Sequence[str]) -> tuple[dict[str, object], list[str]]:
    """Sets fields of a config as typed on a command line, and takes retired fields out.

    Returns:
        ({dotted name: value} of the fields that were typed, the words that set no field).
    Raises:
        InputError: a name that is no field, or a value that does not fit its type.
    """
    typed = [name for name in (word.lstrip("-").partition("=")[0] for word in words if word.startswith("-"))
             if name.startswith(("config.", "noconfig."))]
    names = [name.partition("config.")[2] for name in typed]
    with config.unlocked():
        config.update_from_flattened_dict({name: False for name in RETIRED if name in names})
    _check_names(config, names)
    values = flags.FlagValues()
    values.set_gnu_getopt(True)
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=words)
        _, *rest = values(["", *words], known_only=True)
    except flags.Error as error:
        name = re.search(r"config\.([\w.]+)", str(error))
        field = flatten(FIELDS).get(name[1]) if name else None
        raise InputError(f"{error}; give {field.expected()}, as in --config.{name[1]}=VALUE" if field
                         else str(error)) from None
    except (MemoryError, RecursionError):  # of Python's parser
        raise InputError("the value of a --config field is nested too deeply; give plain numbers and names") from None
    drop_retired(config)
    return {name: value for name, value in config_flags.get_override_values(values["config"]).items()
            if name not in RETIRED}, rest


def _check_names(config: ConfigDict, names: Sequence[str]) -> None:
    """Raises InputError for the first name that is no field, or a tuple given twice."""
    fields = flatten(config.to_dict())
    for name in names:
        if isinstance(fields.get(name), tuple) and names.count(name) > 1:
            raise InputError(f"--config.{name} is given {names.count(name)} times, and its values would be joined; "
                             f"give it once, as in --config.{name}='{fields[name]}'")
        if not any(field == name or field.startswith(f"{name}.") for field in fields):
            near = ", ".join(f"--config.{field}" for field in nearest(name, list(fields)))
            hint = f"did you mean {near}? " if near else ""
            raise InputError(f"--config.{name}: the config has no such field; {hint}--help with --config lists all")


def nearest(name: str, names: list[str]) -> list[str]:
    """The dotted names most like a mistyped one: on the whole, or in their last part."""
    whole = difflib.get_close_matches(name, names, n=3, cutoff=0.8)
    ends = [field.rpartition(".")[2] for field in names]
    alike = difflib.get_close_matches(name.rpartition(".")[2], ends, n=3, cutoff=0.7)
    return list(dict.fromkeys([*whole, *(field for field, end in zip(names, ends, strict=True) if end in alike)]))
