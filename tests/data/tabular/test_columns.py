"""Inference of column roles, on the column names of public datasets and on misleading ones."""

import pytest

from palate.data.tabular.columns import find_column, noun_of, require_column
from palate.errors import DataError


def roles(columns, *names):
    return {role: find_column(role, None, columns, "") for role in names}


EVENTS = {
    "Goodreads, UCSD": (
        "user_id book_id review_id is_read rating review_text_incomplete date_added date_updated read_at started_at",
        {"user": "user_id", "item": "book_id", "rating": "rating", "time": "date_added"},
    ),
    "Goodreads, an export": (
        "Book Id,Title,Author,My Rating,Average Rating,Date Read,Date Added,Bookshelves",
        {"item": "Book Id", "rating": "My Rating", "time": "Date Added", "category": "Bookshelves"},
    ),
    "goodbooks": ("user_id book_id rating", {"user": "user_id", "item": "book_id", "time": None}),
    "Yelp": (
        "review_id user_id business_id stars useful funny cool text date",
        {"user": "user_id", "item": "business_id", "rating": "stars", "time": "date"},
    ),
    "Steam": (
        "app_id helpful funny date is_recommended hours user_id review_id",
        {"user": "user_id", "item": "app_id", "rating": "is_recommended", "weight": "hours", "time": "date"},
    ),
    "Steam's reviews": (
        "steamid appid playtime_forever timestamp_created timestamp_updated voted_up",
        {"user": "steamid", "item": "appid", "rating": "voted_up", "weight": "playtime_forever"}
        | {"time": "timestamp_created"},
    ),
    "Last.fm, HetRec": (
        "userID artistID weight",
        {"user": "userID", "item": "artistID", "rating": None, "weight": "weight", "time": None},
    ),
    "Last.fm, 1K": (
        "userid timestamp artid artname traid traname",
        {"user": "userid", "item": "artid", "time": "timestamp", "title": "artname"},
    ),
    "Last.fm, 360K": (
        "user-mboxsha1 musicbrainz-artist-id artist-name plays",
        {"user": "user-mboxsha1", "item": "musicbrainz-artist-id", "weight": "plays", "title": "artist-name"},
    ),
    "Amazon, 2018": (
        "overall verified reviewTime reviewerID asin reviewerName reviewText summary unixReviewTime",
        {"user": "reviewerID", "item": "asin", "rating": "overall", "time": "unixReviewTime"},
    ),
    "Amazon, 2023": (
        "rating title text images asin parent_asin user_id timestamp helpful_vote verified_purchase",
        {"user": "user_id", "item": "parent_asin", "rating": "rating", "time": "timestamp"},
    ),
    "Netflix prize": (
        "MovieID CustomerID Rating Date",
        {"user": "CustomerID", "item": "MovieID", "rating": "Rating", "time": "Date"},
    ),
    "Anime": ("user_id anime_id rating", {"user": "user_id", "item": "anime_id", "rating": "rating"}),
    "MyAnimeList": (
        "username anime_id my_watched_episodes my_score my_status my_last_updated",
        {"user": "username", "item": "anime_id", "rating": "my_score", "time": "my_last_updated"},
    ),
    "Food.com": (
        "user_id recipe_id date rating review",
        {"user": "user_id", "item": "recipe_id", "rating": "rating", "time": "date"},
    ),
    "Spotify": (
        "ts username platform ms_played master_metadata_track_name spotify_track_uri",
        {"user": "username", "item": "spotify_track_uri", "weight": "ms_played", "time": "ts"}
        | {"title": "master_metadata_track_name"},
    ),
    "Spotify's account data": ("endTime artistName trackName msPlayed", {"weight": "msPlayed", "time": "endTime"}),
    "Instacart": (
        "order_id user_id product_id order_number order_dow order_hour_of_day days_since_prior_order reordered",
        {"user": "user_id", "item": "product_id", "rating": None, "weight": None, "time": None},
    ),
    "H&M": (
        "t_dat customer_id article_id price sales_channel_id",
        {"user": "customer_id", "item": "article_id", "rating": None, "time": "t_dat"},
    ),
    "Book-Crossing": (
        "User-ID,ISBN,Book-Rating",
        {"user": "User-ID", "item": "ISBN", "rating": "Book-Rating", "time": None},
    ),
    "Online Retail": (
        "InvoiceNo StockCode Description Quantity InvoiceDate UnitPrice CustomerID Country",
        {"user": "CustomerID", "item": "StockCode", "weight": "Quantity", "time": "InvoiceDate"},
    ),
    "Retailrocket": (
        "timestamp visitorid event itemid transactionid",
        {"user": "visitorid", "item": "itemid", "time": "timestamp"},
    ),
    "BeerAdvocate": (
        "brewery_id review_time review_overall review_profilename beer_style beer_name beer_beerid",
        {"user": "review_profilename", "item": "beer_beerid", "rating": "review_overall", "time": "review_time"}
        | {"title": "beer_name", "category": "beer_style"},
    ),
    "Olist": (
        "order_id customer_id order_status order_purchase_timestamp order_delivered_customer_date product_id",
        {"user": "customer_id", "item": "product_id", "time": "order_purchase_timestamp"},
    ),
}  # fmt: skip

