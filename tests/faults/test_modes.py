"""File permissions follow the umask, whichever library writes."""

import pytest
from world import NAMES

pytestmark = pytest.mark.slow
EVERYTHING = (*NAMES, "evaluate", "inspect")


def unexpected(folder, umask):
    """What has another mode than a new file or folder."""
    return {
        str(path.relative_to(folder)): oct(path.stat().st_mode & 0o777)
        for path in folder.rglob("*")
        if path.stat().st_mode & 0o777 != (0o777 if path.is_dir() else 0o666) & ~umask
    }


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_all_files_of_all_commands(new_world, whole, umask):
    assert_follows(new_world, whole, umask)


def assert_follows(new_world, whole, umask):
    """Prepare, train with a break, export, evaluate and inspect under a umask."""
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
