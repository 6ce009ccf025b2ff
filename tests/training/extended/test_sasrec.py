"""SASRec knows the past alone, in its order and age; a world whose next item follows from the last shows it."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from training.baselines import ease, item_knn
from training.dataset import TRAIN, VALIDATION, Interactions
from training.extended.sasrec import BUCKETS, Clock, SasRec, bucket
from training.extended.sasrec_fit import SasRecSettings, fit_sasrec, sampled_softmax
from training.fit import Curve
from training.ranking_metrics import Scores, per_user, rank_all, to_find

DAY = 86_400
SOURCES = 12
"""Items that histories are made of; item SOURCES + i follows item i, or item 2 SOURCES + i."""
EVENTS = 4
SMALL = SasRecSettings(dim=32, dropout=0.0, length=8, learning_rate=0.01, batch_size=32, max_epochs=8, clock="order")


def world(*, users: int = 600, aged: bool = False, seed: int = 0) -> Interactions:
    """Everyone buys four items in random order, then the follower of the last; a third's follower is held out.

    `aged`: who comes back after a day buys the first of the two followers, who comes after a week the second.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        items = rng.permutation(SOURCES)[:EVENTS]
        held_out = user % 3 == 0
        # The held-out ask all at once, on day 100, and their last events are a day or a week old.
        wait = 7 if aged and rng.random() < 0.5 else 1
        follower = items[-1] + SOURCES * (2 if wait == 7 else 1)
        last = 100 - wait if held_out else rng.integers(20, 90)
        days = [last - 6, last - 4, last - 2, last, last + wait]
        split = [TRAIN] * EVENTS + [VALIDATION if held_out else TRAIN]
        rows += list(zip([user] * 5, [*items, follower], np.array(days) * DAY, split, strict=True))
    table = np.array(rows)
    return Interactions(
        table[:, 0].astype(np.int32),
        table[:, 1].astype(np.int32),
        table[:, 2].astype(np.int64),
        table[:, 3].astype(np.int8),
        users,
        3 * SOURCES,
    )


def found_first(scores: Scores, data: Interactions) -> float:
    """How often the held-out item stands first."""
    train = data.within([TRAIN])
    relevant, users = to_find(train.matrix(), data.within([VALIDATION]).matrix())
    return float(per_user(rank_all(scores, users, train.matrix(), k=1), relevant, [1])["recall@1"].mean())


def test_the_item_that_follows_the_last_is_found_where_models_blind_to_order_guess() -> None:
    data = world()
    train = data.within([TRAIN])
    fit, _ = fit_sasrec(train, SMALL, validation=None, epochs=8)
    assert found_first(fit.scores(100 * DAY), data) > 0.95
    # Any of the four items may have been the last.
    assert found_first(ease(train.matrix()), data) < 0.45
    assert found_first(item_knn(train.matrix()), data) < 0.45


@pytest.mark.parametrize(("clock", "least", "most"), [("order", 0.2, 0.7), ("age", 0.9, 1.0)])
def test_age_tells_a_return_after_a_day_from_one_after_a_week(clock: Clock, least: float, most: float) -> None:
    data = world(aged=True)
    settings = SMALL.model_copy(update={"clock": clock})
    fit, _ = fit_sasrec(data.within([TRAIN]), settings, validation=None, epochs=8)
    assert least <= found_first(fit.scores(100 * DAY), data) <= most


def model(clock: Clock = "both", temperature: float = 0.0) -> SasRec:
    torch.manual_seed(0)
    made = SasRec(num_items=30, dim=16, blocks=2, heads=2, length=12, dropout=0.5, clock=clock, temperature=temperature)
    for parameter in made.parameters():  # none stands at its start, where a bias would be zero and unseen
        torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


@pytest.mark.parametrize("clock", ["order", "age", "both", "none"])
def test_each_output_is_what_the_events_up_to_it_give_alone(clock: Clock) -> None:
    """So no later event reaches it, and padding changes nothing."""
    made = model(clock)
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(0, 30, (3, 12), generator=generator)
    days = torch.rand((3, 12), generator=generator).cumsum(1) * 9
    asked = torch.cat([days[:, 1:], days[:, -1:] + 3], 1)
    whole = made(rows, torch.ones(3, 12), days, asked)
    for end in range(1, 13):
        # Stands where it stood: `place` counts from the newest event, so later places are padded in front.
        padded = [torch.zeros(3, 12, dtype=x.dtype) for x in (rows, days, asked)]
        for place, x in zip(padded, (rows, days, asked), strict=True):
            place[:, :end] = x[:, :end]
        mask = torch.zeros(3, 12)
        mask[:, :end] = 1
        alone = made(padded[0], mask, padded[1], padded[2])
        torch.testing.assert_close(alone[:, :end], whole[:, :end], rtol=0, atol=1e-6)
        assert not alone[:, end:].any()


@pytest.mark.parametrize("clock", ["order", "age", "both", "none"])
def test_padding_in_front_changes_no_output(clock: Clock) -> None:
    made = model(clock)
    generator = torch.Generator().manual_seed(2)
    rows = torch.randint(0, 30, (2, 5), generator=generator)
    days = torch.rand((2, 5), generator=generator).cumsum(1)
    bare = made(rows, torch.ones(2, 5), days, days + 1)
    front = torch.zeros(2, 6)
    padded = made(
        torch.cat([torch.full((2, 6), 7), rows], 1),
        torch.cat([front, torch.ones(2, 5)], 1),
        torch.cat([front + 4, days], 1),
        torch.cat([front + 9, days + 1], 1),
    )
    torch.testing.assert_close(padded[:, 6:], bare, rtol=0, atol=1e-6)
    assert not padded[:, :6].any()


