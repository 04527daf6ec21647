"""What is asked: every published model, real inputs, distinct ones from a seed, and right answers."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from loadtests.inputs.asking import Asking
from loadtests.inputs.catalogue import EXACT_TOLERANCE, VARIETIES, Catalogue, mark
from loadtests.inputs.lots import Distinct, Zipf
from loadtests.inputs.questions import Question, Right, WrongAnswer
from models import samples
from tests.serving import ROOT

MODELS = sorted(path.parent.name for path in ROOT.glob("models/*/model.yaml"))
each_model = pytest.mark.parametrize("model", MODELS)


@pytest.fixture
def references(tmp_path: Path) -> Path:
    """Right answers for two models: of a digit's probabilities the first, and a price."""
    for model, row in {"cnn_mnist": np.eye(10)[0], "diamonds": np.array([7.0])}.items():
        (tmp_path / model / "1").mkdir(parents=True)
        np.save(tmp_path / model / "1" / "answers.npy", np.tile(row.astype(np.float32), (500, 1)))
    return tmp_path


def same(one: Question, other: Question) -> bool:
    return all(np.array_equal(value, other.inputs[name]) for name, value in one.inputs.items())


def test_every_model_that_is_published_can_be_asked() -> None:
    assert sorted(VARIETIES) == MODELS


@each_model
def test_the_first_questions_are_the_examples_as_they_are(model: str) -> None:
    payload = samples.read(ROOT / "models" / model / "examples.zip").payloads[3]
    question = Catalogue(model, 0).question(3)
    assert question.payload == payload
    for name, value in import_module(f"models.{model}.transform").to_inputs(payload).items():
        assert np.array_equal(question.inputs[name], value[None])


@each_model
def test_variations_differ_from_their_example_and_from_each_other_once_they_are_tensors(model: str) -> None:
    catalogue = Catalogue(model, 0)
    questions = [catalogue.question(n * catalogue.examples) for n in range(4)]
    for index, one in enumerate(questions):
        assert not any(same(one, other) for other in questions[index + 1 :])


@each_model
def test_a_seed_makes_the_same_question_again_and_another_seed_another_one(model: str) -> None:
    index = 2 * Catalogue(model, 1).examples
    first, again, other = (Catalogue(model, seed).question(index) for seed in (1, 1, 2))
    assert first.payload == again.payload
    assert not same(first, other)


def test_marks_of_other_seeds_lie_far_apart() -> None:
    assert mark(0, 5) == 5
    assert abs(mark(1, 1) - mark(2, 1)) > 2**30
    assert 0 <= mark(2_000_000_000, 2**31) < 2**32


def test_an_unknown_model_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected models of cnn_mnist, .*, got 'resnet'"):
        Catalogue("resnet", 0)


def test_users_ask_every_model_in_turn_and_begin_with_different_ones() -> None:
    models = [(Catalogue(name, 0), Zipf(10, 1.0)) for name in ("cnn_mnist", "diamonds", "diamonds")]
    first, second = (Asking(models, user, 0) for user in (0, 1))
    assert [first.next().model for _ in range(4)] == ["cnn_mnist", "diamonds", "diamonds", "cnn_mnist"]
    assert [second.next().model for _ in range(3)] == ["diamonds", "diamonds", "cnn_mnist"]


def test_users_that_share_a_lot_never_ask_the_same_where_none_may_come_twice() -> None:
    catalogue = Catalogue("diamonds", 7)
    models = [(catalogue, Distinct(catalogue.examples))]
    users = [Asking(models, user, 7) for user in range(3)]
    payloads = [user.next().payload for _ in range(20) for user in users]
    assert len({*payloads}) == len(payloads)


def test_an_example_has_the_reference_with_a_tight_tolerance_and_a_variation_with_its_own(
    references: Path,
) -> None:
    catalogue = Catalogue("cnn_mnist", 0, references)
    assert catalogue.question(0).right.tolerance == EXACT_TOLERANCE
    varied = catalogue.question(catalogue.examples).right
    assert varied.tolerance == VARIETIES["cnn_mnist"].tolerance
    assert varied.named["0"] == pytest.approx(1)


def test_a_regression_is_named_as_its_transform_names_it(references: Path) -> None:
    right = Catalogue("diamonds", 0, references).question(0).right
    right.check_named({"price": 1096.63})
    with pytest.raises(WrongAnswer, match="number 0 is 1200"):
        right.check_named({"price": 1200.0})


def test_without_references_only_the_form_is_checked(tmp_path: Path) -> None:
    catalogue = Catalogue("cnn_mnist", 0, tmp_path)
    right = catalogue.question(0).right
    assert not catalogue.has_references
    right.check_values(np.full(10, 0.1))
    right.check_named({"3": 0.5})
    with pytest.raises(WrongAnswer, match="add up to 2"):
        right.check_values(np.full(10, 0.2))


RIGHT = Right(2, adds_up=True, values=np.array([0.9, 0.1]), named={"bad": 0.9, "good": 0.1}, tolerance=0.01)


def test_a_right_answer_passes() -> None:
    RIGHT.check_values([0.905, 0.095])
    RIGHT.check_named({"bad": 0.9})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.9, 0.1, 0.0], "expected 2 numbers"),
        ([[0.9, 0.1]], "expected 2 numbers"),
        ([float("nan"), 0.1], "expected 2 numbers"),
        ([0.9, 0.2], "add up to 1.1"),
        ([0.1, 0.9], "number 0 is 0.1000 and not 0.9000"),
    ],
)
def test_wrong_numbers_are_told(values: list[float], said: str) -> None:
    with pytest.raises(WrongAnswer, match=said):
        RIGHT.check_values(values)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({}, "expected numbers by label"),
        ({"bad": float("inf")}, "expected numbers by label"),
        ({"ugly": 0.9}, "no label of the model: ugly"),
        ({"bad": 0.1, "good": 0.9}, "number 0 is 0.1000"),
    ],
)
def test_wrong_labels_are_told(named: dict[str, float], said: str) -> None:
    with pytest.raises(WrongAnswer, match=said):
        RIGHT.check_named(named)
