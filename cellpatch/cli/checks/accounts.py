"""The Hugging Face hub and W&B: reachable, and with a login? No token, nor a part of one, is ever in a finding."""

import netrc
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from omegaconf import OmegaConf

from cellpatch.cli.checks.finding import Finding
from cellpatch.config.conf import CONF

_TIMEOUT_S = 3
_MODES = ("online", "offline", "disabled", "shared")
_CREDENTIALS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")


def check_accounts(hub_answers: Callable[[], bool] | None) -> Iterator[Finding]:
    """Hub and W&B; `hub_answers` is None where the network is not to be used."""
    from huggingface_hub import constants, get_token

    yield check_hub(constants.ENDPOINT, get_token() is not None, hub_answers)
    yield check_wandb(os.environ, Path.home())


def ask_hub(use_network: bool) -> Callable[[], bool] | None:
    """Ask the hub while other checks work, as `ask`; None if nothing is asked, as with HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    return ask(constants.ENDPOINT) if use_network and not constants.HF_HUB_OFFLINE else None


def check_hub(endpoint: str, has_token: bool, answers: Callable[[], bool] | None) -> Finding:
    """Whether the hub answers (not asked if `answers` is None), and whether there is a token for gated models."""
    token = "with a token" if has_token else "without a token"
    login = "" if has_token else "gated models (UNI, Virchow2) need `hf auth login`"
    host = urlsplit(endpoint).hostname
    if answers is None:
        return Finding("hub", "note", f"not asked (offline), {token}", login)
    if answers():
        return Finding("hub", "ok" if has_token else "note", f"{host} answers, {token}", login)
    offline = "trainings without pretrained weights, or with local ones, need no network"
    return Finding("hub", "note", f"{host} does not answer within {_TIMEOUT_S} s, {token}", offline)


def ask(url: str) -> Callable[[], bool]:
    """Ask a server; the function that is returned waits, and gives whether it answered in time, with any status."""
    reached = threading.Event()

    def request() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_TIMEOUT_S):  # noqa: S310
                reached.set()
        except urllib.error.HTTPError:
            reached.set()
        except (OSError, ValueError):  # no connection, no name, or a proxy's address that is none
            return

    thread = threading.Thread(target=request, daemon=True)  # looking up a name knows no timeout
    until = time.monotonic() + _TIMEOUT_S
    thread.start()

    def answered() -> bool:
        thread.join(max(0.0, until - time.monotonic()))
        return reached.is_set()

    return answered


def check_wandb(environment: Mapping[str, str], home: Path) -> Finding:
    """The configured mode, and whether there is a login; nothing is asked from W&B."""
    configured = "offline" if OmegaConf.load(CONF / "logger" / "wandb.yaml").wandb.offline else "online"
    given = environment.get("WANDB_MODE", "").lower()
    mode = f"{given} by WANDB_MODE" if given in _MODES else f"{configured} by default (logger.wandb.offline)"
    host = urlsplit(environment.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    variables = [name for name in _CREDENTIALS if environment.get(name)]
    try:
        has_login = bool(variables) or _in_netrc(environment, home, host)
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return Finding("W&B", "note", f"{mode}; the file .netrc cannot be read", "correct it, or run wandb login")
    if has_login:
        return Finding("W&B", "ok", f"{mode}; logged in ({variables[0] if variables else '.netrc'})")
    needs_login = given == "online" or (not given and configured == "online")
    advice = "wandb login" if needs_login else "to upload runs: wandb login, then wandb sync"
    return Finding("W&B", "note" if needs_login else "ok", f"{mode}; no login", advice)


def _in_netrc(environment: Mapping[str, str], home: Path, host: str) -> bool:
    """Whether W&B's login is in the file where `wandb login` writes it."""
    named = environment.get("NETRC")
    files = [Path(named)] if named else [home / ".netrc", home / "_netrc"]
    existing = [file for file in files if file.is_file()]
    return bool(existing) and netrc.netrc(str(existing[0])).authenticators(host) is not None
