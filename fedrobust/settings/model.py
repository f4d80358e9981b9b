"""The model of the settings."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from os import PathLike
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from fedrobust.errors import UserError
from fedrobust.plugins.specs import AttackChain, EvaluationSpecs, ThreatSpec, parse_threats
from fedrobust.settings.content import content_of
from fedrobust.settings.execution import EXECUTION_SETTINGS, Execution
from fedrobust.settings.kinds import CALLS, NAMED_IF_GIVEN, check_task
from fedrobust.settings.text import check_text
from fedrobust.settings.wording import Given, sentence

__all__ = ["Settings"]


class Settings(BaseModel):
    """Everything that decides what a run does; frozen, and an unknown key is an error.

    Keys are written with dashes on the command line and in Flower's run config, with dashes or underscores in
    a TOML file. Plug-ins (`attack`, `strategy`, `partition`, `data`, `backbone`) are given as ``name`` or
    ``name(option=value)``; in TOML also as a table ``{name = "...", option = value}``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    clients: int = Field(default=10, ge=1, le=100_000, description="hospitals in the federation")
    malicious: int = Field(
        default=0, ge=0, description="number of malicious hospitals; they carry out --attack"
    )
    attack: str = Field(
        default="label-flip", description="what a malicious hospital does; join several with '+'"
    )
    threat: tuple[str, ...] = Field(
        default=(), description="'ATTACK:NUMBER' of hospitals; repeatable; replaces --malicious and --attack"
    )
    strategy: str = Field(
        default="isolation-forest", description="how the server aggregates; join steps with '|'"
    )
    false_flag_rate: float | None = Field(
        default=None, gt=0, le=0.5, description="false_flag_rate of the strategy, where it has this option"
    )
    participation: float = Field(
        default=1.0, gt=0, le=1, description="share of the hospitals that each round asks"
    )
    per_round: int | None = Field(
        default=None, ge=1, le=100_000, description="their number, in place of participation"
    )
    sampling: Literal["uniform", "size", "cyclic"] = Field(
        default="uniform",
        description="how they are drawn: equally likely, by their images, or in turn",
    )
    availability: str = Field(
        default="always",
        description="always, or what keeps hospitals from taking part: dropout(rate=0.1), "
        "late(share=0.2, round=5), leaving(share=0.2, round=10), stragglers(deadline=2, spread=0.5); join "
        "several with '+'",
    )
    rounds: int = Field(default=20, ge=1, le=100_000, description="maximum number of rounds")
    patience: int = Field(
        default=20,
        ge=1,
        le=100_000,
        description="stop after this many rounds without a lower validation loss",
    )
    local_epochs: int = Field(default=2, ge=1, le=100_000, description="local epochs per round")
    batch_size: int = Field(default=32, ge=1, le=1_000_000, description="mini-batch size")
    lr: float = Field(default=1e-3, gt=0, le=10, description="the hospitals' learning rate in round 1")
    weight_decay: float = Field(default=1e-3, ge=0, le=10, description="the optimiser's L2 penalty")
    optimizer: str = Field(default="adam", description="the hospitals' optimiser: adam or sgd(momentum=0.9)")
    proximal: float = Field(
        default=0.0, ge=0, le=1e6, description="weight of FedProx's pull towards the received model"
    )
    training_rule: str = Field(
        default="plain", description="plain, or one that remembers: worker-momentum(beta=0.9) or scaffold"
    )
    server_optimizer: Literal["sgd", "adam"] = Field(
        default="sgd", description="how the server moves towards what the defence returns"
    )
    server_lr: float | None = Field(
        default=None, gt=0, le=100, description="the server's learning rate; default: 1, and 0.01 for adam"
    )
    server_momentum: float | None = Field(
        default=None, ge=0, lt=1, description="the server's momentum; default: 0, and 0.9 for adam"
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="random seed")
    data: str = Field(
        default="phantom",
        description="phantom (synthetic), medmnist:NAME, folder:PATH or manifest:FILE",
    )
    data_root: str | None = Field(default=None, description="folder of the data files")
    download: bool = Field(
        default=False, description="download a missing MedMNIST file (the only network access)"
    )
    skip_bad: bool = Field(
        default=False, description="leave out records of files that cannot be used, instead of stopping"
    )
    site_tests: bool = Field(
        default=False,
        description="each hospital keeps a fifth of its images, on which the models of all are tested",
    )
    split: Literal["pooled", "official"] = Field(
        default="pooled", description="pool all images and split them 7:2:1, or keep the file's own split"
    )
    imbalance: float = Field(
        default=1.0,
        ge=1,
        le=1e6,
        description="a long tail of classes: training images of the commonest for each of the rarest",
    )
    partition: str = Field(
        default="iid", description="iid, dirichlet(alpha=0.5), site, sizes(shares=[...]), ..."
    )
    image_size: int | None = Field(
        default=None, ge=8, le=512, description="image side in pixels; default: as in the data"
    )
    sanitize: str = Field(
        default="none",
        description="what hospitals leave out before training: 'audit', or auditors joined with '+'",
    )
    task: str = Field(
        default="classification", description="what hospitals train: classification, or synthesis by a GAN"
    )
    networks: Literal[1, 2] = Field(default=2, description="networks per hospital; 2 learn from each other")
    head: Literal["etf-rect", "etf", "linear-rect", "linear"] = Field(
        default="etf-rect",
        description="classifier: a fixed ETF or a trained linear layer, each with or without Rect",
    )
    loss: Literal["cross-entropy", "dot-regression"] = Field(
        default="cross-entropy", description="loss of an ETF; a linear layer always has cross-entropy"
    )
    backbone: str = Field(
        default="cnn", description="cnn, or the name of a torchvision classification network"
    )
    attention: Literal["none", "se", "cbam"] = Field(
        default="none", description="attention blocks behind each stage of the backbone"
    )
    init: str | None = Field(
        default=None, description="safetensors file of initial weights: a run's model or a backbone's"
    )
    augment: Literal["none", "light"] = Field(
        default="none", description="small random changes of place, size and exposure of training images"
    )
    adversarial_training: str = Field(
        default="none",
        description="attack on the images that hospitals train on: pgd(eps=8, steps=7), fgsm or noise",
    )
    prune: str = Field(
        default="none", description="share of weights to prune, weights(ratio=, start=) or filters(...)"
    )
    dr_weight: float = Field(default=10.0, gt=0, le=1e6, description="weight of the dot-regression loss")
    mutual_weight: float | None = Field(
        default=None,
        ge=0,
        le=1e6,
        description="weight of the KL term of mutual learning; default: 0.3, and 1 for dot-regression",
    )
    temperature: float | None = Field(
        default=None,
        ge=1e-3,
        le=1e3,
        description="softmax temperature of an ETF's logits; default: 0.2, and 1 for dot-regression",
    )
    noise_std: float = Field(
        default=0.01,
        ge=0,
        le=10,
        description="standard deviation of the noise on the noisy test set; images are in [0, 1]",
    )
    evaluate: str = Field(
        default="",
        description="evaluations of the last model, joined with ',', such as 'noise, pgd(eps=8)'",
    )
    evaluate_images: int = Field(
        default=256,
        ge=1,
        le=1_000_000,
        description="test images for --evaluate at most, class by class",
    )
    tte: int = Field(
        default=1, ge=1, le=10, description="test-time ensembling: views of each test image that are averaged"
    )
    engine: Literal["local", "flower"] = Field(
        default="local", description="worker processes of this machine, or Flower's simulation runtime"
    )
    workers: int | Literal["auto"] = Field(
        default="auto", description="processes that train hospitals in parallel"
    )
    client_timeout: float = Field(
        default=3600.0, gt=0, le=1e6, description="seconds before a hospital is dropped from the round"
    )
    ray_address: str | None = Field(
        default=None, description="host:port of a running Ray cluster that --engine flower joins, or 'auto'"
    )
    device: str = Field(default="cpu", description="cpu, or a CUDA device such as cuda:0")
    precision: Literal["float32", "bf16"] = Field(
        default="float32", description="numbers of a training step; bf16 is for a GPU"
    )
    out: str = Field(default="runs", description="folder for the run folders")

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

    @field_validator(*CALLS, mode="before")
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

    @field_validator("*", mode="before")
    @classmethod
    def _writable_text(cls, value: Any) -> Any:
        """Refuse a text that no settings file or path can hold."""
        check_text(value)
        return value

    @field_validator("evaluate", mode="before")
    @classmethod
    def _list_to_text(cls, value: Any) -> Any:
        """Write a list of evaluations as one text, and read it."""
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        return EvaluationSpecs.parse(text).text.strip() if isinstance(text, str) else text

    @field_validator("data_root", "out", "init", mode="before")
    @classmethod
    def _path_to_text(cls, value: Any) -> Any:
        """Take a path, and expand a leading ``~``."""
        return os.path.expanduser(value) if isinstance(value, str | PathLike) else value

    @field_validator("prune", mode="before")
    @classmethod
    def _share_to_text(cls, value: Any) -> Any:
        """Take a number for a share of the weights."""
        return f"{value:g}" if isinstance(value, float) else value

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
                f"ray-address {self.ray_address} is for the flower engine; add --engine flower or "
                f"leave it out"
            )
        return self

    @model_validator(mode="after")
    def _attackers_are_clients(self) -> Settings:
        """Refuse more attackers than hospitals."""
        if self.malicious > self.clients:
            raise ValueError(f"malicious = {self.malicious} is more than clients = {self.clients}")
        return self

    @model_validator(mode="after")
    def _some_take_part(self) -> Settings:
        """Refuse two numbers of hospitals for a round, or one that there are not."""
        if self.per_round is not None and self.participation != 1:
            raise ValueError("per-round stands in place of participation; give one or the other")
        if self.per_round is not None and self.per_round > self.clients:
            raise ValueError(f"per-round = {self.per_round} is more than clients = {self.clients}")
        return self

    @model_validator(mode="after")
    def _attack_has_attackers(self) -> Settings:
        """Refuse an attack without a word on how many hospitals carry it out."""
        given = self.model_fields_set
        if "attack" in given and "malicious" not in given:
            # Its own fault comes first, such as a number of hospitals in it.
            AttackChain.parse(self.attack)
            raise ValueError(
                f"attack '{self.attack}' is carried out by nobody; say by how many hospitals with "
                f"malicious, such as --malicious 2, or leave attack out"
            )
        return self

    @model_validator(mode="after")
    def _settings_fit_the_task(self) -> Settings:
        """Refuse settings that the task would not read."""
        fields = type(self).model_fields.items()
        check_task(self.task, [name for name, one in fields if getattr(self, name) != one.default])
        return self

    # The last one, so that it sees what all others raise.
    @model_validator(mode="wrap")
    @classmethod
    def _refused_in_one_sentence(
        cls, values: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        """Raise `UserError` where a value does not fit."""
        given = info.context if isinstance(info.context, Given) else Given()
        try:
            return handler(values)
        except UserError as error:
            raise UserError(f"{given.source()}: {error}") from None
        except ValidationError as error:
            raise UserError(sentence(error, cls.model_fields, given)) from None

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide the result, in a canonical order."""
        # Without threats or evaluations a run is what it was before there were any, and so is its name.
        fields = type(self).model_fields
        left_out = EXECUTION_SETTINGS if self.threat else EXECUTION_SETTINGS | {"threat"}
        left_out |= {name for name in NAMED_IF_GIVEN if getattr(self, name) == fields[name].default}
        if not self.evaluate:
            left_out |= {"evaluate_images"}
        values = {key: value for key, value in sorted(self.model_dump().items()) if key not in left_out}
        if self.init is not None:
            # Wherever the file stands, and not what stood there before.
            values["init"] = content_of(self.init)
        return values

    def threats(self) -> tuple[ThreatSpec, ...]:
        """Return the threats; `malicious` and `attack` are the short form of one."""
        if self.threat or not self.malicious:
            return parse_threats(self.threat)
        return (ThreatSpec(AttackChain.parse(self.attack), self.malicious),)

    def execution(self) -> Execution:
        """Return how the run is carried out."""
        return Execution(
            self.clients, self.engine, self.workers, self.client_timeout, self.ray_address, self.device
        )

    def digest(self) -> str:
        """Return 10 hex digits that name these settings; the engine and the folders do not enter."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:10]
