"""Public names: signatures, docstrings, and working examples in docstrings."""

import doctest
import inspect
import json

import numpy as np
import pytest

import palate
from tiny import save_tiny_encoder, tiny_recipe, with_own_registries

SIGNATURES = {
    "evaluate": (
        "(entries: 'Sequence[Entry]', data: 'Dataset | Path | str | None' = None, *, split: 'Split' = 'test', "
        "windows: 'Sequence[int] | int | None' = None, window_kind: 'WindowKind | None' = None, seed: 'int' = 0, "
        "bare: 'bool' = False, controls: 'bool' = False, transfer: 'bool' = False, "
        "device: 'str | torch.device' = 'auto', users: 'UserChoice' = 'partly', "
        "truth: 'Truth | Sequence[Truth]' = 'labels', rule: 'LabelRule | None' = None, "
        "calibration: 'bool' = False, promise: 'float | None' = None) -> 'EvaluationTable'"
    ),
    "load_answerer": (
        "(run: 'Path | str', recommender: 'Path | str | None' = None, *, "
        "data: 'Dataset | Path | str | None' = None, device: 'str | torch.device' = 'auto', "
        "writer: 'str | SentenceWriter | None' = None) -> 'Answerer'"
    ),
    "load_dataset": "(path: 'Path | str') -> 'Dataset'",
    "load_model": (
        "(run: 'Path | str', backbone: 'str | None' = None, *, data: 'Dataset | Path | str | None' = None, "
        "device: 'str | torch.device' = 'auto', "
        "dtype: 'str | torch.dtype | None' = None, constrained: 'bool | None' = None, "
        "revision: 'str | None' = None) -> 'PersonalizedModel'"
    ),
    "load_recipe": "(path: 'Path | str', overrides: 'Sequence[str]' = ()) -> 'Recipe'",
    "load_recommender": "(run: 'Path | str', *, revision: 'str | None' = None) -> 'Recommender'",
    "rank": (
        "(entries: 'Sequence[str | Path | tuple[str, Ranker]]', data: 'Dataset | Path | str', *, "
        "protocol: 'RankingProtocol' = 'leave-last-out', candidates: 'str | int | Path' = 'all', trials: 'int' = 4, "
        "seed: 'int' = 0, keep_seen: 'bool' = False, versus: 'str | None' = None, seeds: 'int' = 1, "
        "users: 'int | None' = None, report: 'Callable[[str], None] | None' = None) -> 'RankingTable'"
    ),
    "read_history": (
        "(path: 'Path | str', unrated: 'Unrated' = None, may_be_empty: 'bool' = False) "
        "-> 'tuple[History, list[Item]]'"
    ),
    "read_prompts": "(folder: 'Path | str', run: 'Path | str | None' = None) -> 'Prompts'",
    "register_predictor": "(name: 'str', build: 'PredictorFactory') -> 'None'",
    "register_ranker": (
        "(kind: 'str', build: 'Callable[[Any], Ranker]', settings: 'type[KindSettings]', "
        "trials: 'Sequence[Mapping[str, Any]]' = ({},)) -> 'None'"
    ),
    "register_task": "(kind: 'str', task: 'type[CategoryPreference]', settings: 'type[KindSettings]') -> 'None'",
    "register_user_encoder": (
        "(kind: 'str', encoder: 'Callable[[Any, EncoderSizes], nn.Module]', settings: 'type[KindSettings]') "
        "-> 'None'"
    ),
    "score_ratings": (
        "(entries: 'Sequence[str | Path | tuple[str, RatingPredictor]]', data: 'Dataset | Path | str', *, "
        "protocol: 'RatingProtocol' = 'new-users', visible: 'Sequence[int]' = (10, 20, 50, 100), "
        "kind: 'WindowKind' = 'random', periods: 'tuple[int, int] | None' = None, trials: 'int' = 4, "
        "seed: 'int' = 0, versus: 'str | None' = None, seeds: 'int' = 1, "
        "report: 'Callable[[str], None] | None' = None) -> 'RatingTable'"
    ),
    "train": (
        "(recipe: 'Recipe | Path | str | Mapping[str, Any]', data: 'Dataset | Path | str | None' = None, "
        "out: 'Path | str | None' = None, *, device: 'str | torch.device' = 'auto', progress: 'bool' = False, "
        "report: 'Callable[[str], None] | None' = None) -> "
        "'PersonalizedModel | Recommender | TrainedPepler | GenerativeRecommender'"
    ),
}
"""Those of functions, in full; the two with the most settings are named by what they begin with below."""
BEGIN = {
    "export_prompts": "(run: 'Path | str', histories: 'Iterable[History]', out: 'Path | str', *, instructions:",
    "prepare": "(source: 'str | Path | Sequence[str | Path] | TableLike', out: 'Path | str', *, items:",
}
CLASSES = {
    "Answerer",
    "Client",
    "Dataset",
    "EvaluationTable",
    "History",
    "Item",
    "KindSettings",
    "OwnData",
    "PalateError",
    "PersonalizedModel",
    "RankingTable",
    "RatingTable",
    "Recipe",
    "Recommender",
}
FUNCTIONS = sorted({*SIGNATURES, *BEGIN})


