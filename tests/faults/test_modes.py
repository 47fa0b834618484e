"""Who may read what palate writes follows the umask, whichever library writes it."""

import pytest
from world import NAMES

EVERYTHING = (*NAMES, "evaluate", "inspect")


def unexpected(folder, umask):
    """What has another mode than a new file or folder."""
    return {
        str(path.relative_to(folder)): oct(path.stat().st_mode & 0o777)
        for path in folder.rglob("*")
        if path.stat().st_mode & 0o777 != (0o777 if path.is_dir() else 0o666) & ~umask
    }


@pytest.mark.parametrize(
    "umask",
    [0o022, pytest.param(0o002, marks=pytest.mark.slow), pytest.param(0o077, marks=pytest.mark.slow)],
)
def test_all_files_of_all_commands(new_world, whole, umask):
    _, operations = whole
    world = new_world()
    for path in (world.folder, world.folder / "recipe.yaml"):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
    world.do("prepare", umask=umask)
    world.do("train", at=operations["train"] * 3 // 4, umask=umask)  # so that there are checkpoints
    assert list(world.run_folder.glob("checkpoints/checkpoint-*/complete.json"))
    assert unexpected(world.folder, umask) == {}
    for name in EVERYTHING[1:]:
        assert world.do(name, umask=umask).code == 0
    assert unexpected(world.folder, umask) == {}


def test_a_model_of_another_user_that_may_not_be_read_says_so(new_world, whole):
    world = new_world().take(whole[0], "prepare", "train")
    (world.run_folder / "model" / "model.safetensors").chmod(0)
    ended = world.do("generate", bound=True)
    assert ended.in_order
    assert "model.safetensors: cannot be read (Permission denied); let this user read it" in ended.said
