"""Writes the made-up shop that comes with palate (``palate ask example``): a delicatessen and its customers' stars.

    python examples/make_shop.py src/palate/data/shop

No real person's ratings are in it. A customer has a taste for each tag, which drifts a little from one year to the
next; stars are that taste, the product's quality and noise. Only the standard library's generator is used, whose
numbers are the same in every version of Python.
"""

from __future__ import annotations

import csv
import random
import sys
from datetime import datetime, timedelta
from pathlib import Path

PRODUCTS = """
Dark chocolate with sea salt: Chocolate, Sweet, Vegan
Milk chocolate with hazelnuts: Chocolate, Sweet, Nuts
White chocolate with raspberries: Chocolate, Sweet, Fruit
Chilli chocolate: Chocolate, Spicy, Mexican
Cocoa nibs: Chocolate, Baking, Vegan, Organic
Drinking chocolate: Chocolate, Drinks, Sweet
Chocolate-covered almonds: Chocolate, Nuts, Snacks
Chocolate spread without palm oil: Chocolate, Breakfast, Sweet, Nuts
Praline box: Chocolate, Sweet, Nuts
Chocolate brownie mix: Chocolate, Baking, Sweet
Espresso beans, dark roast: Coffee, Drinks, Italian
Filter coffee, light roast: Coffee, Drinks, Organic
Decaffeinated coffee: Coffee, Drinks
Cold brew in a can: Coffee, Drinks
Coffee beans from Ethiopia: Coffee, Drinks, Organic
Chocolate-covered coffee beans: Coffee, Chocolate, Snacks
Tiramisu kit: Coffee, Italian, Sweet, Baking
Coffee liqueur cake: Coffee, Sweet, Baking
Sencha: Tea, Drinks, Japanese, Organic
Matcha, first harvest: Tea, Drinks, Japanese
Genmaicha with roasted rice: Tea, Drinks, Japanese
Masala chai: Tea, Drinks, Indian, Spicy
Darjeeling, second flush: Tea, Drinks, Indian
Earl Grey: Tea, Drinks
Peppermint tea: Tea, Drinks, Organic, Vegan
Rooibos with vanilla: Tea, Drinks, Sweet
Matcha biscuits: Tea, Sweet, Japanese, Baking
Iced tea with peach: Tea, Drinks, Fruit
Parmesan, 30 months: Cheese, Italian
Pecorino with truffle: Cheese, Italian
Goat cheese in ash: Cheese, French
Roquefort: Cheese, French
Brie from raw milk: Cheese, French
Comté, 18 months: Cheese, French
Halloumi: Cheese, Barbecue
Smoked scamorza: Cheese, Italian, Smoked
Blue cheese biscuits: Cheese, Snacks, Baking
Fondue mix: Cheese, French
Paneer: Cheese, Indian
Cashew camembert: Nuts, Vegan, French, Organic
Spaghetti, bronze drawn: Pasta, Italian
Orecchiette: Pasta, Italian
Red lentil fusilli: Pasta, Gluten-free, Vegan
Chickpea penne: Pasta, Gluten-free, Vegan, Organic
Pesto alla genovese: Pasta, Italian, Nuts, Cheese
Arrabbiata sauce: Pasta, Italian, Spicy, Vegan
Tomato passata: Pasta, Italian, Vegan, Organic
Truffle oil: Italian, Pasta
Lasagne sheets: Pasta, Italian
Squid ink linguine: Pasta, Italian, Seafood
Udon: Pasta, Japanese, Vegan
Soba with buckwheat: Pasta, Japanese, Vegan
Ramen kit with miso: Pasta, Japanese
Rice noodles: Pasta, Gluten-free, Vegan
White miso: Japanese, Vegan, Organic
Soy sauce, aged in cedar: Japanese, Vegan
Tamari: Japanese, Gluten-free, Vegan
Wasabi paste: Japanese, Spicy
Nori sheets: Japanese, Seafood, Vegan
Sushi rice: Japanese, Gluten-free
Pickled ginger: Japanese, Pickles, Vegan
Shichimi togarashi: Japanese, Spicy
Wasabi peas: Japanese, Spicy, Snacks, Vegan
Rice crackers with seaweed: Japanese, Snacks, Gluten-free
Mochi with red beans: Japanese, Sweet, Gluten-free
Habanero sauce: Spicy, Mexican, Vegan
Chipotle in adobo: Spicy, Mexican, Smoked
Salsa verde: Mexican, Vegan
Corn tortillas: Mexican, Gluten-free, Bread
Black beans: Mexican, Vegan, Organic
Mole paste: Mexican, Spicy, Chocolate
Tortilla chips, blue corn: Mexican, Snacks, Gluten-free
Guacamole kit: Mexican, Vegan
Jalapeños in vinegar: Mexican, Spicy, Pickles
Hibiscus flowers: Mexican, Drinks, Tea
Garam masala: Indian, Spicy
Vindaloo paste: Indian, Spicy
Mango chutney: Indian, Sweet, Fruit, Vegan
Lime pickle: Indian, Pickles, Spicy, Vegan
Basmati rice, aged: Indian, Gluten-free
Red lentils: Indian, Vegan, Gluten-free, Organic
Naan: Indian, Bread
Papadums: Indian, Snacks, Gluten-free
Korma sauce: Indian, Nuts
Ghee: Indian, Baking
Bombay mix: Indian, Snacks, Spicy, Nuts
Sourdough with rye: Bread, Organic, Vegan
Baguette: Bread, French
Focaccia with rosemary: Bread, Italian
Gluten-free seed loaf: Bread, Gluten-free, Organic
Brioche: Bread, French, Sweet, Breakfast
Crispbread: Bread, Snacks
Bread flour: Bread, Baking
Sourdough starter: Bread, Baking, Organic
Almond flour: Baking, Nuts, Gluten-free
Vanilla pods: Baking, Sweet
Marzipan: Baking, Sweet, Nuts
Buckwheat flour: Baking, Gluten-free, Organic
Lemon tart mix: Baking, Sweet, Fruit
Gingerbread: Baking, Sweet, Spicy
Macarons: Baking, Sweet, French, Nuts
Cantuccini: Baking, Italian, Nuts, Sweet
Panettone: Baking, Italian, Sweet, Fruit
Gluten-free cake mix: Baking, Gluten-free, Sweet
Granola with honey: Breakfast, Nuts, Sweet
Porridge oats: Breakfast, Organic, Vegan
Muesli without sugar: Breakfast, Organic, Nuts
Peanut butter, crunchy: Breakfast, Nuts, Vegan
Almond butter: Breakfast, Nuts, Vegan, Organic
Strawberry jam: Breakfast, Fruit, Sweet
Bitter orange marmalade: Breakfast, Fruit
Maple syrup: Breakfast, Sweet, Vegan
Acacia honey: Breakfast, Sweet, Organic
Pancake mix: Breakfast, Baking, Sweet
Oat drink: Breakfast, Drinks, Vegan
Roasted almonds: Nuts, Snacks
Pistachios in the shell: Nuts, Snacks
Smoked almonds: Nuts, Snacks, Smoked
Walnuts: Nuts, Baking, Organic
Cashews with chilli: Nuts, Snacks, Spicy
Trail mix: Nuts, Snacks, Fruit
Dried mango: Fruit, Snacks, Vegan
Medjool dates: Fruit, Sweet, Vegan, Organic
Dried apricots: Fruit, Snacks, Organic
Candied ginger: Sweet, Spicy
Salted caramels: Sweet
Liquorice: Sweet, Snacks
Nougat: Sweet, Nuts, French
Turkish delight: Sweet
Sardines in olive oil: Seafood, French
Smoked salmon: Seafood, Smoked
Smoked mackerel with pepper: Seafood, Smoked
Tuna in a jar: Seafood, Italian
Anchovies: Seafood, Italian
Mussels in escabeche: Seafood, Pickles
Crab bisque: Seafood, French
Bonito flakes: Seafood, Japanese, Smoked
Fish sauce: Seafood, Spicy
Octopus in paprika oil: Seafood, Spicy
Cornichons: Pickles, French, Vegan
Kimchi: Pickles, Spicy
Sauerkraut: Pickles, Vegan, Organic
Pickled beetroot: Pickles, Vegan
Olives with lemon: Pickles, Snacks, Vegan
Capers in salt: Pickles, Italian
Pickled onions: Pickles
Dill pickles: Pickles, Snacks
Barbecue sauce, hickory: Barbecue, Smoked, Sweet
Smoked paprika: Barbecue, Smoked, Spicy
Chimichurri: Barbecue, Vegan
Dry rub for brisket: Barbecue, Smoked, Spicy
Veggie sausages: Barbecue, Vegan
Grill cheese with herbs: Barbecue, Cheese
Charcoal crackers: Barbecue, Snacks, Cheese
Smoked salt: Barbecue, Smoked
Elderflower cordial: Drinks, Fruit, Sweet
Ginger beer: Drinks, Spicy
Kombucha: Drinks, Tea, Organic
Tonic water: Drinks
Apple juice, cloudy: Drinks, Fruit, Organic
Blood orange lemonade: Drinks, Fruit, Italian
Dijon mustard: French, Spicy
Herbes de Provence: French, Organic
Onion soup: French, Cheese
Lentils from Le Puy: French, Vegan, Organic
Tapenade: French, Pickles, Vegan
Potato crisps with sea salt: Snacks, Vegan, Gluten-free
Popcorn, sweet and salty: Snacks, Sweet, Gluten-free
Chilli crisps: Snacks, Spicy
"""
NAMES = """
anna ben chloe david elena farid grace hugo ines jonas kaya liam maya noah olga pavel quinn rosa sami tara uma viktor
wren xenia yusuf zoe adele boris carla diego emma felix greta hana ivan julia karim lena marco nina oscar paula rafael
sofia tomas ursula vera walter yara zain
"""
SURNAMES = "berg costa diaz evans"
KINDS = (
    "Sweet Chocolate Baking Breakfast -Pickles -Seafood -Spicy",
    "Spicy Indian Mexican Pickles -Sweet -French",
    "Japanese Tea Seafood Gluten-free -Cheese -Bread",
    "Cheese French Bread Coffee Italian -Gluten-free -Indian",
    "Vegan Organic Nuts Gluten-free Fruit -Seafood -Barbecue -Smoked",
    "Barbecue Smoked Snacks Seafood Drinks -Tea -Vegan",
    "Italian Pasta Coffee Seafood -Japanese -Mexican",
    "Fruit Tea Breakfast Nuts Drinks -Smoked -Coffee",
)
"""Tags that go together; what such a customer does not care for has a minus."""
START = datetime(2024, 1, 1)
DAYS = 2 * 365
YEAR = 365


