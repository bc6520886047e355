from dataclasses import replace

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from harness.data.rows import ArrayRows
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import TrainingSet
from harness.tricks.mixing import mixup_knn
from harness.tricks.mixing.mixup_knn import MixupKnn, nearest


class TestMixupKnn(TrickConformance):
    trick = MixupKnn


CPU = torch.device("cpu")
LINE = torch.tensor([0, 1, 3, 7], dtype=torch.uint8).view(4, 1, 1, 1)


def found_in(images, k, label=None):
    return nearest(ArrayRows(images), k, CPU, label)


def prepared(trick, **kwargs):
    """A run whose training image i is constant i and has index 100 + i."""
    run = tiny_run()
    images = torch.arange(80, dtype=torch.uint8).view(80, 1, 1, 1).expand(80, 8, 8, 1)
    label = kwargs.get("label", torch.arange(80) % 10)
    run.train = TrainingSet(images=images, label=label, index=100 + torch.arange(80), peak=100)
    trick.prepare(run)
    return run


def batch_of(rows):
    rows = torch.tensor(rows)
    batch = tiny_batch(n=len(rows))
    x = (rows / 100).view(-1, 1, 1, 1).expand_as(batch.x)
    label = rows % 10
    return replace(batch, x=x, label=label, y=torch.eye(10)[label], index=100 + rows)


def test_neighbours_by_hand():
    found = found_in(LINE, 2)
    assert found.table.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert found.valid.tolist() == [2, 2, 2, 2]


def test_neighbours_of_the_same_class_by_hand():
    found = found_in(LINE, 2, torch.tensor([0, 1, 0, 0]))
    assert found.valid.tolist() == [2, 1, 2, 2]
    assert [found.table[i, : found.valid[i]].tolist() for i in range(4)] == [[2, 3], [1], [0, 3], [2, 0]]


def random_images(n=100):
    return torch.randint(0, 256, (n, 8, 8, 1), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize(("block", "images"), [(1024, 100), (32, 100), (1024, 9), (4, 9), (1024, 1)])
def test_agrees_with_scikit_learn_also_across_blocks_and_pieces(block, images, monkeypatch):
    monkeypatch.setattr(mixup_knn, "BLOCK", block)
    monkeypatch.setattr(mixup_knn, "PIECE_BYTES", images * 64 * 4)
    expected = NearestNeighbors(n_neighbors=8).fit(random_images().flatten(1)).kneighbors(return_distance=False)
    assert found_in(random_images(), 7).table.tolist() == expected[:, :7].tolist()


def test_pieces_find_the_neighbours_of_a_class_too(monkeypatch):
    label = torch.arange(100) % 3
    label[5] = 3
    whole = found_in(random_images(), 40, label)
    monkeypatch.setattr(mixup_knn, "PIECE_BYTES", 9 * 64 * 4)
    pieces = found_in(random_images(), 40, label)
    assert torch.equal(whole.valid, pieces.valid)
    assert int(whole.valid[5]) == 1
    assert int(whole.table[5, 0]) == int(pieces.table[5, 0]) == 5
    for i in range(100):
        assert torch.equal(whole.table[i, : whole.valid[i]], pieces.table[i, : whole.valid[i]])


def test_never_holds_more_images_than_a_piece(monkeypatch):
    taken = []

    class Watched(ArrayRows):
        def take(self, index):
            taken.append(len(index))
            return super().take(index)

    monkeypatch.setattr(mixup_knn, "PIECE_BYTES", 9 * 64 * 4)
    nearest(Watched(random_images()), 7, CPU)
    assert max(taken) == 9
    taken.clear()
    monkeypatch.setattr(mixup_knn, "PIECE_BYTES", 100 * 64 * 4)
    nearest(Watched(random_images()), 7, CPU)
    assert taken == [100], "what fits is read once"


@pytest.mark.parametrize(("scope", "reach"), [("all", 4), ("class", 40)])
def test_partners_are_neighbours(scope, reach):
    """Pixels name the weight-averaged position; the target says the weight, so the partner can be read."""
    trick = MixupKnn(scope=scope, share=0.05)  # 4 of 80, so the floor of 5 rules
    run, rows = prepared(trick), list(range(30, 38))
    partners = set()
    for _ in range(40):
        batch = batch_of(rows)
        mixed = trick.batch(batch, run)
        own = mixed.y[torch.arange(8), batch.label]
        if scope == "class":
            assert torch.allclose(mixed.y, batch.y)
            assert ((mixed.x - batch.x).abs() <= reach / 100 + 1e-6).all()
            continue
        for i, row in enumerate(rows):
            weight = float(own[i])
            if weight < 0.95:
                partner = (float(mixed.x[i].mean()) * 100 - weight * row) / (1 - weight)
                assert abs(partner - round(partner)) < 0.01
                assert 1 <= abs(round(partner) - row) <= 3  # five neighbours: two sides, ties broken once
                assert mixed.y[i, round(partner) % 10] == pytest.approx(1 - weight, abs=1e-5)
                partners.add(round(partner) - row)
    assert scope == "class" or len(partners) >= 5


def test_all_others_as_neighbours_are_uniform_partners():
    trick = MixupKnn(share=1.0)
    run = prepared(trick)
    state = run.state["mixup_knn"]

    assert state.neighbours.table.shape == (80, 79)
    for i in (0, 40):
        assert set(state.neighbours.table[i].tolist()) == set(range(80)) - {i}


@pytest.mark.parametrize("target", ["mixed", "closer"])
def test_targets(target):
    trick = MixupKnn(target=target)
    run, hard = prepared(trick), []
    for _ in range(30):
        y = trick.batch(batch_of([10, 20]), run).y
        hard.append(bool(((y == 0) | (y == 1)).all()))
    assert all(hard) == (target == "closer")


def test_lonely_image_meets_itself():
    label = torch.arange(80) % 9 + 1
    label[17] = 0
    trick = MixupKnn(scope="class")
    run = prepared(trick, label=label)
    batch = replace(batch_of([17]), y=torch.eye(10)[[0]], label=torch.tensor([0]))
    mixed = trick.batch(batch, run)
    torch.testing.assert_close(mixed.x, batch.x)
    torch.testing.assert_close(mixed.y, batch.y)