def test_order_and_age_each_reach_the_output_where_the_clock_says_so() -> None:
    rows = torch.tensor([[3, 5, 8]])
    swapped, mask = torch.tensor([[5, 3, 8]]), torch.ones(1, 3)
    days, older = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[-90.0, 2.0, 3.0]])
    for clock, by_order, by_age in (("none", False, False), ("order", True, False), ("age", True, True)):
        made = model(clock)  # type: ignore[arg-type]
        last = made(rows, mask, days, days + 1)[:, -1]
        assert torch.allclose(last, made(rows, mask, older, older + 1)[:, -1]) is not by_age
        if clock != "age":  # one layer's attention over a set; the second layer sees prefixes, which differ in order
            made.blocks = made.blocks[:1]
            last = made(rows, mask, days, days + 1)[:, -1]
            assert torch.allclose(last, made(swapped, mask, days, days + 1)[:, -1], atol=1e-6) is not by_order


def test_buckets_of_time_grow_by_half_octaves_and_end() -> None:
    days = torch.tensor([-1.0, 0.0, 0.001, 1 / 24, 1.0, 1.5, 2.0, 1e9])
    assert bucket(days).tolist() == [0, 0, 1, 1, 1 + math.floor(2 * math.log2(24)), 11, 12, BUCKETS - 1]


def test_the_sampled_loss_is_cross_entropy_when_every_item_is_drawn_once() -> None:
    scores = torch.randn(7, 20, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([0, 3, 19, 3, 7, 11, 5])
    near = scores.gather(1, target[:, None]).squeeze(1)
    same = torch.arange(20)[None] == target[:, None]
    torch.testing.assert_close(sampled_softmax(near, scores, same, 20), F.cross_entropy(scores, target))


@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_the_score_of_a_pair_is_that_of_the_whole_table(temperature: float) -> None:
    made = model(temperature=temperature)
    wanted, popularity = torch.randn(4, 16, generator=torch.Generator().manual_seed(0)), torch.arange(30.0)
    rows = torch.tensor([3, 0, 29, 3])
    pairs = made.pair_scores(wanted, made.item[rows], popularity[rows])
    torch.testing.assert_close(made.scores(wanted, made.item, popularity)[range(4), rows], pairs)


@pytest.mark.parametrize("loss", [{"negatives": 1000}, {"negatives": 20}, {"loss": "bce"}, {"temperature": 0.2}])
def test_the_same_seed_gives_the_same_bits_and_every_loss_learns(loss: dict[str, object]) -> None:
    train = world(users=120).within([TRAIN])
    settings = SasRecSettings(**{**SMALL.model_dump(), "dropout": 0.2, **loss})
    runs = [fit_sasrec(train, settings, validation=None, epochs=4) for _ in range(2)]
    assert runs[0][1].loss == runs[1][1].loss
    assert runs[0][1].loss[-1] < runs[0][1].loss[0]
    for name, value in runs[0][0].model.state_dict().items():
        assert torch.equal(value, runs[1][0].model.state_dict()[name]), name
    users = np.arange(120)
    first, second = (fit.scores(100 * DAY)(users) for fit, _ in runs)
    np.testing.assert_array_equal(first, second)


def test_an_empty_history_is_ranked_by_popularity() -> None:
    data = world(users=90)
    train = data.within([TRAIN])
    stranger = Interactions(train.user_row, train.item_row, train.timestamp, train.split, 91, train.num_items)
    fit, _ = fit_sasrec(stranger, SMALL, validation=None, epochs=2)
    scores = fit.scores(100 * DAY)(np.array([90]))[0]
    counts = np.asarray(train.matrix().sum(0)).ravel()
    assert np.isfinite(scores).all()
    assert (np.diff(scores[np.argsort(counts, kind="stable")]) >= 0).all()


def test_nothing_to_learn_from_is_no_error() -> None:
    data = world(users=9)
    nobody = data.within([])
    fit, curve = fit_sasrec(nobody, SMALL, validation=None, epochs=1)
    assert curve.loss == [0.0]
    assert fit.scores(0)(np.arange(9)).shape == (9, data.num_items)
    assert fit.recall_at_20(data.within([VALIDATION])) == 0.0


def test_validation_chooses_the_epoch_and_a_fit_taken_up_again_ends_with_the_same_weights(tmp_path: Path) -> None:
    data = world(users=150)
    train, validation = data.within([TRAIN]), data.within([VALIDATION])
    settings = SMALL.model_copy(update={"max_epochs": 5, "dropout": 0.2})
    whole, whole_curve = fit_sasrec(train, settings, validation=validation)
    assert whole.recall_at_20(validation) == max(whole_curve.recall_at_20)

    class KilledError(Exception):
        pass

    def kill(done: int, most: int, curve: Curve) -> None:
        if done == 2:
            raise KilledError

    with pytest.raises(KilledError):
        fit_sasrec(train, settings, validation=validation, checkpoint=tmp_path, on_epoch=kill)
    resumed, curve = fit_sasrec(train, settings, validation=validation, checkpoint=tmp_path)
    assert (curve.loss, curve.recall_at_20) == (whole_curve.loss, whole_curve.recall_at_20)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_what_is_held_out_changes_nothing() -> None:
    data = world(users=90)
    poisoned = Interactions(
        data.user_row,
        np.where(data.split > 0, 0, data.item_row).astype(np.int32),
        data.timestamp,
        data.split,
        data.num_users,
        data.num_items,
    )
    fits = [fit_sasrec(d.within([TRAIN]), SMALL, validation=None, epochs=2)[0] for d in (data, poisoned)]
    first, second = (fit.scores(100 * DAY)(np.arange(90)) for fit in fits)
    np.testing.assert_array_equal(first, second)


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValidationError, match="heads"):
        SasRecSettings(dim=10, heads=4)
