"""Settings of one run: one validated model, filled from flags, a TOML file, or Flower's run config."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from fedrobust.errors import UserError, nearest
from fedrobust.plugins.specs import AttackChain, ThreatSpec, parse_threats

__all__ = ["EXECUTION_SETTINGS", "SYNONYMS", "Settings", "load_settings", "read_toml"]

#: Settings that say where and how a run is carried out, never what comes out of it.
EXECUTION_SETTINGS = frozenset(
    {"engine", "workers", "out", "data_root", "download", "client_timeout", "ray_address"}
)

#: What other tools call a setting.
SYNONYMS = {
    other: meant
    for meant, others in {
        "attack": "attacks poison poisoning adversary",
        "backbone": "model network net arch architecture",
        "batch-size": "batch batchsize bs",
        "client-timeout": "timeout",
        "clients": "hospitals nodes num-clients n-clients number-of-clients num-hospitals num-supernodes",
        "data": "dataset datasets source",
        "data-root": "data-dir data-folder data-path root",
        "device": "gpu cuda accelerator",
        "image-size": "resolution resize img-size",
        "local-epochs": "epochs epoch num-epochs",
        "lr": "learning-rate eta",
        "malicious": "attackers n-malicious num-malicious byzantine num-byzantine adversaries n-attackers poisoned",
        "noise-std": "noise sigma",
        "out": "output output-dir outdir out-dir run-dir",
        "partition": "noniid non-iid iid dirichlet alpha",
        "rounds": "num-rounds n-rounds num-server-rounds",
        "seed": "random-seed random-state",
        "strategy": "defence defense aggregator aggregation aggregation-rule rule server-strategy",
        "threat": "threats",
        "workers": "jobs n-jobs num-workers processes parallel threads cpus",
    }.items()
    for other in others.split()
}


class Settings(BaseModel):
    """Everything that decides what a run does; frozen, and an unknown key is an error.

    Keys are written with dashes on the command line and in Flower's run config, with dashes or underscores in a
    TOML file. Plug-ins (`attack`, `strategy`, `partition`, `data`, `backbone`) are given as ``name`` or
    ``name(option=value)``; in TOML also as a table ``{name = "...", option = value}``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    clients: int = Field(10, ge=1, description="hospitals in the federation")
    malicious: int = Field(0, ge=0, description="number of malicious hospitals; they carry out --attack")
    attack: str = Field("label-flip", description="what a malicious hospital does; join several with '+'")
    threat: tuple[str, ...] = Field(
        (), description="'ATTACK:NUMBER' of hospitals; repeatable; replaces --malicious and --attack"
    )
    strategy: str = Field("isolation-forest", description="how the server aggregates; join steps with '|'")
    false_flag_rate: float | None = Field(
        None, gt=0, le=0.5, description="false_flag_rate of the strategy, where it has this option"
    )
    rounds: int = Field(20, ge=1, description="maximum number of rounds")
    local_epochs: int = Field(2, ge=1, description="local epochs per round")
    batch_size: int = Field(32, ge=1, description="mini-batch size")
    lr: float = Field(1e-3, gt=0, description="Adam's learning rate in round 1")
    weight_decay: float = Field(1e-3, ge=0, description="Adam's L2 penalty")
    patience: int = Field(20, ge=1, description="stop after this many rounds without a lower validation loss")
    seed: int = Field(0, ge=0, description="random seed")
    data: str = Field("phantom", description="phantom (synthetic) or medmnist:NAME")
    data_root: str | None = Field(None, description="folder of the data files")
    download: bool = Field(False, description="download a missing MedMNIST file (the only network access)")
    split: Literal["pooled", "official"] = Field(
        "pooled", description="pool all images and split them 7:2:1, or keep the file's own split"
    )
    partition: str = Field("iid", description="iid, dirichlet(alpha=0.5) or site")
    image_size: int | None = Field(
        None, ge=8, le=512, description="image side in pixels; default: as in the data"
    )
    networks: Literal[1, 2] = Field(2, description="networks per hospital; 2 learn from each other")
    head: Literal["etf-rect", "etf", "linear"] = Field(
        "etf-rect",
        description="classifier: fixed ETF with Rect lengths, fixed ETF, or a trained linear layer",
    )
    backbone: str = Field("cnn", description="cnn, or the name of a torchvision classification network")
    dr_weight: float = Field(10.0, gt=0, description="weight of the dot-regression loss")
    mutual_weight: float = Field(1.0, ge=0, description="weight of the KL term of mutual learning")
    temperature: float = Field(1.0, gt=0, description="softmax temperature of the ETF logits")
    noise_std: float = Field(
        0.01, ge=0, description="standard deviation of the noise on the noisy test set; images are in [0, 1]"
    )
    engine: Literal["local", "flower"] = Field(
        "local", description="worker processes of this machine, or Flower's simulation runtime"
    )
    workers: int | Literal["auto"] = Field("auto", description="processes that train hospitals in parallel")
    client_timeout: float = Field(
        3600.0, gt=0, description="seconds before a hospital is dropped from the round"
    )
    ray_address: str | None = Field(
        None, description="host:port of a running Ray cluster that --engine flower joins, or 'auto'"
    )
    device: str = Field("cpu", description="cpu, or a CUDA device such as cuda:0")
    out: str = Field("runs", description="folder for the run folders")

    @model_validator(mode="before")
    @classmethod
    def _count_threats(cls, values: Any) -> Any:
        """Read the threats; their hospitals are the malicious ones."""
        given = values.get("threat") or ()
        threats = parse_threats(given)
        if not threats:
            return {**values, "threat": ()}
        total = sum(threat.count for threat in threats)
        attack = cls.model_fields["attack"].default
        # A settings file that was written by a run holds the total as well.
        if str(values.get("malicious") or total) != str(total) or values.get("attack", attack) != attack:
            raise ValueError("threat stands in place of malicious and attack; give one or the other")
        return {**values, "threat": tuple(threat.text for threat in threats), "malicious": total}

    @field_serializer("threat")
    def _one_text(self, threat: tuple[str, ...]) -> str:
        """Write the threats as one text, since Flower's run config holds no list."""
        return "; ".join(threat)

    @field_validator("attack", "strategy", "partition", "data", "backbone", mode="before")
    @classmethod
    def _table_to_call(cls, value: Any) -> Any:
        """Write a TOML table ``{name, option...}`` as ``name(option=value)``."""
        if not isinstance(value, Mapping):
            return value
        options = dict(value)
        name = options.pop("name", None)
        if name is None:
            raise ValueError("a table needs a 'name'")
        return (
            f"{name}({', '.join(f'{key}={option!r}' for key, option in options.items())})"
            if options
            else name
        )

    @field_validator("networks", mode="before")
    @classmethod
    def _number_of_networks(cls, value: Any) -> Any:
        """Read a number that a flag gives as text."""
        return int(value) if isinstance(value, str) and value.isdigit() else value

    @field_validator("workers")
    @classmethod
    def _some_worker(cls, value: int | str) -> int | str:
        """Refuse a pool of no workers."""
        if isinstance(value, int) and value < 1:
            raise ValueError("must be 'auto' or at least 1")
        return value

    @field_validator("ray_address")
    @classmethod
    def _no_blank_address(cls, value: str | None) -> str | None:
        """Take an empty address for none, so that a resumed run can do without."""
        return value or None

    @model_validator(mode="after")
    def _ray_is_for_flower(self) -> Settings:
        """Refuse a cluster for an engine that would not use it."""
        if self.ray_address is not None and self.engine != "flower":
            raise ValueError(
                f"ray-address {self.ray_address} is for the flower engine; add --engine flower or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _attackers_are_clients(self) -> Settings:
        """Refuse more attackers than hospitals."""
        if self.malicious > self.clients:
            raise ValueError(f"malicious = {self.malicious} is more than clients = {self.clients}")
        return self

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide the result, in a canonical order."""
        # Without threats, or a rate, a run is what it was before there were any, and so is its name.
        left_out = EXECUTION_SETTINGS if self.threat else EXECUTION_SETTINGS | {"threat"}
        if self.false_flag_rate is None:
            left_out |= {"false_flag_rate"}
        return {key: value for key, value in sorted(self.model_dump().items()) if key not in left_out}

    def threats(self) -> tuple[ThreatSpec, ...]:
        """Return each threat's attacks and number of hospitals; `malicious` and `attack` are the short form of one."""
        if self.threat or not self.malicious:
            return parse_threats(self.threat)
        return (ThreatSpec(AttackChain.parse(self.attack), self.malicious),)

    def digest(self) -> str:
        """Return 10 hex digits that name these settings; the engine and the folders do not enter."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:10]


def load_settings(
    flags: Mapping[str, Any] | None = None, file: Path | None = None, *, where: str = "the command line"
) -> Settings:
    """Build settings: flags override the file, the file overrides the defaults.

    Parameters
    ----------
    flags : mapping, optional
        Setting names (dashes or underscores) to values; ``None`` values count as not given.
    file : Path, optional
        A TOML file of settings, or a run folder, which holds one; a leading ``~`` is expanded.
    where : str
        What to call the flags in an error message.

    Returns
    -------
    Settings

    Raises
    ------
    UserError
        If the file cannot be read, a key is unknown, or a value does not fit.
    """
    file = None if file is None else _settings_file(file.expanduser())
    values = {} if file is None else read_toml(file)
    given = {_underscored(key): value for key, value in (flags or {}).items() if value is not None}
    for key in (*values, *given):
        if key not in Settings.model_fields:
            place = str(file) if key in values else where
            hint = nearest(
                key.replace("_", "-"), [name.replace("_", "-") for name in Settings.model_fields], SYNONYMS
            )
            raise UserError(f"{place}: there is no setting '{key.replace('_', '-')}'; {hint}")
    try:
        return Settings(**{**values, **given})
    except ValidationError as error:
        raise UserError(_sentence(error, where, file, values, given)) from None


def _settings_file(path: Path) -> Path:
    """Return the file that holds the settings, given it or a run folder."""
    if not path.is_dir():
        return path
    if not (path / "settings.toml").is_file():
        raise UserError(f"{path}: holds no settings.toml; give --config a TOML file or a run folder")
    return path / "settings.toml"


def read_toml(file: Path) -> dict[str, Any]:
    """Return the settings in a TOML file, keys with underscores; `UserError` if it cannot be read."""
    try:
        with file.open("rb") as stream:
            return {_underscored(key): value for key, value in tomllib.load(stream).items()}
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read ({error.strerror}); give --config an existing TOML file"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: is not valid TOML: {error}") from None


def _underscored(key: str) -> str:
    return key.replace("-", "_")


def _sentence(
    error: ValidationError, where: str, file: Path | None, values: Mapping[str, Any], given: Mapping[str, Any]
) -> str:
    """Turn pydantic's first complaint into one sentence that names the flag or the file."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    message = message[:1].lower() + message[1:]
    if not first["loc"]:
        return f"{where}: {message}"
    key = str(first["loc"][0])
    flag = "--" + key.replace("_", "-")
    place = flag if key in given or key not in values else f"{file}: {key.replace('_', '-')}"
    hint = ""
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        choices = [word.strip(" '") for word in first["ctx"]["expected"].replace(" or ", ",").split(",")]
        hint = f"; {nearest(first['input'], choices)}"
    return f"{place} {first['input']!r}: {message}{hint}"
