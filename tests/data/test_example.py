"""The bundled synthetic shop."""

import csv
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

import palate
from palate.cli import app
from palate.data.prepare import read_dataset

ROOT = Path(__file__).parents[2]
SHOP = Path(palate.__file__).parent / "data" / "shop"


def test_the_script_writes_the_files_that_are_shipped(tmp_path):
    subprocess.run([sys.executable, ROOT / "examples" / "make_shop.py", tmp_path], check=True)
    for name in ("events.csv", "items.csv"):
        assert (tmp_path / name).read_bytes() == (SHOP / name).read_bytes()


def test_every_rating_is_of_a_product_once_and_every_product_has_tags():
    with (SHOP / "items.csv").open() as file:
        items = {row["product_id"]: row for row in csv.DictReader(file)}
    with (SHOP / "events.csv").open() as file:
        rated = [(row["customer_id"], row["product_id"]) for row in csv.DictReader(file)]
    assert len(set(rated)) == len(rated)
    assert {item for _, item in rated} <= items.keys()
    assert all(row["tags"] for row in items.values())


def test_the_shop_is_read_by_its_name_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shop = read_dataset("example")
    assert (shop.info.name, shop.info.source, shop.info.users) == ("example", "example", 250)
    events = (SHOP / "events.csv").read_text().splitlines()
    assert shop.info.interactions == len(events) - 1


def test_a_file_of_that_name_goes_before_the_shop(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("example").mkdir()
    refused = CliRunner().invoke(app, ["ask", "example", "--user", "anna"])
    assert refused.exit_code == 2


def test_it_is_prepared_into_a_folder(tmp_path):
    data = palate.prepare("example", tmp_path / "shop")
    assert palate.load_dataset(tmp_path / "shop").info.fingerprint == data.info.fingerprint
