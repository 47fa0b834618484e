"""A folded log equals the model's states of each user's events, for any partition and engine."""

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from logs import DATA, SCALE, USERS, Row, history_of, last_rows, model_of, write_log
from typer.testing import CliRunner

from palate.cli.app import app
from palate.config.recipe import Recipe
from palate.errors import DataError, MismatchError, OutputError, UnknownUserError
from palate.fold.job import FoldOptions, fold_log
from palate.fold.manifest import read_fold_manifest
from palate.fold.projections import builder_of
from palate.fold.read import load_states
from palate.fold.state_files import read_columns, read_users
from palate.recommend.train import train_recommender
from tiny import prepare_tiny

KINDS = ("counts", "latent", "streaming")
LOCAL = FoldOptions(workers=1, blocks=3)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Models by kind and whether they keep repeated events, and the folders that they are saved in."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for kind in KINDS:
        for repeats in (False, True):
            model = model_of(kind, repeats)
            place = folder / f"{kind}-{repeats}"
            model.save_pretrained(place)
            found[kind, repeats] = (model, place)
    return found


def rows_of(ids):
    """Rows of a log; those with an id of their own, or without one."""
    rows = st.tuples(
        st.sampled_from(USERS),
        st.integers(0, len(DATA.item_ids) - 1),
        st.integers(0, len(SCALE) - 1),
        st.integers(0, 40),
        st.booleans(),
    )
    return st.lists(rows, min_size=1, max_size=60).map(
        lambda some: [
            Row(
                user,
                item,
                value,
                1_700_000_000 + 1000 * time,
                f"{number}" if ids else "",
                gone and number % 3 == 0,
            )
            for number, (user, item, value, time, gone) in enumerate(some)
        ]
    )


def assert_states_are(folder, model, rows, repeats=False):
    """Each user's state is the one that the model makes of the events that count."""
    states, expected = load_states(folder, model), last_rows(rows, repeats)
    assert sorted(states.user_ids()) == sorted(user for user, some in expected.items() if some)
    for user, some in expected.items():
        mine, its = states.state(user), model.new_state()
        history = history_of(user, some)
        repeating = model.settings.repeats
        assert len(history) == len(history.latest(repeats=repeating))
        its.add(history)
        assert len(mine) == len(some)
        if hasattr(its._state, "counts"):
            without = [replace(one._state, latent=None).to_bytes(model.table) for one in (mine, its)]
            assert without[0] == without[1]
        assert_close(*(getattr(one._state, "latent", one._state) for one in (mine, its)))
        assert torch.allclose(mine.prompt(), its.prompt(), atol=1e-5)


