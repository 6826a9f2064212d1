"""Ep3Pipeline: its pairs, masks and errors by number, and from training to corrected ages on drawn faces."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from common.correction import Correction, Corrector, Faces
from common.difference_heads import Query, References
from common.embedded import EmbeddedFaces, bank_of
from common.manifest import load_prepared
from common.metrics import paired_bootstrap
from common.pipeline import AgePredictBasicPipeline
from common.predictions import read_predictions
from common.reference_bank import EMPTY, Found
from Ep3Pipeline.Ep3Pipeline__config import Ep3PipelineConfig, parse_arguments
from Ep3Pipeline.Ep3Pipeline__dataset import ErrorSampler, draw_some, fit_errors, training_batch
from Ep3Pipeline.Ep3Pipeline__infer import main as infer
from Ep3Pipeline.Ep3Pipeline__infer2 import main as infer2
from Ep3Pipeline.Ep3Pipeline__main import main as train
from Ep3Pipeline.Ep3Pipeline__model import (
    SETTLED,
    AgeTable,
    IteratedCorrector,
    PairDifferenceHead,
    build_model,
    compute_loss,
    load_model,
)
from Ep3Pipeline.Ep3Pipeline__train import Data, finish_epoch, make_run, predict, train_epoch

SMALL = {"embedding_size": 16, "hidden_size": 24, "age_size": 8, "references": 5}


@pytest.fixture(scope="module")
def words(synthetic_set, tiny_run, tmp_path_factory) -> list[str]:
    runs = tmp_path_factory.mktemp("ep3_runs")
    base = str(tiny_run / "weights")
    quick = ["--views", "1", "--epochs", "6", "--references", "6", "--device", "cpu", "--hidden-size", "32"]
    quick += ["--batch-size", "8", "--learning-rate", "1e-2"]
    return ["--data", str(synthetic_set), "--base-weights", base, "--runs", str(runs), *quick]


@pytest.fixture(scope="module")
def run_folder(words) -> Path:
    assert train(words) == 0
    (run,) = (Path(words[words.index("--runs") + 1]) / "Ep3Pipeline").iterdir()
    return run


@pytest.fixture(scope="module")
def weights(run_folder) -> Path:
    return run_folder / "weights"


def stirred_head(**settings) -> PairDifferenceHead:
    """A head in evaluation mode whose every parameter is random, so that nothing is zero by its start."""
    head = build_model(Ep3PipelineConfig(**SMALL | settings)).eval()
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if name != "sharpness":
                parameter.add_(0.2 * torch.randn_like(parameter))
    return head


def drawn_pairs(batch: int, count: int) -> tuple[Query, References]:
    random = torch.Generator().manual_seed(5)
    query = Query(torch.randn(batch, 16, generator=random), 20 + 40 * torch.rand(batch, generator=random))
    age = query.estimate[:, None] + 8 * torch.rand(batch, count, generator=random) - 4
    embedding = torch.randn(batch, count, 16, generator=random)
    everything = torch.ones(batch, count, dtype=torch.bool)
    return query, References(embedding, age, age + 1, ~everything, everything)


# --- head -------------------------------------------------------------------------------------------------------------


def test_the_antisymmetric_difference_changes_its_sign_when_query_and_reference_change_places():
    head = stirred_head(directions="antisymmetric")
    query, references = drawn_pairs(8, 1)
    swapped = (
        Query(references.embedding[:, 0], references.age[:, 0]),
        references._replace(embedding=query.embedding[:, None], age=query.estimate[:, None]),
    )
    there, back = head(query, references), head(*swapped)
    assert torch.allclose(there.difference, -back.difference, rtol=0, atol=1e-5)
    assert torch.equal(there.forward_age, there.reverse_age)
    assert (there.difference - (query.estimate[:, None] - references.age)).abs().max() > 0.1
    plain = stirred_head(directions="both")(query, references)
    assert torch.allclose(plain.difference, there.difference, rtol=0, atol=1e-5)
    assert (plain.forward_age - plain.reverse_age).abs().max() > 0.05


def test_one_direction_alone_is_what_its_name_says():
    query, references = drawn_pairs(4, 3)
    forward, both = (stirred_head(directions=name)(query, references) for name in ("forward", "both"))
    assert forward.reverse is None and torch.equal(forward.forward_age, forward.age)
    assert torch.allclose(forward.difference, both.forward.difference, atol=1e-5)


@pytest.mark.parametrize("directions", ["both", "antisymmetric", "forward"])
def test_an_untrained_head_says_the_estimate_and_so_does_one_without_references(directions):
    query, references = drawn_pairs(6, 5)
    far = references._replace(age=references.age + 35)
    fresh = build_model(Ep3PipelineConfig(**SMALL, directions=directions)).eval()
    for given in (references, far):
        assert torch.allclose(fresh(query, given).age, query.estimate, atol=1e-4)
    nobody = References(*(tensor[:, :0] for tensor in references))
    hidden = references._replace(mask=torch.zeros_like(references.mask))
    for given in (nobody, hidden):
        output = stirred_head(directions=directions)(query, given)
        assert torch.equal(output.age, query.estimate) and output.weight.sum() == 0


@pytest.mark.parametrize("weighting", ["head", "uniform"])
def test_masked_references_have_no_influence_not_even_nan(weighting):
    head, (query, references) = stirred_head(weighting=weighting), drawn_pairs(4, 5)
    mask = torch.tensor([[True, True, False, True, False]] * 4)
    results = []
    for wrong in (0.0, 77.0, float("nan")):
        spoilt = [torch.where(mask[..., None], references.embedding, wrong)]
        spoilt += [torch.where(mask, values, wrong) for values in (references.age, references.estimate)]
        results.append(head(query, References(*spoilt, references.seen, mask)))
    for output in results[1:]:
        for name in ("age", "weight", "difference", "levels", "forward_age", "reverse_age"):
            assert torch.equal(getattr(output, name), getattr(results[0], name)), name
    assert torch.isfinite(results[2].age).all()
    assert (results[0].weight[~mask] == 0).all()
    assert torch.allclose(results[0].weight.sum(dim=1), torch.ones(4))


def test_masked_references_teach_nothing_not_even_nan():
    config = Ep3PipelineConfig(**SMALL)
    head, (query, references) = stirred_head(), drawn_pairs(4, 5)
    mask = torch.tensor([[True, True, False, True, False]] * 4)
    label = query.estimate.round()
    gradients = []
    for wrong in (1.0, float("nan")):
        spoilt = references._replace(age=torch.where(mask, references.age, wrong), mask=mask)
        head.zero_grad()
        compute_loss(head(query, spoilt), spoilt, label, label, config).total.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in head.parameters()]))
    assert torch.isfinite(gradients[1]).all() and torch.equal(*gradients)


def test_the_order_of_references_does_not_matter():
    head, (query, references) = stirred_head(), drawn_pairs(4, 5)
    order = torch.tensor([3, 0, 4, 1, 2])
    first, second = head(query, references), head(query, References(*(tensor[:, order] for tensor in references)))
    assert torch.allclose(first.age, second.age, rtol=0, atol=1e-4)
    assert torch.allclose(first.weight[:, order], second.weight, atol=1e-5)


def test_the_age_table_covers_both_ends():
    table = AgeTable(0, 100, 8)
    assert table.rows.shape == (101, 8)
    read = table(torch.tensor([0.0, 100.0, 99.0, 99.25, -7.0, 130.0]))
    rows = table.rows
    expected = torch.stack([rows[0], rows[100], rows[99], 0.75 * rows[99] + 0.25 * rows[100], rows[0], rows[100]])
    assert torch.allclose(read, expected, atol=1e-6)
    assert all((rows[row] - rows[row + 1]).abs().max() > 0.01 for row in (0, 99))


# --- errors, references, loss -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["kde", "gaussian", "uniform"])
def test_drawn_errors_have_the_moments_of_the_errors(kind):
    errors = np.random.default_rng(0).gamma(2.0, 2.0, 3000) - 3.0
    sampler = ErrorSampler(errors, kind, 20.0)
    drawn = sampler.draw(200_000, np.random.default_rng(1))
    widened = np.hypot(1, (4 / (3 * len(errors))) ** 0.2) if kind == "kde" else 1.0
    assert drawn.mean() == pytest.approx(errors.mean(), abs=0.03)
    assert drawn.std() == pytest.approx(widened * errors.std(), rel=0.015)
    if kind == "kde":
        assert np.percentile(drawn, [10, 50, 90]) == pytest.approx(np.percentile(errors, [10, 50, 90]), abs=0.35)
    assert np.array_equal(sampler.draw(9, np.random.default_rng(2)), sampler.draw(9, np.random.default_rng(2)))


@pytest.mark.parametrize("kind", ["kde", "gaussian", "uniform"])
def test_drawn_errors_are_saturated(kind):
    drawn = ErrorSampler(np.array([-60.0, 55.0, 3.0, -30.0, 41.0]), kind, 20.0).draw(1000, np.random.default_rng(0))
    assert drawn.min() == -20 and drawn.max() == 20


def aged_faces(count: int, seed: int) -> EmbeddedFaces:
    """Faces whose embedding tells the age to 1.5 years, and whose estimate is off by 6."""
    random = np.random.default_rng(seed)
    age = random.uniform(15, 75, count).round().astype(np.float32)
    directions = np.random.default_rng(99).normal(size=(2, 16))
    phase = (age + random.normal(0, 1.5, count))[:, None] / 40
    embedding = np.sin(phase) * directions[:1] + np.cos(phase) * directions[1:] + 0.01 * random.normal(size=(count, 16))
    names = np.array([f"{seed}-{number}" for number in range(count)])
    estimate = (age + random.normal(0, 6, count)).astype(np.float32)
    return EmbeddedFaces(
        embedding[None].astype(np.float16), estimate[None], age, age,
        np.full(count, ""), names, np.arange(count), np.zeros(count, int),
    )  # fmt: skip


def test_training_estimates_are_wrong_only_where_the_age_is_exact():
    faces = aged_faces(400, 1)
    high = faces.high.copy()
    high[:200] += 9
    faces = replace(faces, high=high)
    bank = bank_of([(aged_faces(300, 2), False)], "abc")
    config = Ep3PipelineConfig(**SMALL)
    sampler = fit_errors(faces, config)
    numbers = np.arange(400)
    batch = training_batch(faces, numbers, bank, sampler, config, np.random.default_rng(0))
    error = (batch.low - batch.query.estimate).numpy()
    assert np.array_equal(batch.query.estimate[:200].numpy(), faces.estimates[0, :200])
    assert error[200:].std() == pytest.approx((faces.low - faces.estimates[0])[200:].std(), rel=0.2)
    distance = (batch.references.age - batch.query.estimate[:, None]).abs()[batch.references.mask]
    assert distance.max() <= config.reference_window
    own = training_batch(
        faces, numbers, bank, fit_errors(faces, replace(config, estimate_errors="none")), config,
        np.random.default_rng(0),
    )  # fmt: skip
    assert np.array_equal(own.query.estimate.numpy(), faces.estimates[0])
    nearest = bank.query(
        own.query.embedding.numpy(), faces.estimates[0], 5, config.reference_window, faces.id, faces.person
    )
    for pool, same in ((1, True), (3, False)):
        again = training_batch(
            faces, numbers, bank, None, replace(config, pool=pool), np.random.default_rng(0)
        ).references.age
        assert torch.equal(again, bank.take(nearest).age) == same


def test_references_are_drawn_from_the_nearest_without_repetition():
    index = np.arange(15)[None].repeat(2000, 0)
    mask = np.ones_like(index, bool)
    mask[0, 3:] = False
    some = draw_some(Found(np.where(mask, index, EMPTY), mask), 5, np.random.default_rng(0))
    assert some.index[0].tolist() == [0, 1, 2, EMPTY, EMPTY] and some.mask[0].tolist() == [True] * 3 + [False] * 2
    assert (np.diff(some.index[1:], axis=1) > 0).all()
    share = np.bincount(some.index[1:].ravel(), minlength=15) / 1999
    assert share == pytest.approx(np.full(15, 1 / 3), abs=0.05)


def test_the_loss_by_hand():
    query, references = drawn_pairs(3, 2)
    config = Ep3PipelineConfig(**SMALL, class_weight=2.0)
    output = build_model(config).eval()(query, references)
    low = query.estimate + torch.tensor([3.0, -1.0, 4.0])
    high = low + torch.tensor([0.0, 5.0, 0.0])
    loss = compute_loss(output, references, low, high, config)
    assert loss.distance.tolist() == pytest.approx([3, 0, 4], abs=1e-4)
    assert loss.terms["age"].item() == pytest.approx((9 + 0 + 16) / 3, rel=1e-4)
    assert loss.terms["difference"].item() == pytest.approx((9 + 16) / 2, rel=1e-4)  # intervals have no difference
    weights = {"age": 1, "difference": 1, "condor": 1, "class": 2, "mean": 0.2, "variance": 0.05}
    assert loss.total.item() == pytest.approx(sum(w * loss.terms[name].item() for name, w in weights.items()), rel=1e-5)
    alone = compute_loss(output, references, low - 1, high + 1, config)
    assert [alone.terms[name].item() for name in ("difference", "condor", "class")] == [0, 0, 0]


def test_training_takes_the_age_from_faces_beside_references(tiny_run, tmp_path):
    config = Ep3PipelineConfig(
        **SMALL | {"hidden_size": 64}, views=0, batch_size=64, epochs=12, learning_rate=3e-3, device="cpu", dropout=0.1
    )
    pipeline = AgePredictBasicPipeline.from_weights(tiny_run / "weights", "cpu")
    queries, validation, bank = aged_faces(800, 1), aged_faces(300, 2), bank_of([(aged_faces(800, 3), False)], "abc")
    data = Data(queries, validation, bank, fit_errors(queries, config))
    run = make_run(config, tmp_path, tiny_run / "weights", pipeline, data)
    for _ in range(config.epochs):
        finish_epoch(run, train_epoch(run))
    base, full = (np.abs(ages - validation.low).mean() for ages in (validation.estimates[0], predict(run, validation)))
    assert base > 4.3 and full < 0.6 * base
    history = pd.read_csv(tmp_path / "history.csv")
    terms = ["age", "difference", "condor", "class", "mean", "variance"]
    assert (
        history[[f"train_{name}" for name in terms]].iloc[-1] < history[[f"train_{name}" for name in terms]].iloc[0]
    )[:4].all()


# --- iteration --------------------------------------------------------------------------------------------------------


def halving_corrector(monkeypatch, iterations: int) -> tuple[IteratedCorrector, list[np.ndarray]]:
    """A corrector that always goes half of the way to age 40, and the ages of every call."""
    seen: list[np.ndarray] = []

    def halfway(self, faces, at_age=None, votes=True):
        count = len(faces.estimate)
        vote = np.full((count, 1), 40.0 if votes else np.nan)
        index, mask = np.zeros((count, 1), int), np.ones((count, 1), bool)
        seen.append((faces.estimate + 40) / 2)
        return Correction(seen[-1], index, mask, np.ones((count, 1)), vote)

    monkeypatch.setattr(Corrector, "correct", halfway)
    return IteratedCorrector(None, None, None, 1, 1.0, iterations), seen


def test_iteration_feeds_ages_back_and_stops(monkeypatch):
    start = np.array([40 - 1.6, 40 + 1.6])
    faces = Faces(np.zeros((2, 4)), start, np.array(["a", "b"]), np.array(["", ""]))
    corrector, seen = halving_corrector(monkeypatch, 3)
    assert corrector.correct(faces).age == pytest.approx([39.8, 40.2])
    assert [len(seen), *(float(np.abs(ages - 40).max()) for ages in seen)] == pytest.approx([3, 0.8, 0.4, 0.2])
    corrector, seen = halving_corrector(monkeypatch, 50)
    result = corrector.correct(faces)
    assert len(seen) == 7 and np.abs(seen[-2] - seen[-1]).max() < SETTLED <= np.abs(seen[-3] - seen[-4]).max()
    assert np.isfinite(result.vote).all() and np.isnan(corrector.correct(faces, votes=False).vote).all()


def test_iteration_of_a_face_does_not_depend_on_the_others(monkeypatch):
    corrector, _ = halving_corrector(monkeypatch, 10)
    near, far = 40.04, 80.0
    both, alone = (
        corrector.correct(Faces(np.zeros((len(start), 4)), np.array(start), np.array(["a"]), np.array([""])))
        for start in ([near, far], [near])
    )
    assert both.age[0] == alone.age[0] == pytest.approx(40.02)


def test_iterations_on_a_manifest(weights, synthetic_set, tmp_path):
    manifest = ["--manifest", str(synthetic_set / "manifest.csv"), "--split", "test", "--weights", str(weights)]
    tables = {}
    for count in ("1", "3"):
        out = tmp_path / f"{count}.csv"
        assert infer2([*manifest, "--iterations", count, "--out", str(out), "--device", "cpu"]) == 0
        tables[count] = read_predictions(out)
    assert np.array_equal(tables["1"]["base_age"], tables["3"]["base_age"])
    moved = np.abs(tables["1"]["age"] - tables["1"]["base_age"])
    again = np.abs(tables["3"]["age"] - tables["1"]["age"])
    assert (again[moved < SETTLED - 0.01] < 0.011).all() and (moved.max() < SETTLED or again.max() > 0)


# --- from training to ages --------------------------------------------------------------------------------------------


def test_a_run_holds_what_it_should(run_folder):
    names = {path.name for path in run_folder.iterdir()}
    assert names >= {"errors.png", "history.csv", "best_model.ckpt", "latest_model.ckpt", "predictions_val.csv"}
    history = pd.read_csv(run_folder / "history.csv")
    assert len(history) == 6 and np.isfinite(history.to_numpy()).all()
    files = {path.name for path in (run_folder / "weights").iterdir()}
    assert files >= {"model.safetensors", "config.json", "bank.npz"}
    stored = json.loads((run_folder / "weights" / "config.json").read_text())
    assert stored["training"]["base_weights"] == "" and stored["head"]["references"] == 6


def test_full_bypass_and_oracle_on_a_manifest(weights, synthetic_set, tmp_path, capsys):
    tables, printed = {}, {}
    manifest = ["--manifest", str(synthetic_set / "manifest.csv"), "--split", "test", "--weights", str(weights)]
    for mode in ("full", "bypass", "oracle"):
        out = tmp_path / f"{mode}.csv"
        assert infer2([*manifest, "--mode", mode, "--out", str(out), "--device", "cpu"]) == 0
        tables[mode], printed[mode] = read_predictions(out), capsys.readouterr().out
    full, bypass = tables["full"], tables["bypass"]
    assert np.array_equal(full["base_age"], bypass["age"]) and (full["age"] != bypass["age"]).any()
    assert (full["n_references"] > 0).any() and (bypass["n_references"] == 0).all()
    assert "upper bound" in printed["oracle"] and "upper bound" not in printed["full"]
    truth = full["true_age"].to_numpy()
    gain = paired_bootstrap(full["base_age"] - truth, full["age"] - truth)
    assert float(printed["full"].split("gain ")[1].split()[0]) == pytest.approx(gain["gain"], abs=0.006)


@pytest.mark.parametrize("iterations", [1, 3])
def test_the_same_ages_twice(weights, synthetic_set, iterations):
    prepared = load_prepared(synthetic_set)
    rows = prepared.rows("test")
    results = []
    for _ in range(2):
        corrector = load_model(weights, "cpu", iterations)
        base = corrector.pipeline.predict(prepared.crops[rows])
        ids = prepared.manifest["id"].to_numpy(str)[rows]
        results.append(corrector.correct(Faces(base.embeddings, base.ages, ids, np.full(len(rows), ""))))
    first, again = results
    for name in Correction._fields:
        assert np.array_equal(getattr(first, name), getattr(again, name), equal_nan=name == "vote"), name
    assert np.isfinite(first.vote[first.mask]).all()
    if iterations == 1:
        single = corrector.correct(Faces(base.embeddings[:1], base.ages[:1], ids[:1], np.array([""])))
        assert single.age[0] == pytest.approx(first.age[0], abs=1e-3)


def test_photos_explained(weights, tmp_path, capsys):
    assert infer2(["--weights", str(weights), "--explain", str(tmp_path), "--device", "cpu"]) == 0
    drawn = sorted(path.name for path in tmp_path.iterdir())
    assert drawn == ["0000_astronaut.png", "0000_astronaut_references.png"]
    assert "base" in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("picture"))


def test_your_own_references(weights, synthetic_set, tmp_path, capsys):
    corrector = load_model(weights, "cpu")
    bank = corrector.bank.rows(np.arange(60))
    biased = replace(bank, ages=bank.ages + 25, id=np.char.add("own", np.arange(60).astype(str)))
    biased.save(tmp_path / "own.npz")
    manifest = ["--manifest", str(synthetic_set / "manifest.csv"), "--split", "test", "--weights", str(weights)]
    ages = []
    for words in (
        [],
        ["--references", str(tmp_path / "own.npz")],
        ["--references", str(tmp_path / "own.npz"), "--iterations", "2"],
    ):
        out = tmp_path / "ages.csv"
        assert infer2([*manifest, *words, "--out", str(out), "--device", "cpu"]) == 0
        ages.append(read_predictions(out)["age"])
    assert "60 references of yours" in capsys.readouterr().out
    assert 8 < (ages[1] - ages[0]).mean() < 40 and 8 < (ages[2] - ages[0]).mean() < 40


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--references", "bank.npz"], "cannot be read as a reference bank"),
        (["--person", "anna"], "--references"),
        (["--references", "bank.npz", "--mode", "bypass"], "bypass"),
        (["--mode", "oracle"], "--manifest"),
        (["--mode", "bypass", "--explain", "drawn"], "bypass"),
        (["--weights", "nowhere"], "no Ep3Pipeline weights"),
        (["--iterations", "0"], "1 or more"),
        (["--iterations", "2", "--mode", "bypass"], "bypass"),
        (["--iterations", "2", "--interval", "0.9"], "--iterations"),
        (["--interval", "0.9"], "no intervals"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(weights, wrong, said, capsys):
    assert infer2(["--weights", str(weights), *wrong]) == 2
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1


def test_training_that_cannot_be_is_said_in_one_line(words, tmp_path, capsys):
    runs = words.index("--runs") + 1
    assert train([*words[:runs], str(tmp_path), *words[runs + 1 :], "--references", "0"]) == 2
    message = capsys.readouterr().err
    assert "1 or more" in message and message.count("\n") == 1


def test_the_difference_alone(weights, synthetic_set, tmp_path, capsys):
    words = ["--weights", str(weights), "--data", str(synthetic_set), "--out", str(tmp_path), "--device", "cpu"]
    assert infer(words) == 0
    pairs = pd.read_csv(tmp_path / "pairs.csv")
    assert (pairs["query"] != pairs["reference"]).all() and pairs["set"].nunique() == 3
    assert np.isfinite(pairs[["soft_difference", "hard_difference"]].to_numpy()).all()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| references at")]
    part = pairs[pairs["set"].str.startswith("references at")]
    inside = part[part["true_difference"].abs() <= 20]
    error = (inside["soft_difference"] - inside["true_difference"]).abs().mean()
    assert float(rows[0].split("|")[4]) == pytest.approx(error, abs=0.006)
    assert len(list(tmp_path.glob("confusion_*.png"))) == 3


def test_training_goes_on_where_it_stopped(words, tmp_path):
    runs = words.index("--runs") + 1
    whole, cut = ([*words[:runs], str(tmp_path / name), *words[runs + 1 :], "--epochs", "3"] for name in ("w", "c"))
    assert train(whole) == 0
    (unbroken,) = (tmp_path / "w" / "Ep3Pipeline").iterdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("Ep3Pipeline.Ep3Pipeline__train.finish_epoch", stop_after(2))
        assert train(cut) == 130
    (broken,) = (tmp_path / "c" / "Ep3Pipeline").iterdir()
    assert train(["--resume", str(broken)]) == 0
    first, second = (pd.read_csv(folder / "history.csv") for folder in (unbroken, broken))
    assert len(first) == 3 and np.array_equal(first.drop(columns="seconds"), second.drop(columns="seconds"))


def stop_after(epochs: int):
    def finish(run, row):
        finish_epoch(run, row)
        if run.progress.epoch == epochs:
            raise KeyboardInterrupt

    return finish


def test_presets_and_wrong_keys(capsys):
    config, _ = parse_arguments(["--preset", "original"])
    assert (config.reference_window, config.age_size, config.references, config.level_radius) == (0.5, 128, 10, 20)
    with pytest.raises(SystemExit) as stop:
        parse_arguments(["--estimate-erors", "kde"])
    assert stop.value.code == 2 and "did you mean 'estimate_errors'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse_arguments(["--estimate-errors", "guess"])
    assert "kde, gaussian, uniform, none" in capsys.readouterr().err
