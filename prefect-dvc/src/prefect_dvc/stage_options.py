"""The settings of a stage in dvc.yaml: `meta.prefect`."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prefect_dvc.errors import ProjectError


class StageOptions(BaseModel):
    """`meta.prefect` of a stage in dvc.yaml.

    Attributes:
        retries: how often to run the stage again if its command asks for it (exit
            status 75, EX_TEMPFAIL); any other failure is final.
        retry_delay_seconds: pause before each retry.
        timeout_seconds: time limit for each of the stage's commands.
        tags: tags of the task run, in addition to the flow run's.
        cores: how many of the run's cores the stage takes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    retries: int = Field(0, ge=0)
    retry_delay_seconds: list[float] = []
    timeout_seconds: float | None = Field(None, gt=0)
    tags: list[str] = []
    cores: int = Field(1, ge=1)

    @classmethod
    def of(cls, name: str, meta: dict[str, Any]) -> "StageOptions":
        """Read the options of stage `name` from its `meta`.

        Raises:
            ProjectError: an option is unknown or invalid.
        """
        try:
            return cls.model_validate(meta.get("prefect", {}))
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
                for fault in error.errors()
            )
            raise ProjectError(
                f"meta.prefect of stage {name!r} in dvc.yaml is invalid: {faults}."
            ) from None