def assert_close(mine, its):
    if mine is None:
        return
    assert torch.equal(mine.exponent, its.exponent)
    assert torch.equal(mine.count, its.count)
    assert torch.equal(mine.newest, its.newest)
    torch.testing.assert_close(mine.sums + mine.rest, its.sums + its.rest, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(mine.peak, its.peak, rtol=1e-6, atol=1e-5)


def fold(tmp, name, logs, run, options=LOCAL, previous=None):
    files = [write_log(tmp / f"{name}-{number}.csv", rows) for number, rows in enumerate(logs)]
    fold_log(files, run, tmp / name, options, previous=previous)
    return tmp / name


@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6, phases=[Phase.generate])
@given(data=st.data())
def test_a_fold_is_what_the_model_reads_for_any_cut(runs, tmp_path_factory, kind, repeats, data):
    """Whole, in files of any order folded at once, and in batches folded one after the other."""
    model, run = runs[kind, repeats]
    rows = data.draw(rows_of(data.draw(st.booleans())))
    tmp = tmp_path_factory.mktemp("fold")
    whole = fold(tmp, "whole", [rows], run)
    assert_states_are(whole, model, rows, repeats)
    shuffled = data.draw(st.permutations(rows))
    cut = data.draw(st.integers(1, len(rows)))
    blocks = data.draw(st.integers(1, 4))
    parts = [part for part in (shuffled[:cut], shuffled[cut:]) if part]
    together = fold(tmp, "together", parts, run, replace(LOCAL, blocks=blocks))
    first = fold(tmp, "first", parts[:1], run)
    # a row that was folded already changes nothing
    later = fold(
        tmp, "later", [[*shuffled[cut:], *shuffled[: cut // 2 + 1]]], run, replace(LOCAL, blocks=None), first
    )
    assert states_of(together) == states_of(whole) == states_of(later)
    assert read_fold_manifest(later).digest == read_fold_manifest(whole).digest


def states_of(folder):
    """The bytes of each user's state, by part."""
    parts = tuple(read_fold_manifest(folder).parts)
    found = {}
    for file in sorted((folder / "states").iterdir()):
        columns = read_columns(file, parts)
        for row, user in enumerate(read_users(file)):
            each = [(content, *offsets[row : row + 2]) for offsets, content in columns.parts.values()]
            found[user] = [content[start:stop].tobytes() for content, start, stop in each]
    return found


LOG = [
    Row("anna", 0, 2, 1_700_000_000, "a"),
    Row("anna", 1, 3, 1_700_000_100, "b"),
    Row("anna", 2, 1, 1_700_000_200, "c"),
    Row("bo", 1, 2, 1_700_000_300, "d"),
]
LATER = {
    "folded twice": [LOG[1]],
    "re-rated": [Row("anna", 1, 0, 1_700_000_400, "e")],
    "late": [Row("anna", 3, 0, 1_600_000_000, "f"), Row("anna", 0, 0, 1_600_000_000, "g")],
    "deleted": [Row("anna", 1, 0, 1_700_000_500, "", True)],
    "deleted and back": [Row("bo", 1, 0, 1_700_000_500, "", True), Row("bo", 1, 1, 1_700_000_600, "h")],
    "its last event deleted": [Row("bo", 1, 0, 1_700_000_500, "", True)],
    "of another item": [Row("anna", 4, 2, 1_700_000_250, "c")],
    "a new user": [Row("Ω", 4, 2, 1_700_000_250, "i")],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", LATER)
def test_what_comes_later_changes_the_states_of_its_users_alone(runs, tmp_path, kind, what):
    model, run = runs[kind, False]
    first = fold(tmp_path, "first", [LOG], run)
    later = fold(tmp_path, "later", [LATER[what]], run, replace(LOCAL, blocks=None), first)
    assert_states_are(later, model, [*LOG, *LATER[what]])
    whole = fold(tmp_path, "whole", [[*LOG, *LATER[what]]], run)
    assert read_fold_manifest(later).digest == read_fold_manifest(whole).digest
    rebuilt = sum(one.rebuilt for one in read_fold_manifest(later).blocks)
    gone = what == "its last event deleted"
    assert rebuilt == (0 if what == "folded twice" or gone else len({row.user for row in LATER[what]}))


def test_an_item_of_other_categories_rebuilds_those_who_have_it(runs, tmp_path):
    model, run = runs["counts", False]
    first = fold(tmp_path, "first", [LOG], run)
    membership = model.table.membership.copy()
    membership[2] = membership[2][::-1]
    assert (membership != model.table.membership).any()
    other = model_of("counts")
    other.table = replace(model.table, membership=membership)
    other.save_pretrained(tmp_path / "retagged")
    later = fold(
        tmp_path, "later", [[LATER["late"][0]]], tmp_path / "retagged", replace(LOCAL, blocks=None), first
    )
    whole = fold(tmp_path, "whole", [[*LOG, LATER["late"][0]]], tmp_path / "retagged")
    assert read_fold_manifest(later).digest == read_fold_manifest(whole).digest
    assert sum(one.rebuilt for one in read_fold_manifest(later).blocks) == 1  # anna, who has item 2; not bo
    with pytest.raises(MismatchError, match="other weights or items"):
        load_states(first, other)


def test_states_are_refused_by_a_model_of_other_weights(runs, tmp_path):
    _, run = runs["streaming", False]
    folder = fold(tmp_path, "states", [LOG], run)
    other = model_of("streaming")
    with torch.no_grad():
        other.user_encoder.reader.key.weight.add_(1)
    with pytest.raises(MismatchError, match="other weights or items"):
        load_states(folder, other)


def test_an_id_that_stands_for_two_events_at_one_time_is_refused(runs, tmp_path):
    _, run = runs["counts", False]
    rows = [*LOG, Row("anna", 4, 2, LOG[2].time, "c")]
    with pytest.raises(DataError, match="user 'anna' has two events with the same id and time"):
        fold(tmp_path, "states", [rows], run)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("anna,1,2.2,5,,", "log.csv:6: the rating 2.2 is not on the model's scale"),
        ("anna,1,,5,,", "log.csv:6: no rating in column 'rating'"),
        (",1,3,5,,", "log.csv:6: no user in column 'user_id'"),
        ("anna,1,3,soon,,", "log.csv:6: the time 'soon' differs in format from most of the column"),
    ],
)
def test_a_bad_row_is_named_or_left_out(runs, tmp_path, line, said):
    model, run = runs["counts", False]
    log = write_log(tmp_path / "log.csv", LOG)
    log.write_text(log.read_text().rstrip("\n") + f"\n{line}\n")
    with pytest.raises(DataError, match=said.replace(".", r"\.")):
        fold_log([log], run, tmp_path / "states", LOCAL)
    assert not (tmp_path / "states").exists()
    own = LOCAL.own.model_copy(update={"skip_bad_rows": True})
    manifest = fold_log([log], run, tmp_path / "states", replace(LOCAL, own=own))
    assert [(one.rows, one.bad_rows) for one in manifest.logs] == [(4, 1)]
    assert_states_are(tmp_path / "states", model, LOG)


def test_events_of_unknown_items_are_counted_and_told(runs, tmp_path):
    _, run = runs["counts", False]
    log = write_log(tmp_path / "log.csv", LOG)
    log.write_text(log.read_text() + "anna,no such item,3,1700000000,,\n")
    said = []
    manifest = fold_log([log], run, tmp_path / "states", LOCAL, say=said.append)
    assert [one.unknown_items for one in manifest.logs] == [1]
    assert "skipped 1 event: their items are not in the model's catalogue" in said


def test_what_cannot_be_folded_is_refused_before_a_file_is_read(runs, tmp_path):
    _, run = runs["counts", False]
    log = write_log(tmp_path / "log.csv", LOG)
    (tmp_path / "timeless.csv").write_text("user_id,item_id,rating\nanna,1,3\n")
    with pytest.raises(DataError, match="there is no time column"):
        fold_log([tmp_path / "timeless.csv"], run, tmp_path / "states")
    with pytest.raises(DataError, match="expected a folder that palate fold wrote"):
        fold_log([log], run, tmp_path / "states", previous=tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(OutputError, match="not empty"):
        fold_log([log], run, tmp_path / "full")
    _, streaming = runs["streaming", False]
    folder = fold(tmp_path, "counted", [LOG], run)
    with pytest.raises(MismatchError, match=r"'universal' user encoder, and .* has a 'streaming' one"):
        fold_log([log], streaming, tmp_path / "states", previous=folder)


def test_a_recommenders_run_is_refused_by_name(tmp_path):
    log = write_log(tmp_path / "log.csv", LOG)
    prepare_tiny(tmp_path)
    settings = {"texts": False, "rounds": 1, "rating_rank": 2, "rating_iterations": 3}
    recipe = Recipe(data={"path": tmp_path / "data"}, recommend=settings, train={"threads": 1})
    run = train_recommender(recipe, tmp_path / "recommender")
    with pytest.raises(MismatchError, match=r"is a recommender's run.* palate recommend RUN --all"):
        fold_log([log], run, tmp_path / "states")
    assert not (tmp_path / "states").exists()


def test_a_user_without_events_is_unknown(runs, tmp_path):
    model, run = runs["counts", False]
    states = load_states(fold(tmp_path, "states", [LOG], run), model)
    assert len(states) == 2
    with pytest.raises(UnknownUserError, match="no user 'nobody'"):
        states.state("nobody")


def test_prompts_are_made_on_demand(runs, tmp_path):
    model, run = runs["latent", False]
    states = load_states(fold(tmp_path, "states", [LOG], run), model)
    made = {
        user: one
        for users, prompt in states.prompts(1)
        for user, one in zip(users, prompt.split(), strict=True)
    }
    for user, one in made.items():
        assert torch.equal(one, states.state(user).prompt())
    assert len(made) == 2


def test_numbers_and_texts_are_the_same_users_and_items(runs, tmp_path):
    """Parquet with numbers as ids, and times as dates, folds as CSV does."""
    import polars as pl

    _, run = runs["counts", False]
    rows = [replace_user(row, "7") for row in LOG[:3]]
    csv = fold(tmp_path, "text", [rows], run)
    table = pl.DataFrame(
        {
            "user_id": [7] * 3,
            "item_id": [DATA.item_ids[row.item] for row in rows],
            "rating": [SCALE[row.value] for row in rows],
            "timestamp": pl.Series([row.time * 1000 for row in rows]).cast(pl.Datetime("ms")),
            "event_id": [row.event for row in rows],
        }
    )
    table.write_parquet(tmp_path / "log.parquet")
    fold_log([tmp_path / "log.parquet"], run, tmp_path / "numbers", LOCAL)
    assert states_of(tmp_path / "numbers") == states_of(csv)


def replace_user(row, user):
    return row._replace(user=user)


def test_fields_of_latent_records_are_those_of_a_user_state():
    from palate.encoders.state import UserState
    from palate.fold.projections import builder_of

    names = builder_of(model_of("streaming")).latent.record.names
    assert list(names) == [one.name for one in fields(UserState)]


def test_the_command_folds_and_adds_to_a_fold(runs, tmp_path):
    model, run = runs["counts", False]
    log = write_log(tmp_path / "log.csv", LOG)
    day = write_log(tmp_path / "day.csv", LATER["re-rated"])
    made = asked(log, "--run", run, "--out", tmp_path / "monday", "--workers", 1)
    assert made.stdout == f"2 users: 4 events in {tmp_path / 'monday'}\n"
    assert (
        "events: user user_id, item item_id, rating rating, time timestamp, event id event_id" in made.stderr
    )
    assert (
        asked(day, "--run", run, "--out", tmp_path / "tuesday", "--previous", tmp_path / "monday").exit_code
        == 0
    )
    assert_states_are(tmp_path / "tuesday", model, [*LOG, *LATER["re-rated"]])
    again = asked(day, "--run", run, "--out", tmp_path / "tuesday", "--previous", tmp_path / "monday")
    assert (again.exit_code, "is not empty" in again.stderr) == (2, True)


def asked(*arguments):
    return CliRunner().invoke(app, ["fold", *map(str, arguments)])


def test_threads_of_the_process_do_not_change_what_states_are_made_of():
    model, before, made = model_of("latent"), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            made.append(builder_of(model).to_bytes())
    finally:
        torch.set_num_threads(before)
    assert made[0] == made[1] == made[2]
