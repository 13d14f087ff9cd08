"""Published weights: where they come from, how to read them safely, and their fingerprint."""

import hashlib
import importlib.util
import json
import logging
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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


class _FailedDownloads:
    """Files that the hub did not deliver, each with the reason.

    A cache, because a failed request takes 20 s and every job of a grid makes the same one. It lives as long as the
    process; a file that is delivered is never in it.
    """

    def __init__(self) -> None:
        self._reasons: dict[tuple[str, str], str] = {}

    def raise_if_known(self, hub: str, hub_file: str) -> None:
        """Raise UnavailableError for a file that was not delivered before."""
        reason = self._reasons.get((hub, hub_file))
        if reason is not None:
            raise UnavailableError(reason)

    def add(self, hub: str, hub_file: str, reason: str) -> None:
        self._reasons[hub, hub_file] = reason

    def clear(self) -> None:
        self._reasons.clear()


failed_downloads = _FailedDownloads()


@dataclass(frozen=True)
class Weights:
    """Where the weights of a pretrained model are, and under which terms.

    Sources in order: `file` (safetensors, or a .pth or .bin that opens without running code), `package` (MODULE/FILE
    inside an installed Python package, whose distribution `install` names), and `hub_file` of `hub` (Hugging Face's
    cache, then the hub). `layout` names the convention of the tensors' names. The file's sha256 is checked if `sha256`
    gives it, or if the hub's cache does: it names large files by their checksum.
    """

    file: str | None
    package: str | None
    install: str | None
    hub: str | None
    hub_file: str | None
    layout: Literal[
        "timm", "ctranspath", "transformers_dinov2", "transformers_vit", "dinov2", "moco", "visual", "in_order"
    ]
    sha256: str | None
    licence: str
    terms: str

    def locate(self) -> Path:
        """The file on this machine, downloaded from the hub if necessary.

        Raises UnavailableError, a ValueError, that states how to get the file.
        """
        if self.file is not None:
            if not Path(self.file).is_file():
                raise UnavailableError(f"model.weights.file: there is no file {self.file}. {self._instructions()}")
            return Path(self.file)
        if self.package is not None:
            packaged = _in_package(self.package)
            if packaged is not None:
                return packaged
        if self.hub is not None and self.hub_file is not None:
            return self._from_hub(self.hub, self.hub_file)
        raise UnavailableError(f"the weights are not on this machine. {self._instructions()}")

    def find(self) -> Path | None:
        """The file on this machine, in the order of `locate`; None without one. Nothing is downloaded.

        Raises UnavailableError as `locate` if `file` is named and missing.
        """
        if self.file is not None:
            return self.locate()
        packaged = None if self.package is None else _in_package(self.package)
        if packaged is None and self.hub is not None and self.hub_file is not None:
            return _in_cache(self.hub, self.hub_file)
        return packaged

    def read(self, backbone: PretrainableBackbone) -> dict[str, Tensor]:
        """The tensors under the backbone's names, in float32; the backbone may lie on the meta device.

        Raises ValueError that names the file if it is missing, unreadable, altered, or contains code. Raises it too
        for values that are not finite, and for names and shapes that differ from the backbone's at its published side.
        """
        file = self.locate()
        expected = self.sha256 or _sha256_in_cache(file)
        if expected is not None and sha256_of(file) != expected.lower():
            problem = f"{file}: its sha256 is not {expected}: another model's, truncated or altered"
            raise ValueError(f"{problem}. {self._instructions()}")
        try:
            tensors = STATE_DICT_CONVERTERS[self.layout](read_tensors(file), list(backbone.net.state_dict()))
            tensors = {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
            backbone.check_published(tensors)
            broken = [name for name, t in tensors.items() if t.is_floating_point() and not t.isfinite().all()]
            if broken:
                raise ValueError(f"has values that are not finite in {broken[:5]}")
        except ValueError as error:
            raise ValueError(f"{file}: {error}. {self._instructions()}") from error
        return tensors

    def load(self, backbone: PretrainableBackbone) -> str:
        """Load all tensors into the backbone and return their fingerprint; raises ValueError as `read`."""
        tensors = self.read(backbone)
        backbone.load_published(tensors)
        return fingerprint(tensors)

    def _from_hub(self, hub: str, hub_file: str) -> Path:
        """From Hugging Face's cache or the hub; asks for a missing file once per process."""
        failed_downloads.raise_if_known(hub, hub_file)
        try:
            return self._download(hub, hub_file)
        except UnavailableError as error:
            failed_downloads.add(hub, hub_file, str(error))
            raise

    def _download(self, hub: str, hub_file: str) -> Path:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.constants import HF_HUB_CACHE
        from huggingface_hub.errors import GatedRepoError, HTTPError, LocalEntryNotFoundError  # type: ignore[attr-defined]

        try:
            return Path(hf_hub_download(hub, hub_file, local_files_only=True))
        except LocalEntryNotFoundError:
            pass
        try:
            with _without_retries_in_log():
                return Path(hf_hub_download(hub, hub_file))
        except GatedRepoError as error:
            message = f"{hub} is gated: not logged in, or without access. {self._instructions()}"
            raise UnavailableError(message) from error
        except (HTTPError, OSError) as error:  # a broken connection, a wrong token, a cache that is not writable
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UnavailableError(
                f"{hub} is not in the hub's cache, {HF_HUB_CACHE}, and cannot be fetched ({reason}). "
                f"{self._instructions()}"
            ) from error

    def _instructions(self) -> str:
        ways = []
        if self.install is not None:
            ways.append(f"pip install {self.install}")
        if self.hub is not None:
            ways.append(f"get {self.hub_file} of {self.hub} from the Hugging Face hub and set model.weights.file=FILE")
        if not ways:
            ways.append("set model.weights.file=FILE")
        return f"To get them: {', or '.join(ways)} ({self.terms}). Licence: {self.licence}"


@contextmanager
def _without_retries_in_log() -> Iterator[None]:
    """Hide the hub's warnings of each attempt, a dozen lines without a connection: our error says the same once."""
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)
    try:
        yield
    finally:
        hub.setLevel(level)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Named tensors of a safetensors file or a torch checkpoint; runs no code from the file.

    Unwraps a checkpoint that keeps them one level down, under `model`, `state_dict` or `teacher`. Raises ValueError
    if the file does not open, is truncated, is not a checkpoint, or is a pickle with code.
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
    if file.suffix.lower() == ".safetensors" or start[8:10] == b'{"':  # whatever its name
        try:
            return load_file(file)
        except SafetensorError as error:
            raise ValueError(f"is not a readable safetensors file ({error})") from error
    try:
        loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError("holds more than tensors (a pickle can run code) or is not a checkpoint: refused") from error
    except CHECKPOINT_READ_ERRORS as error:
        raise ValueError(
            f"is not a readable checkpoint ({str(error).splitlines()[0] if str(error) else 'empty'})"
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
    """The first 16 digits of a sha256 over names, types, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _sha256_in_cache(file: Path) -> str | None:
    """The checksum in the name of a large file in Hugging Face's cache; None for any other file."""
    blob = file.resolve()
    return blob.name if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name) else None


def _in_cache(hub: str, hub_file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(hub, hub_file)
    return Path(cached) if isinstance(cached, str) else None  # else never asked for, or known to be absent


def _in_package(resource: str) -> Path | None:
    module, _, inside = resource.partition("/")
    spec = None if "." in module else importlib.util.find_spec(module)  # looking for a.b would import a
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / inside
    return file if file.is_file() else None
