"""A Django site with users and sessions, as `uvicorn django_site:application` serves it. Its view is that of the how-to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.urls import path

settings.configure(
    SECRET_KEY="for this test only",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["SITE_DATABASE"]}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()

from django.contrib.auth import login, logout  # noqa: E402 - after the setup
from django.contrib.auth.models import Group, User  # noqa: E402

HOW_TO = Path(__file__).parents[3] / "docs" / "how-to" / "other-tokens.md"
_view: dict[str, Any] = {"__name__": __name__}
exec(HOW_TO.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0], _view)


def sign_in(request: HttpRequest) -> HttpResponse:
    login(request, User.objects.get(username="ada"))
    return HttpResponse("in")


def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse("out")


urlpatterns = [path("whoami", _view["whoami"]), path("in", sign_in), path("out", sign_out)]
call_command("migrate", verbosity=0)
User.objects.create_user("ada").groups.add(Group.objects.create(name="chat"))
application = get_asgi_application()