ITEMS = {
    "Yelp": ("business_id name address stars categories", {"title": "name", "category": "categories"}),
    "Steam": (
        "app_id title date_release win rating tags description",
        {"title": "title", "category": "tags", "description": "description", "year": None},
    ),
    "Amazon": (
        "main_category title average_rating features description categories parent_asin",
        {"title": "title", "category": "categories", "description": "description"},
    ),
    "Netflix's titles": (
        "show_id type title director country release_year rating listed_in description",
        {"title": "title", "category": "listed_in", "year": "release_year", "description": "description"},
    ),
    "Anime": ("anime_id name genre type episodes rating members", {"title": "name", "category": "genre"}),
    "MyAnimeList": (
        "MAL_ID Name Score Genres sypnopsis",
        {"item": "MAL_ID", "title": "Name", "category": "Genres", "description": "sypnopsis"},
    ),
    "Food.com": (
        "name id minutes tags nutrition steps description ingredients",
        {"title": "name", "category": "tags", "description": "description"},
    ),
    "Food.com, recipes": ("RecipeId Name RecipeCategory", {"item": "RecipeId", "category": "RecipeCategory"}),
    "Spotify": (
        "track_id track_name artists track_genre",
        {"title": "track_name", "category": "track_genre"},
    ),
    "Instacart": (
        "product_id product_name aisle department",
        {"title": "product_name", "category": "department"},
    ),
    "H&M": (
        "article_id product_code prod_name product_type_name product_group_name detail_desc",
        {"title": "prod_name", "category": "product_group_name", "description": "detail_desc"},
    ),
    "Book-Crossing": (
        "ISBN,Book-Title,Book-Author,Year-Of-Publication",
        {"title": "Book-Title", "year": "Year-Of-Publication", "category": None},
    ),
    "a shop's": ("sku product_title tag_list", {"title": "product_title", "category": "tag_list"}),
    "films": ("movie_id movie_title movie_genres plot", {"category": "movie_genres", "description": "plot"}),
}


TIMES = """
ordered_at created created_on createdAt purchased purchase_date bought_at listened_at watched_at read_at played_at
order_time event_timestamp unixReviewTime review_date date_read lastmod last_modified DateSubmitted timestamp_ms
visit_date transaction_date invoice_date InvoiceDate added_on rated_on rating_timestamp eventTime checkin_time
date_of_purchase purchasedate createdat rating_date logged_at scrobbled_at last_played favorited_at
order_datetime RATING_TIME time_created click_ts watched_on last_watched submission_time server_timestamp
unix_timestamp timestamp_utc
"""
NO_TIMES = """
release_date released_at date_release published_at publication_date date_published birth_date date_of_birth
runtime playtime play_time watch_time cook_time prep_time total_time order_hour_of_day order_dow order_number
days_since_prior_order yelping_since member_since year timezone time_zone lifetime created_by updated_count
is_read read rated watched viewed liked delivery_date delivered_at due_date expiry_date return_date signup_date
joined_on candidate update validated ordered_quantity note title data on at event order review rating post
read_time listened_time session_time played_time
"""
NO_CATEGORIES = """
price_category age_category tag_count genre_id user_tags stage advantage heritage subgenre_count categorical
vintage percentage mortgage
"""


@pytest.mark.parametrize(
    "names", [*EVENTS.values(), *ITEMS.values()], ids=[*EVENTS, *(f"{i}, items" for i in ITEMS)]
)
def test_the_columns_of_public_data_are_found(names):
    columns, expected = names
    columns = columns.split("," if "," in columns else None)
    assert roles(columns, *expected) == expected


@pytest.mark.parametrize(
    "column",
    TIMES.split(),
)
def test_a_time_is_known_by_its_name(column):
    assert find_column("time", None, ["user_id", "item_id", "note", column, "price"], "") == column


@pytest.mark.parametrize(
    "column",
    NO_TIMES.split(),
)
def test_what_only_sounds_like_a_time_is_none(column):
    assert find_column("time", None, ["user_id", "item_id", column], "") is None


@pytest.mark.parametrize(
    "column",
    NO_CATEGORIES.split(),
)
def test_what_only_sounds_like_a_category_is_none(column):
    assert find_column("category", None, ["item_id", column], "") is None


def test_an_event_beats_a_column_that_is_only_stamped():
    assert find_column("time", None, ["updated", "order_date_utc", "created"], "") == "order_date_utc"


@pytest.mark.parametrize(
    ("column", "noun"),
    [
        ("book_id", "book"),
        ("movieId", "movie"),
        ("movieid", "movie"),
        ("genres", "genre"),
        ("categories", "category"),
        ("item_id", "item"),
        ("parent_asin", "product"),
        ("class", "class"),
        ("classes", "class"),
        ("main_category", "category"),
        ("series_id", "series"),
        ("news_id", "news"),
        ("tag_list", "tag"),
        ("product_title", "product"),
        ("product_name", "product"),
        ("business_id", "business"),
        ("shelves", "shelf"),
        ("popular_shelves", "shelf"),
        ("dishes", "dish"),
        ("species", "species"),
        ("movies", "movie"),
        ("genre_names", "genre"),
        ("listed_in", "genre"),
        ("track_genre", "genre"),
        ("spotify_track_uri", "track"),
        ("article_id", "article"),
        ("MAL_ID", "anime"),
        ("ISBN", "book"),
        ("StockCode", "product"),
        ("status", "status"),
        ("id", "item"),
        ("title", "item"),
        ("ジャンル", "ジャンル"),
    ],
)
def test_a_columns_name_says_what_it_is_about(column, noun):
    assert noun_of(column) == noun


def test_a_column_that_is_given_must_be_there():
    assert find_column("time", "when", ["when", "timestamp"], "") == "when"
    with pytest.raises(DataError, match="no column 'wen' for the time; did you mean 'when'"):
        find_column("time", "wen", ["when"], "")
    with pytest.raises(DataError, match="which column is the user\\? name it with --user-col; there are 'a'"):
        require_column("user", None, ["a"], "")
