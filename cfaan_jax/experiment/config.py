"""The network that a config stands for, and the folder that belongs to a config."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from cfaan_jax import models, weights
from cfaan_jax.errors import InputError, reason, shortened
from cfaan_jax.experiment.fields import FREE, SECTIONS, drop_retired, flatten
from cfaan_jax.runtime.files import parse_json, write_atomic


def create_model(config: ConfigDict, num_classes: int) -> models.VideoReID:
    """The network of `config.model`, freshly initialised from `config.seed`."""
    settings = {name: value for name, value in config.model.items() if name != "pretrained"}
    return models.create(num_classes=num_classes, clip_length=config.data.clip_length,
                         image_size=tuple(config.data.image_size), seed=config.seed, **settings)


def initial_model(config: ConfigDict, num_classes: int, *, classifies: bool = True) -> models.VideoReID:
    """The network with which training starts: `create_model`, with the weights of `config.model.pretrained` in it.

    With classifies=False only features are wanted, so that file may lack the classifier or have another one.
    """
    model = create_model(config, num_classes)
    if config.model.pretrained != "none":
        weights.load_torch(model, config.model.pretrained, skip=() if classifies else [weights.classifier_of(model)])
    return model


def weights_of(config: ConfigDict) -> str:
    """The name in results of the weights that `config.eval.weights` asks for: those of a file are not untrained."""
    from_file = config.eval.weights == "untrained" and config.model.pretrained != "none"
    return "pretrained" if from_file else config.eval.weights


def save_or_check_config(config: ConfigDict, workdir: str | Path) -> None:
    """Writes `<workdir>/config.json`; InputError if one is there that differs in a field that is not `FREE`."""
    path = Path(workdir) / "config.json"
    if not path.exists():
        write_atomic(path, json.dumps(config.to_dict(), indent=2) + "\n")
        return
    stored, current = flatten(load_config(workdir).to_dict()), flatten(config.to_dict())
    differing = [name for name in dict.fromkeys((*stored, *current))
                 if stored.get(name) != current.get(name) and not name.startswith(FREE)]
    if differing:
        changes = [f"config.{name}={current.get(name)!r} (there {stored.get(name)!r})" for name in differing]
        raise InputError(f"{path}: differs from this config in {shortened(changes, most=3)}; give the same values "
                         "again, or another --workdir")


def load_config(workdir: str | Path) -> ConfigDict:
    """The config that `save_or_check_config` wrote; InputError if there is none, or it cannot be read."""
    path = Path(workdir) / "config.json"
    try:
        content = parse_json(path.read_bytes())
        if not isinstance(content, dict) or not all(isinstance(content.get(name), dict) for name in SECTIONS):
            raise ValueError(f"not an object that holds {', '.join(SECTIONS)}")
        config = ConfigDict(_tuples(content))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: {workdir} is not the workdir of an experiment; train one with "
                         f"python -m cfaan_jax.main --config=... --workdir={workdir}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a config in JSON ({reason(error)}); restore it") from None
    drop_retired(config)
    return config


def _tuples(tree):
    """JSON has lists only; configs have tuples only."""
    if isinstance(tree, dict):
        return {name: _tuples(value) for name, value in tree.items()}
    return tuple(map(_tuples, tree)) if isinstance(tree, list) else tree
