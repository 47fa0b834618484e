"""Assignment of GPUs and threads to the processes of a reproduction."""

import os

import pytest
import torch

from palate.config.recipe import TrainSettings
from palate.errors import MismatchError, RecipeError
from palate.reproduce.places import VISIBLE, Places


@pytest.fixture
def four_gpus(monkeypatch):
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


def seen(places):
    """The GPUs that each process of each job sees, and its place among these."""
    return [
        [(one.get(VISIBLE), one.get("LOCAL_RANK")) for one in places.environments(job)]
        for job in range(places.jobs)
    ]


def test_each_cell_has_a_gpu_of_its_own(four_gpus):
    assert seen(Places.of("auto", 4)) == [[("0", None)], [("1", None)], [("2", None)], [("3", None)]]
    assert seen(Places.of("auto", 2)) == [[("0", None)], [("1", None)]]


def test_processes_of_a_cell_share_its_gpus_and_none_of_another(four_gpus):
    places = Places.of("auto", 2, 2)
    assert seen(places) == [[("0,1", "0"), ("0,1", "1")], [("2,3", "0"), ("2,3", "1")]]
    first, second = (list(places.environments(job)) for job in range(2))
    assert {one["WORLD_SIZE"] for one in first + second} == {"2"}
    assert len({one["MASTER_PORT"] for one in first}) == 1
    assert places.alone(1) == {VISIBLE: "2"}


def test_gpus_are_those_that_are_visible(four_gpus, monkeypatch):
    monkeypatch.setenv(VISIBLE, "5, 7")
    assert seen(Places.of("auto", 2)) == [[("5", None)], [("7", None)]]
    with pytest.raises(
        MismatchError, match="3 cells at a time in 1 processes each need 3 GPUs, and there are 2"
    ):
        Places.of("auto", 3)


def test_a_named_device_is_that_of_all_cells_but_not_of_several_processes(four_gpus):
    assert seen(Places.of("cuda:1", 2)) == [[(None, None)], [(None, None)]]
    with pytest.raises(MismatchError, match="--device cuda:1 cannot be used by 2 processes"):
        Places.of("cuda:1", 1, 2)


def test_on_a_cpu_each_process_has_its_share_of_threads(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert [Places.of("auto", *shape).threads for shape in ((1, 1), (4, 1), (2, 4), (32, 1))] == [16, 4, 2, 1]


def test_a_batch_that_processes_cannot_share_is_refused():
    with pytest.raises(RecipeError, match=r"only with train\.global_batch_size"):
        Places(1, 2, "cpu").check(TrainSettings())
    with pytest.raises(RecipeError, match="is 128, which is not divisible by 3 processes"):
        Places(1, 3, "cpu").check(TrainSettings(global_batch_size=128))
    Places(1, 8, "cpu").check(TrainSettings(global_batch_size=128))
