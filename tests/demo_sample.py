"""A tiny dataset and tiny recipes, with which the demo and the README run in seconds."""

from importlib import resources

SMALL = """
extends: {package}/demo.yaml
windows: {{shortest: 3, longest: 8}}
train: {{max_steps: {steps}, per_device_train_batch_size: 8, eval_steps: 2, eval_windows: [8]}}
evaluate: {{window: 8}}
"""
SMALL_UEM = """
extends: {package}/demo_uem.yaml
items: {{cache: {cache}}}
windows: {{shortest: 8, longest: 8}}
model:
  backbone: {{d_model: 16, d_ff: 16, num_heads: 2, num_layers: 1, vocab_size: 300}}
  task_prompt: 2
  user_encoder: {{num_layers: 1, num_heads: 2, d_kv: 8, d_ff: 16}}
train: {{max_steps: {steps}, per_device_train_batch_size: 8, eval_steps: 2}}
evaluate: {{window: 8, max_new_tokens: 40}}
"""


def small_recipes(folder, steps=4):
    """Return the demo's two recipes, in sizes that train in a second."""
    shared = {"package": resources.files("palate.demo"), "cache": folder / "cache", "steps": steps}
    main, paper = folder / f"main-{steps}.yaml", folder / f"paper-{steps}.yaml"
    main.write_text(SMALL.format(**shared))
    paper.write_text(SMALL_UEM.format(**shared))
    return main, paper


def write_movielens(folder, films=30):
    """Write 45 users and 30 or more movies in newer releases' layout; users like dramas or comedies, by number."""
    folder.mkdir()
    rows = [
        f"{user},{film},{4 - 2 * ((user + film) % 2) + (film % 3 == 0)},{film}"
        for user in range(1, 46)
        for film in range(1, films - 9 + user % 10)
    ]
    (folder / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *rows, ""]))
    titles = [
        f"{film},Film {film} (1990),{'Drama' if film % 2 else 'Comedy|War'}" for film in range(1, films + 1)
    ]
    (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *titles, ""]))
    return folder
