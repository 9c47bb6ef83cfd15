"""Settings of a Django project that has nothing but dj-stripe, on SQLite.
Settings from outside: STRIPE_KEY, STRIPE_BASE and DATABASE, a file."""

import os

SECRET_KEY = "a-key-that-signs-nothing-" * 2
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "djstripe"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["DATABASE"],
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}
ROOT_URLCONF = "urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# The tables as the models say: dj-stripe's own migrations take half a minute on SQLite.
MIGRATION_MODULES = {"djstripe": None}

STRIPE_LIVE_MODE = False
STRIPE_TEST_SECRET_KEY = os.environ["STRIPE_KEY"]
STRIPE_API_HOST = os.environ["STRIPE_BASE"]
DJSTRIPE_FOREIGN_KEY_TO_FIELD = "id"
