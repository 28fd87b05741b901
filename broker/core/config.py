"""Settings: command line, then environment ``TOCSIN_SECTION__KEY``, then the TOML file, then these defaults.

Only the command line and the client (for its credentials) read settings; everything else takes plain arguments.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from broker.core.errors import TocsinError
from broker.core.taxonomy import BY_ID, CLASSES, COMMON

_FROM_ENVIRONMENT = tuple(
    f"KAFKA_{group}_" for group in ("BOOTSTRAP", "SECURITY", "SASL", "SSL", "CLIENT", "SOCKET", "FETCH", "SESSION")
)
_SECRET = re.compile(r"password|secret|token|jaas|key|oauth", re.IGNORECASE)
_MASK = "**********"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Kafka(_Section):
    """Where Kafka is and how to reach it."""

    brokers: str = Field("localhost:9092", description="Bootstrap servers, host:port, comma-separated.")
    username: str | None = Field(None, description="SASL user name.")
    password: SecretStr | None = Field(None, description="SASL password; better as TOCSIN_KAFKA__PASSWORD.")
    mechanism: str = Field("SCRAM-SHA-512", description="SASL mechanism, used when a user name is set.")
    protocol: str | None = Field(None, description="security.protocol; SASL_PLAINTEXT when a user name is set.")
    client: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="librdkafka keys, passed through untouched."
    )

    def librdkafka(self, environ: dict[str, str] | None = None) -> dict[str, Any]:
        """Return librdkafka settings: ``KAFKA_*`` variables by Confluent's rule, then ours, then ``client``.

        Of the variables only those of `_FROM_ENVIRONMENT` count: the server's own (``KAFKA_OPTS``) are not ours.
        """
        found = {
            name[6:].lower().replace("_", "."): value
            for name, value in (os.environ if environ is None else environ).items()
            if name.startswith(_FROM_ENVIRONMENT)
        }
        if "brokers" in self.model_fields_set or "bootstrap.servers" not in found:
            found["bootstrap.servers"] = self.brokers
        if self.username is not None:
            found["sasl.username"] = self.username
            found["sasl.mechanism"] = self.mechanism
            found["security.protocol"] = self.protocol or "SASL_PLAINTEXT"
        elif self.protocol is not None:
            found["security.protocol"] = self.protocol
        if self.password is not None:
            found["sasl.password"] = self.password.get_secret_value()
        return {**found, **self.client}


class Source(_Section):
    """What the service reads."""

    topics: list[str] = Field(
        default_factory=list,
        description="Topic names; '{date}' in a name is expanded to the nights of the window (UTC, YYYYMMDD).",
    )
    group: str = Field("tocsin", description="Consumer group.")
    nights: int = Field(2, ge=1, le=30, description="How many nights a '{date}' topic is kept, tonight included.")


class Output(_Section):
    """What the service publishes."""

    prefix: str = Field("tocsin", description="First part of every topic that we write.")
    raw: bool = Field(False, description="Also pass the survey's packets on, untouched.")
    class_threshold: float = Field(0.5, ge=0, le=1, description="Probability above which a class topic gets a copy.")
    anomaly_percentile: float = Field(0.99, ge=0, le=1, description="Rank above which the anomaly topic gets a copy.")


class Registry(_Section):
    """Schema registries: the survey's, to read; ours, to write."""

    survey_url: str | None = Field(None, description="The survey's registry, Confluent API.")
    output_url: str | None = Field(
        None, description="Where our schemas are registered, and those of products that others send, Confluent API."
    )
    username: str | None = Field(None, description="Basic-auth user name.")
    password: SecretStr | None = Field(None, description="Basic-auth password.")


class Batch(_Section):
    """Bounds of a micro-batch; the first that is reached closes it."""

    max_alerts: int = Field(512, ge=1, le=65536, description="Alerts.")
    max_bytes: int = Field(128_000_000, ge=1_000_000, description="Bytes of packets.")
    max_wait_ms: int = Field(500, ge=1, description="Milliseconds since the first packet.")


class DeadLetters(_Section):
    """Limits that stop the service: a bad deploy must not dead-letter a night."""

    max_ratio: float = Field(0.1, gt=0, le=1, description="Dead letters per packet, over the last window packets.")
    window: int = Field(10_000, ge=10, description="Packets over which the ratio is taken.")
    max_run: int = Field(500, ge=1, description="Dead letters in a row.")


class Cuts(_Section):
    """Thresholds of the operator and of the science."""

    drop_non_public: bool = Field(True, description="Filter ZTF packets whose programid is not 1.")
    drop_test: bool = Field(True, description="Filter packets that the survey marks as tests.")
    drop_repeated: bool = Field(False, description="Filter alert ids that were seen before; off: they get a flag.")
    min_real_bogus: dict[str, float] = Field(
        default_factory=dict, validate_default=True, description="Below it an alert is unscored as bogus (0.3)."
    )

    @field_validator("min_real_bogus")
    @classmethod
    def _with_defaults(cls, value: dict[str, float]) -> dict[str, float]:
        """Keep the defaults of surveys that are not named."""
        return {"ztf": 0.3, "lsst": 0.3, **value}

    min_detections_classify: int = Field(1, ge=1, description="Detections that the classifiers need.")
    min_detections_anomaly: int = Field(2, ge=1, description="Detections that the anomaly score needs.")