def main(folder: Path) -> None:
    """Write ``events.csv`` and ``items.csv`` into a folder."""
    dice = random.Random(2024)
    products = [_product(line) for line in PRODUCTS.strip().splitlines()]
    assert len({title for title, _ in products}) == len(products)
    with (folder / "items.csv").open("w", newline="") as file:
        sheet = csv.writer(file, lineterminator="\n")
        sheet.writerow(["product_id", "title", "tags"])
        for number, (title, tags) in enumerate(products, 1):
            sheet.writerow([f"p{number:03}", title, "|".join(tags)])
    quality = [dice.gauss(0, 0.35) for _ in products]
    popularity = [dice.expovariate(1) + 0.2 for _ in products]
    names = NAMES.split()
    customers = [*names, *(f"{name}-{other}" for other in SURNAMES.split() for name in names)]
    rows = []
    for customer in customers:
        rows += _ratings(dice, customer, products, quality, popularity)
    rows.sort(key=lambda row: row[3])
    with (folder / "events.csv").open("w", newline="") as file:
        sheet = csv.writer(file, lineterminator="\n")
        sheet.writerow(["customer_id", "product_id", "stars", "time"])
        sheet.writerows((*row[:3], f"{row[3]:%Y-%m-%d %H:%M}") for row in rows)


