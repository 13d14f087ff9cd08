"""The YAML files that a config is made of."""

from collections.abc import Iterator

from omegaconf import OmegaConf

from cellpatch.runtime.resources import resource_dir

CONF = resource_dir("conf")


def choices_with(key: str) -> Iterator[str]:
    """The choices of a dotted key's group whose file has the key, as GROUP=NAME."""
    group, _, rest = key.partition(".")
    for file in sorted((CONF / group).glob("*.yaml")) if rest else ():
        parent, _, leaf = rest.rpartition(".")
        node = OmegaConf.load(file)
        node = OmegaConf.select(node, parent) if parent else node
        if OmegaConf.is_dict(node) and leaf in node.keys():  # noqa: SIM118 (`in` is false for a key that still needs a value)
            yield f"{group}={file.stem}"