class Score(_Section):
    """Which models run."""

    classifiers: dict[str, list[str]] = Field(
        default_factory=dict, validate_default=True, description="Names of cards, by survey; several are averaged."
    )
    anomaly: dict[str, str] = Field(
        default_factory=dict, validate_default=True, description="Name of a card, by survey; '' for none."
    )
    shadow: list[str] = Field(
        default_factory=list, description="Candidates on trial: names or folders of models, published apart."
    )
    gp_solver: Literal["fast", "fast64", "dense", "torch", "george"] = Field(
        "fast", description="Gaussian-process solver; torch is exact, and runs on a GPU if there is one."
    )
    gp_threads: int = Field(
        2, ge=1, le=256, description="Threads of the Gaussian process, most of a Rubin alert's time."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the networks run.")
    threads: int = Field(1, ge=1, le=256, description="Threads of torch.")

    @field_validator("classifiers")
    @classmethod
    def _default_classifiers(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        """Keep the defaults of surveys that are not named."""
        return {"ztf": ["ztf-gru", "ztf-transformer"], "lsst": ["lsst-gru", "lsst-transformer"], **value}

    @field_validator("anomaly")
    @classmethod
    def _default_anomaly(cls, value: dict[str, str]) -> dict[str, str]:
        """Keep the defaults of surveys that are not named."""
        return {"ztf": "ztf-anomaly", "lsst": "lsst-anomaly", **value}


class Survey(_Section):
    """What sidecars are sent; nothing until feed names it."""

    feed: list[Literal["catalog", "cutout"]] = Field(
        default_factory=list, description="Products of classified alerts: host columns, stamps; both, one or none."
    )
    classes: list[str] = Field(
        default_factory=lambda: [BY_ID[number].slug for number in sorted(COMMON)],
        description="Classes whose alerts are sent, by their topics' last part.",
    )
    threshold: float = Field(0.5, ge=0, le=1, description="What those classes must have together, as a probability.")
    prefix: str = Field("survey", description="First part of the topics of products and results.")

    @field_validator("classes")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        """Refuse a class that nobody gives."""
        if unknown := set(value) - {one.slug for one in CLASSES}:
            raise ValueError(f"no such class: {', '.join(sorted(unknown))}")
        return value


class Sidecar(_Section):
    """What `tocsin sidecar` may do."""

    uri_prefixes: list[str] = Field(
        default_factory=list,
        description="What addresses of arrays that lie outside their product must begin with; none: none is read.",
    )
    uri_tries: int = Field(
        20, ge=1, description="Tries of an address whose store does not answer; then its product is a dead letter."
    )
    weights: Path | None = Field(None, description="Folder of the rows' weights; default: those that are installed.")
    threads: int = Field(2, ge=1, le=256, description="Threads that answer; each takes its share of a batch.")


class Serve(_Section):
    """The HTTP page of health and metrics."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port; 0 takes a free one.")
    stalled_after_s: float = Field(
        300.0, gt=0, description="/readyz fails when packets wait and nothing was committed for so long, seconds."
    )


class Run(_Section):
    """The process itself."""

    member: str | None = Field(None, description="Stable name of this member; default: host name and a free slot.")
    drain_s: float = Field(30.0, gt=0, description="Deadline for a clean stop after SIGTERM, seconds.")
    cache_dir: Path = Field(
        default_factory=lambda: Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tocsin",
        description="Schemas, compiled programs, the development Kafka.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Level of the JSON log.")


class Settings(BaseSettings):
    """All settings of Tocsin; unknown keys are errors."""

    model_config = SettingsConfigDict(env_prefix="TOCSIN_", env_nested_delimiter="__", frozen=True, extra="forbid")

    kafka: Kafka = Kafka()
    source: Source = Source()
    output: Output = Output()
    registry: Registry = Registry()
    batch: Batch = Batch()
    dlq: DeadLetters = DeadLetters()
    cuts: Cuts = Cuts()
    score: Score = Score()
    survey: Survey = Survey()
    sidecar: Sidecar = Sidecar()
    serve: Serve = Serve()
    run: Run = Run()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the environment above the file, whose values come as init arguments."""
        return env_settings, init_settings


def load(path: Path | None = None, overrides: dict[str, Any] | None = None) -> Settings:
    """Return the settings of a TOML file (None: defaults and environment), with ``overrides`` on top.

    Parameters
    ----------
    overrides : dict
        ``{"section.key": value}`` from the command line; None values are ignored.

    Raises
    ------
    TocsinError
        The file cannot be read, or a key or value is wrong; the text names it.
    """
    try:
        values = tomllib.loads(path.read_text()) if path else {}
        settings = Settings(**values)
        chosen = {key: value for key, value in (overrides or {}).items() if value is not None}
        return _with(settings, chosen) if chosen else settings
    except OSError as error:
        raise TocsinError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TocsinError(f"the configuration {path} is not TOML: {error}") from error
    except SettingsError as error:
        raise TocsinError(f"a TOCSIN_ variable cannot be read: {error}") from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise TocsinError(f"the configuration {path or '(environment)'} is wrong: " + "; ".join(lines)) from error


def masked(settings: Settings) -> dict[str, Any]:
    """Return the settings as JSON knows them, without secrets: not in librdkafka's keys and not in addresses either."""
    shown: dict[str, Any] = json.loads(settings.model_dump_json())
    client = shown["kafka"]["client"]
    shown["kafka"]["client"] = {key: _MASK if _SECRET.search(key) else value for key, value in client.items()}
    for name in ("survey_url", "output_url"):
        url = shown["registry"][name]
        shown["registry"][name] = url and re.sub(r"//.*@", f"//{_MASK}@", url)
    return shown


def _with(settings: Settings, overrides: dict[str, Any]) -> Settings:
    sections: dict[str, dict[str, Any]] = {}
    for key, value in overrides.items():
        section, name = key.split(".", 1)
        sections.setdefault(section, {})[name] = value
    changed = {}
    for section, values in sections.items():
        old = getattr(settings, section)
        changed[section] = type(old).model_validate({**old.model_dump(exclude_unset=True), **values})
    return settings.model_copy(update=changed)
