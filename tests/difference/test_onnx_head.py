"""The graph of a difference head is the head: every pooling, any number of references; without torch at inference."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from common.base.weight_files import vouch
from common.difference.corrector import Faces, load_corrector
from common.difference.head_export import export_head
from common.difference.heads import HeadConfig, PooledDifferenceHead, compute
from common.difference.onnx_head import HEAD_FILE, HEAD_OF, OnnxHead, load_graph_head
from common.difference.parts import Query, References
from common.errors import WeightsError
from common.files import WEIGHTS
from DiffPipeline6.DiffPipeline6__model import load_model
from tests.conftest import REPOSITORY


@pytest.fixture
def folder(tmp_path, diff_weights):
    """A folder whose config vouches for a head of any kind."""
    shutil.copytree(diff_weights, tmp_path / "weights")
    (tmp_path / "weights" / HEAD_FILE).unlink(missing_ok=True)
    return tmp_path / "weights"


def drawn(batch: int, count: int) -> tuple[Query, References]:
    random = np.random.default_rng(batch + count)
    ages = random.uniform(5, 80, (batch, count)).astype(np.float32)
    mask = random.random((batch, count)) < 0.7
    mask[0] = False
    references = References(
        random.normal(size=(batch, count, 16)).astype(np.float32), ages,
        ages + random.normal(size=ages.shape).astype(np.float32), random.random(ages.shape) < 0.5, mask,
    )  # fmt: skip
    query = Query(random.normal(size=(batch, 16)).astype(np.float32), random.uniform(5, 80, batch).astype(np.float32))
    return query, references


@pytest.mark.parametrize("ordinal", ["condor", "coral"])
@pytest.mark.parametrize("aggregation", ["attention", "avg", "max"])
def test_the_graph_says_what_the_head_says(folder, aggregation, ordinal):
    torch.manual_seed(1)
    head = PooledDifferenceHead(HeadConfig(16, 12, aggregation, 6, 5, ordinal)).eval()
    torch.nn.init.normal_(head.out[-1].weight, std=0.3)
    assert export_head(head, folder) == folder / HEAD_FILE
    graph = OnnxHead(folder, head.config)
    for batch, count in ((1, 0), (1, 1), (5, 6), (40, 30)):
        query, references = drawn(batch, count)
        for name, one, other in zip(
            ("levels", "difference", "weight", "age", "probabilities"),
            graph(query, references), compute(head, query, references, "cpu"), strict=True,
        ):  # fmt: skip
            assert one.shape == other.shape, name
            assert not one.size or np.abs(one - other).max() < (0.05 if name == "levels" else 1e-4), name


def test_fc_has_no_graph_and_foreign_graphs_are_refused(folder):
    assert export_head(PooledDifferenceHead(HeadConfig(16, 12, "fc", 6, 5)), folder) is None
    head = PooledDifferenceHead(HeadConfig(16, 12, "avg", 6, 5)).eval()
    assert load_graph_head(folder, {}) is None
    export_head(head, folder)
    with pytest.raises(WeightsError, match="does not fit the config.json"):
        OnnxHead(folder, HeadConfig(16, 12, "avg", 6, 9))
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {HEAD_OF: "0" * 40}))
    with pytest.raises(WeightsError, match="was not made of the weights beside it"):
        load_graph_head(folder, {})
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / HEAD_FILE).write_bytes((WEIGHTS / "AgeRegBaseline" / "model_int8.onnx").read_bytes()[:-1])
    vouch(folder, HEAD_FILE)
    with pytest.raises(WeightsError, match="head.onnx"):
        load_graph_head(folder, {})


def test_released_graphs_correct_as_their_weights():
    for name in ("DiffPipeline6", "DiffPipeline6-large"):
        graph, head = load_corrector(WEIGHTS / name, "cpu"), load_model(WEIGHTS / name, "cpu")
        assert isinstance(graph.head, OnnxHead) and not isinstance(head.head, OnnxHead)
        some = graph.bank.rows(np.arange(0, len(graph.bank), len(graph.bank) // 70))
        faces = Faces(some.embeddings.astype(np.float32), some.estimates, some.id, some.person)
        for one, other in zip(graph.correct(faces)[:5], head.correct(faces)[:5], strict=True):
            one, other = one.astype(float), other.astype(float)
            assert np.array_equal(np.isnan(one), np.isnan(other)) and np.nanmax(np.abs(one - other)) < 1e-3


def test_a_portrait_is_estimated_without_torch():
    code = """
import sys
sys.modules["torch"] = None  # importing it fails, as where it is not installed
from AgeRegBaseline.AgeRegBaseline__infer2 import main as base
from DiffPipeline6.DiffPipeline6__infer2 import main as full
assert base([]) == 0 and full(["--interval", "0.9"]) == 0
from common.pipeline import AgePipeline
assert AgePipeline.from_weights("AgeRegBaseline", precision="int8").estimate([]) == []
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("astronaut.png") == 2
