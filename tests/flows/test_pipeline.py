"""The whole pipeline on the small data set, by both engines."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from checkouts import clone, end, flow, git, locked, run
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings
from samples import TRAIN, VALID

from flows import pipeline
from prefect_dvc import ProjectError


def test_both_engines_make_the_same_bytes_and_take_each_others(small, prefect_server):
    by_flow, by_dvc = clone(small, "flow"), clone(small, "dvc")

    said = flow(by_flow, prefect_server)
    assert said.count("Finished in state Completed") == 12, "eleven stages and the flow"
    assert said.count("Finished in state Promoted") == 1
    run(by_dvc, prefect_server, "dvc", "repro")
    assert locked(by_flow) == locked(by_dvc)

    assert run(by_flow, prefect_server, "dvc", "status") == (
        "Data and pipelines are up to date.\n"
    )
    said = run(by_flow, prefect_server, "dvc", "repro")
    assert "Running stage" not in said
    said = flow(by_dvc, prefect_server)
    # The champion is state, which the other engine does not make.
    assert said.count("Finished in state Cached") == 11
    assert said.count("Finished in state Promoted") == 1
    said = flow(by_dvc, prefect_server)
    assert said.count("Finished in state Cached") == 12

    # Somebody else gets it all, where there is a remote, and runs nothing.
    store = str(by_dvc.parent / "store")
    run(by_dvc, prefect_server, "dvc", "remote", "add", "--default", "store", store)
    assert "push to 'store': " in flow(by_dvc, prefect_server, "--push", "always")
    git(by_dvc, "add", "-A")
    git(by_dvc, "commit", "-qm", "made")
    pulled = clone(by_dvc, "pulled")
    run(pulled, prefect_server, "dvc", "pull")
    said = flow(pulled, prefect_server)
    assert said.count("Finished in state Cached") == 12, "and the champion is there"
    assert (pulled / "models" / "champion.safetensors").exists()
    assert "push to 'store': Everything is up to date." in said

    metrics = json.loads((by_flow / "reports" / "metrics.json").read_text())
    assert list(metrics["models"]) == [
        "baseline",
        "sequential_adam",
        "scratch_adam",
        "scratch_sgd",
        "scratch_manual",
        "analytic",
    ]
    assert metrics["by_hand"]["scratch_manual"]["largest_difference"] == 0
    assert metrics["models"]["baseline"]["valid"]["accuracy"] > 0.85
    ignored = git(by_flow, "status", "--short", "--untracked-files=all").split()
    assert not {name for name in ignored if name.endswith((".npy", ".safetensors"))}

    # One variant is edited: it is trained again, with what depends on it, alone.
    params = yaml.safe_load((by_flow / "params.yaml").read_text())
    params["train"]["variants"]["scratch_sgd"]["learning_rate"] = 0.02
    (by_flow / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    said = flow(by_flow, prefect_server)
    assert said.count("Finished in state Cached") == 9, "the champion stayed the best"
    assert "train@scratch_sgd ran in" in said

    # A subset is what it says, with what it needs.
    said = flow(by_flow, prefect_server, "normalize")
    assert said.count("Task run") >= 3
    assert "baseline" not in said


def test_a_flow_that_fails_says_why_and_ends_with_1(small, prefect_server):
    broken = clone(small, "broken")
    path = broken / "datasets" / "mnist.yaml"
    sheet = yaml.safe_load(path.read_text())
    sheet["validate"]["counts"]["train"] += 1
    path.write_text(yaml.safe_dump(sheet, sort_keys=False))
    command = ["python", "-m", "flows.pipeline"]
    ended = end(broken, prefect_server, *command)
    assert ended.returncode == 1
    assert "tasks.validate: data/raw breaks its dataset card" in ended.stdout
    assert "Traceback" not in ended.stdout
    assert not (broken / "data" / "normalized").exists()
    report = json.loads((broken / "reports" / "validation.json").read_text())
    assert report["failures"][0]["value"] == TRAIN + VALID


def test_a_push_without_a_remote_is_refused_before_anything_runs(small, prefect_server):
    command = ["python", "-m", "flows.pipeline", "--push", "always"]
    ended = end(small, prefect_server, *command)
    assert ended.returncode == 1
    assert "The run is to push its results, but DVC has no default" in ended.stdout
    assert "Task run" not in ended.stdout
    assert "Traceback" not in ended.stdout


def test_an_unknown_target_is_one_sentence(small, prefect_server):
    command = ["python", "-m", "flows.pipeline", "trian"]
    ended = end(small, prefect_server, *command)
    assert ended.returncode == 1
    assert "trian" in ended.stdout
    assert "Traceback" not in ended.stdout


def set_baseline(project: Path, c_images: float) -> None:
    """Leave one network beside the baseline, and let that be good or bad."""
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["baseline"]["C_images"] = c_images
    sgd = params["train"]["variants"]["scratch_sgd"]
    params["train"]["variants"] = {"scratch_sgd": sgd}
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def champion(project: Path) -> dict:
    return json.loads((project / "models" / "champion.json").read_text())


def card(project: Path) -> str:
    return (project / "reports" / "model_card.md").read_text()


def runs(env: dict[str, str], name: str) -> list[tuple[str, str, list[str]]]:
    """The name, final state and kinds of tags of the runs of a flow, newest first."""
    chosen = FlowFilter(name=FlowFilterName(any_=[name]))
    with (
        temporary_settings({PREFECT_API_URL: env["PREFECT_API_URL"]}),
        get_client(sync_client=True) as client,
    ):
        found = client.read_flow_runs(
            flow_filter=chosen, sort=FlowRunSort.EXPECTED_START_TIME_DESC
        )
    return [
        (run.name, run.state_name, sorted(tag.partition(":")[0] for tag in run.tags))
        for run in found
    ]


def test_a_worse_model_is_refused_a_better_promoted_rolled_back_and_put_back(
    small, prefect_server
):
    project = clone(small, "nights")
    rollback = ["python", "-m", "flows.rollback"]

    # The first that reaches the thresholds is champion.
    set_baseline(project, 0.05)
    flow(project, prefect_server)
    first = champion(project)
    assert (first["replaces"], first["compared"]) == (None, None)

    # A better one takes its place.
    set_baseline(project, 50)
    said = flow(project, prefect_server)
    assert "baseline is now the champion" in said
    second = champion(project)
    assert second["replaces"] == first["md5"]
    assert second["compared"]["p_value"] < 0.05
    assert second["parameters"]["C_images"] == 50
    assert card(project).startswith("# Model card: baseline\n")
    name, state, tags = runs(prefect_server, "mnist-sgd")[0]
    assert re.fullmatch(r"by hand \d{4}-\d\d-\d\d \.\d{4}", name)
    assert (state, tags) == ("Completed", ["best", "data", "git"])

    # A worse one is refused: the run is over, its stages are done, the champion stays.
    set_baseline(project, 0.05)
    said = flow(project, prefect_server)
    assert "it is not better than the champion's" in said
    assert runs(prefect_server, "mnist-sgd")[0][1] == "Refused"
    assert champion(project) == second

    # The first one back, by hand; then the gate keeps the second out.
    run(project, prefect_server, *rollback)
    assert champion(project) == first
    assert second["md5"] not in card(project)
    set_baseline(project, 50)
    said = flow(project, prefect_server)
    assert "baseline was not promoted: it was rolled back" in said
    assert champion(project) == first

    # What is made from the history is made again.
    (project / "models" / "champion.json").unlink()
    (project / "models" / "champion.safetensors").write_bytes(b"half of it")
    set_baseline(project, 0.05)
    said = flow(project, prefect_server)
    assert said.count("Finished in state Cached") == 8
    assert champion(project) == first

    # And the second again. Its file comes from the cache.
    set_baseline(project, 50)
    flow(project, prefect_server)
    (project / "models" / "champion.safetensors").unlink()
    said = run(project, prefect_server, *rollback, "--to", second["md5"][:8])
    assert "is champion again" in said
    said = flow(project, prefect_server)
    assert said.count("Finished in state Cached") == 8
    assert champion(project) == second
    held = (project / "models" / "champion.safetensors").read_bytes()
    assert hashlib.md5(held).hexdigest() == second["md5"]
    events = (project / "models" / "champions.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in events] == [
        "promoted",
        "promoted",
        "put back",
        "put back",
    ]
    assert "Data and pipelines are up to date." in run(
        project, prefect_server, "dvc", "status"
    )


def test_a_champion_that_can_be_had_nowhere_is_held_to_its_record(
    small, prefect_server
):
    project = clone(small, "lost")
    set_baseline(project, 50)
    flow(project, prefect_server)
    first = champion(project)
    (project / "models" / "champion.safetensors").unlink()
    shutil.rmtree(project / ".dvc" / "cache" / "files" / "md5" / first["md5"][:2])
    (project / "models" / "baseline.safetensors").unlink()
    set_baseline(project, 40)
    said = flow(project, prefect_server)
    assert f"The file {first['md5']} is not in DVC's cache" in said
    assert "It is held to its record." in said
    assert "whose file can't be used." in said
    assert champion(project)["replaces"] == first["md5"]
    ended = end(project, prefect_server, "python", "-m", "flows.rollback")
    assert ended.returncode == 1
    assert f"The file {first['md5']} is not in DVC's cache" in ended.stdout
    assert "Traceback" not in ended.stdout


@pytest.mark.parametrize(
    "key", ["a;touch ran", "$(a)", "a b", "`a`", "a\n", "'a'", "../a"]
)
def test_a_name_that_a_shell_would_read_is_refused(key):
    with pytest.raises(ProjectError, match="has a name that a shell would take for"):
        pipeline._refuse_shell_words(["normalize", f"train@{key}"])


def test_a_variant_named_like_a_command_runs_nothing(small, prefect_server):
    project = clone(small, "named")
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["train"]["variants"]["x; touch ran"] = {"layer": "scratch"}
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    ended = end(project, prefect_server, "python", "-m", "flows.pipeline")
    assert ended.returncode == 1
    assert "a shell would take for more than a word" in ended.stdout
    assert not (project / "ran").exists()
    assert not (project / "data").exists()
