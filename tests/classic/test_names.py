"""The names that programs of 1.x import, and what importing them does."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest

import picas

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "from-picasclient-1.md"

NAMES = {
    "picas": (
        "CouchDB Document EndlessViewIterator Job PrioritizedViewIterator RunActor Task TaskViewIterator User ViewIterator"
    ),
    "picas.actors": "AbstractRunActor RunActor log",
    "picas.clients": "CouchClient CouchDB",
    "picas.couchdblogger": "CouchDBLogger",
    "picas.crypto": "CRYPTO_KEY_PATH decrypt_password encrypt_password generate_and_save_key read_key",
    "picas.documents": "Document Job Task User",
    "picas.executers": "execute execute_old",
    "picas.generators": "TokenGenerator",
    "picas.iterators": (
        "BasicViewIterator EndlessViewIterator PrioritizedViewIterator TaskViewIterator ViewIterator"
    ),
    "picas.jobid": "add_job_id remove_job_id",
    "picas.modifiers": "BasicTokenModifier NestedTokenModifier TokenModifier",
    "picas.picas_config": "PicasConfig PicasConfigSchemaError",
    "picas.picaslogger": "picaslogger",
    "picas.util": "Timer merge_dicts seconds time_elapsed",
}

PARAMETERS = [
    ("picas.clients", "CouchDB", "url db username password ssl_verification create"),
    ("picas.clients", "CouchDB.add_view", "self view map_fun args reduce_fun design_doc kwargs"),
    ("picas.clients", "CouchDB.get_single_from_view", "self view window_size view_params"),
    ("picas.clients", "CouchDB.view", "self view design_doc view_params"),
    ("picas.clients", "CouchDB.delete_from_view", "self view design_doc"),
    ("picas.clients", "CouchDB.set_users", "self admins members admin_roles member_roles"),
    ("picas.documents", "Document.put_attachment", "self name data mimetype"),
    ("picas.documents", "Document.get_attachment", "self name retrieve_from_database"),
    ("picas.documents", "Task.error", "self msg exception"),
    ("picas.documents", "Job.queue", "self method host"),
    ("picas.documents", "User", "username password roles data"),
    ("picas.actors", "RunActor", "db iterator view token_reset_values view_params"),
    ("picas.executers", "execute", "args shell"),
]


@pytest.mark.parametrize(("module", "name"), [(m, n) for m, names in NAMES.items() for n in names.split()])
def test_a_name_of_1x_is_there(module: str, name: str) -> None:
    assert getattr(import_module(module), name) is not None


def test_the_documentation_says_what_became_of_each_name() -> None:
    table = HOW_TO.read_text("utf-8").partition("## Name by name")[2]
    documented = {word for code in re.findall(r"`([^`]+)`", table) for word in re.findall(r"\w+", code)}
    named = {word for module, names in NAMES.items() for word in (*module.split("."), *names.split())}
    assert named - documented == set()


@pytest.mark.parametrize(("module", "path", "parameters"), PARAMETERS)
def test_parameters_have_the_names_of_1x(module: str, path: str, parameters: str) -> None:
    found = import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    assert list(signature(found).parameters) == parameters.split()


def test_there_is_one_copy_of_each_class() -> None:
    for name in NAMES["picas"].split():
        assert getattr(picas, name) is getattr(import_module(getattr(picas, name).__module__), name)
    assert import_module("picas.clients").Task is picas.Task


def test_importing_configures_no_logging_and_connects_nowhere() -> None:
    modules = ", ".join(NAMES)
    code = (
        f"import logging, sys, {modules}\n"
        "from picas import *\n"
        "assert CouchDB is picas.clients.CouchDB\n"
        "assert logging.getLogger().handlers == [], logging.getLogger().handlers\n"
        "print({'cryptography', 'yaml', 'urllib3'} & set(sys.modules) or '')\n"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout == "\n"