def _product(line: str) -> tuple[str, list[str]]:
    title, _, tags = line.partition(": ")
    return title, tags.split(", ")


def _taste(dice: random.Random, tags: list[str], most: str, some: str) -> dict[str, float]:
    taste = {tag: dice.gauss(0, 0.25) for tag in tags}
    for kind, much in ((most, 1.2), (some, 0.7)):
        for tag in kind.split():
            taste[tag.lstrip("-")] += -much if tag.startswith("-") else much
    return taste


def _ratings(
    dice: random.Random,
    customer: str,
    products: list[tuple[str, list[str]]],
    quality: list[float],
    popularity: list[float],
) -> list[tuple[str, str, int, datetime]]:
    """Draw one customer's ratings: who buys what follows the taste, too."""
    tags = sorted({tag for _, tags in products for tag in tags})
    first, second, third = dice.sample(KINDS, 3)  # the third comes in place of the second, after a year
    early, late = _taste(dice, tags, first, second), _taste(dice, tags, first, third)
    mood = dice.gauss(2.9, 0.35)
    count = min(len(products) - 20, 12 + int(dice.expovariate(1 / 26)))
    bought: set[int] = set()
    rows = []
    for day in sorted(dice.uniform(0, DAYS) for _ in range(count)):
        taste = early if day < YEAR else late
        likes = [sum(taste[tag] for tag in tags) / len(tags) ** 0.5 for _, tags in products]
        weights = [
            0.0 if number in bought else popularity[number] * 5.0 ** likes[number]
            for number in range(len(products))
        ]
        number = dice.choices(range(len(products)), weights)[0]
        bought.add(number)
        stars = mood + likes[number] + quality[number] + dice.gauss(0, 0.6)
        rows.append(
            (customer, f"p{number + 1:03}", max(1, min(5, round(stars))), START + timedelta(days=day))
        )
    return rows


if __name__ == "__main__":
    main(Path(sys.argv[1]))
