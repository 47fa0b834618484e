"""Damaged checkpoints: training resumes from intact ones, with the same result as an undisturbed one."""

import shutil

import pytest
from test_damaged_files import bar, empty, make_a_folder_of, remove, truncate


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    path.write_bytes(content)


pytestmark = pytest.mark.slow
DAMAGES = (flip_a_bit, empty, truncate, remove, make_a_folder_of, bar)


def ends_otherwise(new_world, whole, unfinished, place, damages):
    """By file and damage, what was wrong with a training that found it."""
    undisturbed, wrong = whole[0], {}
    files = [path.relative_to(unfinished.folder) for path in unfinished.folder.glob(place) if path.is_file()]
    assert files
    for file in sorted(files):
        for damage in damages:
            world = new_world().take(unfinished, "prepare", "train")
            damage(world.folder / file)
            ended = world.do("train", bound=True)
            if not ended.in_order or ended.code:
                wrong[str(file), damage.__name__] = f"exit code {ended.code}: {ended.said}"
            elif found := world.differs_from(undisturbed, "train"):
                wrong[str(file), damage.__name__] = found
            world.remove()
    return wrong


def test_a_damaged_checkpoint_is_not_gone_on_from(new_world, whole, unfinished):
    assert ends_otherwise(new_world, whole, unfinished, "run/checkpoints/**/*", DAMAGES) == {}


def test_damaged_vectors_are_encoded_again(new_world, whole):
    undisturbed, wrong = whole[0], {}
    chunks = sorted(undisturbed.folder.glob("cache/*/*.safetensors"))
    for damage in DAMAGES:
        world = new_world().take(undisturbed, "prepare")
        shutil.copytree(undisturbed.folder / "cache", world.folder / "cache")
        damage(world.folder / chunks[0].relative_to(undisturbed.folder))
        ended = world.do("train", bound=True)
        items = [one.folder / "run" / "model" / "items" / "items.safetensors" for one in (world, undisturbed)]
        if ended.code or items[0].read_bytes() != items[1].read_bytes():
            wrong[damage.__name__] = ended.output
    assert wrong == {}
