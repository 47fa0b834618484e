"""Recipes: inheritance, overrides, and errors that name the file, the key and the nearest valid one."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.config.load import differing_keys, dump_recipe, load_recipe
from palate.config.recipe import RandomT5Settings, Recipe, StreamingSettings, UEMSettings
from palate.errors import RecipeError

ROOT = Path(__file__).parents[2]
OF_PRETRAINING = ROOT / "recipes" / "pretrain.yaml"
RECIPES = sorted(
    {*(ROOT / "recipes").rglob("*.yaml"), *(ROOT / "src" / "palate").glob("*.yaml")} - {OF_PRETRAINING}
)


@pytest.fixture
def recipe_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "x.yaml") -> Path:
        Path(name).write_text(text, encoding="utf-8")
        return Path(name)

    return write


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_project_is_valid(path):
    assert load_recipe(path).name


def test_an_empty_recipe_is_the_defaults(recipe_file):
    assert load_recipe(recipe_file("")) == Recipe()


def test_only_what_differs_is_written(recipe_file):
    recipe = load_recipe(recipe_file("train:\n  max_steps: 7\nmodel:\n  user_encoder:\n    num_layers: 1\n"))
    assert recipe.train.max_steps == 7
    assert recipe.train.per_device_train_batch_size == Recipe().train.per_device_train_batch_size
    assert recipe.model.user_encoder.num_layers == 1
    assert recipe.model.backbone == Recipe().model.backbone


def test_another_kind_replaces_the_section(recipe_file):
    base = recipe_file(
        "model: {user_encoder: {kind: uem, num_heads: 2}, backbone: {kind: random-t5, d_model: 64}}"
    )
    recipe = load_recipe(base, ["model.user_encoder.kind=streaming", "model.backbone.num_heads=2"])
    assert recipe.model.user_encoder == StreamingSettings()
    assert recipe.model.backbone == RandomT5Settings(d_model=64, num_heads=2)


def test_a_kind_that_is_no_other_set_of_settings_leaves_the_settings_beside_it(recipe_file):
    path = recipe_file("windows: {kind: random, shortest: 5, longest: 12}")
    windows = load_recipe(path, ["windows.kind=recent"]).windows
    assert (windows.kind, windows.shortest, windows.longest) == ("recent", 5, 12)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["model.user_encoder.num_layers=7", "model.user_encoder.kind=uem"], UEMSettings(num_layers=7)),
        (
            ["model.user_encoder={kind: uem, num_heads: 2}", "model.user_encoder.num_layers=7"],
            UEMSettings(num_layers=7, num_heads=2),
        ),
        (
            ["model.user_encoder.num_queries=8", "model.user_encoder.d_model=16"],
            StreamingSettings(num_queries=8, d_model=16),
        ),
    ],
    ids=["another kind", "a section and a key", "the same kind"],
)
def test_the_order_of_overrides_does_not_matter(recipe_file, overrides, expected, backwards):
    path = recipe_file("model: {user_encoder: {kind: streaming}}")
    given = overrides[::-1] if backwards else overrides
    assert load_recipe(path, given).model.user_encoder == expected


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=2", "seed=3"], "--set seed=2 and --set seed=3 contradict each other; give one of them"),
        (
            ["train.max_steps=2", "train=null"],
            "--set train.max_steps=2 and --set train=null contradict each other",
        ),
        (
            ["train={max_steps: 2}", "seed=1", "train.max_steps=3"],
            "--set train={max_steps: 2} and --set train.max_steps=3 contra",
        ),
    ],
)
def test_overrides_that_contradict_each_other_are_refused(recipe_file, overrides, message):
    with pytest.raises(RecipeError, match=f"^{re.escape(message)}"):
        load_recipe(recipe_file(""), overrides)


def test_the_same_override_twice_is_one(recipe_file):
    assert (
        load_recipe(recipe_file(""), ["seed=2", "train={max_steps: 3}", "seed=2", "train.max_steps=3"]).seed
        == 2
    )


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_no_generator_takes_is_refused(recipe_file, seed):
    with pytest.raises(RecipeError, match=f"'seed' is {seed}, expected"):
        load_recipe(recipe_file(f"seed: {seed}"))


def test_overrides_are_yaml(recipe_file):
    path = recipe_file("seed: 1")
    overrides = ["train.learning_rate=1e-4", "train.max_minutes=null", "data.path=data/a=b", "seed=3"]
    recipe = load_recipe(path, overrides)
    assert recipe.train.learning_rate == 1e-4
    assert recipe.train.max_minutes is None
    assert recipe.data.path == Path("data/a=b")
    assert recipe.seed == 3


def test_a_mixture_of_questions_is_changed_by_kinds_and_taken_back_by_null(recipe_file):
    recipe_file("train: {questions: {preference: 0.5, rating: 0.5}, rounds: 2}", "base.yaml")
    changed = load_recipe(recipe_file("extends: base.yaml\ntrain: {questions: {rating: 0.2}}"))
    assert changed.train.questions == {"preference": 0.5, "rating": 0.2}
    fewer = load_recipe(recipe_file("extends: base.yaml"), ["train.questions.rating=null", "train.rounds=1"])
    assert fewer.train.questions == {"preference": 0.5}
    none = load_recipe(recipe_file("extends: base.yaml\ntrain: {questions: null, rounds: 1}"))
    assert none.train.questions == {}
    with pytest.raises(RecipeError, match=r"x\.yaml: 'train\.questions' .*set rounds=1"):
        load_recipe(recipe_file("extends: base.yaml\ntrain: {questions: null}", "x.yaml"))


def test_a_recipe_extends_another_beside_it(recipe_file, tmp_path):
    recipe_file("train: {max_steps: 5, per_device_train_batch_size: 4}\nseed: 9", "base.yaml")
    (tmp_path / "sub").mkdir()
    recipe_file("extends: ../base.yaml\ntrain: {max_steps: 6}", "sub/middle.yaml")
    recipe = load_recipe(recipe_file("extends: sub/middle.yaml\nname: top"))
    assert (recipe.name, recipe.seed, recipe.train.max_steps, recipe.train.per_device_train_batch_size) == (
        "top",
        9,
        6,
        4,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {step: 5}", "x.yaml: unknown key 'train.step'; did you mean 'train.max_steps'?"),
        ("learning_rate: 1", "x.yaml: unknown key 'learning_rate'; did you mean 'train.learning_rate'?"),
        (
            "model: {user_encoder: {kind: streaming, querys: 3}}",
            "x.yaml: unknown key 'model.user_encoder.querys'; did you mean 'model.user_encoder.num_queries'?",
        ),
        (
            "model: {backbone: {kind: t5, vocab_size: 300}}",
            "x.yaml: unknown key 'model.backbone.vocab_size'; kind 't5' has no such setting",
        ),
        ("data: {zzz: 1}", "x.yaml: unknown key 'data.zzz'; known keys here: path, protocol"),
        (
            "model: {backbone: {kind: gpt}}",
            "x.yaml: 'model.backbone.kind' is 'gpt', expected one of 'random-t5', 't5', 'causal'",
        ),
        ("windows: {kind: new}", "x.yaml: 'windows.kind' is 'new', expected 'recent' or 'random'"),
        ("evaluate: {window: 0}", "x.yaml: 'evaluate.window' is 0, expected greater than or equal to 1"),
        ("train: 5", "x.yaml: 'train' is 5, expected a section with keys of its own"),
        (
            "train: {max_steps: -1, per_device_train_batch_size: x}",
            "x.yaml: 'train.max_steps' is -1, expected greater than or equal to 0; "
            "'train.per_device_train_batch_size' is 'x', expected a valid integer, "
            "unable to parse string as an integer",
        ),
        (
            "seed: 0\ntrain: {max_steps: -1, stepz: 1}",
            "x.yaml: unknown key 'train.stepz'; did you mean 'train.max_steps'?; "
            "'train.max_steps' is -1, expected greater than or equal to 0",
        ),
        ("seed: 1\nname: a\nseed: 2", "x.yaml:3: not valid YAML: 'seed' occurs twice"),
        ("- 1", "x.yaml: found list, expected settings like 'seed: 0'"),
        ("extends: [a, b]", "x.yaml: 'extends' is ['a', 'b'], expected the path of one recipe"),
        ("extends: gone.yaml", "gone.yaml: no such recipe"),
        ("extends: x.yaml", "x.yaml: extends itself, through x.yaml; remove one 'extends'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(recipe_file, text, message):
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe_file(text))
    assert str(caught.value) == message


BOMB = "\n".join(["a0: &a0 [x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60))])

MERGES = "\n".join(["a0: &a0 {x: 1}", *(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 60))])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            BOMB,
            "x.yaml:1: not valid YAML: its aliases (*name) expand to too many values; write the values themselves",
        ),
        (
            MERGES,
            "x.yaml:1: not valid YAML: its aliases (*name) expand to too many values; write the values themselves",
        ),
        (
            "seed: &a [*a]",
            "x.yaml:1: not valid YAML: its aliases (*name) expand to too many values; write the values",
        ),
        ("seed: " + "[" * 10_000, "x.yaml: not valid YAML: nested too deeply"),
        ("\n\nseed: 0x" + "f" * 10_000, "x.yaml:3: not valid YAML: an integer has at most 64 bits"),
        ("seed: " + "9" * 10_000, "x.yaml: not valid YAML: Exceeds the limit (4300"),
        ("seed: " + ":".join(["59"] * 100), "x.yaml:1: not valid YAML: an integer has at most 64 bits"),
        ("#" * (1 << 21), "x.yaml: 2,097,152 bytes, expected a recipe of at most 1,048,576"),
    ],
    ids=["aliases", "merge keys", "cycle", "depth", "hexadecimal", "digits", "sexagesimal", "size"],
)
def test_yaml_that_would_expand_is_refused_in_one_line(recipe_file, text, message):
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe_file(text))
    assert str(caught.value).startswith(message)


def test_broken_yaml_is_named_with_its_line(recipe_file):
    with pytest.raises(RecipeError, match=r"x\.yaml:3: not valid YAML"):
        load_recipe(recipe_file("seed: 1\ntrain: [1\n"))


def test_text_that_is_not_utf8(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"name: \xff")
    with pytest.raises(RecipeError, match="expected UTF-8"):
        load_recipe(tmp_path / "x.yaml")


@pytest.mark.parametrize("override", ["train.max_steps", "=3", "train..steps=3", ".=1"])
def test_an_override_is_key_and_value(recipe_file, override):
    with pytest.raises(RecipeError, match=r"expected key=value, for example train\.max_steps=500"):
        load_recipe(recipe_file(""), [override])


def test_an_error_names_where_the_value_comes_from(recipe_file):
    recipe_file("train: {max_steps: -1}", "base.yaml")
    top = recipe_file("extends: base.yaml")
    with pytest.raises(RecipeError, match=r"^base\.yaml: 'train\.max_steps' is -1"):
        load_recipe(top)
    with pytest.raises(RecipeError, match=r"^--set train\.max_steps=-1: 'train\.max_steps' is -1"):
        load_recipe(top, ["train.max_steps=-1"])


def test_all_that_is_wrong_is_said_by_where_it_comes_from(recipe_file):
    path = recipe_file("train: {max_steps: -1, gradient_accumulation_steps: 0}\nwindows: {kind: new}")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, ["evaluate.windw=5", "train.rounds=0"])
    assert str(caught.value) == (
        "--set evaluate.windw=5: unknown key 'evaluate.windw'; did you mean 'evaluate.window'?; "
        "x.yaml: 'windows.kind' is 'new', expected 'recent' or 'random'; "
        "'train.max_steps' is -1, expected greater than or equal to 0; "
        "'train.gradient_accumulation_steps' is 0, expected greater than or equal to 1; "
        "--set train.rounds=0: 'train.rounds' is 0, expected greater than or equal to 1"
    )


@given(
    seed=st.integers(0, 2**32 - 1),
    name=st.text(max_size=20),
    rate=st.floats(1e-12, 1e3),
    kind=st.sampled_from(["uem", "streaming"]),
)
def test_a_dumped_recipe_is_read_back_the_same(tmp_path_factory, seed, name, rate, kind):
    settings = {"seed": seed, "name": name, "train": {"learning_rate": rate}}
    recipe = Recipe.model_validate({**settings, "model": {"user_encoder": {"kind": kind}}})
    path = tmp_path_factory.mktemp("recipes") / "recipe.yaml"
    path.write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(path) == recipe


def test_differing_keys_are_dotted(recipe_file):
    path = recipe_file("")
    changed = load_recipe(path, ["seed=4", "train.max_steps=3", "model.user_encoder.kind=streaming"])
    keys = differing_keys(load_recipe(path), changed)
    assert keys[0] == "seed"
    assert {"train.max_steps", "model.user_encoder.kind", "model.user_encoder.num_queries"} <= set(keys)
    assert differing_keys(changed, changed) == []


def test_a_kind_within_a_kind_is_replaced_by_another_and_merged_with_itself(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "model: {user_encoder: {kind: equipped, d_model: 32, encoder: {kind: uem, num_heads: 2, d_ff: 64}}}\n"
    )
    base = load_recipe(tmp_path / "base.yaml", ["model.user_encoder.encoder.num_layers=1"]).model.user_encoder
    assert (base.encoder.kind, base.encoder.num_layers, base.encoder.num_heads) == ("uem", 1, 2)
    (tmp_path / "other.yaml").write_text(
        "extends: base.yaml\nmodel: {user_encoder: {encoder: {kind: mlp, d_ff: 16}}}\n"
    )
    other = load_recipe(tmp_path / "other.yaml").model.user_encoder
    assert (other.d_model, other.encoder.kind, other.encoder.d_ff) == (32, "mlp", 16)
