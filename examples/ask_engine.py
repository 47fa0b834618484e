"""Asks an engine about a user of an export, with Python's standard library alone.

python examples/ask_engine.py prompts/demo 42 --model Qwen/Qwen3-0.6B [--url http://127.0.0.1:8000]
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen


def request_for(folder: Path, user_id: str, model: str) -> dict[str, Any]:
    """A request: the user's first complete prompt, and how the palate model generates after it."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    user = next((one for one in manifest["users"] if one["user_id"] == user_id), None)
    if user is None or not user["complete"]:
        raise SystemExit(
            f"{folder} has no complete prompt for user {user_id!r}; run palate export --instruction"
        )
    file = user["complete"][0]
    content = (folder / file["path"]).read_bytes()
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != file["sha256"]:
        raise SystemExit(f"{folder / file['path']} is damaged; copy the export again")
    embeds, asked = content.decode("ascii"), {"model": model, **manifest["generation"]}
    if manifest["api"] == "completions":
        return {**asked, "prompt_embeds": embeds}
    part = {"type": "prompt_embeds", "data": embeds}
    return {**asked, "messages": [{"role": "user", "content": [part]}]}


def main() -> None:
    """Post the request and print the answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("user_id")
    parser.add_argument("--model", required=True, help="as the engine calls it")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    arguments = parser.parse_args()
    asked = request_for(arguments.folder, arguments.user_id, arguments.model)
    route = "chat/completions" if "messages" in asked else "completions"
    url, headers = f"{arguments.url}/v1/{route}", {"Content-Type": "application/json"}
    with urlopen(Request(url, json.dumps(asked).encode(), headers)) as response:
        (choice,) = json.load(response)["choices"]
    print(choice["message"]["content"] if "messages" in asked else choice["text"])


if __name__ == "__main__":
    main()
