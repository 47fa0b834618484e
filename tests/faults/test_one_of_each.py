"""One fault of each kind; ``pytest -m slow tests/faults`` injects all of them."""

import errno
import signal

from test_disks import goes_wrong
from test_kills import killed_and_given_again
from test_modes import assert_follows
from test_signals import SAID, stopped
from test_two_at_once import assert_second_refused
from test_unfinished import ends_otherwise, flip_a_bit


def test_killed_commands_end_as_if_nothing_had_happened(new_world, whole):
    undisturbed, operations = whole
    moments = {"prepare": 0.5, "train": 0.4, "export": 0.6}
    for name, share in moments.items():
        assert killed_and_given_again(new_world, undisturbed, name, int(operations[name] * share)) == ""


def test_a_full_disk_is_told_and_the_next_command_succeeds(new_world, whole):
    undisturbed, operations = whole
    fault = {"at": operations["train"] // 4, "error": errno.ENOSPC}
    assert goes_wrong(new_world, undisturbed, "train", fault) == ""
    assert goes_wrong(new_world, undisturbed, "export", {"largest": 3000}) == ""


def test_a_signal_ends_a_command_in_order(new_world, whole):
    _, ended = stopped(new_world, whole, "train", 0.6, signal.SIGTERM)
    assert (ended.code, ended.said) == (143, SAID["train"])
    assert "Traceback" not in ended.output


def test_a_second_training_is_refused_and_the_first_not_disturbed(new_world, whole):
    assert_second_refused(new_world, whole, "train")


def test_a_damaged_checkpoint_is_not_gone_on_from(new_world, whole, unfinished):
    place = "run/checkpoints/checkpoint-4/optimizer.pt"
    assert ends_otherwise(new_world, whole, unfinished, place, [flip_a_bit]) == {}


def test_all_files_follow_the_umask(new_world, whole):
    assert_follows(new_world, whole, 0o022)


def test_a_model_of_another_user_that_may_not_be_read_says_so(new_world, whole):
    world = new_world().take(whole[0], "prepare", "train")
    (world.run_folder / "model" / "model.safetensors").chmod(0)
    ended = world.do("generate", bound=True)
    assert ended.in_order
    assert "model.safetensors: cannot be read (Permission denied); let this user read it" in ended.said
