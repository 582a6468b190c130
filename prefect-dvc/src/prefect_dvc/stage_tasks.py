"""Run DVC's stages as Prefect tasks: a task each, unchanged by DVC's own rules.

`Stages` is what a plan runs on: it submits each stage as a task of that
name, whose description and settings stand in dvc.yaml (`desc` and `meta.prefect`).
An unchanged stage ends in the state Cached; a failed one leaves its siblings alone.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import IO, Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prefect_dvc.dvc_repo import Entry, Ledger, LedgerError, Plan
from prefect_dvc.file_lock import try_lock
from prefect_dvc.plan import of_template
from prefect_dvc.processes import (
    Children,
    CommandFailed,
    Stopped,
    TimedOut,
    available_cores,
    environment,
)
from prefect_dvc.progress import Listener
from tasks.runtime.cli import told

LOCK_POLL_SECONDS = 0.2


class Options(BaseModel):
    """`meta.prefect` of a stage in dvc.yaml.

    Attributes:
        retries: how often to try again when the stage says that a second try may pass
            (exit status 75); any other failure is final.
        retry_delay_seconds: pause before each retry.
        timeout_seconds: how long one of the stage's commands may run.
        tags: of the task run, besides the flow run's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    retries: int = Field(0, ge=0)
    retry_delay_seconds: list[float] = []
    timeout_seconds: float | None = Field(None, gt=0)
    tags: list[str] = []


class Stages:
    """The stages of one checkout during one flow run.

    Attributes:
        children: the processes of the run.
    """

    def __init__(
        self,
        ledger: Ledger,
        children: Children,
        chosen: Mapping[str, Plan],
        *,
        force: bool,
    ) -> None:
        self._ledger = ledger
        self.children = children
        self._chosen = chosen
        self._options = {name: _options(name, plan) for name, plan in chosen.items()}
        self._force = force
        self._futures: list[PrefectFuture[Any]] = []
        self._besides: list[PrefectFuture[Any]] = []

    def step(
        self, name: str, *after: PrefectFuture[Any] | None
    ) -> PrefectFuture[Any] | None:
        """Submit stage `name` as a task; None if the flow was not asked for it."""
        if name not in self._chosen:
            return None
        options = self._options[name]
        task: Task[[str, float | None], State[Any]] = Task(
            self._run,
            name=name.partition("@")[0],
            task_run_name=name,
            description=self._chosen[name].description,
            tags=options.tags,
            retries=options.retries,
            retry_delay_seconds=options.retry_delay_seconds or None,
            retry_condition_fn=_may_pass_next_time,
            # DVC alone decides what is unchanged; Prefect's cache takes an output that
            # was deleted or corrupted for one that is there.
            cache_policy=NO_CACHE,
            persist_result=False,
        )
        future: PrefectFuture[Any] = task.submit(
            name,
            options.timeout_seconds,
            wait_for=[step for step in after if step],
            return_state=False,
        )
        self._futures.append(future)
        return future

    def each(
        self, name: str, *after: PrefectFuture[Any] | None
    ) -> list[PrefectFuture[Any] | None]:
        """Submit every stage that dvc.yaml makes of the template `name`."""
        return [self.step(stage, *after) for stage in of_template(name, self._chosen)]

    def beside(
        self,
        name: str,
        description: str,
        body: Callable[[Children], State[Any]],
        retry_delay_seconds: Sequence[float] = (),
    ) -> State[Any]:
        """Run a task that is no stage, after all that were submitted; wait for it.

        It is tried again, after each of these delays, while it ends Unavailable.
        """
        task: Task[[], State[Any]] = Task(
            lambda: body(self.children),
            name=name,
            task_run_name=name,
            description=description,
            retries=len(retry_delay_seconds),
            retry_delay_seconds=list(retry_delay_seconds) or None,
            retry_condition_fn=_may_pass_next_time,
            cache_policy=NO_CACHE,
            persist_result=False,
        )
        future: PrefectFuture[Any] = task.submit(
            wait_for=self._futures[-1:], return_state=False
        )
        self._besides.append(future)
        future.wait()
        return future.state

    def chose(self, name: str) -> bool:
        """Return whether the flow was asked for stage `name`."""
        return name in self._chosen

    def finish(self) -> list[State[Any]]:
        """Wait for all tasks; return the stages' states, which decide the flow's."""
        for future in (*self._futures, *self._besides):
            future.wait()
        return [future.state for future in self._futures]

    def _run(self, name: str, timeout: float | None) -> State[Any]:
        """Be the body of a stage's task."""
        try:
            self.children.pause(0)
            with self._ledger.entry(name, force=self._force) as entry:
                if entry.unchanged:
                    return Completed(
                        name="Cached", message=f"{name}: {entry.unchanged}"
                    )
                return self._execute(name, entry, timeout)
        except CommandFailed as failure:
            return _failed(failure)
        except TimedOut as failure:
            return Failed(name="TimedOut", message=f"{name} {failure}.")
        except Stopped:
            return Failed(name="Stopped", message=f"{name} was stopped with the flow.")
        except (LedgerError, OSError) as error:
            return Failed(
                message=told(error) if isinstance(error, OSError) else str(error)
            )

    def _execute(self, name: str, entry: Entry, timeout: float | None) -> State[Any]:
        logger = get_run_logger()
        listener = Listener(name, logger.info)
        process = entry.process | {"env": environment(entry.process["env"])}
        with self.children.core():
            started = time.monotonic()
            for command in entry.commands:
                # The words of dvc.yaml, which a shell is given last.
                logger.info("Running %s", command[-1])
                self.children.run(command, process, listener, timeout)
            entry.record()
        seconds = time.monotonic() - started
        return Completed(message=f"{name} ran in {seconds:.1f} s")


