"""Published weights: where they come from, what they are called there, and a fingerprint of what was loaded."""

import hashlib
import importlib.util
import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cellpatch.models.backbone import PretrainableBackbone
from cellpatch.models.state_dict_converters import STATE_DICT_CONVERTERS
from cellpatch.runtime.atomic_io import sha256_of
from cellpatch.runtime.errors import CHECKPOINT_READ_ERRORS, UnavailableError


@dataclass(frozen=True)
class Weights:
    """Where the weights of a pretrained model are, and on which terms.

    They are looked for in this order: `file` (safetensors, or a .pth or .bin that opens without running
    code), `package` (MODULE/FILE inside an installed Python package, whose distribution `install` names),
    `hub` (Hugging Face's cache, then the hub) under `hub_file`. `layout` says whose names the tensors have.
    The file's sha256 is checked where `sha256` gives it, and where the hub's cache does (it names large files by it).
    """

    file: str | None
    package: str | None
    install: str | None
    hub: str | None
    hub_file: str | None
    layout: Literal["timm", "ctranspath", "transformers_dinov2", "in_order"]
    sha256: str | None
    licence: str
    terms: str

    def locate(self) -> Path:
        """The file on this machine, fetched from the hub if need be; raises ValueError that says how to get it."""
        if self.file is not None:
            if not Path(self.file).is_file():
                raise UnavailableError(f"model.weights.file: there is no file {self.file}. {self._how()}")
            return Path(self.file)
        if self.package is not None:
            found = _in_package(self.package)
            if found is not None:
                return found
        if self.hub is not None and self.hub_file is not None:
            return self._from_hub(self.hub, self.hub_file)
        raise UnavailableError(f"the weights are not on this machine. {self._how()}")

    def read(self, backbone: PretrainableBackbone) -> dict[str, Tensor]:
        """The tensors under the backbone's names, in float32; the backbone may lie on the meta device.

        Raises ValueError that names the file: absent, unreadable, holding code, altered, not finite, or of other
        names and shapes than the backbone's at its published side.
        """
        file = self.locate()
        expected = self.sha256 or _sha256_in_cache(file)
        if expected is not None and sha256_of(file) != expected.lower():
            told = f"{file}: its sha256 is not {expected}: another model's, truncated or altered"
            raise ValueError(f"{told}. {self._how()}")
        try:
            tensors = STATE_DICT_CONVERTERS[self.layout](read_tensors(file), list(backbone.net.state_dict()))
            tensors = {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
            backbone.check_published(tensors)
            broken = [name for name, t in tensors.items() if t.is_floating_point() and not t.isfinite().all()]
            if broken:
                raise ValueError(f"has values that are not finite in {broken[:5]}")
        except ValueError as error:
            raise ValueError(f"{file}: {error}. {self._how()}") from error
        return tensors

    def load(self, backbone: PretrainableBackbone) -> str:
        """Load into the backbone, every tensor and no other, and give the fingerprint of what was loaded."""
        tensors = self.read(backbone)
        backbone.load_published(tensors)
        return fingerprint(tensors)

    def _from_hub(self, hub: str, hub_file: str) -> Path:
        """From the cache or the hub; what could not be had is asked for once in a process, as that takes 20 s."""
        known = _unavailable.get((hub, hub_file))
        if known is not None:
            raise UnavailableError(known)
        try:
            return self._fetch(hub, hub_file)
        except UnavailableError as error:
            _unavailable[hub, hub_file] = str(error)
            raise

    def _fetch(self, hub: str, hub_file: str) -> Path:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.constants import HF_HUB_CACHE
        from huggingface_hub.errors import GatedRepoError, HTTPError, LocalEntryNotFoundError  # type: ignore[attr-defined]

        try:
            return Path(hf_hub_download(hub, hub_file, local_files_only=True))
        except LocalEntryNotFoundError:
            pass
        try:
            return Path(hf_hub_download(hub, hub_file))
        except GatedRepoError as error:
            raise UnavailableError(f"{hub} is gated: not logged in, or without access. {self._how()}") from error
        except (HTTPError, OSError) as error:  # a broken connection, a wrong token, a cache that cannot be written
            told = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UnavailableError(
                f"{hub} is not in the hub's cache, {HF_HUB_CACHE}, and cannot be fetched ({told}). {self._how()}"
            ) from error

    def _how(self) -> str:
        ways = []
        if self.install is not None:
            ways.append(f"pip install {self.install}")
        if self.hub is not None:
            ways.append(f"get {self.hub_file} of {self.hub} from the Hugging Face hub and set model.weights.file=FILE")
        if not ways:
            ways.append("set model.weights.file=FILE")
        return f"To get them: {', or '.join(ways)} ({self.terms}). Licence: {self.licence}"


_unavailable: dict[tuple[str, str], str] = {}


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Named tensors of a safetensors file or a torch checkpoint, read without running code from it.

    A checkpoint that keeps them one level down, under `model`, `state_dict` or `teacher`, is unwrapped.
    Raises ValueError if the file cannot be opened, is truncated, no checkpoint, or a pickle with code.
    """
    try:
        with file.open("rb") as stream:
            start = stream.read(64)
    except OSError as error:
        raise ValueError(f"cannot be opened ({error.strerror})") from error
    if start.startswith(b"version https://git-lfs"):
        raise ValueError("is git's pointer to a large file, not the file: fetch it with git lfs pull")
    if start.lstrip().startswith(b"<"):
        raise ValueError("is a page of a web site, not the file")
    if file.suffix.lower() == ".safetensors" or start[8:10] == b'{"':  # whatever it is called
        try:
            return load_file(file)
        except SafetensorError as error:
            raise ValueError(f"is no readable safetensors file ({error})") from error
    try:
        loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError("holds more than tensors (a pickle can run code) or is no checkpoint: refused") from error
    except CHECKPOINT_READ_ERRORS as error:
        raise ValueError(
            f"is no readable checkpoint ({str(error).splitlines()[0] if str(error) else 'empty'})"
        ) from error
    for key in ("model", "state_dict", "teacher"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(map(_is_named_tensor, loaded.items())):
        raise ValueError("holds something else than named tensors")
    return dict(loaded)


def _is_named_tensor(item: tuple[Any, Any]) -> bool:
    name, tensor = item
    dense = isinstance(tensor, Tensor) and tensor.layout == torch.strided and not tensor.is_meta
    return isinstance(name, str) and dense


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and values, in the order of the names; the first 16 digits."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _sha256_in_cache(file: Path) -> str | None:
    """The checksum that Hugging Face's cache names a large file by, None for any other file."""
    blob = file.resolve()
    return blob.name if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name) else None


def _in_package(place: str) -> Path | None:
    module, _, inside = place.partition("/")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / inside
    return file if file.is_file() else None
