"""A synthetic report; its numbers are plausible but meaningless."""

import math

from palate.report.data import (
    CategoryComparison,
    CategoryF1,
    ExampleAnswer,
    ExampleItem,
    ExampleUser,
    Fact,
    Labels,
    LengthLine,
    ReportData,
    ScoreRow,
    ShownScore,
    Training,
    TrainingCurve,
)

LENGTHS = (5, 10, 20, 50, 100, 200)


def score(value, spread=0.034):
    return ShownScore(value=value, low=round(value - spread, 4), high=round(value + spread, 4))


def row(predictor, kind, f1, *, tokens=None, seconds=None, note=""):
    return ScoreRow(
        predictor=predictor,
        kind=kind,
        precision=score(f1 + 0.021),
        recall=score(f1 - 0.012),
        f1=score(f1),
        disliked_f1=score(f1 * 0.78, 0.019),
        joint_f1=score(f1 * 0.9),
        prompt_tokens=tokens,
        training_seconds=seconds,
        note=note,
    )


def line(name, kind, f1, lengths=LENGTHS):
    low, high = (tuple(max(0, value + change) for value in f1) for change in (-0.034, 0.034))
    return LengthLine(name=name, kind=kind, lengths=lengths, f1=f1, low=low, high=high)


def curve(name, floor, speed, best):
    x = tuple(round(step / 25, 3) for step in range(1, 401))
    loss = tuple(
        floor + (7.5 - floor) * math.exp(-speed * minute) + 0.04 * math.sin(97 * minute) for minute in x
    )
    dev_x = tuple(float(minute) for minute in range(1, 17))
    dev_f1 = tuple(round(best * (1 - math.exp(-minute * speed / 2.4)), 4) for minute in dev_x)
    return TrainingCurve(name=name, x=x, loss=loss, dev_x=dev_x, dev_f1=dev_f1)


def answer(predictor, kind, liked, disliked):
    text = f"The user likes {', '.join(liked)}"
    text += f" and doesn't like {', '.join(disliked)}" if disliked else ""
    return ExampleAnswer(
        predictor=predictor, kind=kind, text=text, labels=Labels(liked=liked, disliked=disliked)
    )


def item(title, rating, *categories):
    return ExampleItem(title=title, rating=rating, categories=categories)


def example(user_id):
    return ExampleUser(
        user_id=user_id,
        window_size=50,
        highest=(
            item("Third Man, The (1949)", 5, "Mystery", "Thriller"),
            item("Cabinet of Dr. Caligari, The (1920)", 5, "Horror"),
            item("Chinatown (1974)", 4.5, "Film-Noir", "Mystery", "Thriller"),
            item("Don't Look Now (1973)", 4.5, "Drama", "Horror", "Thriller"),
        ),
        lowest=(
            item("Flubber (1997)", 1, "Children's", "Comedy", "Fantasy"),
            item("Home Alone 3 (1997)", 1, "Children's", "Comedy"),
            item("Batman & Robin (1997)", 1.5, "Action", "Adventure", "Crime"),
        ),
        truth_text="The user likes Film-Noir, Mystery, War and doesn't like Children's, Musical",
        truth=Labels(liked=("Film-Noir", "Mystery", "War"), disliked=("Children's", "Musical")),
        answers=(
            answer("Streaming prompt", "model", ("Film-Noir", "Mystery", "War"), ("Children's",)),
            answer("UEM", "model", ("Film-Noir", "Drama", "War"), ("Children's", "Horror")),
            answer("Rule on the window", "rule", ("Mystery", "Thriller"), ("Children's", "Comedy")),
            answer("Counting", "reference", ("Drama", "Comedy", "Thriller"), ()),
        ),
    )


def sample():
    categories = (
        "Drama",
        "War",
        "Film-Noir",
        "Mystery",
        "Comedy",
        "Sci-Fi",
        "Horror",
        "Western",
        "Children's",
    )
    return ReportData(
        title="palate demo: a user's taste in 24 vectors",
        lead="A streaming user encoder and a small T5 with random weights, trained together for 16 minutes on "
        "two CPU cores, name the categories that 943 MovieLens-100K users like from windows of 50 "
        "interactions. Every predictor below answered for the same 94 test users.",
        facts=tuple(
            Fact(label=label, value=value)
            for label, value in {
                "Dataset": "MovieLens-100K, 100,000 interactions",
                "Users": "755 train, 94 dev, 94 test",
                "Simulated users": "20,000 over the same catalogue",
                "Machine": "2 × Xeon 2.9 GHz, 8 GiB, no GPU",
                "Versions": "palate 0.1.0, torch 2.9.1, transformers 5.0.0, Python 3.12.3",
                "Seed": "0",
                "Commit": "a462c4a",
                "Wall time": "19 min 12 s",
                "Peak memory": "1.9 GiB",
                "Parameters": "user encoder 0.7 M, task prompt 2,560, backbone 1.9 M",
            }.items()
        ),
        scores=(
            row(
                "Streaming prompt",
                "model",
                0.574,
                tokens=24,
                seconds=968,
                note="fixed length, simulated users",
            ),
            row("UEM", "model", 0.412, tokens=50, seconds=1014, note="the paper's user encoder, 3 layers"),
            row("Text history", "model", 0.281, tokens=1643.4, seconds=3725),
            row("Rule on the window", "rule", 0.561, note="the label rule on what the model sees"),
            row("Shrinkage estimator", "reference", 0.602),
            row("Counting", "reference", 0.192, note="3 most frequent categories"),
            ScoreRow(
                predictor="Another user's prompt",
                kind="control",
                precision=ShownScore(value=0.2),
                recall=ShownScore(value=0.18),
                f1=ShownScore(value=0.171),
                prompt_tokens=24,
            ),
        ),
        lengths=(
            line("Streaming prompt", "model", (0.262, 0.331, 0.424, 0.574, 0.702, 0.781)),
            line("UEM", "model", (0.221, 0.262, 0.331, 0.412, 0.446, 0.461)),
            line("Text history", "model", (0.234, 0.281), lengths=(5, 10)),
            line("Rule on the window", "rule", (0.081, 0.172, 0.334, 0.561, 0.763, 0.902)),
            line("Counting", "reference", (0.181, 0.186, 0.19, 0.192, 0.192, 0.193)),
            line("Another user's prompt", "control", (0.168, 0.166, 0.174, 0.171, 0.169, 0.172)),
        ),
        training=Training(
            unit="minutes",
            curves=(curve("Streaming prompt", 0.31, 0.62, 0.57), curve("UEM", 0.52, 0.4, 0.41)),
        ),
        examples=(example("42"), example("617")),
        categories=CategoryComparison(
            model="Streaming prompt",
            rows=tuple(
                CategoryF1(category=name, users=41 - 4 * i, model=0.71 - 0.06 * i, rule=0.66 - 0.045 * i)
                for i, name in enumerate(categories)
            ),
        ),
        notes=(
            "The labels are a rule over the user's full history, so the same rule on the visible window is "
            "the yardstick; a learned estimator can pass it on short windows because it knows users.",
            "With 94 test users the intervals are wide: differences below about 0.03 say nothing.",
        ),
        commands=(
            "palate prepare ml-100k --out data/ml-100k",
            "palate train recipes/demo.yaml --out runs/demo",
            "palate evaluate runs/demo --split test",
        ),
    )