@contextmanager
def opened(
    root: Path, targets: list[str], *, force: bool, wait: bool
) -> Iterator[tuple[Stages, Mapping[str, Plan]]]:
    """Yield the stages of the checkout at `root`, and what DVC says of all of them.

    One flow at a time works in a checkout: with `wait` a second one waits for the
    first, and then finds everything Cached.

    Raises:
        LedgerError: DVC refuses the checkout or a target, or (without `wait`) another
            flow is running in it.
    """
    root = root.resolve()
    with chdir(root), Children(available_cores()) as children:
        say = get_run_logger().info
        ledger = Ledger(root, wait=wait, say=say, pause=children.pause)
        with one_flow(root, wait=wait, pause=children.pause):
            everything = ledger.plan()
            chosen = ledger.plan(targets) if targets else everything
            stages = Stages(ledger, children, chosen, force=force)
            try:
                yield stages, everything
            finally:
                # Nobody of ours writes any more when the next flow gets the lock.
                children.stop()
                stages.finish()


@contextmanager
def one_flow(
    root: Path, *, wait: bool, pause: Callable[[float], object]
) -> Iterator[None]:
    """Hold the kernel's lock on the checkout: it can't outlive its holder."""
    with _lock_file(root) as lock:
        said = False
        while not try_lock(lock):
            if not wait:
                raise LedgerError(
                    f"Another flow is running in {root.name}; wait for it, or run "
                    "without --no-wait."
                )
            if not said:
                get_run_logger().info("Another flow is running here; waiting for it.")
                said = True
            pause(LOCK_POLL_SECONDS)
        yield


def working(root: Path) -> bool:
    """Return whether a flow works in the checkout at `root`."""
    with _lock_file(root) as lock:
        return not try_lock(lock)


def _lock_file(root: Path) -> IO[str]:
    path = root / ".dvc" / "tmp" / "flow.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a+", encoding="utf-8")


def _options(name: str, plan: Plan) -> Options:
    try:
        return Options.model_validate(plan.meta.get("prefect", {}))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in error.errors()
        )
        raise LedgerError(
            f"meta.prefect of stage {name!r} in dvc.yaml can't be used: {faults}."
        ) from None


def _failed(failure: CommandFailed) -> State[Any]:
    """Return the state of a stage whose command failed."""
    return Failed(
        name="Unavailable" if failure.status == os.EX_TEMPFAIL else "Failed",
        message=failure.reason,
    )


def _may_pass_next_time(_task: object, _run: object, state: State[Any]) -> bool:
    return state.name == "Unavailable"