class SaysNothing:
    name = "says nothing"

    def predict(self, user_index, windows):
        return [""] * len(windows)


class NewestItems:
    def __init__(self, settings):
        self.weight = settings.weight

    def fit(self, dataset, dev_ndcg):
        self.scored = self.weight * np.arange(len(dataset.items))

    def scores(self, windows, candidates=None):
        return np.tile(self.scored, (len(windows), 1))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with event and item files of 24 readers, their dataset, a recipe of two steps, and its run."""
    place = tmp_path_factory.mktemp("examples")
    rng = np.random.default_rng(0)
    rows = [
        f"{reader},{book},{rng.integers(1, 6)},{1_700_000_000 + 100 * at}"
        for reader in range(1, 25)
        for at, book in enumerate(rng.permutation(30)[:12])
    ]
    (place / "events.csv").write_text("\n".join(["user_id,item_id,rating,timestamp", *rows, ""]))
    shelves = ("Crime", "Poetry", "Travel")
    books = [f"{book},{shelves[book % 3]} Stories {book},{shelves[book % 3]}" for book in range(30)]
    (place / "items.csv").write_text("\n".join(["item_id,title,genre", *books, ""]))
    (place / "me.json").write_text(json.dumps([{"item_id": "3", "rating": 5}, {"item_id": "8", "rating": 2}]))
    data = palate.prepare(
        place / "events.csv",
        items=place / "items.csv",
        out=place / "data" / "mine",
        min_ratings=5,
        dev_share=0.25,
        test_share=0.25,
    )
    encoder = save_tiny_encoder(place / "encoder")
    recipe = tiny_recipe(data.path, encoder, place / "cache", train={"max_steps": 2, "eval_steps": 2})
    from palate.config.load import dump_recipe

    (place / "recipe.yaml").write_text(dump_recipe(recipe))
    model = palate.train(recipe, out=place / "runs" / "main")
    settings = {"texts": False, "rounds": 1}
    palate.train({"recommend": settings}, data, place / "runs" / "recommender")
    return place, {"data": data, "model": model}


@pytest.fixture
def found(world, monkeypatch):
    """What the examples may name, in the folder of the world."""
    place, made = world
    monkeypatch.chdir(place)
    with_own_registries(monkeypatch)
    from palate.tasks import CategoryPreference

    class Favourite(CategoryPreference):
        """One favourite only."""

    return {
        "palate": palate,
        "SaysNothing": SaysNothing,
        "NewestItems": NewestItems,
        "MeanEncoder": lambda settings, sizes: None,
        "Favourite": Favourite,
        **made,
    }


def test_these_are_all_public_names():
    assert {*palate.__all__} == {*FUNCTIONS, *CLASSES}
    assert all(inspect.isclass(getattr(palate, name)) for name in CLASSES)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_takes_this(name):
    written = str(inspect.signature(getattr(palate, name)))
    assert written.replace('"', "'").startswith(SIGNATURES.get(name) or BEGIN[name]), written


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_it_takes_gives_and_refuses(name):
    function = getattr(palate, name)
    said, signature = inspect.getdoc(function), inspect.signature(function)
    sections = ["Args:", "Raises:", "Example:"]
    if signature.return_annotation not in ("None", None):
        sections.insert(1, "Returns:")
    places = [said.find(f"\n{section}\n") for section in sections]
    assert places == sorted(places), sections
    assert places[0] > 0, sections
    arguments = said[places[0] : places[1]]
    assert [one for one in signature.parameters if f"\n    {one}: " not in arguments] == []
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(one.annotation is not inspect.Parameter.empty for one in signature.parameters.values())


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_class_has_an_example(name):
    assert "\nExample:\n" in inspect.getdoc(getattr(palate, name))


@pytest.mark.parametrize("name", sorted(palate.__all__))
def test_the_examples_are_true(name, found):
    one = getattr(palate, name)
    examples = [
        test
        for test in doctest.DocTestFinder(exclude_empty=True).find(one, name, globs=found)
        if test.examples
    ]
    assert examples
    said = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in examples:
        runner.run(test, out=said.append, clear_globs=False)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)
